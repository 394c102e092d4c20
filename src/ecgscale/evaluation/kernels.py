"""Metrics as functions of how often each patient was drawn: what a bootstrap evaluates a thousand times.

Whatever can be is summed per patient once, so that a resample of means is one product of matrices; for ranks, scores
are sorted once per label and a resample costs cumulative sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecgscale.evaluation import metrics as metric

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]  # [record], index of its patient
Weights = npt.NDArray[np.float32]  # [patient, resample]; counts stay exact below 2**24

Kernel = Callable[[Weights], Array]  # weights [patient, resample] -> metric [resample, label]


@dataclass(frozen=True, slots=True)
class _Ranked:
    """One label's known records in descending order of score; positives carry the borders of their ties."""

    patient: npt.NDArray[np.intp]  # [known]
    positives: npt.NDArray[np.intp]  # [positive] places among the known
    before: npt.NDArray[np.intp]  # [positive] known records that score higher
    through: npt.NDArray[np.intp]  # [positive] known records that score at least as high
    positives_before: npt.NDArray[np.intp]
    positives_through: npt.NDArray[np.intp]


def _rank(y: Array, scores: Array, codes: Codes) -> _Ranked:
    known = np.flatnonzero(~np.isnan(y))
    order = known[np.argsort(-scores[known], kind="stable")]
    falling = -scores[order]
    positives = np.flatnonzero(y[order] == 1)
    at, among = falling[positives], falling[positives]
    sides = [np.searchsorted(x, at, side=s) for x in (falling, among) for s in ("left", "right")]
    return _Ranked(codes[order], positives, *sides)


def prepare(name: str, y: npt.ArrayLike, scores: npt.ArrayLike, codes: Codes) -> Kernel:
    """Return a metric of these records under given draws of patients.

    Args:
        name: Any name that `metrics.named` knows.
        y, scores: As that metric takes them, [record, label].
        codes: [record], index of its patient into the weights.

    Raises:
        ValueError: there is no such metric, or it refuses the targets.
    """
    metric.named(name)
    if name in _RECORD_VALUES:
        return weighted_mean(_RECORD_VALUES[name](y, scores), codes)
    if name in _OF_SUMS:
        return _OF_SUMS[name](y, scores, codes)
    y, scores = metric.targets(y, scores)
    kernel = {"auroc": _auroc, "auprc": _auprc}[name]
    ranked = [_rank(y[:, i], scores[:, i], codes) for i in range(y.shape[1])]
    return lambda weights: np.stack([kernel(r, weights) for r in ranked], axis=1)


def averaged(kernels: Sequence[Kernel]) -> Kernel:
    """Return the mean of several metrics on the same draws, such as that of repeats."""
    return lambda weights: np.mean([kernel(weights) for kernel in kernels], axis=0)


def weighted_mean(values: Array, codes: Codes) -> Kernel:
    """Return the mean over known records per label of values [record, label], NaN where unknown."""
    total = _summed(np.where(np.isnan(values), 0.0, values), codes)
    count = _summed((~np.isnan(values)).astype(np.float64), codes)
    return lambda weights: divide(total(weights), count(weights))


def _summed(values: Array, codes: Codes) -> Kernel:
    """Weighted sums of values [record, column]: per patient once, then one product per chunk."""
    seen, place = np.unique(codes, return_inverse=True)
    sums = np.zeros((len(seen), values.shape[1]))
    np.add.at(sums, place, values)
    return lambda weights: weights[seen].T.astype(np.float64) @ sums


def _squares(y: npt.ArrayLike, probabilities: npt.ArrayLike) -> Array:
    y, p = metric.forecasts(y, probabilities)
    return (p - y) ** 2


def _squared(y: npt.ArrayLike, predictions: npt.ArrayLike) -> Array:
    y, f = metric.measured(y, predictions)
    return (y - f) ** 2


def _absolute(y: npt.ArrayLike, predictions: npt.ArrayLike) -> Array:
    y, f = metric.measured(y, predictions)
    return np.abs(y - f)


