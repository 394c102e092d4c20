"""Loss to loss: the excess out of distribution against the excess in distribution, (L_OOD - E_ood) = K * (L_ID -
E_id)^kappa.

Units: losses in nats, K in nats^(1 - kappa), kappa a number; kappa < 1 means that the out-of-distribution loss
follows more slowly. Along one axis with L_ID falling as x^-a and L_OOD as x^-b, kappa = b / a.

**kappa depends strongly on both floors.** E_id is given (field `E_id`, from a fit of the in-distribution loss or a
known floor; 0 means none), E_ood is fitted, or held with `fit(..., floor=E_ood)`. State them beside every kappa.
Both axes carry noise: the inputs are measured, so the bootstrap draws whole runs (both losses of a run together), but
noise in L_ID still pulls kappa towards 0; `fitting.both_axes` fits with errors on both, and can fit E_id too.
Not identifiable: in-distribution losses that span less than their noise; E_ood free on a short range, where it
trades off against kappa.

Source: arXiv:2605.17276, Eq. 4; Brandfonbrener et al. 2024, arXiv:2411.12925 (shifted power law).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from ecgscale.laws import Array, Law


class Transfer(Law):
    """L_OOD = E_ood + K * (L_ID - E_id)^kappa; the column `L_ID` is the in-distribution loss of the same run."""

    title: ClassVar[str] = "Loss-to-loss transfer"
    purpose: ClassVar[str] = "How much of a gain in distribution arrives out of distribution: all of it for kappa = 1."
    formula: ClassVar[str] = "L_OOD = E_ood + K (L_ID - E_id)^kappa"
    inputs: ClassVar[tuple[str, ...]] = ("L_ID",)
    output: ClassVar[str] = "L_OOD"
    linear: ClassVar[tuple[str, ...]] = ("E_ood", "K")
    nonlinear: ClassVar[tuple[str, ...]] = ("kappa",)
    bounds: ClassVar[dict[str, tuple[float, float]]] = {"kappa": (0.01, 6.0)}
    floor: ClassVar[str | None] = "E_ood"
    measured_inputs: ClassVar[bool] = True

    E_id: float = Field(0.0, ge=0.0)  # nats; the in-distribution floor, known or fitted before

    def basis(self, x: dict[str, Array], **theta: Array | float) -> Array:
        """Return the terms 1, (L_ID - E_id)^kappa: [..., point, 2].

        Raises:
            ValueError: an in-distribution loss is not above its floor.
        """
        power = np.exp(np.asarray(theta["kappa"])[..., None] * self._log_excess(x))
        return np.stack([np.ones_like(power), power], axis=-1)

    def log_slopes(self, x: dict[str, Array], **theta: Array | float) -> Array:
        """Return d log(basis) / d kappa: [point, 2, 1], the same for every kappa."""
        log = self._log_excess(x)
        return np.stack([np.zeros_like(log), log], axis=-1)[..., None]

    def _log_excess(self, x: dict[str, Array]) -> Array:
        excess = np.asarray(x["L_ID"]) - self.E_id
        if np.any(excess <= 0):
            worst = float(np.min(x["L_ID"]))
            raise ValueError(
                f"the in-distribution loss {worst:.4g} is not above the floor E_id = {self.E_id:.4g}; give a lower E_id"
            )
        return np.log(excess)
