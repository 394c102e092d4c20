"""The cross-check: the same objective minimised the usual way, many L-BFGS-B runs in log-sum-exp form.

L = exp(logsumexp_j(a_j + log basis_j(theta))) with a_j = log coefficient, all parameters searched together from
fixed starts. It shares no step with variable projection; where the two disagree, neither is believed.

Source: Hoffmann et al. 2022, appendix D.3; Besiroglu et al. 2024, arXiv:2404.10102.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ecgscale.fitting.engine import exponent_grid
from ecgscale.fitting.problem import Problem
from ecgscale.laws import Array

OPTIONS = {"maxiter": 2000, "ftol": 1e-12, "gtol": 1e-9}
ROUGH = {"maxiter": 60, "ftol": 1e-9, "gtol": 1e-9}  # of every start; the best one goes on with OPTIONS
LOG_LIMITS = (-25.0, 10.0)  # of a scaled coefficient: exp(-25) stands for 0


class Direct(NamedTuple):
    """Packed parameters and objective (scaled, as `Problem.value`) of the best run."""

    z: Array
    value: float


def fit_direct(problem: Problem, starts: int = 4, near: Array | None = None, y: Array | None = None) -> Direct:
    """Minimise the objective from `starts` exponent combinations spread over their ranges, or from the packed
    parameters `near`.

    `y` replaces the problem's scaled targets [point], for bootstraps.
    """
    target = problem.y / problem.scale if y is None else y
    if near is None:
        rough = [_run(problem, start, target, ROUGH) for start in _starts(problem, starts)]
        near = min(rough, key=lambda run: run.value).z
    return _run(problem, near, target, OPTIONS)


def disagree(ours: float, theirs: float, noise: float = 1e-12) -> bool:
    """Return whether two minima of one objective differ.

    They do if the check lies below ours by 0.1 %, or above it by 5 % (L-BFGS stops early on the kinks of a Huber loss).
    """
    return theirs < ours * (1 - 1e-3) - noise or theirs > ours * 1.05 + noise


def _starts(problem: Problem, count: int) -> list[Array]:
    side = exponent_grid(problem, max(count, 3) * 8)
    chosen = side[np.linspace(0, len(side) - 1, count + 2).round().astype(int)[1:-1]]
    share = np.full((len(chosen), len(problem.law.linear)), 1 / len(problem.law.linear))
    return list(np.concatenate([share, chosen], axis=1))


def _run(problem: Problem, start: Array, y: Array, options: dict[str, float]) -> Direct:
    from scipy.optimize import minimize  # here, so that reading a fit does not wait for scipy

    m = len(problem.law.linear)
    lower, upper = problem.box
    low = np.concatenate([np.full(m, LOG_LIMITS[0]), lower[m:]])
    high = np.concatenate([np.full(m, LOG_LIMITS[1]), upper[m:]])
    if problem.held is not None:
        low[problem.held] = high[problem.held] = np.log(max(lower[problem.held], 1e-300))
    first = np.clip(np.concatenate([np.log(np.maximum(start[:m], 1e-10)), start[m:]]), low, high)
    bounds = list(zip(low, high, strict=True))
    found = minimize(
        _objective,
        first,
        (problem, np.log(y) if problem.log else y),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options=options,
    )
    z = np.concatenate([np.exp(found.x[:m]), found.x[m:]])
    return Direct(z, float(problem.value(z, y)))


def _objective(packed: Array, problem: Problem, target: Array) -> tuple[float, Array]:
    """Return the objective and its gradient for targets [point], their logarithms where residuals are of log L."""
    m, delta = len(problem.law.linear), problem.delta
    logs = packed[:m, None] + problem.log_terms(packed[m:])
    top = logs.max(axis=0)
    parts = np.exp(logs - top)
    whole = parts.sum(axis=0)
    share, log_fitted = parts / whole, top + np.log(whole)
    fitted = log_fitted if problem.log else np.exp(log_fitted)
    residual = fitted - target
    size = np.abs(residual)
    inner = np.minimum(size, delta)
    pull = np.minimum(np.maximum(residual, -delta), delta)
    if not problem.log:
        pull *= fitted
    gradient = np.zeros(len(packed))
    gradient[:m] = share @ pull
    for (j, k), slope in problem.slopes(packed[m:][None]).items():
        gradient[m + k] += ((share[j] * pull) * slope).sum()
    unit = (
        delta if np.isfinite(delta) else 1.0
    )  # of the size of the residuals, so that L-BFGS's tolerances mean something
    return float((inner * (size - 0.5 * inner)).sum() / unit), gradient / unit
