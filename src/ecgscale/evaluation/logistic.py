"""Many L2-regularised logistic regressions on one design matrix, solved together by L-BFGS.

Every (label, lambda) is one column of a batch and minimises, over its known records i = 1..n,

    J(w, b) = 1/n Σ_i [ln(1 + exp(s_i)) - y_i s_i] + lambda/2 |w|²,   s_i = b + z_i · w,   b not penalised.

J is strictly convex, so the minimum is unique whatever the start. The design matrix has orthogonal columns
(principal components), so the Hessian is close to v (Z^T Z / n) + lambda with v the mean of p (1 - p), a diagonal:
dividing by it whitens the problem and L-BFGS needs some ten iterations. A line search costs no product with Z,
because the logits are linear in the step.

Source: Nocedal and Wright 2006, algorithm 7.4 (two loops) and equation 3.4 (Armijo).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

MEMORY: Final = 12
REFRESH: Final = 3  # iterations between two looks at the curvature
ARMIJO: Final = 1e-4
GAP: Final = 1e-11  # nats: (gradient · inverse Hessian · gradient) / 2, an estimate of J minus its minimum


@dataclass(frozen=True, slots=True)
class Solutions:
    """Minima: `weights` [direction, column], `intercepts` and `converged` [column], `iterations` of the slowest."""

    weights: Array
    intercepts: Array
    converged: npt.NDArray[np.bool_]
    iterations: int


def minimise(
    z: Array,
    y: Array,
    lambdas: Array,
    start: tuple[Array, Array] | None = None,
    iterations: int = 300,
    gap: float = GAP,
) -> Solutions:
    """Minimise J for every column.

    Args:
        z: Design [record, direction] with centred, mutually orthogonal columns.
        y: Targets [record, column]: 1, 0 or NaN (unknown); every column has both classes.
        lambdas: [column], positive.
        start: Weights [direction, column] and intercepts [column]; by default zero and the log-odds of the prevalence.
        iterations: At most so many.
        gap: Stop when J is estimated to be so close to its minimum, nats.
    """
    problem = _Problem.of(z, y, lambdas)
    theta = problem.start(start)
    columns = np.arange(len(lambdas))
    solved, gaps, spent = theta.copy(), np.full(len(lambdas), np.inf), 0
    state = _State.of(problem, theta)
    for spent in range(iterations + 1):
        gaps[columns] = state.gap(problem)
        solved[:, columns] = state.theta
        open_ = gaps[columns] > gap
        if not open_.any() or spent == iterations:
            break
        if open_.sum() <= 0.7 * len(columns):  # finished columns leave the batch once that saves something
            problem, state, columns = problem.take(open_), state.take(open_), columns[open_]
        if not state.step(problem):
            break
    return Solutions(solved[1:], solved[0], gaps <= max(gap, 1e-9), spent)


@dataclass(slots=True)
class _Problem:
    z: Array  # [record, 1 + direction], first column ones
    y: Array  # [record, column], unknown as 0
    share: Array  # [record, column] or [1, column]: 1 / known records, 0 where unknown
    penalty: Array  # [1 + direction, column]
    inverse: Array  # [1 + direction, column]: inverse of the expected Hessian's diagonal

    @classmethod
    def of(cls, z: Array, y: Array, lambdas: Array) -> _Problem:
        known = ~np.isnan(y)
        counts = known.sum(axis=0).astype(z.dtype)
        share = np.where(known, 1 / counts, z.dtype.type(0))
        share = share[:1] if known.all() else share
        y = np.where(known, y, 0.0).astype(z.dtype)
        mean = y.sum(axis=0) / counts
        ones = np.column_stack([np.ones(len(z), z.dtype), z])
        penalty = np.vstack([np.zeros(len(lambdas)), np.repeat(lambdas[None], z.shape[1], axis=0)]).astype(z.dtype)
        hessian = np.square(ones).mean(axis=0)[:, None] * mean * (1 - mean) + penalty
        return cls(ones, y, share, penalty, 1.0 / hessian)

    def start(self, given: tuple[Array, Array] | None) -> Array:
        if given is not None:
            return np.vstack([given[1][None], given[0]]).astype(self.z.dtype)
        theta = np.zeros_like(self.penalty)
        prevalence = (self.y * self.share).sum(axis=0)
        theta[0] = np.log(prevalence / (1 - prevalence))
        return theta

    def take(self, columns: npt.NDArray[np.bool_]) -> _Problem:
        return _Problem(
            self.z, self.y[:, columns], self.share[:, columns], self.penalty[:, columns], self.inverse[:, columns]
        )

    def value(self, theta: Array, logits: Array) -> tuple[Array, Array]:
        """J of every column, and exp(-|logits|), which the gradient needs as well."""
        small = np.abs(logits)
        np.exp(np.negative(small, out=small), out=small)
        fit = np.log1p(small)
        fit += np.maximum(logits, 0.0)
        fit -= self.y * logits
        return self._mean(fit) + np.einsum("dc,dc,dc->c", self.penalty, theta, theta) / 2, small

    def gradient(self, theta: Array, logits: Array, small: Array) -> Array:
        residual = np.where(logits >= 0, 1.0, small)
        residual /= 1.0 + small
        residual -= self.y
        residual *= self.share
        return self.z.T @ residual + self.penalty * theta

    def adapt(self, small: Array) -> None:
        """Precondition by the Hessian's diagonal where it stands now: p (1 - p) falls far as labels separate."""
        curvature = small / np.square(1.0 + small) * self.share
        self.inverse = 1.0 / (np.square(self.z).T @ curvature + self.penalty + 1e-300)

    def _mean(self, values: Array) -> Array:
        if len(self.share) == 1:
            return np.asarray(values.sum(axis=0) * self.share[0])
        return np.asarray(np.einsum("rc,rc->c", values, self.share))


