"""Profile likelihood of an exponent: the sum of squares that remains when it is held and all else is fitted again.

Errors of log loss (of loss for "ls") are taken as independent and normal with one unknown variance; with p free
parameters and n points a value v lies in the interval while (n - p) (SS(v) / SS_min - 1) <= F(1, n - p). No resample is
needed, and unlike a bootstrap or a standard error it follows a curved valley to its end; it knows nothing of seeds that
share a cell or of patients.

Source: Bates & Watts 1988, Nonlinear Regression Analysis, section 6.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ecgscale.fitting.engine import Optimum, exponent_grid, optimise, project
from ecgscale.fitting.polish import polish
from ecgscale.fitting.problem import Problem
from ecgscale.laws import Array

HALVINGS = 14  # of the step that first left the interval: to about 1e-4 of it
STEP = 1.15  # factor between values tried outwards
Rise = Callable[[float, Array], tuple[float, Array]]  # (value, packed start) to its rise and packed minimum


@dataclass(frozen=True)
class Profile:
    """One exponent.

    Attributes:
        estimate: Its least-squares value.
        lo, hi: The interval; -inf or inf where the profile does not rise above the threshold within the search range,
            so that the points set no limit on that side.
        values, rises: What was tried and (n - p) (SS / SS_min - 1) there, in increasing order of value.
        threshold: Of the rise.
    """

    name: str
    estimate: float
    lo: float
    hi: float
    values: Array
    rises: Array
    threshold: float


def least_squares(problem: Problem) -> Problem:
    """Return the problem with squared residuals, of log loss or of loss as before."""
    return replace(problem, objective="ls_log" if problem.log else "ls")


def refit(problem: Problem, near: Array) -> tuple[Array, float]:
    """Return the packed minimum and the sum of squares from `near` and from the best point of a coarse grid."""
    y = (problem.y / problem.scale)[None]
    theta = exponent_grid(problem, 60)
    coefficients, error = project(problem, theta, y)
    best = int(error[:, 0].argmin())
    start = np.stack([near, np.concatenate([coefficients[best, 0], theta[best]])])
    found = polish(problem, np.repeat(y, len(start), axis=0), start)
    i = int(found.value.argmin())
    return found.z[i], 2 * float(found.value[i])


def profile(problem: Problem, name: str, level: float = 0.95, optimum: Optimum | None = None) -> Profile:
    """Return the profile-likelihood interval of the exponent `name`.

    Args:
        problem: The law and its points; a Huber objective is replaced by least squares.
        name: One of the law's exponents, no scale.
        level: Of the interval.
        optimum: The least-squares fit, if it is known.

    Raises:
        ValueError: no such exponent, or no more points than parameters.
    """
    law = problem.law
    if name not in law.nonlinear or name in law.scales:
        known = ", ".join(n for n in law.nonlinear if n not in law.scales)
        raise ValueError(f"{law.part_name()} has no exponent {name!r}; choose one of {known}")
    free = len(problem.y) - len(problem.names) + (problem.held is not None)
    if free < 1:
        raise ValueError(f"{len(problem.y)} points are too few to profile {len(problem.names)} parameters")
    from scipy.stats import f as fisher  # here, so that a fit does not wait for scipy

    squares = least_squares(problem)
    best = optimum or optimise(squares)
    index = squares.names.index(name)
    estimate = float(best.z[index])
    smallest = 2 * float(squares.value(best.z, squares.y / squares.scale))
    threshold = float(fisher.ppf(level, 1, free))
    tried = {estimate: 0.0}

    def rise(value: float, near: Array) -> tuple[float, Array]:
        z, remaining = refit(replace(squares, fixed=((name, value),)), near)
        tried[value] = free * (remaining / max(smallest, 1e-300) - 1)
        return tried[value], z

    def end(limit: float, factor: float) -> float:
        value, z = estimate, best.z
        while value != limit:
            inside, held = value, z
            value = max(limit, value * factor) if factor < 1 else min(limit, value * factor)
            height, z = rise(value, held)
            if height > threshold:
                return _halve(rise, inside, held, value, threshold)
        return -np.inf if factor < 1 else np.inf

    low, high = law.bounds[name]
    lo, hi = end(low, 1 / STEP), end(high, STEP)
    values = sorted(tried)
    return Profile(name, estimate, lo, hi, np.array(values), np.array([tried[v] for v in values]), threshold)


def _halve(rise: Rise, inside: float, near: Array, outside: float, threshold: float) -> float:
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        height, z = rise(middle, near)
        if height > threshold:
            outside = middle
        else:
            inside, near = middle, z
    return float((inside + outside) / 2)
