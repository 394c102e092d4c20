"""From a study's table and fits to one offline page and its machine-readable twin (`render.render`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ecgscale.lab import COLUMNS
from ecgscale.spec import Explained

REQUIRED: tuple[str, ...] = (
    *("run", "seed", "role", "backbone", "objective", "eval_corpus", "N", "D", "split", "task", "protocol"),
    *("metric", "value"),
)


class ReportError(Explained, ValueError):
    """The report cannot be made; the message is one sentence for the person who asked for it."""


@dataclass(frozen=True)
class ReportInput:
    """Everything a report is made of; nothing else is read.

    Attributes:
        study: `name`, `title` and `description`.
        command: The command that made the report.
        table: One row per measured number, with the columns `COLUMNS`; those not in `REQUIRED` may be absent.
        fits: Dumps of LawFit.
        corpora: Manifests of the corpora that were read.
        overlaps: `a`, `b`, `shared_patients`, `verdict` for every pair of corpora.
        skipped: What the plan left out and why.
        tuning: Searches of learning rates: `family`, `arm`, `size`, `D`, `criterion`, `trials` [[rate, score]], `lr`,
            `distance`, `at_edge`.
        diagnosis: What `study.diagnosis.diagnosed` returns; {} where no family has a law in distribution.
        ranking: What `study.ranking.ranking_of` returns; {} where no two families can be compared.
        shift: What `study.groupings.groupings_of` returns; {} where nothing is known of the tasks.
        downstream: What `study.downstream.downstream_of` returns; {} where no run has both losses.
        overfitting: What `study.overfitting.overfitting_of` returns; {} without a run.
        efficiency: What `study.efficiency.efficiency_of` returns; {} where no curves of labels were measured.
        effects: What `study.effects.effects_of` returns; {} where nothing was crossed.
        similar: What `study.similar.similar` returns; {} where fewer than two models left their features.
        environment: `machine`, `torch`, `threads`, `seconds`.
        notes: Sentences the reader must know, such as where the learning rates come from.
    """

    study: dict[str, Any]
    command: str
    table: pd.DataFrame
    fits: list[dict[str, Any]] = field(default_factory=list)
    corpora: list[dict[str, Any]] = field(default_factory=list)
    overlaps: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    tuning: list[dict[str, Any]] = field(default_factory=list)
    diagnosis: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    ranking: dict[str, Any] = field(default_factory=dict)
    shift: dict[str, Any] = field(default_factory=dict)
    downstream: dict[str, Any] = field(default_factory=dict)
    overfitting: dict[str, Any] = field(default_factory=dict)
    efficiency: dict[str, Any] = field(default_factory=dict)
    effects: dict[str, Any] = field(default_factory=dict)
    similar: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


__all__ = ["COLUMNS", "REQUIRED", "ReportError", "ReportInput"]
