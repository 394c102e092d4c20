"""Several families fitted together with parameters in common, and the test that these are common.

Each family keeps its own error variance. With f_g degrees of freedom, the shared values minimise sum_g f_g log SS_g,
SS_g the sum of squares that family g leaves when they are held; the statistic is by how much that sum exceeds the one
of separate fits, compared with chi-square of (families - 1) x (shared parameters) degrees of freedom.

Source: Bates & Watts 1988, Nonlinear Regression Analysis, chapter 6; likelihood ratio with f in the place of n.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ecgscale.fitting.engine import optimise
from ecgscale.fitting.problem import Problem
from ecgscale.fitting.profile import least_squares, refit
from ecgscale.laws import Array

TINY = 1e-300


@dataclass(frozen=True)
class Joint:
    """Families with parameters in common.

    Attributes:
        shared: {parameter: value in raw units}.
        params: {family: {parameter: value}}, the shared ones included.
        separate: {family: {parameter: value}} of the fits that share nothing.
        statistic, degrees, p: Of the test that the shared parameters are equal; a small p says that they differ.
    """

    shared: dict[str, float]
    params: dict[str, dict[str, float]]
    separate: dict[str, dict[str, float]]
    statistic: float
    degrees: int
    p: float


def joint(problems: Mapping[str, Problem], shared: tuple[str, ...]) -> Joint:
    """Fit families with shared exponents, or a shared floor, and test that they are shared.

    Args:
        problems: {family: problem}, at least two, all of one law; Huber objectives are replaced by least squares.
        shared: Exponents (no scales) or the law's floor, e.g. ("beta",) or ("alpha", "beta") or ("E",).

    Raises:
        ValueError: fewer than two families, several laws, a parameter that cannot be shared, or too few points.
    """
    squares = {name: least_squares(p) for name, p in problems.items()}
    _check(squares, shared)
    best = {name: optimise(p, starts=16).z for name, p in squares.items()}
    free = {name: len(p.y) - len(p.names) for name, p in squares.items()}
    separate = {name: _params(p, best[name]) for name, p in squares.items()}
    alone = sum(free[n] * np.log(_squares(p, best[n])) for n, p in squares.items())
    near = {name: z.copy() for name, z in best.items()}

    def height(values: Array) -> float:
        held = {name: _hold(p, shared, values) for name, p in squares.items()}
        total = 0.0
        for name, p in held.items():
            near[name], remaining = refit(p, near[name])
            total += free[name] * np.log(max(remaining, TINY))
        return total

    ends = np.array([[separate[name][k] for name in squares] for k in shared])
    values, together = _lowest(height, ends.min(axis=1), ends.max(axis=1))
    height(values)
    from scipy.stats import chi2  # here, so that a fit does not wait for scipy

    statistic, degrees = max(together - alone, 0.0), (len(squares) - 1) * len(shared)
    params = {n: _params(_hold(p, shared, values), near[n]) for n, p in squares.items()}
    common = dict(zip(shared, map(float, values), strict=True))
    return Joint(common, params, separate, float(statistic), degrees, float(chi2.sf(statistic, degrees)))


def _check(problems: Mapping[str, Problem], shared: tuple[str, ...]) -> None:
    laws = {p.law for p in problems.values()}
    if len(problems) < 2 or len(laws) != 1:
        raise ValueError(f"a joint fit needs two families or more and one law, found {len(problems)} and {len(laws)}")
    law = laws.pop()
    may = [*(n for n in law.nonlinear if n not in law.scales), *([law.floor] if law.floor else [])]
    if wrong := [k for k in shared if k not in may] or ([] if shared else ["nothing"]):
        raise ValueError(f"{law.part_name()} cannot share {wrong[0]}; choose from {', '.join(map(str, may))}")
    for name, p in problems.items():
        if len(p.y) <= len(p.names):
            raise ValueError(f"{name} has {len(p.y)} points, more than {len(p.names)} are needed")


def _hold(problem: Problem, shared: tuple[str, ...], values: Array) -> Problem:
    law = problem.law
    given = dict(zip(shared, map(float, values), strict=True))
    floor = given.pop(law.floor, None) if law.floor else None
    return replace(problem, fixed=tuple(given.items()), floor=problem.floor if floor is None else floor)


def _lowest(height: Callable[[Array], float], low: Array, high: Array) -> tuple[Array, float]:
    """Return where the height is least; each family alone is best within [low, high], so one shared value is, too."""
    from scipy.optimize import minimize, minimize_scalar

    if np.all(high - low <= 1e-9 * np.maximum(np.abs(high), TINY)):
        return low, height(low)
    if len(low) == 1:
        found = minimize_scalar(
            lambda v: height(np.array([v])),
            bounds=(low[0], high[0]),
            method="bounded",
            options={"xatol": 1e-6 * high[0]},
        )
        return np.array([found.x]), float(found.fun)
    width = np.maximum(high - low, 1e-6 * high)
    scaled = minimize(
        lambda u: height(low + np.clip(u, 0, 1) * width),
        np.full(len(low), 0.5),
        method="Nelder-Mead",
        options={"xatol": 1e-4, "fatol": 1e-6},
    )
    return low + np.clip(scaled.x, 0, 1) * width, float(scaled.fun)


def _squares(problem: Problem, z: Array) -> float:
    return max(2 * float(problem.value(z, problem.y / problem.scale)), TINY)


def _params(problem: Problem, z: Array) -> dict[str, float]:
    return {name: float(value) for name, value in problem.unpack(z).items()}
