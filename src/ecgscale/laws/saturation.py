"""A curve flat at both ends: L(x) = E + A / (1 + (x / x0)^alpha), x parameters, unique records or records drawn.

Units: L, E and A in nats, x0 in those of x. Limits: E + A below x0 (nothing is learnt yet: for a label loss the entropy
of the prevalences), a power law A * (x / x0)^-alpha above it, E at last. x0 is where half of A is gone.
Not identifiable: points on one side of x0 only. Where all lie above it, x0 and A enter only as A * x0^alpha (the law is
`power`, x0 runs to the end of its range); where all lie below it, alpha and x0 are lost in the flat start. Fewer than 4
levels.

Source: the three regions of Hestness et al. 2017, arXiv:1712.00409, figure 6, joined by a Hill function.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from ecgscale.laws import Array, Law
from ecgscale.laws._decay import share, softplus


class Saturation(Law):
    """L = E + A / (1 + (x / x0)^alpha) in the column that `input` names."""

    title: ClassVar[str] = "Saturation at both ends"
    purpose: ClassVar[str] = "The rival of the power law that is flat before anything is learnt, too."
    formula: ClassVar[str] = "L = E + A / (1 + (x / x0)^alpha)"
    linear: ClassVar[tuple[str, ...]] = ("E", "A")
    nonlinear: ClassVar[tuple[str, ...]] = ("alpha", "x0")
    bounds: ClassVar[dict[str, tuple[float, float]]] = {"alpha": (0.01, 3.0), "x0": (1e-4, 1e4)}
    scales: ClassVar[tuple[str, ...]] = ("x0",)

    input: Literal["N", "D", "seen", "labels"] = "N"  # the table's column

    @property
    def inputs(self) -> tuple[str, ...]:  # type: ignore[override]  # here the column is a field, elsewhere it is fixed
        """The one column of the table that enters."""
        return (self.input,)

    def basis(self, x: dict[str, Array], **theta: Array | float) -> Array:
        """Return the terms 1, 1 / (1 + (x / x0)^alpha): [..., point, 2]."""
        fall = np.exp(-softplus(np.asarray(theta["alpha"])[..., None] * self._distance(x, theta)))
        return np.stack([np.ones_like(fall), fall], axis=-1)

    def log_slopes(self, x: dict[str, Array], **theta: Array | float) -> Array:
        """Return d log(basis) / d (alpha, log x0): [..., point, 2, 2]."""
        alpha, distance = np.asarray(theta["alpha"])[..., None], self._distance(x, theta)
        gone = share(alpha * distance)
        slopes = np.zeros((*gone.shape, 2, 2))
        slopes[..., 1, 0] = -distance * gone
        slopes[..., 1, 1] = alpha * gone
        return slopes

    def unit(self, name: str, units: dict[str, float], **theta: Array | float) -> Array | float:
        """Return the unit of x, that of x0."""
        return units[self.input]

    def _distance(self, x: dict[str, Array], theta: dict[str, Array | float]) -> Array:
        return np.asarray(np.log(x[self.input]) - np.log(np.asarray(theta["x0"]))[..., None])
