"""Do the exponents of families differ, and what difference could these grids have shown? From bootstrap samples.

Source: Efron & Tibshirani 1993, chapter 15 (the share of resamples on the other side as p); Holm 1979, Scand. J. Stat.
6:65.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from math import hypot
from statistics import NormalDist
from typing import Protocol

import numpy as np

from ecgscale.fitting.result import LawFit
from ecgscale.holm import holm
from ecgscale.laws import Array
from ecgscale.rng import generator


class Sampled(Protocol):
    """What of a fit is compared: of `LawFit`, or of its dump."""

    @property
    def params(self) -> Mapping[str, float]:
        """{parameter: value}."""

    @property
    def samples(self) -> Mapping[str, Array]:
        """{parameter: [draw]}."""

    @property
    def status(self) -> str:
        """Of the fit."""


WIDE = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Difference:
    """One pair of families.

    Attributes:
        first, second: Their names.
        ratio, lo, hi: The first's parameter over the second's, with its 95 % interval.
        p: Two-sided, from the resamples; never below 2 / (draws + 1).
        corrected: p after Holm's correction for all pairs compared together.
    """

    first: str
    second: str
    ratio: float
    lo: float
    hi: float
    p: float
    corrected: float


def differences(fits: Mapping[str, Sampled], name: str) -> list[Difference]:
    """Compare a positive parameter (alpha, beta, kappa) of every pair of families.

    Args:
        fits: {family: fit}; one without samples or with the status "too_few" or "engines_disagree" is left out.
        name: The parameter.

    Returns:
        Every pair in the order of `fits`. Families are taken as independent; evaluation on the same patients makes
        that err on the wide side.
    """
    bad = ("too_few", "engines_disagree")
    logs = {
        family: np.log(generator(0, "pair", family).permutation(fit.samples[name]))
        for family, fit in fits.items()
        if name in fit.samples and fit.status not in bad
    }
    rows = []
    for first, second in combinations(logs, 2):
        count = min(len(logs[first]), len(logs[second]))
        gap = logs[first][:count] - logs[second][:count]
        lo, hi = np.exp(np.percentile(gap, [2.5, 97.5]))
        p = min(1.0, 2 * (1 + min((gap <= 0).sum(), (gap >= 0).sum())) / (count + 1))
        ratio = fits[first].params[name] / fits[second].params[name]
        rows.append((first, second, float(ratio), float(lo), float(hi), float(p)))
    corrected = holm([row[-1] for row in rows]).tolist()
    return [Difference(*row, corrected=c) for row, c in zip(rows, corrected, strict=True)]


@dataclass(frozen=True)
class MeanRatio:
    """The ratio of two families' means of one parameter over tasks.

    Attributes:
        ratio, lo, hi: With its 95 % interval.
        tasks: Those that both families have.
        without: {task: the ratio when this task is left out}; their range says whether one task makes the finding.
    """

    ratio: float
    lo: float
    hi: float
    tasks: tuple[str, ...]
    without: dict[str, float]


def mean_ratio(first: Mapping[str, LawFit], second: Mapping[str, LawFit], name: str) -> MeanRatio:
    """Compare the mean of a parameter over tasks, as the published ratios of mean exponents do.

    Args:
        first, second: {task: fit} of two families. Resamples of one family's tasks pair by position, so fit them with
            one seed: its runs are then redrawn alike for all tasks.
        name: The parameter.

    Raises:
        ValueError: no task has samples of the parameter in both families.
    """
    tasks = [t for t in first if t in second and name in first[t].samples and name in second[t].samples]
    if not tasks:
        raise ValueError(f"no task has resamples of {name} in both families; fit them with bootstraps on enough runs")
    values = [np.array([family[t].params[name] for t in tasks]) for family in (first, second)]
    count = min(len(family[t].samples[name]) for t in tasks for family in (first, second))
    above, below = (np.mean([f[t].samples[name][:count] for t in tasks], axis=0) for f in (first, second))
    lo, hi = np.percentile(above / generator(0, "pair", "second").permutation(below), [2.5, 97.5])
    rest = {t: [np.delete(v, i).mean() for v in values] for i, t in enumerate(tasks)} if len(tasks) > 1 else {}
    without = {t: float(a / b) for t, (a, b) in rest.items()}
    return MeanRatio(float(values[0].mean() / values[1].mean()), float(lo), float(hi), tuple(tasks), without)


def detectable(fit: LawFit, name: str, other: LawFit | None = None, power: float = 0.8) -> float:
    """Return the smallest ratio (> 1) of two families' exponents that grids like these tell apart at 95 %.

    Args:
        fit: One family; its bootstrap gives the spread of log `name`.
        name: The exponent.
        other: The second family; None for one as uncertain as the first.
        power: How often a true ratio of this size would be found; at 0.5 the ratio is one that is just significant.

    Returns:
        exp((z_97.5 + z_power) sqrt(s1^2 + s2^2)), s half the width of the 95 % interval of log `name` over z_97.5; inf
        where the exponent is not identified.
    """
    apart = other or fit
    spread = hypot(log_spread(fit.samples.get(name), fit.status), log_spread(apart.samples.get(name), apart.status))
    return smallest_ratio(spread, power)


def smallest_ratio(spread: float, power: float = 0.8) -> float:
    """Return exp((z_97.5 + z_power) spread), the smallest ratio that a difference of logs with this standard deviation
    shows."""
    return float(np.exp((WIDE + NormalDist().inv_cdf(power)) * spread))


def log_spread(samples: Array | None, status: str) -> float:
    """Return half the width of the 95 % interval of the logarithm of samples [draw] over z_97.5; inf where the fit
    does not identify them."""
    if samples is None or status not in ("converged", "bound") or samples.min() <= 0:
        return float("inf")
    lo, hi = np.percentile(np.log(samples), [2.5, 97.5])
    return float((hi - lo) / (2 * WIDE))
