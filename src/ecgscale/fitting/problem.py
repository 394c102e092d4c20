"""What is minimised: a law, its points and an objective, in variables of order one whatever the units of N, D and L.

Each term of the basis is divided by its geometric mean over the points (for a power law: N and D divided by theirs) and
losses by their mean, so the packed parameters z = [coefficients, exponents] are well scaled; a scale (the place of a
break) is packed as its logarithm where every input is divided by its geometric mean. The residual is r = log F(z) - log
y, or F(z) - y for "ls", and the objective sum_i w_i * huber(r_i).

Source: Huber 1964; Hoffmann et al. 2022 (Huber, delta = 1e-3, on log L); the sum, not the mean, as Besiroglu et al.
2024, arXiv:2404.10102.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from ecgscale.laws import Array, Law

Objective = Literal["huber_log", "ls_log", "ls"]
DELTA = 1e-3  # nats of log loss; Hoffmann et al. 2022


class Terms(NamedTuple):
    """The scaled basis [..., term, point] and the geometric mean that scaled it [..., term]."""

    value: Array
    mean: Array


@dataclass(frozen=True)
class Problem:
    """A law, its inputs {column: [point]} and targets [point], the objective, the floor if it is known, and exponents
    (no scales) that are held."""

    law: Law
    x: dict[str, Array]
    y: Array
    objective: Objective = "huber_log"
    floor: float | None = None
    fixed: tuple[tuple[str, float], ...] = ()

    @property
    def log(self) -> bool:
        """Whether residuals are taken on log L."""
        return self.objective != "ls"

    @property
    def delta(self) -> float:
        """Where the Huber loss turns from square to straight."""
        return DELTA if self.objective == "huber_log" else np.inf

    @cached_property
    def scale(self) -> float:
        """The unit of the scaled losses."""
        return float(np.mean(np.abs(self.y))) or 1.0

    @property
    def names(self) -> tuple[str, ...]:
        """The order of the packed parameters."""
        return (*self.law.linear, *self.law.nonlinear)

    @cached_property
    def held(self) -> int | None:
        """The index of the term whose coefficient is known."""
        return None if self.floor is None or self.law.floor is None else self.law.linear.index(self.law.floor)

    @cached_property
    def box(self) -> tuple[Array, Array]:
        """Lower and upper limits of the packed parameters [parameter]; equal where one is held."""
        ends = np.array([self.law.bounds[n] for n in self.law.nonlinear])
        ends[self._log_axis] = np.log(ends[self._log_axis])
        for name, value in self.fixed:
            ends[self.law.nonlinear.index(name)] = value
        lower = np.concatenate([np.zeros(len(self.law.linear)), ends[:, 0]])
        upper = np.concatenate([np.full(len(self.law.linear), np.inf), ends[:, 1]])
        if self.held is not None and self.floor is not None:
            lower[self.held] = upper[self.held] = self.floor / self.scale
        return lower, upper

    @cached_property
    def middle(self) -> Array:
        """The middle of the searched range of each packed nonlinear parameter [exponent]."""
        centre = np.array([np.sqrt(np.prod(self.law.bounds[name])) for name in self.law.nonlinear])
        return np.where(self._log_axis, np.log(centre), centre)

    @cached_property
    def _log_axis(self) -> np.ndarray:
        return np.array([name in self.law.scales for name in self.law.nonlinear], dtype=bool)

    @cached_property
    def _units(self) -> dict[str, float]:
        return {name: float(np.exp(np.log(column).mean())) for name, column in self.x.items()}

    def terms(self, theta: Array) -> Terms:
        """Return the scaled basis for packed nonlinear parameters [..., exponent]."""
        log = np.log(np.moveaxis(self.law.basis(self.x, **self.named(theta)), -1, -2), order="C")
        mean = log.mean(axis=-1)
        log -= mean[..., None]
        return Terms(np.exp(log, out=log), np.exp(mean))

    def slopes(self, theta: Array) -> dict[tuple[int, int], Array]:
        """Return {(term, exponent): d log(scaled term) / d exponent [... or none, point]}, those that are not 0."""
        return self._fixed_slopes or self._slopes(theta)

    def bends(self, theta: Array) -> dict[tuple[int, int, int], Array]:
        """Return {(term, exponent, exponent): d2 log(scaled term) [..., point]}; none where slopes are fixed."""
        if self._fixed_slopes is not None:
            return {}
        step, bends = 1e-4, {}
        for other in range(theta.shape[-1]):
            move = step * (np.arange(theta.shape[-1]) == other)
            up, down = self._slopes(theta + move), self._slopes(theta - move)
            for j, k in up.keys() & down.keys():
                bends[j, k, other] = (up[j, k] - down[j, k]) / (2 * step)
        return bends

    def _slopes(self, theta: Array) -> dict[tuple[int, int], Array]:
        """Slopes where a scale, counted in the units of the points, stands still while an exponent moves: in raw units
        it then moves with its unit."""
        slopes = self.law.log_slopes(self.x, **self.named(theta))
        for name in self.law.scales:
            along = slopes[..., self.law.nonlinear.index(name)]
            for k, rate in self._unit_rates(name, theta).items():
                slopes[..., k] += along * np.asarray(rate)[..., None, None]
        return _nonzero(slopes)

    def _unit_rates(self, name: str, theta: Array) -> dict[int, Array]:
        """Return {exponent: d log unit of a scale / d exponent [...]}, those that are not 0."""
        exponents, step, rates = self._exponents(theta), 1e-3, {}
        for exponent, value in exponents.items():
            ends = [self.law.unit(name, self._units, **{**exponents, exponent: value + s}) for s in (step, -step)]
            rate = np.asarray((np.log(ends[0]) - np.log(ends[1])) / (2 * step))
            if rate.any():
                rates[self.law.nonlinear.index(exponent)] = rate
        return rates

    @cached_property
    def _fixed_slopes(self) -> dict[tuple[int, int], Array] | None:
        """The slopes of a law whose log terms are linear in its exponents, known once for all."""
        slopes = self.law.log_slopes(self.x, **self.named(self.middle[None]))
        return _nonzero(slopes) if slopes.ndim == 3 else None

    def log_terms(self, theta: Array) -> Array:
        """Return the logarithms of the scaled basis [..., term, point] for exponents [..., exponent]."""
        slopes = self._fixed_slopes
        if slopes is None:
            return np.asarray(np.log(self.terms(theta).value))
        logs = np.empty((*theta.shape[:-1], *self._log_offset.shape))
        logs[...] = self._log_offset
        for (j, k), slope in slopes.items():
            logs[..., j, :] += theta[..., k, None] * slope
        return logs

    def scaled(self, theta: Array) -> Array:
        """Return the scaled basis [..., term, point] as `terms` does, without its means and several times faster
        where log terms are linear in the exponents."""
        slopes = self._fixed_slopes
        if slopes is None:
            return self.terms(theta).value
        values = np.empty((*theta.shape[:-1], *self._log_offset.shape))
        for j, offset in enumerate(self._log_offset):
            moves = [theta[..., k, None] * slope for (term, k), slope in slopes.items() if term == j]
            if moves:
                log = sum(moves[1:], moves[0])
                log += offset
                np.exp(log, out=values[..., j, :])
            else:  # the constant
                values[..., j, :] = np.exp(offset)
        return values

    @cached_property
    def _log_offset(self) -> Array:
        """The part of the log terms that no exponent moves [term, point], of a law with fixed slopes."""
        logs = np.log(self.terms(self.middle).value)
        for (j, k), slope in self.slopes(self.middle[None]).items():
            logs[j] -= self.middle[k] * slope
        return logs

    def fitted(self, z: Array) -> Array:
        """Return the scaled values [..., point] at packed parameters [..., parameter]."""
        m = len(self.law.linear)
        return np.asarray((z[..., None, :m] @ self.scaled(z[..., m:]))[..., 0, :])

    def residual(self, fitted: Array, y: Array) -> Array:
        """Return the residuals for scaled fitted values and scaled targets."""
        return np.log(np.maximum(fitted, 1e-300)) - np.log(y) if self.log else fitted - y

    def value(self, z: Array, y: Array, weight: Array | None = None) -> Array:
        """Return the objective [...] at packed parameters [..., parameter] for scaled targets [..., point]."""
        return total(self.residual(self.fitted(z), y), self.delta, weight)

    def unpack(self, z: Array) -> dict[str, Array]:
        """Return the parameters in raw units, each [...], for packed ones [..., parameter]."""
        m = len(self.law.linear)
        raw = z.copy()
        raw[..., :m] = z[..., :m] * self.scale / self.terms(z[..., m:]).mean
        return {name: raw[..., i] for i, name in enumerate(self.law.linear)} | self.named(raw[..., m:])

    def pack(self, params: dict[str, Array]) -> Array:
        """Return packed parameters [..., parameter] for parameters in raw units, each [...]."""
        z = np.stack([np.asarray(params[name], np.float64) for name in self.names], axis=-1)
        m = len(self.law.linear)
        for name in self.law.scales:
            i = self.names.index(name)
            z[..., i] = np.log(z[..., i] / self.law.unit(name, self._units, **self._exponents(z[..., m:])))
        z[..., :m] *= self.terms(z[..., m:]).mean / self.scale
        return z

    def without(self, keep: np.ndarray) -> Problem:
        """Return the same problem on the points where `keep` is true."""
        return replace(self, x={k: v[keep] for k, v in self.x.items()}, y=self.y[keep])

    def named(self, theta: Array) -> dict[str, Array]:
        """Return the nonlinear parameters in raw units, each [...], for packed ones [..., exponent]."""
        exponents = self._exponents(theta)
        scales = {
            name: np.exp(theta[..., self.law.nonlinear.index(name)]) * self.law.unit(name, self._units, **exponents)
            for name in self.law.scales
        }
        return exponents | scales

    def _exponents(self, theta: Array) -> dict[str, Array]:
        return {n: theta[..., i] for i, n in enumerate(self.law.nonlinear) if n not in self.law.scales}


def _nonzero(slopes: Array) -> dict[tuple[int, int], Array]:
    centred = slopes - slopes.mean(axis=-3, keepdims=True)
    terms, exponents = centred.shape[-2:]
    each = {(j, k): centred[..., j, k] for j in range(terms) for k in range(exponents)}
    return {pair: np.ascontiguousarray(slope) for pair, slope in each.items() if slope.any()}


def total(residual: Array, delta: Array | float, weight: Array | None = None) -> Array:
    """Return the sum over points [...] of the Huber loss, delta**2 / 2 at |r| = delta; plain least squares for delta
    = inf."""
    loss = np.abs(residual)
    inner = np.minimum(loss, delta)
    loss -= 0.5 * inner
    loss *= inner
    return np.asarray((loss if weight is None else loss * weight).sum(axis=-1))
