"""Many fits of one law at once: a projected Levenberg-Marquardt-Newton method on all parameters, batched over starts
and resamples.

The Huber loss with a small delta is almost least absolute deviations, where Newton steps from afar fail; so every
fit begins with a delta of the size of its residuals and shrinks it towards the asked one, following the minimum
(Madsen & Nielsen 1993, SIAM J. Optim. 3:223). Coefficients stay >= 0 and exponents in their search range; a
parameter at its limit is frozen while the gradient pushes it outwards, so sub-models (E, A or B = 0) are reached
exactly.

A step is tried at several lengths at once: kinks close by make short ones good, and a long flat valley (E against A as
alpha nears 0) is crossed by long ones, where a damped step alone would take hundreds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ecgscale.fitting.problem import Problem, total
from ecgscale.laws import Array

TOLERANCE = 1e-7  # projected gradient relative to the sum of its absolute contributions
LONGEST = 2.0  # move of a scaled parameter in one step
LENGTHS = np.array([2.0, 1.0, 0.5, 0.25, 0.1])  # of a step, tried together; six steps of seven end with one of them
LONGER, SHORTER = np.array([64.0, 16.0, 5.0]), np.array([0.03, 0.01, 0.002])  # where the first or last of them is best
DAMPING = (1e-6, 1e12)  # lower and upper limit, relative to the metric
EXACT = 1e-24  # objective of points met to the last digit: nothing is left to improve
SHRINK = 0.25  # of delta, each time the wider problem is nearly solved


class Polished(NamedTuple):
    """Packed parameters [fit, parameter], objective [fit], relative projected gradient [fit]."""

    z: Array
    value: Array
    gradient: Array


class _Model(NamedTuple):
    gradient: Array  # [fit, parameter]
    hessian: Array  # [fit, parameter, parameter]
    major: Array  # [fit, parameter, parameter], positive definite: the IRLS majoriser, the metric of the damping
    size: Array  # [fit, parameter], what the gradient is compared with


def polish(problem: Problem, y: Array, start: Array, weight: Array | None = None, iterations: int = 200) -> Polished:
    """Minimise the objective from each start.

    Args:
        problem: The law, its inputs and objective.
        y: Scaled targets [fit, point].
        start: Packed parameters [fit, parameter].
        weight: Weight of each point [fit, point]; 1 if None.
        iterations: Limit per fit.

    Returns:
        The minima, with the gradient that is left.
    """
    lower, upper = problem.box
    z = np.clip(start, lower, upper)
    best, left = problem.value(z, y, weight), np.full(len(z), np.inf)
    delta = _first_delta(problem, z, y)
    damp, waited = np.full(len(z), 1e-2), np.zeros(len(z), int)
    live = np.arange(len(z))
    for _ in range(iterations):
        zl, yl, dl = z[live], y[live], delta[live]
        wl = None if weight is None else weight[live]
        model, now = _model(problem, zl, yl, wl, dl)
        frozen = ((zl <= lower) & (model.gradient > 0)) | ((zl >= upper) & (model.gradient < 0)) | (lower == upper)
        gradient = np.where(frozen, 0.0, model.gradient)
        left[live] = (np.abs(gradient) / model.size).max(axis=1)
        step, convex = _step(model, gradient, frozen, damp[live], lower - zl, upper - zl)
        trial, after, length = _search(problem, zl, step, yl, wl, dl)
        better = after < now
        z[live[better]] = trial[better]
        damp[live] = np.clip(damp[live] * _factor(better, convex, length), *DAMPING)
        waited[live] += 1
        final = dl <= problem.delta
        settled = (left[live] < np.where(final, TOLERANCE, 3e-2)) | (damp[live] > 1e9) | (now < EXACT)
        wider = ~final & (settled | (waited[live] >= 6))
        delta[live[wider]] = np.maximum(dl[wider] * SHRINK, problem.delta)
        damp[live[wider]] = np.clip(damp[live[wider]], 1e-6, 1e-1)
        waited[live[wider]] = 0
        live = live[~(final & settled)]
        if not len(live):
            break
    final_value = problem.value(z, y, weight)
    worse = final_value > best  # following a wider delta may have left the basin of a good start
    z[worse], final_value[worse] = np.clip(start, lower, upper)[worse], best[worse]
    return Polished(z, final_value, left)


def jacobian(problem: Problem, z: Array) -> tuple[Array, Array]:
    """Return d fitted / d z [fit, parameter, point] and the fitted values [fit, point], both scaled."""
    m = len(problem.law.linear)
    terms = problem.scaled(z[:, m:])
    jac = np.zeros((len(z), z.shape[1], terms.shape[-1]))
    jac[:, :m] = terms
    for (j, k), slope in problem.slopes(z[:, m:]).items():
        jac[:, m + k] += z[:, j, None] * terms[:, j] * slope
    return jac, np.maximum((z[:, None, :m] @ terms)[:, 0], 1e-300)


def _model(problem: Problem, z: Array, y: Array, weight: Array | None, delta: Array) -> tuple[_Model, Array]:
    jac, fitted = jacobian(problem, z)
    residual = problem.residual(fitted, y)
    band = delta[:, None]
    size = np.abs(residual)
    pull, bend, major = np.clip(residual, -band, band), (size <= band) * 1.0, 1 / np.maximum(1, size / band)
    if weight is not None:
        pull, bend, major = pull * weight, bend * weight, major * weight
    curved = _curvature(problem, z, jac, pull / fitted if problem.log else pull)
    if problem.log:
        jac /= fitted[:, None]
        bend = bend - pull
    turned = jac.transpose(0, 2, 1)
    metric = (jac * major[:, None]) @ turned
    diagonal = np.einsum("bqq->bq", metric)
    diagonal += 1e-9 * diagonal.max(axis=1, keepdims=True) + 1e-300
    hessian = (jac * bend[:, None]) @ turned + curved
    gradient = (jac @ pull[..., None])[..., 0]
    np.abs(jac, out=jac)
    scale = (jac @ (np.abs(pull) + 1e-9)[..., None])[..., 0] + 1e-300
    return _Model(gradient, hessian, metric, scale), total(residual, band, weight)


def _curvature(problem: Problem, z: Array, jac: Array, push: Array) -> Array:
    """Return sum_i push_i d2 fitted_i / dz dz [fit, parameter, parameter]."""
    m = len(problem.law.linear)
    slopes = problem.slopes(z[:, m:])
    curved = np.zeros((len(z), z.shape[1], z.shape[1]))
    for (j, k), slope in slopes.items():
        pushed = push * jac[:, j] * slope  # the first rows of the Jacobian are the terms
        mixed = pushed.sum(axis=-1)
        curved[:, j, m + k] += mixed
        curved[:, m + k, j] += mixed
        for other in range(z.shape[1] - m):
            if (j, other) in slopes:
                curved[:, m + k, m + other] += z[:, j] * (pushed * slopes[j, other]).sum(axis=-1)
    for (j, k, other), bend in problem.bends(z[:, m:]).items():
        curved[:, m + k, m + other] += z[:, j] * (push * jac[:, j] * bend).sum(axis=-1)
    return curved


def _step(
    model: _Model, gradient: Array, frozen: np.ndarray, damp: Array, below: Array, above: Array
) -> tuple[Array, np.ndarray]:
    """Return the damped Newton step (the IRLS step where the damped Hessian is not convex along it), and which it was.

    `below` and `above` are the largest moves within the box [fit, parameter].
    """
    below, above = np.maximum(below, -LONGEST), np.minimum(above, LONGEST)
    step = _boxed(model.hessian + damp[:, None, None] * model.major, gradient, frozen, below, above)
    uphill = ~((step * gradient).sum(axis=1) <= 0)
    if uphill.any():
        major = model.major[uphill] * (1 + damp[uphill, None, None])
        step[uphill] = _boxed(major, gradient[uphill], frozen[uphill], below[uphill], above[uphill])
    return step, ~uphill


def _search(
    problem: Problem, z: Array, step: Array, y: Array, weight: Array | None, delta: Array
) -> tuple[Array, Array, Array]:
    """Return the best point along each step, its objective and the length that led there."""
    trial, after, length = _try(problem, LENGTHS, z, step, y, weight, delta)
    for further, edge in ((LONGER, LENGTHS[0]), (SHORTER, LENGTHS[-1])):
        rows = np.flatnonzero(length == edge)
        if len(rows):
            some = None if weight is None else weight[rows]
            found = _try(problem, further, z[rows], step[rows], y[rows], some, delta[rows])
            better = found[1] < after[rows]
            for mine, theirs in zip((trial, after, length), found, strict=True):
                mine[rows[better]] = theirs[better]
    return trial, after, length


def _try(
    problem: Problem, lengths: Array, z: Array, step: Array, y: Array, weight: Array | None, delta: Array
) -> tuple[Array, Array, Array]:
    lower, upper = problem.box
    trial = np.clip(z[:, None] + lengths[:, None] * step[:, None], lower, upper)
    residual = problem.residual(problem.fitted(trial), y[:, None])
    after = total(residual, delta[:, None, None], None if weight is None else weight[:, None])
    best = after.argmin(axis=1)
    rows = np.arange(len(z))
    return trial[rows, best], after[rows, best], lengths[best]


def _factor(better: np.ndarray, convex: np.ndarray, length: Array) -> Array:
    """Return what the damping is multiplied with: less after a whole step of a convex model, more after a short one."""
    whole, short = np.where(convex, 0.15, 1.0), np.where(length >= 0.1, 1.5, 4.0)
    return np.where(better, np.where(length >= 0.5, whole, short), 100.0)


def _boxed(matrix: Array, gradient: Array, frozen: np.ndarray, below: Array, above: Array) -> Array:
    """Minimise the quadratic model within the box.

    What would cross a limit goes just there, and the rest is solved again. Clipping alone would spoil the step of the
    other parameters and jam close to a limit.
    """
    fixed, move = frozen.copy(), np.zeros_like(gradient)
    rows: np.ndarray | slice = slice(None)
    for _ in range(gradient.shape[1]):
        part, held = matrix[rows], fixed[rows]
        free = 1.0 - held
        moved = move[rows] * held
        inner = part * (free[:, :, None] * free[:, None, :])
        np.einsum("bqq->bq", inner)[...] += held
        slope = gradient[rows] + (part @ moved[..., None])[..., 0]
        step = np.where(held, moved, _solve(inner, -slope * free))
        inside = np.minimum(np.maximum(step, below[rows]), above[rows])
        move[rows] = inside
        crossing = ~held & (step != inside)
        again = crossing.any(axis=1)
        if not again.any():
            break
        rows = np.flatnonzero(again) if isinstance(rows, slice) else rows[again]
        fixed[rows] |= crossing[again]
    return move


def _solve(matrix: Array, right: Array) -> Array:
    try:
        return np.asarray(np.linalg.solve(matrix, right[..., None])[..., 0])
    except np.linalg.LinAlgError:  # one exactly singular matrix fails the batch
        return np.asarray((np.linalg.pinv(matrix) @ right[..., None])[..., 0])


def _first_delta(problem: Problem, z: Array, y: Array) -> Array:
    if not np.isfinite(problem.delta):
        return np.full(len(z), np.inf)
    return np.asarray(np.maximum(np.median(np.abs(problem.residual(problem.fitted(z), y)), axis=1), problem.delta))
