"""Scores of many runs under one patient bootstrap: tasks of one source, and all runs, meet the same draws.

The mean over labels of the mean over records needs only the sums of each patient, so that a resample of all runs is one
matrix product.

Source: Efron and Tibshirani 1993, chapter 13; Field and Welsh 2007 for clusters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ecgscale.rng import generator

Array = npt.NDArray[np.float64]
LEVEL: Final = 0.95
CHUNK_BYTES: Final = 2**25  # patient weights held at once


@dataclass(frozen=True, slots=True)
class Measured:
    """One task: what every run scored on every record.

    Attributes:
        task: A name, unique in its table.
        source: Tasks of one source share its patients, and therefore their draws.
        values: [run, record, label]; NaN where the target is unknown, in the same places for every run.
        patients: [record], any hashable ids.
    """

    task: str
    source: str
    values: Array
    patients: npt.NDArray[Any]


class Resampled(NamedTuple):
    """One task with its patients resampled."""

    value: Array  # [run]
    drawn: Array  # [resample, run]
    patients: npt.NDArray[Any]  # [patient], distinct ids


def resample(tasks: Sequence[Measured], resamples: int, seed: int) -> dict[str, Resampled]:
    """Return the score of every run on every task, and what it becomes in each resample of patients."""
    sums = {t.task: _by_patient(t) for t in tasks}
    parts: dict[str, list[Array]] = {name: [] for name in sums}
    for source in dict.fromkeys(t.source for t in tasks):
        names = [t.task for t in tasks if t.source == source]
        ids = np.unique(np.concatenate([sums[name].ids for name in names]))
        where = {name: np.searchsorted(ids, sums[name].ids) for name in names}
        for weights in _draws(len(ids), resamples, seed, source):
            for name in names:
                s, w = sums[name], weights[:, where[name]]
                total = w @ s.total.reshape(len(s.ids), -1)
                parts[name].append(_macro(total.reshape(len(w), *s.total.shape[1:]), w @ s.known))
    return {
        name: Resampled(_macro(s.total.sum(axis=0), s.known.sum(axis=0)), np.concatenate(parts[name]), s.ids)
        for name, s in sums.items()
    }


def percentiles(drawn: Array) -> Array:
    """Return the 95 % limits [2, number] of resamples [resample, number]."""
    return np.asarray(np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0))


class _Sums(NamedTuple):
    """One task, summed over the records of each patient: what a resample needs."""

    ids: npt.NDArray[Any]  # [patient], sorted
    total: Array  # [patient, run, label]
    known: Array  # [patient, label]


def _by_patient(task: Measured) -> _Sums:
    there = ~np.isnan(task.values[0])
    ids, codes = np.unique(task.patients, return_inverse=True)
    total = np.zeros((len(ids), len(task.values), there.shape[1]))
    known = np.zeros((len(ids), there.shape[1]))
    np.add.at(total, codes, np.where(there[:, None], task.values.swapaxes(0, 1), 0.0))
    np.add.at(known, codes, there)
    return _Sums(ids, total, known)


def _macro(total: Array, known: Array) -> Array:
    """Mean over labels of mean over records, [..., run]; a label without a known record is left out."""
    some = known > 0
    means = total * np.divide(1.0, known, out=np.zeros_like(known), where=some)[..., None, :]
    return np.asarray(means.sum(axis=-1) / np.maximum(some.sum(axis=-1), 1)[..., None])


def _draws(patients: int, resamples: int, seed: int, source: str) -> Iterator[Array]:
    """How often each patient was drawn, [resample, patient], in chunks on which the draws do not depend."""
    rng = generator(seed, "effects", "patients", source)
    size = max(8, CHUNK_BYTES // (8 * patients))
    for start in range(0, resamples, size):
        width = min(size, resamples - start)
        picks = rng.integers(patients, size=(width, patients)) + np.arange(width)[:, None] * patients
        yield np.bincount(picks.ravel(), minlength=width * patients).reshape(width, patients).astype(np.float64)
