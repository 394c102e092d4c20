"""Scaling laws as bases: for fixed exponents a law is linear, L(x) = sum_j c_j * basis_j(x; theta) with c_j >= 0."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from ecgscale.spec import Plugin

Array = npt.NDArray[np.float64]


class Law(Plugin):
    """A law: `inputs` are columns of the table, `linear` the non-negative coefficients, `nonlinear` the exponents."""

    kind: ClassVar[str] = "laws"
    title: ClassVar[str]
    purpose: ClassVar[str]  # one sentence for the reader of a report: which question it answers
    formula: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]  # e.g. ("N", "D")
    output: ClassVar[str] = "L"
    linear: ClassVar[tuple[str, ...]]  # e.g. ("E", "A", "B"), in the order of the basis's terms
    nonlinear: ClassVar[tuple[str, ...]]  # e.g. ("alpha", "beta")
    bounds: ClassVar[dict[str, tuple[float, float]]]  # search range of each nonlinear parameter
    floor: ClassVar[str | None] = "E"  # the coefficient of the constant term, which a fit may hold at a known value
    measured_inputs: ClassVar[bool] = False  # inputs are measured with error (a loss), not chosen (N, D)
    scales: ClassVar[tuple[str, ...]] = ()  # those of `nonlinear` that are a place or a ratio and no exponent: searched
    # on a log axis; their `bounds` hold where every input is divided by its geometric mean

    @abstractmethod
    def basis(self, x: dict[str, Array], **theta: Array | float) -> Array:
        """Return the terms [..., point, term] at the inputs for given exponents (each [...] or a number)."""

    def log_slopes(self, x: dict[str, Array], **theta: Array | float) -> Array:
        """Return d log(basis) / d theta [..., point, term, exponent], / d log theta for the `scales`; central
        differences unless a law knows better."""
        step = 1e-5
        slopes = []
        for name in self.nonlinear:
            value = np.asarray(theta[name])
            ends = [value * np.exp(s) if name in self.scales else value + s for s in (step, -step)]
            up, down = (self.basis(x, **{**theta, name: end}) for end in ends)
            slopes.append((np.log(up) - np.log(down)) / (2 * step))
        return np.stack(slopes, axis=-1)

    def unit(self, name: str, units: dict[str, float], **theta: Array | float) -> Array | float:
        """Return what one of the scale `name` is in raw units when input c is counted in `units[c]`.

        `theta` holds the exponents; 1 for a pure number.
        """
        return 1.0

    def predict(self, x: dict[str, Array], params: dict[str, float]) -> Array:
        """Return the law's values [point]."""
        basis = self.basis(x, **{name: params[name] for name in self.nonlinear})
        return np.asarray(basis @ np.array([params[name] for name in self.linear]))
