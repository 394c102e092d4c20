"""Size and data together: L(N, D) = E + A * N^-alpha + B * D^-beta.

Units: L in nats, N parameters of the kept encoder, D unique pre-training records; A in nats * parameters^alpha, B in
nats * records^beta. Limits: E as both grow; E + A * N^-alpha with data without end, E + B * D^-beta with a model
without end. Not identifiable: fewer than 3 levels on an axis; N and D that grow together (a diagonal instead of a
grid); an axis along which the loss falls by no more than its noise.

Source: Hoffmann et al. 2022, arXiv:2203.15556, Eq. 2; the form of arXiv:2605.17276.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ecgscale.laws import Array, Law


class Scaling(Law):
    """L = E + A * N^-alpha + B * D^-beta."""

    title: ClassVar[str] = "Scaling law in parameters and records"
    purpose: ClassVar[str] = (
        "What larger models and more unique records buy, and how compute is best split between them."
    )
    formula: ClassVar[str] = "L = E + A N^-alpha + B D^-beta"
    inputs: ClassVar[tuple[str, ...]] = ("N", "D")
    linear: ClassVar[tuple[str, ...]] = ("E", "A", "B")
    nonlinear: ClassVar[tuple[str, ...]] = ("alpha", "beta")
    bounds: ClassVar[dict[str, tuple[float, float]]] = {"alpha": (0.01, 3.0), "beta": (0.01, 3.0)}

    def basis(self, x: dict[str, Array], **theta: Array | float) -> Array:
        """Return the terms 1, N^-alpha, D^-beta: [..., point, 3]."""
        size = np.exp(-np.asarray(theta["alpha"])[..., None] * np.log(x["N"]))
        data = np.exp(-np.asarray(theta["beta"])[..., None] * np.log(x["D"]))
        return np.stack([np.ones_like(size + data), size + 0 * data, data + 0 * size], axis=-1)

    def log_slopes(self, x: dict[str, Array], **theta: Array | float) -> Array:
        """Return d log(basis) / d (alpha, beta): [point, 3, 2], the same for every exponent."""
        slopes = np.zeros((len(x["N"]), 3, 2))
        slopes[:, 1, 0] = -np.log(x["N"])
        slopes[:, 2, 1] = -np.log(x["D"])
        return slopes
