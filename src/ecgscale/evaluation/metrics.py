"""Metrics of every label, or every regression target, at once.

Targets are [record, label] with 1 present, 0 absent and NaN unknown; an unknown target is ignored for its own label
only. A label without both classes has no AUROC, no average precision and no F1: it is left out of the macro mean and
counted, never imputed. Loss, Brier score and calibration error need no second class and are taken over all labels.

    loss   mean over labels of the mean over known records of -[y ln p + (1 - y) ln(1 - p)], in nats
    AUROC  (sum of the positives' ranks - P (P + 1) / 2) / (P (n - P)), ties share their mean rank
    AUPRC  sum over thresholds of (recall step) x precision, without interpolation (average precision)
    F1     2 TP / (2 TP + FP + FN) at thresholds that were chosen elsewhere (`thresholds.best_thresholds`)
    Brier  mean of (p - y)²
    ECE    sum over 15 bins of equal width in p of |sum of (y - p) in the bin| / n. A finite sample's is above that of
           its population (0 for a calibrated model): value and interval stand for test sets of this size, and only
           models tested on the same records may be compared.
    MSE, MAE, R² = 1 - sum of (y - f)² / sum of (y - mean of y)², of regression targets; R² of a target that is the same
    for all known records is left out.

Sources: Hanley and McNeil 1982 (AUROC by ranks); Brier 1950; Guo et al. 2017, ICML, "On Calibration of Modern Neural
Networks" (binning); sklearn.metrics as reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

CLIP: Final = 1e-7  # a probability of exactly 0 or 1 costs at most 16.1 nats
BINS: Final = 15  # of equal width in [0, 1], closed on the left, the last on both sides; Guo et al. 2017


class Counts(NamedTuple):
    """What stands behind a number: records with a known target, all positives, labels without both classes."""

    n: int
    n_pos: int
    left_out: int


def targets(y: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Array, Array]:
    """Return targets and scores as float64 [record, label]; a vector is one label.

    Raises:
        ValueError: the shapes differ, a target is not 0, 1 or NaN, or a score is not finite.
    """
    y, scores = (np.asarray(a, dtype=np.float64) for a in (y, scores))
    if y.shape != scores.shape or y.ndim not in (1, 2):
        raise ValueError(f"targets and scores must both be [record, label], found {y.shape} and {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError(f"scores must be finite, found {int((~np.isfinite(scores)).sum())} that are not")
    odd = y[~((y == 0) | (y == 1) | np.isnan(y))]
    if odd.size:
        raise ValueError(f"targets must be 0, 1 or NaN (unknown), found {odd[0]:g}")
    return (y[:, None], scores[:, None]) if y.ndim == 1 else (y, scores)


def forecasts(y: npt.ArrayLike, probabilities: npt.ArrayLike) -> tuple[Array, Array]:
    """Return targets and probabilities as `targets` does.

    Raises:
        ValueError: a probability is outside [0, 1], or as `targets`.
    """
    y, p = targets(y, probabilities)
    if p.size and (p.min() < 0 or p.max() > 1):
        raise ValueError(f"probabilities must lie in [0, 1], found {p.min():g} to {p.max():g}")
    return y, p


def measured(y: npt.ArrayLike, predictions: npt.ArrayLike) -> tuple[Array, Array]:
    """Return regression targets and predictions as float64 [record, target]; a vector is one target.

    Raises:
        ValueError: the shapes differ, a target is infinite, or a prediction is not finite.
    """
    y, f = (np.asarray(a, dtype=np.float64) for a in (y, predictions))
    if y.shape != f.shape or y.ndim not in (1, 2):
        raise ValueError(f"targets and predictions must both be [record, target], found {y.shape} and {f.shape}")
    if not np.isfinite(f).all() or np.isinf(y).any():
        raise ValueError("predictions must be finite, and targets finite or NaN (unknown)")
    return (y[:, None], f[:, None]) if y.ndim == 1 else (y, f)


def has_both_classes(y: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return [label]: at least one known record with the label and one without it."""
    y = np.asarray(y)
    return np.asarray((y == 1).any(axis=0) & (y == 0).any(axis=0))


def counts(y: npt.ArrayLike) -> Counts:
    """Count records with a known target, positive targets, and labels without both classes."""
    y = np.asarray(y, dtype=np.float64)
    y = y[:, None] if y.ndim == 1 else y
    known = int((~np.isnan(y)).any(axis=1).sum())
    return Counts(known, int((y == 1).sum()), int((~has_both_classes(y)).sum()))


