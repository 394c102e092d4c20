"""One task on one corpus: from frozen features to rows of the table.

The held-out loss of every record is kept for paired comparisons.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import PositiveInt

from ecgscale.data.corpus import Corpus
from ecgscale.data.split import SplitRule, crossval, parts
from ecgscale.evaluation import bootstrap, metrics, probes
from ecgscale.loader import Rows
from ecgscale.runs import TaskField
from ecgscale.spec import Spec

Encode = Callable[[Rows], np.ndarray]  # rows of the corpus -> features [row, width]

FOLDS, REPEATS = 2, 5  # cross-validation of small sets: 5 × 2 (Dietterich 1998)


class EvalSpec(Spec):
    """What is measured, on which records, how."""

    revision: ClassVar[int] = 1  # of this protocol

    corpus: str  # digest
    task: TaskField
    protocol: Literal["linear"] = "linear"
    split: SplitRule
    order: int = 0
    train: PositiveInt | None = None
    validation: PositiveInt | None = None
    test: PositiveInt | None = None
    resamples: PositiveInt = 1000

    def dump(self) -> dict[str, Any]:
        """Return all fields with the revisions of protocol and probe."""
        return {"revision": self.revision, "probe": probes.REVISION, **super().dump()}

    def rows(self, corpus: Corpus) -> dict[str, Rows]:
        """Return the records of each part: {"train", "validation", "test"}, or {"all"} under cross-validation."""
        if self.task.parts == "crossval":
            return {"all": np.arange(len(corpus.index))}
        rule = self.split
        if self.task.parts == "patients" and rule.by == "folds":
            rule = SplitRule(by="patients")
        divided = parts(corpus.index, rule, self.order)
        return {name: divided[name][: getattr(self, name)] for name in ("train", "validation", "test")}

    def tested(self, corpus: Corpus) -> Rows:
        """Return the records whose labels are predicted."""
        chosen = self.rows(corpus)
        return chosen["all"] if "all" in chosen else chosen["test"]

    def needed(self, corpus: Corpus) -> Rows:
        """Return all records whose features are read, sorted."""
        return np.unique(np.concatenate(list(self.rows(corpus).values())))


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What one evaluation measured.

    Attributes:
        rows: The table's columns metric, unit, value, lo, hi, n, n_pos, part.
        losses: Loss of each tested record [record], nats.
    """

    rows: list[dict[str, Any]]
    losses: np.ndarray


def evaluate(spec: EvalSpec, corpus: Corpus, encode: Encode, seed: int = 0) -> Evaluated:
    """Fit the probe on the training part, choose on validation, report on test.

    Args:
        spec: The evaluation.
        corpus: The corpus it names by digest.
        encode: Gives the frozen features of rows.
        seed: Of the patient bootstrap.

    Returns:
        Macro AUROC, macro AUPRC and mean loss with 95 % patient-bootstrap intervals, and per-record losses.
    """
    targets = spec.task.targets(corpus.index).to_numpy(np.float64)
    patients = corpus.index["patient"].factorize()[0]
    chosen = spec.rows(corpus)
    if "all" in chosen:
        rows, truth, probability = _cross_validate(spec, corpus, targets, encode)
    else:
        rows, truth, probability = _hold_out(chosen, targets, encode)
    losses = metrics.record_losses(truth, probability)
    intervals = bootstrap.intervals(truth, probability, patients[rows], resamples=spec.resamples, seed=seed)
    known = ~np.isnan(truth)
    n, n_pos = int(known.any(1).sum()), int(np.nansum(truth))
    if "all" in chosen:
        n, n_pos = n // REPEATS, n_pos // REPEATS
    units = {"loss": "nats", "auroc": "1", "auprc": "1"}
    result = [
        {"metric": m, "unit": units[m], "value": v, "lo": lo, "hi": hi, "n": n, "n_pos": n_pos, "part": "test"}
        for m, (v, lo, hi) in intervals.items()
    ]
    return Evaluated(result, losses)


def _hold_out(chosen: dict[str, Rows], targets: np.ndarray, encode: Encode) -> tuple[Rows, np.ndarray, np.ndarray]:
    x = {part: encode(rows) for part, rows in chosen.items()}
    y = {part: targets[rows] for part, rows in chosen.items()}
    probe = probes.linear_probe(x["train"], y["train"], x["validation"], y["validation"], [x["test"]])
    return chosen["test"], y["test"], probe.probabilities[0]


def _cross_validate(
    spec: EvalSpec, corpus: Corpus, targets: np.ndarray, encode: Encode
) -> tuple[Rows, np.ndarray, np.ndarray]:
    rows = np.arange(len(targets))
    x = encode(rows)
    patients = corpus.index["patient"].factorize()[0]
    labels = corpus.index.filter(regex=r"^label\.")  # all of them, so that the folds of a corpus serve all of its tasks
    folds = crossval(corpus.index, labels, FOLDS, REPEATS, spec.order)
    result = probes.cross_validated_probe(x, targets, patients, folds)
    repeats = len(result.probabilities)
    return np.tile(rows, repeats), np.tile(targets, (repeats, 1)), np.concatenate(result.probabilities)
