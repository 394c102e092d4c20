"""Intervals by resampling patients, never records: all ECGs of a patient enter or leave a resample together.

A resample is a vector of how often each patient was drawn. Metrics are computed on these weights, so scores are
sorted once per label and every resample costs cumulative sums only. The draws depend on the seed and the number of
patients alone: two models evaluated on the same records meet the same resamples.

The interval is the percentile interval with the resamples' bias taken out: a positive drawn twice ties with itself,
which lifts average precision (for a scorer at chance by more than the interval is wide); mean loss and AUROC have
next to no such bias.

Source: Efron and Tibshirani 1993, chapters 10 and 13; Field and Welsh 2007 for clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ecgscale.evaluation import metrics as metric
from ecgscale.rng import generator

Array = npt.NDArray[np.float64]
Weights = npt.NDArray[np.float32]  # [patient, resample]; counts stay exact below 2**24

CHUNK_BYTES: Final = 2**20  # weights of all records in one chunk: small enough for the cache
LEVEL: Final = 0.95


class Interval(NamedTuple):
    """An estimate and its 95 % interval; `lo` and `hi` are NaN with fewer than two patients."""

    value: float
    lo: float
    hi: float


def intervals(
    y: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    patients: npt.ArrayLike,
    metrics: Sequence[str] = ("loss", "auroc", "auprc"),
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return macro metrics with their patient-bootstrap intervals.

    Args:
        y: Targets [record, label]: 1, 0 or NaN (unknown).
        probabilities: [record, label], or [repeat, record, label] of repeated cross-validation, whose
            metrics are averaged over repeats.
        patients: [record], any hashable ids.
        metrics: Any of "loss", "auroc", "auprc".
        resamples: At least 1,000 for a 95 % interval.

    Returns:
        Metric -> value, lo, hi. A label that loses a class in a resample is left out of that resample's mean.

    Raises:
        ValueError: shapes differ or a metric is unknown.
    """
    codes, count = _codes(patients, len(np.asarray(y)))
    repeats = _repeats(probabilities)
    values = {m: float(np.mean([metric.macro(metric.named(m)(y, p)) for p in repeats])) for m in metrics}
    kernels = [_averaged([_prepare(m, y, p, codes) for p in repeats]) for m in metrics]
    drawn = _resampled(kernels, count, len(codes), resamples, seed)
    return {m: _interval(values[m], d, bounded=m != "loss") for m, d in zip(metrics, drawn, strict=True)}


def weighted(
    name: str, y: npt.ArrayLike, scores: npt.ArrayLike, patients: npt.ArrayLike, weights: npt.ArrayLike
) -> Array:
    """Return one metric under given draws, [resample, label].

    Args:
        name: "loss", "auroc" or "auprc".
        y, scores: [record, label].
        patients: [record], index of each record's patient into `weights`.
        weights: [resample, patient], how often each patient was drawn.
    """
    drawn = np.ascontiguousarray(np.asarray(weights, dtype=np.float32).T)
    return _prepare(name, y, scores, np.asarray(patients, dtype=np.intp))(drawn)


def paired_difference(
    loss_a: npt.ArrayLike, loss_b: npt.ArrayLike, patients: npt.ArrayLike, resamples: int = 1000, seed: int = 0
) -> Interval:
    """Return mean loss of A minus mean loss of B on the same records, with its patient-bootstrap interval.

    Args:
        loss_a, loss_b: [record] or [record, label], NaN where the target is unknown: the mean over labels of the
            mean over records is compared.
        patients: [record].

    Raises:
        ValueError: the shapes or the unknown targets differ.
    """
    a, b = (np.asarray(x, dtype=np.float64) for x in (loss_a, loss_b))
    if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
        raise ValueError(f"paired losses must cover the same targets, found {a.shape} and {b.shape}, or other unknowns")
    codes, count = _codes(patients, len(a))
    difference = _weighted_mean((a - b).reshape(len(a), -1), codes)
    value = metric.macro(difference(np.ones((count, 1), dtype=np.float32)))
    return _interval(value, _resampled([difference], count, len(codes), resamples, seed)[0])


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


def _rank(y: Array, scores: Array, codes: npt.NDArray[np.intp]) -> _Ranked:
    known = np.flatnonzero(~np.isnan(y))
    order = known[np.argsort(-scores[known], kind="stable")]
    falling = -scores[order]
    positives = np.flatnonzero(y[order] == 1)
    at, among = falling[positives], falling[positives]
    sides = [np.searchsorted(x, at, side=s) for x in (falling, among) for s in ("left", "right")]
    return _Ranked(codes[order], positives, *sides)


