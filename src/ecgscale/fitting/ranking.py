"""Models in the order of their mean over tasks, lower is better, with intervals; what cannot be told apart is a tie.

The score of a model is the mean over tasks of its mean loss, its seeds averaged. A resample draws patients, for all
models alike, and the luck of the seed of every model anew: s T / sqrt(n), where s² is the variance between seeds pooled
over all models, n the model's seeds and T Student's t of the pooled degrees of freedom.

Model j is told apart from i where the interval of their difference excludes zero; intervals of one i hold for all j at
once: the factor c of ± c standard errors is the 95 % quantile over resamples of the largest |difference from what was
measured| / standard error. The rank of i is then from 1 + the number told better to K - the number told worse.

Source: Mogstad, Romano, Shaikh & Wilhelm 2024, Rev. Econ. Stud. 91:476, for ranks from differences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ecgscale.fitting.resample import LEVEL, Array, Measured, Resampled, percentiles, resample
from ecgscale.rng import generator


@dataclass(frozen=True, slots=True)
class Ranked:
    """One model.

    Attributes:
        value, lo, hi: Its score and the 95 % interval.
        rank: By the score, 1 = lowest.
        best, worst: The ranks that cannot be excluded.
        n_seeds: Its runs.
        n_patients: Distinct patients of all tasks.
    """

    name: str
    value: float
    lo: float
    hi: float
    rank: int
    best: int
    worst: int
    n_seeds: int
    n_patients: int


def ranking(names: Sequence[str], tasks: Sequence[Measured], resamples: int = 1000, seed: int = 0) -> list[Ranked]:
    """Order models by their score.

    Args:
        names: The model of each run [run]; runs of one name are its seeds.
        tasks: What every run scored, at least one task.
        resamples: At least 1,000 for a 95 % interval.
        seed: Of the draws.

    Returns:
        The models, lowest score first. Where no model has two seeds, intervals hold patients only.
    """
    return order(names, tasks, resample(tasks, resamples, seed), seed)


def order(
    names: Sequence[str], tasks: Sequence[Measured], resampled: Mapping[str, Resampled], seed: int = 0
) -> list[Ranked]:
    """Order models as `ranking` does, by tasks that were resampled before, perhaps among others."""
    found = {t.task: resampled[t.task] for t in tasks}
    models = sorted(set(names))
    member = np.array([[float(name == model) for model in models] for name in names])  # run model
    counts = member.sum(0)
    by_run = np.mean([f.value for f in found.values()], axis=0)
    value = by_run @ member / counts
    drawn = np.mean([f.drawn for f in found.values()], axis=0) @ member / counts
    drawn = drawn + _luck(by_run - member @ value, counts, len(drawn), seed)
    lo, hi = percentiles(drawn)
    best, worst = _ranks(value, drawn)
    patients = len({(t.source, p) for t in tasks for p in found[t.task].patients.tolist()})
    places = np.argsort(value, kind="stable")
    return [
        Ranked(
            models[i], float(value[i]), float(lo[i]), float(hi[i]), place + 1, int(best[i]), int(worst[i]),
            int(counts[i]), patients,
        )
        for place, i in enumerate(places)
    ]  # fmt: skip


def _luck(deviations: Array, counts: Array, resamples: int, seed: int) -> Array:
    """What other seeds would have changed [resample, model], of each run's distance from its model's mean."""
    df = float((counts - 1).sum())
    if df == 0:
        return np.zeros((resamples, len(counts)))
    spread = np.sqrt((deviations**2).sum() / df)
    return np.asarray(spread * generator(seed, "ranking").standard_t(df, (resamples, len(counts))) / np.sqrt(counts))


def _ranks(value: Array, drawn: Array) -> tuple[Array, Array]:
    """The best and the worst rank that cannot be excluded [model], from scores and their resamples."""
    best, worst = np.empty(len(value), int), np.empty(len(value), int)
    for i in range(len(value)):
        gap, gaps = value[i] - value, drawn[:, i, None] - drawn  # model; resample model
        error = gaps.std(axis=0)
        told = error > 0
        sizes = np.abs(gaps - gap)[:, told] / error[told]
        least = np.quantile(sizes.max(axis=1), LEVEL) * error if told.any() else error
        best[i], worst[i] = 1 + (gap > least).sum(), len(value) - (gap < -least).sum()
    return best, worst
