"""Intervals by resampling patients, never records: all ECGs of a patient enter or leave a resample together.

A resample is a vector of how often each patient was drawn, and metrics are computed on these weights (`kernels`). The
draws depend on the seed and the number of patients alone: two models evaluated on the same records meet the same
resamples, and so do all metrics.

The interval is the percentile interval with the resamples' bias taken out: a positive drawn twice ties with itself,
which lifts average precision (for a scorer at chance by more than the interval is wide), and a resample is noisier than
the records it comes from, which lifts the calibration error; mean loss and AUROC have next to no such bias.

Source: Efron and Tibshirani 1993, chapters 10 and 13; Field and Welsh 2007 for clusters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ecgscale.evaluation import metrics as metric
from ecgscale.evaluation.kernels import Array, Codes, Kernel, Weights, averaged, prepare, weighted_mean
from ecgscale.rng import generator

CHUNK_BYTES: Final = 2**20  # weights of all records in one chunk: small enough for the cache
LEVEL: Final = 0.95
LIMITS: Final = {  # lowest and highest value of a metric
    **dict.fromkeys(("auroc", "auprc", "f1", "brier", "ece"), (0.0, 1.0)),
    **dict.fromkeys(("loss", "mse", "mae"), (0.0, np.inf)),
    "r2": (-np.inf, 1.0),
}


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
        y: Targets [record, label]: 1, 0 or NaN (unknown); any number for metrics of regression.
        probabilities: [record, label], or [repeat, record, label] of repeated cross-validation, whose
            metrics are averaged over repeats; decisions for "f1", predictions for metrics of regression.
        patients: [record], any hashable ids.
        metrics: Names that `metrics.named` knows.
        resamples: At least 1,000 for a 95 % interval.

    Returns:
        Metric -> value, lo, hi. A label that loses a class in a resample is left out of that resample's mean.

    Raises:
        ValueError: shapes differ or a metric is unknown.
    """
    codes, count = patient_codes(patients, len(np.asarray(y)))
    repeats = _repeats(probabilities)
    values = {m: float(np.mean([metric.macro(metric.named(m)(y, p)) for p in repeats])) for m in metrics}
    kernels = [averaged([prepare(m, y, p, codes) for p in repeats]) for m in metrics]
    drawn = macro_draws(kernels, count, len(codes), resamples, seed)
    return {m: interval(values[m], d, *LIMITS[m]) for m, d in zip(metrics, drawn, strict=True)}


def weighted(
    name: str, y: npt.ArrayLike, scores: npt.ArrayLike, patients: npt.ArrayLike, weights: npt.ArrayLike
) -> Array:
    """Return one metric under given draws, [resample, label].

    Args:
        name: Any name that `metrics.named` knows.
        y, scores: [record, label].
        patients: [record], index of each record's patient into `weights`.
        weights: [resample, patient], how often each patient was drawn.
    """
    drawn = np.ascontiguousarray(np.asarray(weights, dtype=np.float32).T)
    return prepare(name, y, scores, np.asarray(patients, dtype=np.intp))(drawn)


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
    codes, count = patient_codes(patients, len(a))
    difference = weighted_mean((a - b).reshape(len(a), -1), codes)
    value = metric.macro(difference(np.ones((count, 1), dtype=np.float32)))
    return interval(value, macro_draws([difference], count, len(codes), resamples, seed)[0])


def macro_draws(kernels: Sequence[Kernel], patients: int, records: int, resamples: int, seed: int) -> Array:
    """Return the macro mean of every kernel, all on the same draws, [kernel, resample]; NaN where no label has a value.

    Args:
        kernels: Metrics of the same records.
        patients: How many there are; with fewer than two nothing is drawn.
        records: How many there are, which sets how many resamples are held at once and nothing else.
    """
    drawn: list[list[Array]] = [[np.empty(0)] for _ in kernels]
    for weights in _draws(patients, records, resamples, seed):
        for kernel, macros in zip(kernels, drawn, strict=True):
            macros.append(_macro(kernel(weights)))
    return np.stack([np.concatenate(macros) for macros in drawn])


def interval(value: float, drawn: Array, lowest: float = -np.inf, highest: float = np.inf) -> Interval:
    """Return the percentile interval of resamples with their bias taken out, inside the metric's limits."""
    drawn = drawn[~np.isnan(drawn)]
    if np.isnan(value) or drawn.size < 2:
        return Interval(value, float("nan"), float("nan"))
    lo, hi = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) + (value - drawn.mean())
    return Interval(value, float(max(lo, lowest)), float(min(hi, highest)))


def patient_codes(patients: npt.ArrayLike, records: int) -> tuple[Codes, int]:
    """Return the index of each record's patient and the number of patients.

    Raises:
        ValueError: not one patient per record.
    """
    ids, codes = np.unique(np.asarray(patients), return_inverse=True)
    if len(codes) != records or records == 0:
        raise ValueError(f"the bootstrap needs a patient for each of {records} records, found {len(codes)}")
    return codes.astype(np.intp), len(ids)


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


def _repeats(probabilities: npt.ArrayLike) -> list[Array]:
    p = np.asarray(probabilities, dtype=np.float64)
    return list(p) if p.ndim == 3 else [p]


def _macro(drawn: Array) -> Array:
    """Mean over the labels that have a value, [resample]; NaN where none has."""
    kept = ~np.isnan(drawn)
    count = kept.sum(axis=1)
    return np.where(count, np.where(kept, drawn, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)
