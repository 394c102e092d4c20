"""What the lab holds of an evaluation: its rows, and the held-out loss of every record; and of a trial: its score."""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Any

import numpy as np

from ecgscale.evaluation.evaluate import EvalSpec
from ecgscale.lab import Lab
from ecgscale.spec import Plugin
from ecgscale.study.plan import PlannedEval


def load_evaluation(lab: Lab, uid: str, spec: EvalSpec) -> list[dict[str, Any]] | None:
    """Return the rows of an evaluation the lab holds, or None."""
    return lab.evaluation(uid, spec.uid)


def load_losses(lab: Lab, uid: str, spec: EvalSpec) -> np.ndarray:
    """Return the held-out loss of every tested record of an evaluation, nats [record, label]."""
    losses: np.ndarray = np.load(lab.run(uid) / "evaluations" / f"{spec.uid}.npy", allow_pickle=False)
    return losses


def trial_score(
    lab: Lab, failed: Container[str], uid: str, objective: Plugin, probed: tuple[PlannedEval, ...]
) -> float | None:
    """Return what a trial scored, see `tuning.Score`: its validation loss, or its mean probe loss on validation."""
    stored = lab.result(uid)
    if stored is None:
        return math.inf if uid in failed else None
    if objective.comparable:  # type: ignore[attr-defined]
        return float(stored["validation"]["best" if objective.best else "last"])  # type: ignore[attr-defined]
    losses = [
        row["value"]
        for e in probed
        for row in load_evaluation(lab, uid, e.spec) or []
        if row["part"] == "validation" and row["metric"] == "loss"
    ]
    return float(np.mean(losses)) if len(losses) == len(probed) else None
