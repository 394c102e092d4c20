"""Cross-validation of what stops early: inside every training part some patients choose when."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ecgscale.evaluation.folds import inner_folds, out_of_fold
from ecgscale.evaluation.probes import CrossValidated
from ecgscale.evaluation.targets import Output
from ecgscale.evaluation.thresholds import best_thresholds, decide

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]
# training, choosing and tested rows -> predictions of the tested and of the choosing ones [record, label]
Fit = Callable[[Rows, Rows, Rows], tuple[Array, Array]]


def cross_validated(
    fit: Fit,
    y: Array,
    patients: npt.ArrayLike,
    folds: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]],
    output: Output = "binary",
    seed: int = 0,
) -> CrossValidated:
    """Predict every record out of fold; the first inner fold, a quarter of the training patients, chooses.

    Args:
        fit: Learns from training rows, chooses when to stop, predicts.
        y: [record, label].
        patients: [record].
        folds: (train rows, test rows) pairs; a repeat ends when every record has been tested once.
        output: What the targets are.
        seed: Of the inner folds.

    Raises:
        ValueError: as `folds.out_of_fold`, or a training part has a single patient.
    """
    patients = np.asarray(patients)
    decided: list[Array] = []

    def predict(fold: int, train: Rows, test: Rows) -> Array:
        out = next(inner_folds(patients[train], seed, fold), None)
        if out is None:
            raise ValueError(f"fold {fold} trains on one patient: none is left to choose the epoch")
        tested, validated = fit(train[~out], train[out], test)
        if output == "binary":
            decided.append(decide(tested, best_thresholds(y[train[out]], validated)))
        return tested

    found = tuple(out_of_fold(y.shape, patients, folds, predict))
    again = iter(decided)
    decisions = tuple(out_of_fold(y.shape, patients, folds, lambda *_: next(again))) if decided else ()
    return CrossValidated(found, np.empty((len(folds), y.shape[1])) * np.nan, True, decisions)
