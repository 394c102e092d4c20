"""Answers in closed form: what fitted parameters say about compute, sizes and pairs of families.

Every function takes parameters as numbers or as bootstrap samples [draw], and returns the same shape, so that an
interval is `interval` of the samples. Samples of two families must not share their draws by position: pass those of one
through `unpaired`.

With L(N, D) = E + A N^-alpha + B D^-beta and compute C = c(N) e D, c(N) = c0 N^g the measured FLOP per record and e the
passes over each unique record, the least loss for C lies where the gains of both terms per log C are equal:

    alpha A N^-alpha = g beta B D^-beta
    N* = (alpha A / (g beta B))^(1 / (alpha + g beta)) (C / (c0 e))^(beta / (alpha + g beta)),   D* = C / (c(N*) e)

of which arXiv:2605.17276 is the case g = 1: N* ~ C^(beta / (alpha + beta)), D* ~ C^(alpha / (alpha + beta)).

Source: Hoffmann et al. 2022, arXiv:2203.15556, section 3.3, with the exponent g of measured compute added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ecgscale.rng import generator
from ecgscale.spec import Explained

Array = npt.NDArray[np.float64]
Params = Mapping[str, Any]  # parameter: number or [draw]
HALVINGS = 60  # of an interval in log N: to the last digit


class PlanError(Explained, ValueError):
    """A question that the fit or the costs cannot answer; the message says why."""


@dataclass(frozen=True)
class Cost:
    """C = factor * N^exponent * passes * D, in FLOP.

    Attributes:
        factor: FLOP per record drawn at N = 1.
        exponent: g, how FLOP per record grow with N; 1 where every parameter is used once a token.
        passes: e, records drawn per unique record.
        error: Largest relative error of the power law on the measured costs.
    """

    factor: float
    exponent: float = 1.0
    passes: float = 1.0
    error: float = 0.0

    def flops(self, size: Any, data: Any) -> Array:
        """Return C for N parameters and D unique records."""
        return np.asarray(self.factor * np.asarray(size) ** self.exponent * self.passes * np.asarray(data))

    def records(self, size: Any, compute: Any) -> Array:
        """Return D, the unique records that C pays for at N parameters."""
        return np.asarray(compute) / (self.factor * self.passes * np.asarray(size) ** self.exponent)


@dataclass(frozen=True)
class Steps:
    """C = factor * N^exponent * seen, in FLOP: every run draws the same number of records, whatever D is.

    Attributes:
        factor, exponent, error: As of `Cost`.
        seen: Records drawn by a run, repeats included.
    """

    factor: float
    exponent: float
    seen: float
    error: float = 0.0

    def size(self, compute: Any) -> Array:
        """Return N, the size that C trains for `seen` records."""
        return np.asarray((np.asarray(compute) / (self.factor * self.seen)) ** (1 / self.exponent))


def measured_steps(size: Any, compute: Any, seen: Any, tolerance: float = 0.05) -> Steps:
    """Fit c(N) = c0 N^g to measured runs that all drew the same number of records.

    Args:
        size, compute, seen: N, C and records drawn of the runs, each [run].
        tolerance: Largest relative difference between records drawn that counts as one number.

    Raises:
        PlanError: fewer than 2 sizes, a value that is not positive, or several numbers of records drawn.
    """
    n, c, s = (np.asarray(v, np.float64) for v in (size, compute, seen))
    factor, exponent, error = _per_record(n, c, s)
    if s.max() > s.min() * (1 + tolerance):
        raise PlanError(f"the runs drew {s.min():,.0f} to {s.max():,.0f} records, and one rule needs one number")
    return Steps(factor, exponent, float(np.exp(np.log(s).mean())), error)


def _per_record(n: Array, c: Array, s: Array) -> tuple[float, float, float]:
    """Return c0, g and the largest relative error of c(N) = c0 N^g on measured N, C and records drawn [run]."""
    if min(v.min(initial=np.inf) for v in (n, c, s)) <= 0 or len(np.unique(n)) < 2:
        raise PlanError("a cost needs runs of at least 2 sizes with positive N, C, seen and D; leave baselines out")
    slope, constant = np.polyfit(np.log(n), np.log(c / s), 1)
    error = np.abs(np.exp(constant + slope * np.log(n)) * s / c - 1).max()
    return float(np.exp(constant)), float(slope), float(error)


def measured_cost(size: Any, compute: Any, seen: Any, data: Any, tolerance: float = 0.05) -> Cost:
    """Fit c(N) = c0 N^g to measured runs and check that one number of passes holds.

    Args:
        size, compute, seen, data: N, C, records drawn and unique records of the runs, each [run].
        tolerance: Largest relative difference between passes that counts as one number.

    Raises:
        PlanError: fewer than 2 sizes, a value that is not positive, or cells with several numbers of passes.
    """
    n, c, s, d = (np.asarray(v, np.float64) for v in (size, compute, seen, data))
    factor, exponent, error = _per_record(n, c, np.where(d > 0, s, 0.0))
    passes = s / d
    if passes.max() > passes.min() * (1 + tolerance):
        raise PlanError(
            f"the runs took {passes.min():.3g} to {passes.max():.3g} passes over their records, and C = c(N) e D needs "
            "one number; fit data_constrained, or take the rows of one number of passes"
        )
    return Cost(factor, exponent, float(np.exp(np.log(passes).mean())), error)


def loss(params: Params, size: Any, data: Any) -> Array:
    """Return E + A N^-alpha + B D^-beta."""
    return np.asarray(
        params["E"]
        + params["A"] * np.asarray(size) ** -params["alpha"]
        + params["B"] * np.asarray(data) ** -params["beta"]
    )


def optimal(params: Params, compute: Any, cost: Cost) -> tuple[Array, Array]:
    """Return N* and D* for C FLOP; NaN where a term is absent (A or B = 0), because there is then no best size."""
    g = cost.exponent
    with np.errstate(divide="ignore", invalid="ignore"):
        balance = params["alpha"] * np.asarray(params["A"]) / (g * params["beta"] * np.asarray(params["B"]))
        power = 1 / (params["alpha"] + g * params["beta"])
        units = np.asarray(compute) / (cost.factor * cost.passes)
        size = (balance * units ** params["beta"]) ** power
    size = np.where((size > 0) & np.isfinite(size), size, np.nan)
    return size, cost.records(size, compute)


def split(params: Params, exponent: float = 1.0) -> tuple[Array, Array]:
    """Return the shares (model, data) of the next unit of log compute; `exponent` is g of the cost."""
    alpha, beta = np.asarray(params["alpha"]), exponent * np.asarray(params["beta"])
    return np.asarray(beta / (alpha + beta)), np.asarray(alpha / (alpha + beta))


def flat_region(params: Params, compute: Any, cost: Cost, within: float = 0.01) -> tuple[Array, Array]:
    """Return the smallest and largest N whose loss for C FLOP is within 1 % of the best; NaN where N* is."""
    best, records = optimal(params, compute, cost)
    allowed = (1 + within) * loss(params, best, records)

    def edge(way: float) -> Array:
        near, far = np.zeros_like(best), np.full_like(best, way)

        def inside(step: Array) -> npt.NDArray[np.bool_]:
            size = best * np.exp(step)
            return np.asarray(loss(params, size, cost.records(size, compute)) <= allowed)

        for _ in range(8):  # 2^8 nats of log N: beyond it the loss never leaves the region
            far = np.where(inside(far), 2 * far, far)
        for _ in range(HALVINGS):
            middle = (near + far) / 2
            ok = inside(middle)
            near, far = np.where(ok, middle, near), np.where(ok, far, middle)
        return np.asarray(best * np.exp(near))

    with np.errstate(over="ignore"):
        return edge(-1.0), edge(1.0)


def equal_gain(times: float, exponent: Any, other: Any) -> Array:
    """Return by how much the other family must grow for the drop of excess loss that `times` as much gives the first.

    `exponent` and `other` are alpha (parameters) or beta (records) of the first and the other family.
    """
    return np.asarray(times ** (np.asarray(exponent) / np.asarray(other)))


def efficiency(exponent: Any, other: Any) -> Array:
    """Return the ratio of two families' exponents: of parameters (alpha), of data (beta) or of transfer (kappa)."""
    return np.asarray(np.asarray(exponent) / np.asarray(other))