def _prepare(name: str, y: npt.ArrayLike, scores: npt.ArrayLike, codes: npt.NDArray[np.intp]) -> Kernel:
    metric.named(name)
    if name == "loss":
        return _weighted_mean(metric.record_losses(y, scores), codes)
    y, scores = metric.targets(y, scores)
    kernel = {"auroc": _auroc, "auprc": _auprc}[name]
    ranked = [_rank(y[:, i], scores[:, i], codes) for i in range(y.shape[1])]
    return lambda weights: np.stack([kernel(r, weights) for r in ranked], axis=1)


def _averaged(kernels: Sequence[Kernel]) -> Kernel:
    return lambda weights: np.mean([kernel(weights) for kernel in kernels], axis=0)


def _weighted_mean(values: Array, codes: npt.NDArray[np.intp]) -> Kernel:
    """Mean over known records per label: sums per patient once, then one product per chunk."""
    known = ~np.isnan(values)
    seen, place = np.unique(codes, return_inverse=True)
    sums, counts = np.zeros((2, len(seen), values.shape[1]))
    np.add.at(sums, place, np.where(known, values, 0.0))
    np.add.at(counts, place, known)

    def kernel(weights: Weights) -> Array:
        drawn = weights[seen].T.astype(np.float64)
        return _divide(drawn @ sums, drawn @ counts)

    return kernel


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
    return 1 - _divide(lost, pairs)


def _auprc(ranked: _Ranked, weights: Weights) -> Array:
    positive, all_, true = _running(ranked, weights)
    precision = true[ranked.positives_through] / np.maximum(all_[ranked.through], 1)
    average = _divide((positive * precision).sum(axis=0, dtype=np.float64), true[-1])
    return np.where(all_[-1] > true[-1], average, np.nan)


def _resampled(kernels: Sequence[Kernel], patients: int, records: int, resamples: int, seed: int) -> list[Array]:
    """Return the macro mean of every kernel, [resample], all on the same draws."""
    drawn: list[list[Array]] = [[np.empty(0)] for _ in kernels]
    for weights in _draws(patients, records, resamples, seed):
        for kernel, macros in zip(kernels, drawn, strict=True):
            macros.append(_macro(kernel(weights)))
    return [np.concatenate(macros) for macros in drawn]


def _draws(patients: int, records: int, resamples: int, seed: int) -> Iterator[Weights]:
    """Yield [patient, resample] in chunks on which the draws do not depend; nothing for fewer than two patients."""
    if patients < 2:
        return
    rng = generator(seed, "bootstrap", patients)
    size = max(8, CHUNK_BYTES // (4 * max(records, patients, 1)))
    for start in range(0, resamples, size):
        width = min(size, resamples - start)
        picks = rng.integers(patients, size=(width, patients)) * width + np.arange(width)[:, None]
        yield np.bincount(picks.ravel(), minlength=patients * width).reshape(patients, width).astype(np.float32)


def _codes(patients: npt.ArrayLike, records: int) -> tuple[npt.NDArray[np.intp], int]:
    ids, codes = np.unique(np.asarray(patients), return_inverse=True)
    if len(codes) != records or records == 0:
        raise ValueError(f"the bootstrap needs a patient for each of {records} records, found {len(codes)}")
    return codes.astype(np.intp), len(ids)


def _repeats(probabilities: npt.ArrayLike) -> list[Array]:
    p = np.asarray(probabilities, dtype=np.float64)
    return list(p) if p.ndim == 3 else [p]


def _macro(drawn: Array) -> Array:
    """Mean over the labels that have a value, [resample]; resamples without any are dropped."""
    kept = ~np.isnan(drawn)
    some = kept.any(axis=1)
    return np.asarray(np.where(kept, drawn, 0.0).sum(axis=1)[some] / kept.sum(axis=1)[some])


def _interval(value: float, drawn: Array, bounded: bool = False) -> Interval:
    if np.isnan(value) or drawn.size < 2:
        return Interval(value, float("nan"), float("nan"))
    lo, hi = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) + (value - drawn.mean())
    if bounded:
        lo, hi = max(lo, 0.0), min(hi, 1.0)
    return Interval(value, float(lo), float(hi))


def _divide(top: Array, bottom: Array) -> Array:
    return np.asarray(np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=np.asarray(bottom) > 0))
