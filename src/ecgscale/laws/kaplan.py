"""Size and data coupled: L(N, D) = ((N_c / N)^(alpha / beta) + D_c / D)^beta, written with the two limits it joins.

    L = ((A N^-alpha)^(1/beta) + (B D^-beta)^(1/beta))^beta,   A = N_c^alpha,  B = D_c^beta

so alpha is the source's alpha_N, beta its alpha_D. L is proportional to A for a fixed `balance` = B / A, the form
fitted here: one linear coefficient, and the balance is searched like an exponent.

Units: L in nats, N parameters of the kept encoder, D unique pre-training records; A in nats * parameters^alpha, balance
in records^beta / parameters^alpha. Limits: A * N^-alpha with data without end, B * D^-beta with a model without end, 0
with both: **there is no irreducible loss**, so on ECG, where the floor is most of the loss, compare it with `scaling`
by held-out error first. Not identifiable: points where one limit holds throughout (the other's exponent and the balance
are free); fewer than 3 levels on an axis; N and D that grow together.

Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 1.5.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ecgscale.laws import Array, Law


class Kaplan(Law):
    """L = A * (N^(-alpha / beta) + (balance * D^-beta)^(1 / beta))^beta."""

    title: ClassVar[str] = "Coupled law in parameters and records"
    purpose: ClassVar[str] = (
        "The rival of the scaling law in which size and data limit each other and no loss is irreducible."
    )
    formula: ClassVar[str] = "L = A (N^(-alpha/beta) + balance^(1/beta) / D)^beta"
    inputs: ClassVar[tuple[str, ...]] = ("N", "D")
    linear: ClassVar[tuple[str, ...]] = ("A",)
    nonlinear: ClassVar[tuple[str, ...]] = ("alpha", "beta", "balance")
    bounds: ClassVar[dict[str, tuple[float, float]]] = {
        "alpha": (0.01, 3.0),
        "beta": (0.01, 3.0),
        "balance": (1e-4, 1e4),
    }
    scales: ClassVar[tuple[str, ...]] = ("balance",)
    floor: ClassVar[str | None] = None

    def basis(self, x: dict[str, Array], **theta: Array | float) -> Array:
        """Return the one term [..., point, 1]."""
        size, data, beta = self._sides(x, theta)
        return np.exp(beta * np.logaddexp(size, data))[..., None]

    def log_slopes(self, x: dict[str, Array], **theta: Array | float) -> Array:
        """Return d log(basis) / d (alpha, beta, log balance): [..., point, 1, 3]."""
        size, data, beta = self._sides(x, theta)
        whole = np.logaddexp(size, data)
        of_size, of_data = np.exp(size - whole), np.exp(data - whole)
        log_balance = np.log(np.asarray(theta["balance"]))[..., None]
        by_alpha = -of_size * np.log(x["N"])
        by_beta = whole - of_size * size - of_data * log_balance / beta
        return np.stack([by_alpha, by_beta, of_data + 0 * by_beta], axis=-1)[..., None, :]

    def unit(self, name: str, units: dict[str, float], **theta: Array | float) -> Array | float:
        """Return records^beta / parameters^alpha."""
        size = np.asarray(theta["alpha"]) * np.log(units["N"])
        return np.asarray(np.exp(np.asarray(theta["beta"]) * np.log(units["D"]) - size))

    @staticmethod
    def constants(params: dict[str, float]) -> tuple[float, float]:
        """Return the source's N_c in parameters and D_c in records."""
        size = np.log(params["A"]) / params["alpha"]
        data = np.log(params["A"] * params["balance"]) / params["beta"]
        return float(np.exp(size)), float(np.exp(data))

    @staticmethod
    def _sides(x: dict[str, Array], theta: dict[str, Array | float]) -> tuple[Array, Array, Array]:
        """The logs of both terms of the inner sum [..., point], and beta [..., 1]."""
        alpha, beta, balance = (np.asarray(theta[k])[..., None] for k in ("alpha", "beta", "balance"))
        return -alpha / beta * np.log(x["N"]), np.log(balance) / beta - np.log(x["D"]), beta
