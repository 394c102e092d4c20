"""Whether one model is better than another: any metric, on the same records and draws, seeds as an outer level.

A resample draws patients, for both models alike, and of every model with n seeds n - 1 of them with replacement, so
that the variance between seeds enters as s² / n (Rao and Wu 1988). Patients and seeds are crossed (every seed is tested
on the same patients); where a seed's luck differs from patient to patient, that part is counted generously (Owen 2007).

The p-value is the share of resamples whose distance from their own mean reaches the difference measured (Hall and
Wilson 1991), never below 1 / (resamples + 1): a family of m comparisons judged by Holm at 5 % needs more than 20 m
resamples.

Ranks with intervals, ties as ties, are in `fitting.ranking`.

Sources: Rao and Wu 1988, JASA 83:231; Owen 2007, Annals of Applied Statistics 1:386; Hall and Wilson 1991, Biometrics
47:757; Holm 1979, Scandinavian Journal of Statistics 6:65.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ecgscale.evaluation import metrics
from ecgscale.evaluation.bootstrap import LIMITS, Interval, interval, macro_draws, patient_codes
from ecgscale.evaluation.kernels import Array, prepare
from ecgscale.holm import holm
from ecgscale.rng import generator

ALPHA: Final = 0.05  # of a family


class Compared(NamedTuple):
    """A minus B: the difference, its 95 % interval, the p-value, and Holm's within its family of comparisons."""

    value: float
    lo: float
    hi: float
    p: float
    p_holm: float


def over_seeds(
    metric: str, y: npt.ArrayLike, scores: npt.ArrayLike, patients: npt.ArrayLike, resamples: int = 1000, seed: int = 0
) -> Interval:
    """Return a model's macro metric, the mean over its seeds, with an interval over seeds and patients.

    Args:
        metric: A name that `metrics.named` knows.
        y: [record, label].
        scores: [seed, record, label] as the metric takes them; a single seed gives an interval over patients only.
        patients: [record].

    Raises:
        ValueError: unknown metric or other shapes.
    """
    values, drawn = _drawn(metric, y, {"": scores}, patients, resamples, seed)[""]
    return interval(float(values), drawn, *LIMITS[metric])


def compare(
    metric: str,
    y: npt.ArrayLike,
    scores: Mapping[str, npt.ArrayLike],
    pairs: Sequence[tuple[str, str]],
    patients: npt.ArrayLike,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[tuple[str, str], Compared]:
    """Return the difference of every pair of models; the pairs of one call are one family for Holm.

    Args:
        metric: A name that `metrics.named` knows.
        y: [record, label].
        scores: Model -> [record, label], or [seed, record, label], as the metric takes them.
        pairs: (A, B): the difference is A minus B.
        patients: [record].

    Raises:
        ValueError: unknown metric, other shapes, or too few resamples for any member of the family to be told apart.
    """
    if (resamples + 1) * ALPHA < len(pairs):
        raise ValueError(f"{len(pairs)} comparisons need at least {int(len(pairs) / ALPHA)} resamples, not {resamples}")
    drawn = _drawn(metric, y, scores, patients, resamples, seed)
    found = {}
    for a, b in pairs:
        value = drawn[a][0] - drawn[b][0]
        resampled = drawn[a][1] - drawn[b][1]
        found[a, b] = (*interval(value, resampled), _p_value(value, resampled))
    adjusted = holm([f[3] for f in found.values()])
    return {pair: Compared(*f, float(p)) for (pair, f), p in zip(found.items(), adjusted, strict=True)}


def _drawn(
    metric: str, y: npt.ArrayLike, scores: Mapping[str, npt.ArrayLike], patients: npt.ArrayLike, resamples: int,
    seed: int,
) -> dict[str, tuple[float, Array]]:  # fmt: skip
    """The metric of every model and its resamples [resample]; seeds are drawn apart for every model."""
    codes, count = patient_codes(patients, len(np.asarray(y)))
    seeds = {name: list(_three(s)) for name, s in scores.items()}
    kernels = [prepare(metric, y, s, codes) for every in seeds.values() for s in every]
    drawn = np.split(
        macro_draws(kernels, count, len(codes), resamples, seed), np.cumsum([len(s) for s in seeds.values()])[:-1]
    )
    found = {}
    for i, (name, every) in enumerate(seeds.items()):
        value = float(np.mean([metrics.macro(metrics.named(metric)(y, s)) for s in every]))
        found[name] = value, _average_of_seeds(drawn[i], seed, i)
    return found


def _three(scores: npt.ArrayLike) -> Array:
    scores = np.asarray(scores, dtype=np.float64)
    return scores if scores.ndim == 3 else scores[None]


def _average_of_seeds(drawn: Array, seed: int, model: int) -> Array:
    """Mean over n - 1 seeds drawn of n, [resample], from each seed's metric [seed, resample]."""
    n, resamples = drawn.shape
    if n == 1 or not resamples:
        return drawn.mean(axis=0)
    picks = generator(seed, "seeds", model).integers(n, size=(n - 1, resamples))
    return np.take_along_axis(drawn, picks, axis=0).mean(axis=0)


def _p_value(value: float, drawn: Array) -> float:
    drawn = drawn[~np.isnan(drawn)]
    if np.isnan(value) or not drawn.size:
        return float("nan")
    return float((1 + (np.abs(drawn - drawn.mean()) >= abs(value)).sum()) / (drawn.size + 1))
