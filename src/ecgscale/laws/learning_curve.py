"""Label efficiency downstream: error(n) = c + A * n^-b, n the labelled records (or their share) a task may learn from.

Units: error is any positive number that falls, e.g. 1 - AUROC, an absolute error or a loss, and all parameters share
its unit (A also holds the unit of n to the power b); n in records, or the share of the training part (column
`label_fraction`, which the exponent does not see). As n grows the error falls to c, what the frozen features or the
metric cannot reach. Not identifiable: fewer than 3 label counts; c where the curve is still straight in log-log axes
(it is then fitted to 0, as in four of the five curves the source shows).

Source: Cortes et al. 1994, "Learning curves: asymptotic values and rate of convergence"; arXiv:2605.12241, the
label-efficiency panel.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from ecgscale.laws import Array, Law
from ecgscale.laws._decay import decay_slopes, decay_terms


class LearningCurve(Law):
    """error = c + A * n^-b in the column that `input` names."""

    title: ClassVar[str] = "Learning curve in labelled records"
    purpose: ClassVar[str] = (
        "How many labels of a task an encoder saves: the lower curve needs fewer for the same loss."
    )
    formula: ClassVar[str] = "error = c + A n^-b"
    output: ClassVar[str] = "error"
    linear: ClassVar[tuple[str, ...]] = ("c", "A")
    nonlinear: ClassVar[tuple[str, ...]] = ("b",)
    bounds: ClassVar[dict[str, tuple[float, float]]] = {"b": (0.01, 3.0)}
    floor: ClassVar[str | None] = "c"

    input: Literal["labelled", "label_fraction"] = (
        "labelled"  # records with a label, or their share of the training part
    )

    @property
    def inputs(self) -> tuple[str, ...]:  # type: ignore[override]  # here the column is a field, elsewhere it is fixed
        """The one column of the table that enters."""
        return (self.input,)

    def basis(self, x: dict[str, Array], **theta: Array | float) -> Array:
        """Return the terms 1, n^-b: [..., point, 2]."""
        return decay_terms(x[self.input], theta["b"])

    def log_slopes(self, x: dict[str, Array], **theta: Array | float) -> Array:
        """Return d log(basis) / d b: [point, 2, 1], the same for every b."""
        return decay_slopes(x[self.input])
