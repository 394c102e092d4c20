"""One axis: L(x) = E + A * x^-alpha, x the parameters N, the unique records D or the records drawn,
everything else held fixed.

Units: L in nats (any positive loss), x a count, A in nats * count^alpha. As x grows L falls to E.
Not identifiable: fewer than 3 levels of x; a range over which the loss falls by no more than its noise; alpha near
0, where E and A trade off against each other (the loss is then a straight line in log x).

Source: Hestness et al. 2017, arXiv:1712.00409; the form of arXiv:2605.17276, Eq. 1 and 2 along one axis.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from ecgscale.laws import Array, Law
from ecgscale.laws._decay import decay_slopes, decay_terms


class Power(Law):
    """L = E + A * x^-alpha in the column that `input` names."""

    title: ClassVar[str] = "Power law in one input"
    purpose: ClassVar[str] = "What one more factor of this input buys while the others stay as they are."
    formula: ClassVar[str] = "L = E + A x^-alpha"
    linear: ClassVar[tuple[str, ...]] = ("E", "A")
    nonlinear: ClassVar[tuple[str, ...]] = ("alpha",)
    bounds: ClassVar[dict[str, tuple[float, float]]] = {"alpha": (0.01, 3.0)}

    input: Literal["N", "D", "seen"] = "N"  # the table's column: parameters, unique records, or records drawn

    @property
    def inputs(self) -> tuple[str, ...]:  # type: ignore[override]  # here the column is a field, elsewhere it is fixed
        """The one column of the table that enters."""
        return (self.input,)

    def basis(self, x: dict[str, Array], **theta: Array | float) -> Array:
        """Return the terms 1, x^-alpha: [..., point, 2]."""
        return decay_terms(x[self.input], theta["alpha"])

    def log_slopes(self, x: dict[str, Array], **theta: Array | float) -> Array:
        """Return d log(basis) / d alpha: [point, 2, 1], the same for every alpha."""
        return decay_slopes(x[self.input])
