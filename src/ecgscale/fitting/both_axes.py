"""Loss to loss with errors on both axes: (L_OOD - E_ood) = K (L_ID - E_id)^kappa when both losses carry noise.

Regressing on a noisy loss pulls kappa towards 0. Here each run has an unknown true loss t, and

    sum_i ((L_ID - t) / s_id)^2 + ((L_OOD - f(t)) / s_ood)^2

is minimised over every t and the parameters: York's regression where f is a line, orthogonal distance regression where
it is not. The t are solved inside by Gauss-Newton, so the outer search has two to four parameters. Floors are given or
fitted; with both fitted, kappa is seldom identified (`status`). The errors are standard errors in nats, or, where none
are given, those between seeds of one cell, the same share of the loss for all runs.

Source: York et al. 2004, Am. J. Phys. 72:367; Boggs & Rogers 1990 (orthogonal distance regression).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from ecgscale.laws import Array
from ecgscale.rng import generator

INNER = 4  # Gauss-Newton steps for the true losses
KAPPA = (0.01, 6.0)  # as the law `transfer`
MIN_RUNS = 8
LOOSE = 0.25  # standard error of kappa over kappa: its 95 % interval then spans a factor of three


@dataclass(frozen=True)
class BothAxes:
    """A fit with errors on both axes.

    Attributes:
        params: E_id, E_ood, K, kappa in nats.
        fitted: Which floors were fitted.
        intervals: {parameter: 95 % interval} over resampled runs; empty without samples.
        samples: {parameter: [draw]}.
        status: "converged", "bound" (kappa at an end of its range, or a fitted floor at 0 or at the smallest loss),
            "ill_conditioned" (the standard error of kappa is above a quarter of it) or "too_few" (below 8 runs).
        scatter: Root mean squared residual in standard errors; 1 where errors and law are right.
        errors: Median relative standard error of (L_ID, L_OOD).
    """

    params: dict[str, float]
    fitted: tuple[str, ...]
    intervals: dict[str, tuple[float, float]]
    status: Literal["converged", "bound", "ill_conditioned", "too_few"]
    scatter: float
    errors: tuple[float, float]
    samples: dict[str, Array] = field(default_factory=dict)


def seed_errors(frame: pd.DataFrame, output: str = "value") -> tuple[float, float]:
    """Return the relative standard deviations of L_ID and of the output between seeds of one cell (N, D), pooled.

    Raises:
        ValueError: no cell has two seeds.
    """
    logs = pd.DataFrame({c: np.log(frame[c].to_numpy(np.float64)) for c in ("L_ID", output)}, index=frame.index)
    groups = logs.groupby([frame["N"], frame["D"]])
    free = len(logs) - groups.ngroups
    if free < 1:
        raise ValueError("no cell has two seeds, so the errors of both losses are unknown; give the columns of errors")
    spread = np.sqrt(((logs - groups.transform("mean")) ** 2).sum() / free)
    return float(spread["L_ID"]), float(spread[output])


def fit_both_axes(
    frame: pd.DataFrame,
    E_id: float | None = 0.0,
    E_ood: float | None = None,
    output: str = "value",
    errors: tuple[str, str] | None = None,
    bootstraps: int = 300,
    seed: int = 0,
) -> BothAxes:
    """Fit the transfer law with errors on both axes.

    Args:
        frame: A row per run: L_ID and the output, positive; N and D where errors come from seeds.
        E_id, E_ood: The floors, nats; None fits them.
        output: The column of the out-of-distribution loss.
        errors: The columns of the standard errors of L_ID and of the output, nats; None takes them from seeds.
        bootstraps: Resamples of runs; 0 for none.
        seed: Of the bootstrap.

    Raises:
        ValueError: errors are unknown or not positive, or a loss is not above its floor.
    """
    x, y = (frame[c].to_numpy(np.float64) for c in ("L_ID", output))
    if errors is None:
        share = seed_errors(frame, output)
        sx, sy = share[0] * x, share[1] * y
    else:
        sx, sy = (frame[c].to_numpy(np.float64) for c in errors)
    if min(sx.min(), sy.min()) <= 0:
        raise ValueError("every standard error must be positive; leave out runs without one")
    for name, floor, losses in (("E_id", E_id, x), ("E_ood", E_ood, y)):
        if floor is not None and floor >= losses.min():
            raise ValueError(
                f"the loss {losses.min():.4g} is not above the floor {name} = {floor:.4g}; give a lower one"
            )
    fitted = tuple(name for name, floor in (("E_id", E_id), ("E_ood", E_ood)) if floor is None)
    given = {"E_id": E_id, "E_ood": E_ood}
    found, cost, error = _solve(x, y, sx, sy, given, None, np.ones(len(x)))
    samples: dict[str, Array] = {}
    if bootstraps and len(x) >= MIN_RUNS:
        rng = generator(seed, "both axes")
        weights = rng.multinomial(len(x), np.full(len(x), 1 / len(x)), bootstraps).astype(float)
        draws = [_solve(x, y, sx, sy, given, found, w)[0] for w in weights]
        samples = {name: np.array([d[name] for d in draws]) for name in found}
    scatter = float(np.sqrt(cost / max(len(x) - 2 - len(fitted), 1)))
    ends = {n: (float(a), float(b)) for n, s in samples.items() for a, b in [np.percentile(s, [2.5, 97.5])]}
    lowest = {"E_id": x.min(), "E_ood": y.min()}
    edge = any(not 1e-6 < found[name] / lowest[name] < 0.998 for name in fitted)
    edge |= not KAPPA[0] * 1.001 < found["kappa"] < KAPPA[1] * 0.999
    status = _status(len(x), edge, error * max(scatter, 1.0) / found["kappa"])
    middle = (float(np.median(sx / x)), float(np.median(sy / y)))
    return BothAxes(found, fitted, ends, status, scatter, middle, samples)


def _status(runs: int, edge: bool, looseness: float) -> Literal["converged", "bound", "ill_conditioned", "too_few"]:
    if runs < MIN_RUNS:
        return "too_few"
    if edge:
        return "bound"
    return "converged" if looseness < LOOSE else "ill_conditioned"


def _solve(
    x: Array,
    y: Array,
    sx: Array,
    sy: Array,
    given: dict[str, float | None],
    near: dict[str, float] | None,
    weight: Array,
) -> tuple[dict[str, float], float, float]:
    """Return the parameters, the sum of squares and the standard error of kappa."""
    from scipy.optimize import least_squares  # here, so that a fit does not wait for scipy

    root = np.sqrt(weight)
    free = [name for name, value in given.items() if value is None]
    known = {name: value for name, value in given.items() if value is not None}
    ceiling = {"E_id": 0.999 * float(x.min()), "E_ood": 0.999 * float(y.min())}

    def named(p: Array) -> dict[str, float]:
        return {**known, **dict(zip(free, p[2:], strict=True)), "kappa": p[1], "K": float(np.exp(p[0]))}

    def residual(p: Array) -> Array:
        return np.asarray(np.concatenate(_distances(named(p), x, y, sx, sy)) * np.tile(root, 2))

    low = np.array([-30.0, KAPPA[0], *[0.0] * len(free)])
    high = np.array([30.0, KAPPA[1], *[ceiling[name] for name in free]])
    starts = [_pack(near, free)] if near else [_first(x, y, known, ceiling, free, share) for share in (0.2, 0.6, 0.9)]
    runs = [least_squares(residual, np.clip(s, low + 1e-9, high - 1e-9), bounds=(low, high)) for s in starts]
    best = min(runs, key=lambda run: run.cost)
    error = float(np.sqrt(np.linalg.pinv(best.jac.T @ best.jac)[1, 1]))
    order = ("E_id", "E_ood", "K", "kappa")
    return {name: float(named(best.x)[name]) for name in order}, 2 * float(best.cost), error


def _distances(params: dict[str, float], x: Array, y: Array, sx: Array, sy: Array) -> tuple[Array, Array]:
    """Return both residuals of each run in standard errors at its nearest point of the curve."""
    lowest = params["E_id"] + 1e-3 * (x - params["E_id"])
    true = x
    for _ in range(INNER):
        value, slope = _curve(params, true)
        step = (slope * (y - value) / sy**2 + (x - true) / sx**2) / (slope**2 / sy**2 + 1 / sx**2)
        true = np.maximum(true + step, lowest)
    return (x - true) / sx, (y - _curve(params, true)[0]) / sy


def _curve(params: dict[str, float], x: Array) -> tuple[Array, Array]:
    excess = np.maximum(x - params["E_id"], 1e-12)
    power = params["K"] * excess ** params["kappa"]
    return params["E_ood"] + power, params["kappa"] * power / excess


def _first(
    x: Array, y: Array, known: dict[str, float], ceiling: dict[str, float], free: list[str], share: float
) -> Array:
    floors = {**known, **{name: share * ceiling[name] for name in free}}
    slope, constant = np.polyfit(np.log(x - floors["E_id"]), np.log(y - floors["E_ood"]), 1)
    return np.array([constant, slope, *[floors[name] for name in free]])


def _pack(params: dict[str, float], free: list[str]) -> Array:
    return np.array([np.log(params["K"]), params["kappa"], *[params[name] for name in free]])