def overfitting(params: Params, size: Any, data: Any) -> tuple[Array, Array]:
    """Return the extent O = (L(N, D) - L(N, inf)) / L(N, inf) and X = D L(N, inf)^(1 / beta); O = B X^-beta exactly."""
    limit = np.asarray(params["E"] + params["A"] * np.asarray(size) ** -params["alpha"])
    extent = params["B"] * np.asarray(data) ** -params["beta"] / limit
    return np.asarray(extent), np.asarray(np.asarray(data) * limit ** (1 / np.asarray(params["beta"])))


def crossing(
    first: Callable[[Array], Array], second: Callable[[Array], Array], low: float, high: float, points: int = 200
) -> Array:
    """Return the smallest x in [low, high] where two curves cross [draw]; NaN where they do not.

    Args:
        first, second: Losses [draw, x] at inputs [draw, x] or [1, x], e.g. `lambda x: loss(samples, x, 1e5)` with
            samples [draw, 1].
        low, high: Positive ends of the axis; look no further than the study can speak for.
        points: Of the first search, even in log x: two crossings closer than a step are not seen.
    """
    grid = np.geomspace(low, high, points)[None]
    gap = np.asarray(first(grid) - second(grid))
    turns = np.sign(gap[:, :-1]) * np.sign(gap[:, 1:]) <= 0
    place = turns.argmax(axis=1)
    left, right = (np.log(np.broadcast_to(grid, gap.shape)[np.arange(len(gap)), place + i])[:, None] for i in (0, 1))
    side = np.sign(gap[np.arange(len(gap)), place])[:, None]
    for _ in range(HALVINGS):
        middle = (left + right) / 2
        x = np.exp(middle)
        same = np.sign(first(x) - second(x)) == side
        left, right = np.where(same, middle, left), np.where(same, right, middle)
    return np.where(turns.any(axis=1), np.exp((left + right) / 2)[:, 0], np.nan)


