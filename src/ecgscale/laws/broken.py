"""A smoothly broken power law with one break.

    L(x) = E + A * x^-alpha * (1 + (x / x_break)^(1/f))^(-(alpha_after - alpha) f)

Units: L in nats, x a count (N, D or records drawn), x_break in those of x, A in nats * count^alpha. Limits: A *
x^-alpha well below the break, slope alpha_after well above it, E at last; both exponents are positive, so L only falls.
`width` f, in nats of log x, is how gradually the slope turns; it is given, not fitted: telling it from the exponents
takes tens of levels. Not identifiable: fewer than 6 levels, or 2 on one side of the break; alpha = alpha_after, where
x_break is free; a break beyond the points (x_break at the end of its range: the law is `power`); E and alpha_after
together, unless L flattens.

Source: Caballero et al. 2023, "Broken Neural Scaling Laws", arXiv:2210.14891, Eq. 1 with n = 1, c_0 = alpha and c_1 =
alpha_after - alpha.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from ecgscale.laws import Array, Law
from ecgscale.laws._decay import share, softplus


class Broken(Law):
    """L = E + A * x^-alpha, turning to slope alpha_after at x_break, in the column that `input` names."""

    title: ClassVar[str] = "Broken power law"
    purpose: ClassVar[str] = "The rival of the power law whose slope turns once."
    formula: ClassVar[str] = "L = E + A x^-alpha (1 + (x / x_break)^(1/f))^(-(alpha_after - alpha) f)"
    linear: ClassVar[tuple[str, ...]] = ("E", "A")
    nonlinear: ClassVar[tuple[str, ...]] = ("alpha", "alpha_after", "x_break")
    bounds: ClassVar[dict[str, tuple[float, float]]] = {
        "alpha": (0.01, 3.0),
        "alpha_after": (0.01, 3.0),
        "x_break": (1e-3, 1e3),
    }
    scales: ClassVar[tuple[str, ...]] = ("x_break",)

    input: Literal["N", "D", "seen", "labels"] = "N"  # the table's column
    width: float = Field(0.3, gt=0.0)  # nats of log x; f of the source, most of the turn within a factor of 4

    @property
    def inputs(self) -> tuple[str, ...]:  # type: ignore[override]  # here the column is a field, elsewhere it is fixed
        """The one column of the table that enters."""
        return (self.input,)

    def basis(self, x: dict[str, Array], **theta: Array | float) -> Array:
        """Return the terms 1, the broken power: [..., point, 2]."""
        alpha, after = (np.asarray(theta[k])[..., None] for k in ("alpha", "alpha_after"))
        turned = self.width * softplus(self._distance(x, theta))
        fall = np.exp(-alpha * np.log(x[self.input]) - (after - alpha) * turned)
        return np.stack([np.ones_like(fall), fall], axis=-1)

    def log_slopes(self, x: dict[str, Array], **theta: Array | float) -> Array:
        """Return d log(basis) / d (alpha, alpha_after, log x_break): [..., point, 2, 3]."""
        distance = self._distance(x, theta)
        turned = self.width * softplus(distance)
        slopes = np.zeros((*turned.shape, 2, 3))
        slopes[..., 1, 0] = turned - np.log(x[self.input])
        slopes[..., 1, 1] = -turned
        change = np.asarray(theta["alpha_after"]) - np.asarray(theta["alpha"])
        slopes[..., 1, 2] = change[..., None] * share(distance)
        return slopes

    def unit(self, name: str, units: dict[str, float], **theta: Array | float) -> Array | float:
        """Return the unit of x, that of x_break."""
        return units[self.input]

    def _distance(self, x: dict[str, Array], theta: dict[str, Array | float]) -> Array:
        log = np.log(x[self.input]) - np.log(np.asarray(theta["x_break"]))[..., None]
        return np.asarray(log / self.width)
