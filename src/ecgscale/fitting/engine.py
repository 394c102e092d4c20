"""Variable projection: search the exponents only, the non-negative linear part solved exactly, then polish on all
parameters.

For fixed exponents a law is linear in its coefficients, c >= 0. The inner problem (least squares of relative
residuals) is exact: every active set is solved and the best feasible one kept, so E, A or B = 0 are sub-models and
not failures. Its best grid points start the polish of the asked objective on all parameters. A new law needs only a
basis.

Source: Golub & Pereyra 1973 (variable projection); the exponents-only search of peers.md, condition number ~1e1
instead of ~1e11.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from ecgscale.fitting.polish import jacobian, polish
from ecgscale.fitting.problem import Problem
from ecgscale.laws import Array

CHUNK = 32_000  # fits times points at a time, so that the arrays of a step stay in the cache
EDGE = 1e-6  # relative distance to a limit that counts as on it


@dataclass(frozen=True)
class Optimum:
    """The best minimum of one problem."""

    z: Array  # packed parameters [parameter]
    value: float  # objective, sum over points
    gradient: float  # projected gradient relative to the sum of its contributions
    spread: float  # median over the starts of (objective / best - 1)
    starts: int
    condition: float  # condition number of the column-scaled Jacobian of the free parameters
    at_limit: tuple[str, ...]  # coefficients that are 0 and exponents at an end of their range


def exponent_grid(problem: Problem, points: int) -> Array:
    """Return about `points` combinations of packed exponents [grid, exponent], even in log space over the law's
    ranges; one value of those that are held."""
    law, (low, high) = problem.law, (end[len(problem.law.linear) :] for end in problem.box)
    free = [name for name, a, b in zip(law.nonlinear, low, high, strict=True) if a < b]
    side = max(3, round(points ** (1 / max(len(free), 1))))
    axes = []
    for name, held in zip(law.nonlinear, low, strict=True):
        axis = np.geomspace(*law.bounds[name], side + 2)[1:-1]
        axes.append((np.log(axis) if name in law.scales else axis) if name in free else [held])
    return np.array(list(product(*axes)))


def project(problem: Problem, theta: Array, y: Array, weight: Array | None = None) -> tuple[Array, Array]:
    """Solve the inner problem exactly: the coefficients >= 0 that minimise the relative squared residuals.

    Args:
        problem: The law, its inputs and targets (which give the weights 1 / y^2; 1 for the objective "ls").
        theta: Exponents [grid, exponent].
        y: Scaled targets [fit, point].
        weight: Weight of each point [fit, point]; 1 if None.

    Returns:
        Scaled coefficients [grid, fit, term] and sums of squares [grid, fit].
    """
    m = len(problem.law.linear)
    row = problem.scale / problem.y if problem.log else np.ones_like(problem.y)
    terms = problem.terms(theta).value * row
    held = problem.held
    lower, _ = problem.box
    target = y * row if held is None else (y - lower[held]) * row  # the held term is the constant 1
    if weight is None:
        gram, weighted = (terms @ terms.transpose(0, 2, 1))[:, None], target
    else:
        gram, weighted = np.einsum("gjn,gln,bn->gbjl", terms, terms, weight, optimize=True), target * weight
    right = (terms @ weighted.T).transpose(0, 2, 1)
    square = (weighted * target).sum(axis=1)
    best = np.broadcast_to(square, right.shape[:2]).copy()
    coefficients = np.zeros_like(right)
    free = [j for j in range(m) if j != held]
    for chosen in product((False, True), repeat=len(free)):
        some = [j for j, c in zip(free, chosen, strict=True) if c]
        if some:
            _keep_better(gram, right, square, some, best, coefficients)
    if held is not None:
        coefficients[..., held] = lower[held]
    return coefficients, best


def _keep_better(gram: Array, right: Array, square: Array, some: list[int], best: Array, coefficients: Array) -> None:
    square_of = gram[..., some, :][..., some] + 1e-13 * np.eye(len(some))
    try:
        inner = np.linalg.inv(square_of)
    except np.linalg.LinAlgError:  # two terms are one, as where N and D grow together and their exponents are equal
        inner = np.linalg.pinv(square_of, hermitian=True)
    part = right[..., some]
    shared = gram.shape[1] == 1
    solved = part @ inner[:, 0] if shared else (inner @ part[..., None])[..., 0]
    error = np.where((solved > 0).all(axis=-1), square - (solved * part).sum(axis=-1), np.inf)
    better = error < best
    np.copyto(best, error, where=better)
    full = np.zeros_like(coefficients)
    full[..., some] = solved
    np.copyto(coefficients, full, where=better[..., None])


def optimise(problem: Problem, starts: int = 32, extra: Array | None = None) -> Optimum:
    """Return the best minimum of the objective over many starts, their spread and the conditioning."""
    y = (problem.y / problem.scale)[None]
    theta = exponent_grid(problem, 600)
    coefficients, error = project(problem, theta, y)
    order = np.argsort(error[:, 0])
    chosen = np.unique(np.concatenate([order[: starts // 2], order[:: max(1, 2 * len(order) // starts)]]))
    start = np.concatenate([coefficients[chosen, 0], theta[chosen]], axis=1)
    if extra is not None:
        start = np.concatenate([start, extra])
    found = polish(problem, np.repeat(y, len(start), axis=0), start)
    i = int(np.argmin(found.value))
    floor = max(float(found.value[i]), 1e-12)
    spread = float(np.median(found.value - found.value[i]) / floor)
    z = found.z[i]
    return Optimum(
        z,
        _in_units(problem, found.value[i]),
        float(found.gradient[i]),
        spread,
        len(start),
        _condition(problem, z),
        at_limit(problem, z),
    )


def resolve(problem: Problem, y: Array, near: Array, weight: Array | None = None) -> Array:
    """Fit many resamples of one problem.

    Args:
        problem: The original problem.
        y: Resampled scaled targets [fit, point].
        near: Packed parameters of the original optimum [parameter].
        weight: Weights of the points [fit, point]; 1 if None.

    Returns:
        Packed parameters [fit, parameter], each from the better of two starts: `near` and the resample's own
        inner-problem optimum.
    """
    theta = exponent_grid(problem, 144)
    chunks = []
    size = max(CHUNK // len(problem.y), 1)
    for first in range(0, len(y), size):
        part = slice(first, first + size)
        yp, wp = y[part], None if weight is None else weight[part]
        coefficients, error = project(problem, theta, yp, wp)
        best = error.argmin(axis=0)
        own = np.concatenate([coefficients[best, np.arange(len(yp))], theta[best]], axis=1)
        again = np.repeat(near[None], len(yp), axis=0)
        closer = problem.value(own, yp, wp) < problem.value(again, yp, wp)
        chunks.append(polish(problem, yp, np.where(closer[:, None], own, again), wp).z)
    return np.concatenate(chunks)


def at_limit(problem: Problem, z: Array) -> tuple[str, ...]:
    """Return the names of the parameters that lie on a limit of their range.

    A held floor does not count, nor the exponent of a term that is absent.
    """
    lower, upper = problem.box
    inside = np.where(np.isfinite(upper), (upper - lower) * EDGE, EDGE)
    moves = np.abs(jacobian(problem, z[None])[0][0]).max(axis=1) > 0
    on = ((z <= lower + inside) | (z >= upper - inside)) & (lower < upper) & moves
    return tuple(name for name, hit in zip(problem.names, on, strict=True) if hit)


def _condition(problem: Problem, z: Array) -> float:
    jac, fitted = jacobian(problem, z[None])
    lower, upper = problem.box
    free = (lower < upper) & (z > lower) & (z < upper)
    columns = (jac[0] / (fitted[0] if problem.log else 1.0))[free].T
    size = np.linalg.norm(columns, axis=0)
    if not size.size or np.any(size == 0):
        return float("inf")
    singular = np.linalg.svd(columns / size, compute_uv=False)
    return float(singular[0] / singular[-1]) if singular[-1] > 0 and len(columns) >= len(size) else float("inf")


def _in_units(problem: Problem, value: float) -> float:
    return float(value if problem.log else value * problem.scale**2)
