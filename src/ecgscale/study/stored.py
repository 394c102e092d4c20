"""What the lab holds of an evaluation: its rows, and the held-out loss of every record."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecgscale.evaluation.evaluate import EvalSpec
from ecgscale.lab import Lab


def load_evaluation(lab: Lab, uid: str, spec: EvalSpec) -> list[dict[str, Any]] | None:
    """Return the rows of an evaluation the lab holds, or None."""
    return lab.evaluation(uid, spec.uid)


def load_losses(lab: Lab, uid: str, spec: EvalSpec) -> np.ndarray:
    """Return the held-out loss of every tested record of an evaluation, nats [record, label]."""
    losses: np.ndarray = np.load(lab.run(uid) / "evaluations" / f"{spec.uid}.npy", allow_pickle=False)
    return losses