@dataclass(slots=True)
class _State:
    theta: Array
    logits: Array
    value: Array
    gradient: Array
    memory: deque[tuple[Array, Array, Array]]  # s, y, 1 / (s · y) per column
    steps: int = 0

    @classmethod
    def of(cls, problem: _Problem, theta: Array) -> _State:
        logits = problem.z @ theta
        value, small = problem.value(theta, logits)
        return cls(theta, logits, value, problem.gradient(theta, logits, small), deque(maxlen=MEMORY))

    def take(self, columns: npt.NDArray[np.bool_]) -> _State:
        memory = deque(((s[:, columns], y[:, columns], r[columns]) for s, y, r in self.memory), maxlen=MEMORY)
        arrays = (self.theta[:, columns], self.logits[:, columns], self.value[columns], self.gradient[:, columns])
        return _State(*arrays, memory, self.steps)

    def gap(self, problem: _Problem) -> Array:
        return np.asarray((self.gradient * self.gradient * problem.inverse).sum(axis=0) / 2)

    def direction(self, problem: _Problem) -> Array:
        """Minus the inverse Hessian's estimate times the gradient."""
        q, kept = self.gradient.copy(), []
        for s, y, inverse in reversed(self.memory):
            a = inverse * np.einsum("dc,dc->c", s, q)
            q -= a * y
            kept.append((a, s, y, inverse))
        q *= problem.inverse
        for a, s, y, inverse in reversed(kept):
            q += s * (a - inverse * np.einsum("dc,dc->c", y, q))
        return -q

    def step(self, problem: _Problem) -> bool:
        """Move every column downhill; False when rounding leaves nothing to gain."""
        d = self.direction(problem)
        slope = (d * self.gradient).sum(axis=0)
        along = problem.z @ d
        size = np.ones_like(slope)
        rounding = 4 * np.finfo(self.value.dtype).eps * np.maximum(1.0, np.abs(self.value))
        for _ in range(40):
            theta, logits = self.theta + size * d, self.logits + size * along
            value, small = problem.value(theta, logits)
            high = value > self.value + ARMIJO * size * slope + rounding
            if not high.any():
                break
            size = np.where(high, size / 2, size)
        else:
            return False
        gradient = problem.gradient(theta, logits, small)
        s, y = theta - self.theta, gradient - self.gradient
        self.steps += 1
        if self.steps % REFRESH == 0:
            problem.adapt(small)
        curvature = (s * y).sum(axis=0)
        usable = curvature > 1e-300
        inverse = np.where(usable, 1.0 / np.where(usable, curvature, 1.0), 0.0)
        self.memory.append((s, y, inverse))
        self.theta, self.logits, self.value, self.gradient = theta, logits, value, gradient
        return True
