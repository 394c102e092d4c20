"""Unique records and repeats: L(N, D, seen) = E + A * N^-alpha + B * D'^-beta with the effective data

    D' = U + U * R_star * (1 - exp(-R / R_star)),   U = min(D, seen),   R = max(seen / D - 1, 0)

U the unique records that were drawn, R how often they were repeated: the first passes are worth almost as much as new
records, and no number of passes more than 1 + R_star times the unique ones.

Units: L in nats, N parameters, D unique records available, seen records drawn, R_star a number of repeats; A in nats *
parameters^alpha, B in nats * records^beta. Limits: `scaling` in seen while seen <= D; E + A N^-alpha + B (U (1 +
R_star))^-beta with passes without end. A loss that *rises* with passes is outside the law: take the checkpoint of
lowest validation loss. Not identifiable: R_star where every cell has about the same number of passes, or few repeats
(seen < 2 D); alpha and beta as for `scaling`.

The source also discounts parameters beyond what the unique data can use (R_N); here N enters as it is, because that
part needs a compute-optimal size first and changes little for models below it.

Source: Muennighoff et al. 2023, arXiv:2305.16264, Eq. 5 and 6; there R_star = 15.4 for text.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ecgscale.laws import Array, Law


class DataConstrained(Law):
    """L = E + A * N^-alpha + B * D'^-beta."""

    title: ClassVar[str] = "Scaling law with repeated records"
    purpose: ClassVar[str] = (
        "What a repeated record is worth beside a new one: after R_star repeats most of it is gone."
    )
    formula: ClassVar[str] = "L = E + A N^-alpha + B (U (1 + R_star (1 - exp(-R / R_star))))^-beta"
    inputs: ClassVar[tuple[str, ...]] = ("N", "D", "seen")
    linear: ClassVar[tuple[str, ...]] = ("E", "A", "B")
    nonlinear: ClassVar[tuple[str, ...]] = ("alpha", "beta", "R_star")
    bounds: ClassVar[dict[str, tuple[float, float]]] = {
        "alpha": (0.01, 3.0),
        "beta": (0.01, 3.0),
        "R_star": (0.1, 1000.0),
    }
    scales: ClassVar[tuple[str, ...]] = ("R_star",)

    def basis(self, x: dict[str, Array], **theta: Array | float) -> Array:
        """Return the terms 1, N^-alpha, D'^-beta: [..., point, 3]."""
        size = np.exp(-np.asarray(theta["alpha"])[..., None] * np.log(x["N"]))
        data = np.exp(-np.asarray(theta["beta"])[..., None] * np.log(self.effective(x, theta["R_star"])))
        return np.stack([np.ones_like(size + data), size + 0 * data, data + 0 * size], axis=-1)

    def log_slopes(self, x: dict[str, Array], **theta: Array | float) -> Array:
        """Return d log(basis) / d (alpha, beta, log R_star): [..., point, 3, 3]."""
        effective = self.effective(x, theta["R_star"])
        limit = np.asarray(theta["R_star"])[..., None]
        turns = _repeats(x) / limit
        slopes = np.zeros((*np.broadcast_shapes(effective.shape, (*np.shape(theta["beta"]), 1)), 3, 3))
        slopes[..., 1, 0] = -np.log(x["N"])
        slopes[..., 2, 1] = -np.log(effective)
        gain = _drawn(x) * limit * (-np.expm1(-turns) - turns * np.exp(-turns))
        slopes[..., 2, 2] = -np.asarray(theta["beta"])[..., None] * gain / effective
        return slopes

    @staticmethod
    def effective(x: dict[str, Array], r_star: Array | float) -> Array:
        """Return D', the unique records that would be worth as much [..., point]."""
        limit = np.asarray(r_star)[..., None]
        return np.asarray(_drawn(x) * (1 - limit * np.expm1(-_repeats(x) / limit)))


def _drawn(x: dict[str, Array]) -> Array:
    return np.minimum(x["D"], x["seen"])


def _repeats(x: dict[str, Array]) -> Array:
    return np.maximum(np.asarray(x["seen"]) / np.asarray(x["D"]) - 1, 0.0)