def unpaired(samples: Params, seed: int = 0) -> dict[str, Array]:
    """Return samples [draw] in another order, the same for every parameter: independent of another family's that were
    drawn with the same seed."""
    columns = {name: np.asarray(values) for name, values in samples.items()}
    order = generator(seed, "unpaired").permutation(len(next(iter(columns.values()))))
    return {name: values[order] for name, values in columns.items()}


def interval(samples: Any, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of samples [draw] without those that are NaN; NaN where fewer than half remain."""
    values = np.asarray(samples, np.float64)
    known = values[~np.isnan(values)]
    if len(known) < max(1, len(values) / 2):
        return float("nan"), float("nan")
    lo, hi = np.percentile(known, [50 * (1 - level), 50 * (1 + level)])
    return float(lo), float(hi)


@dataclass(frozen=True)
class Allocation:
    """Where C FLOP are best spent, by the rule C = c(N) e D.

    Attributes:
        compute: C, FLOP.
        size, data: N* and D*.
        loss: What the law expects there.
        model_share, data_share: Of the next unit of log compute.
        flat: The smallest and largest N within 1 % of the best loss.
        intervals: {"size", "data", "loss", "data_share"}: 95 % intervals; empty without samples.
        rule: The allocation rule in words.
    """

    compute: float
    size: float
    data: float
    loss: float
    model_share: float
    data_share: float
    flat: tuple[float, float]
    intervals: dict[str, tuple[float, float]]
    rule: str


def allocate(params: Params, samples: Params, compute: float, cost: Cost) -> Allocation:
    """Return the compute-optimal size and data with intervals.

    Args:
        params: E, A, B, alpha, beta of `scaling`, numbers.
        samples: Their bootstrap samples [draw]; an empty mapping for none.
        compute: C, FLOP, positive.
        cost: Of `measured_cost`.

    Raises:
        PlanError: A or B is 0, so that the loss does not depend on one of N and D.
    """
    if params["A"] <= 0 or params["B"] <= 0:
        raise PlanError("no best size: the fit found no effect of " + ("parameters" if params["A"] <= 0 else "records"))

    def answers(of: Params) -> dict[str, Array]:
        size, data = optimal(of, compute, cost)
        return {"size": size, "data": data, "loss": loss(of, size, data), "data_share": split(of, cost.exponent)[1]}

    point = {name: float(value) for name, value in answers(params).items()}
    low, high = flat_region(params, compute, cost)
    return Allocation(
        compute,
        **point,
        model_share=1 - point["data_share"],
        flat=(float(low), float(high)),
        intervals={name: interval(values) for name, values in answers(samples).items()} if samples else {},
        rule=f"C = {cost.factor:.4g} N^{cost.exponent:.3g} x {cost.passes:.3g} passes x D",
    )