def record_losses(y: npt.ArrayLike, probabilities: npt.ArrayLike) -> Array:
    """Return the binary cross-entropy of every target, nats [record, label]; NaN where the target is unknown.

    Raises:
        ValueError: a probability is outside [0, 1], or as `targets`.
    """
    y, p = forecasts(y, probabilities)
    p = np.clip(p, CLIP, 1 - CLIP)
    return -(y * np.log(p) + (1 - y) * np.log1p(-p))


def label_losses(y: npt.ArrayLike, probabilities: npt.ArrayLike) -> Array:
    """Return the mean loss over known records, nats [label]; NaN for a label that no record knows."""
    return known_mean(record_losses(y, probabilities))


def known_mean(values: Array) -> Array:
    """Return the mean over known records [label] of values [record, label]; NaN for a label that no record knows."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0))


def auroc(y: npt.ArrayLike, scores: npt.ArrayLike) -> Array:
    """Return the area under the ROC curve [label]; NaN for a label without both classes."""
    y, scores = targets(y, scores)
    # unknown records rank after all known ones, so they move nobody's rank
    from scipy.stats import rankdata  # a second to import

    ranks = rankdata(np.where(np.isnan(y), np.inf, scores), axis=0)
    positive, negative = (y == 1).sum(axis=0), (y == 0).sum(axis=0)
    above = np.where(y == 1, ranks, 0.0).sum(axis=0) - positive * (positive + 1) / 2
    return _ratio(above, positive * negative)


def auprc(y: npt.ArrayLike, scores: npt.ArrayLike) -> Array:
    """Return the average precision [label]; NaN for a label without both classes."""
    y, scores = targets(y, scores)
    if not len(y):
        return np.full(y.shape[1], np.nan)
    order = np.argsort(np.where(np.isnan(y), np.inf, -scores), axis=0, kind="stable")
    y, scores = np.take_along_axis(y, order, axis=0), np.take_along_axis(scores, order, axis=0)
    true, predicted = np.cumsum(y == 1, axis=0), np.cumsum(~np.isnan(y), axis=0)
    end = tie_ends(scores, ~np.isnan(y))
    precision = np.take_along_axis(true, end, axis=0) / np.maximum(np.take_along_axis(predicted, end, axis=0), 1)
    average = _ratio(np.where(y == 1, precision, 0.0).sum(axis=0), (y == 1).sum(axis=0))
    return np.where(has_both_classes(y), average, np.nan)


def brier(y: npt.ArrayLike, probabilities: npt.ArrayLike) -> Array:
    """Return the Brier score [label]; NaN for a label that no record knows.

    Raises:
        ValueError: as `forecasts`.
    """
    y, p = forecasts(y, probabilities)
    return known_mean((p - y) ** 2)


def calibration_error(y: npt.ArrayLike, probabilities: npt.ArrayLike) -> Array:
    """Return the expected calibration error (ECE) [label]; NaN for a label that no record knows.

    Raises:
        ValueError: as `forecasts`.
    """
    y, p = forecasts(y, probabilities)
    gaps, place = np.nan_to_num(y - p), bins(p)
    sums = np.zeros((BINS, y.shape[1]))
    np.add.at(sums, (place, np.arange(y.shape[1])), gaps)
    return _ratio(np.abs(sums).sum(axis=0), (~np.isnan(y)).sum(axis=0))


def bins(probabilities: Array) -> npt.NDArray[np.intp]:
    """Return the bin of each probability, 0 to `BINS` - 1."""
    return np.minimum((probabilities * BINS).astype(np.intp), BINS - 1)


def confusion(y: npt.ArrayLike, decisions: npt.ArrayLike) -> tuple[Array, Array]:
    """Return [record, label] twice: is a true positive; is a true positive twice, or an error once (F1's denominator).

    Unknown targets count 0; a label without both classes or with a decision missing is NaN throughout.

    Raises:
        ValueError: a decision is not 0, 1 or NaN, or as `targets`.
    """
    decided = np.asarray(decisions, dtype=np.float64)
    if (~((decided == 0) | (decided == 1) | np.isnan(decided))).any():
        raise ValueError("decisions must be 0, 1 or NaN (no threshold)")
    y, said = targets(y, np.nan_to_num(decided))
    usable = has_both_classes(y) & ~np.isnan(decided.reshape(y.shape)).any(axis=0)
    true = ((y == 1) & (said == 1)).astype(np.float64)
    weight = 2 * true + (np.isfinite(y) & (y != said))
    return np.where(usable, true, np.nan), np.where(usable, weight, np.nan)


def f1(y: npt.ArrayLike, decisions: npt.ArrayLike) -> Array:
    """Return F1 [label] of decisions [record, label], 1 or 0; NaN where there is no threshold or no second class.

    Raises:
        ValueError: as `confusion`.
    """
    true, weight = confusion(y, decisions)
    return _ratio(2 * true.sum(axis=0), weight.sum(axis=0))


def squared_error(y: npt.ArrayLike, predictions: npt.ArrayLike) -> Array:
    """Return the mean squared error [target]; NaN for a target that no record knows.

    Raises:
        ValueError: as `measured`.
    """
    y, f = measured(y, predictions)
    return known_mean((y - f) ** 2)


def absolute_error(y: npt.ArrayLike, predictions: npt.ArrayLike) -> Array:
    """Return the mean absolute error [target], in the targets' units; NaN for a target that no record knows.

    Raises:
        ValueError: as `measured`.
    """
    y, f = measured(y, predictions)
    return known_mean(np.abs(y - f))


def explained(y: npt.ArrayLike, predictions: npt.ArrayLike) -> Array:
    """Return R² [target]; NaN for a target that does not vary over its known records.

    Raises:
        ValueError: as `measured`.
    """
    y, f = measured(y, predictions)
    spread = known_mean((y - known_mean(y)) ** 2)
    return 1 - _ratio(known_mean((y - f) ** 2), np.where(varies(y), spread, 0.0))


def varies(y: Array) -> npt.NDArray[np.bool_]:
    """Return [target]: at least two known values that differ."""
    known = ~np.isnan(y)
    low, high = (np.where(known, y, fill) for fill in (np.inf, -np.inf))
    return np.asarray(high.max(axis=0, initial=-np.inf) > low.min(axis=0, initial=np.inf))


def tie_ends(ordered: Array, known: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Return, for ordered scores [record, label] with the known ones first, the row at which each one's ties end."""
    rows = len(ordered)
    last = np.ones(ordered.shape, dtype=bool)
    last[:-1] = (ordered[1:] != ordered[:-1]) | (known[1:] != known[:-1])
    ends = np.where(last, np.arange(rows)[:, None], rows - 1)
    return np.minimum.accumulate(ends[::-1], axis=0)[::-1]


def macro(values: npt.ArrayLike) -> float:
    """Return the mean over the labels that have a value; NaN if none has."""
    values = np.asarray(values, dtype=np.float64)
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if kept.size else float("nan")


PER_LABEL: Final[dict[str, Callable[[npt.ArrayLike, npt.ArrayLike], Array]]] = {
    "loss": label_losses,
    "auroc": auroc,
    "auprc": auprc,
    "brier": brier,
    "ece": calibration_error,
}
OF_DECISIONS: Final = {"f1": f1}
OF_VALUES: Final = {"mse": squared_error, "mae": absolute_error, "r2": explained}


def evaluate(
    y: npt.ArrayLike, probabilities: npt.ArrayLike, metrics: tuple[str, ...] = tuple(PER_LABEL)
) -> dict[str, float]:
    """Return the macro mean of each metric.

    Args:
        y: [record, label]: 1, 0 or NaN (unknown); any number for metrics of regression.
        probabilities: [record, label]; decisions for "f1", predictions for metrics of regression.
        metrics: Names that `named` knows.

    Raises:
        ValueError: an unknown metric, or as `record_losses`.
    """
    return {name: macro(named(name)(y, probabilities)) for name in metrics}


def named(name: str) -> Callable[[npt.ArrayLike, npt.ArrayLike], Array]:
    """Return the per-label metric of that name.

    Raises:
        ValueError: there is none.
    """
    known = {**PER_LABEL, **OF_DECISIONS, **OF_VALUES}
    if name not in known:
        raise ValueError(f'unknown metric "{name}"; choose from {", ".join(known)}')
    return known[name]


def _ratio(top: npt.ArrayLike, bottom: npt.ArrayLike) -> Array:
    top, bottom = np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64)
    return np.asarray(np.divide(top, bottom, out=np.full(np.broadcast(top, bottom).shape, np.nan), where=bottom > 0))
