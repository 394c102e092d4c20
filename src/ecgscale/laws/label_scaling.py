"""How many labels to pre-train with: L(k) = E + A * k^-gamma, k the number of labels supervised (column `labels`).

Units: L in nats, the mean over the labels *evaluated*, which must be the same labels at every k (a task's tail and
frequent labels are tasks of their own); A in nats * labels^gamma. As k grows L falls to E, which still holds what N
and D leave. Not identifiable: fewer than 3 label counts; nested label sets ordered by frequency, where k and the rarity
of what was added are one variable (gamma is then of that order, not of labels as such); more labels that help nothing
or harm, which the law cannot follow (L rises, the trend test says so).

Source: arXiv:2605.17276, label scaling on MIMIC-IV-ECG, 9 to 927 classes; the power law is this project's choice, the
paper states no form.
"""

from __future__ import annotations

from typing import ClassVar

from ecgscale.laws import Array, Law
from ecgscale.laws._decay import decay_slopes, decay_terms


class LabelScaling(Law):
    """L = E + A * labels^-gamma."""

    title: ClassVar[str] = "Label scaling law"
    purpose: ClassVar[str] = "What more kinds of labels in pre-training buy."
    formula: ClassVar[str] = "L = E + A labels^-gamma"
    inputs: ClassVar[tuple[str, ...]] = ("labels",)
    linear: ClassVar[tuple[str, ...]] = ("E", "A")
    nonlinear: ClassVar[tuple[str, ...]] = ("gamma",)
    bounds: ClassVar[dict[str, tuple[float, float]]] = {"gamma": (0.01, 3.0)}

    def basis(self, x: dict[str, Array], **theta: Array | float) -> Array:
        """Return the terms 1, labels^-gamma: [..., point, 2]."""
        return decay_terms(x["labels"], theta["gamma"])

    def log_slopes(self, x: dict[str, Array], **theta: Array | float) -> Array:
        """Return d log(basis) / d gamma: [point, 2, 1], the same for every gamma."""
        return decay_slopes(x["labels"])