def _f1(y: npt.ArrayLike, decisions: npt.ArrayLike, codes: Codes) -> Kernel:
    true, weight = metric.confusion(y, decisions)
    total, bottom = _summed(np.nan_to_num(2 * true), codes), _summed(np.nan_to_num(weight), codes)
    classes = _both_classes(
        np.where(np.isnan(true), np.nan, np.asarray(y, dtype=np.float64).reshape(true.shape)), codes
    )

    def kernel(weights: Weights) -> Array:
        return np.where(classes(weights) > 0, divide(total(weights), bottom(weights)), np.nan)

    return kernel


def _both_classes(y: Array, codes: Codes) -> Kernel:
    """How many records of the smaller class were drawn."""
    positive, negative = (_summed((y == value).astype(np.float64), codes) for value in (1, 0))
    return lambda weights: np.minimum(positive(weights), negative(weights))


def _calibration(y: npt.ArrayLike, probabilities: npt.ArrayLike, codes: Codes) -> Kernel:
    y, p = metric.forecasts(y, probabilities)
    labels = y.shape[1]
    place = metric.bins(p) * labels + np.arange(labels)
    seen, patient = np.unique(codes, return_inverse=True)
    sums = np.zeros((len(seen), metric.BINS * labels))
    np.add.at(sums, (patient[:, None], place), np.nan_to_num(y - p))
    count = _summed((~np.isnan(y)).astype(np.float64), codes)

    def kernel(weights: Weights) -> Array:
        gaps = np.abs(weights[seen].T.astype(np.float64) @ sums)
        return divide(gaps.reshape(-1, metric.BINS, labels).sum(axis=1), count(weights))

    return kernel


def _explained(y: npt.ArrayLike, predictions: npt.ArrayLike, codes: Codes) -> Kernel:
    y, f = metric.measured(y, predictions)
    centred = y - metric.known_mean(y)  # keeps the difference of sums below exact
    parts = [weighted_mean(v, codes) for v in (centred, centred**2, (y - f) ** 2)]
    least = np.where(metric.varies(y), 1e-12 * metric.known_mean(centred**2), np.inf)

    def kernel(weights: Weights) -> Array:
        mean, square, error = (part(weights) for part in parts)
        spread = square - mean**2
        return 1 - divide(error, np.where(spread > least, spread, 0.0))

    return kernel


_RECORD_VALUES: dict[str, Callable[[npt.ArrayLike, npt.ArrayLike], Array]] = {
    "loss": metric.record_losses,
    "brier": _squares,
    "mse": _squared,
    "mae": _absolute,
}
_OF_SUMS = {"f1": _f1, "ece": _calibration, "r2": _explained}


def _cumulative(rows: Weights) -> Weights:
    """Running sums over rows with a leading row of zeros."""
    total = np.zeros((len(rows) + 1, rows.shape[1]), dtype=np.float32)
    np.cumsum(rows, axis=0, out=total[1:])
    return total


def _running(ranked: _Ranked, weights: Weights) -> tuple[Weights, Weights, Weights]:
    """Weights of the positives, and running sums of all known records and of the positives."""
    drawn = weights[ranked.patient]
    positive = drawn[ranked.positives]
    return positive, _cumulative(drawn), _cumulative(positive)


def _auroc(ranked: _Ranked, weights: Weights) -> Array:
    positive, all_, true = _running(ranked, weights)
    above = all_[ranked.before] - true[ranked.positives_before]
    through = all_[ranked.through] - true[ranked.positives_through]
    lost = (positive * (above + through)).sum(axis=0, dtype=np.float64) / 2
    pairs = true[-1].astype(np.float64) * (all_[-1] - true[-1])
    return 1 - divide(lost, pairs)


def _auprc(ranked: _Ranked, weights: Weights) -> Array:
    positive, all_, true = _running(ranked, weights)
    precision = true[ranked.positives_through] / np.maximum(all_[ranked.through], 1)
    average = divide((positive * precision).sum(axis=0, dtype=np.float64), true[-1])
    return np.where(all_[-1] > true[-1], average, np.nan)


def divide(top: Array, bottom: Array) -> Array:
    """Return top / bottom, NaN where bottom is not positive."""
    return np.asarray(np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=np.asarray(bottom) > 0))
