"""Where a family stands under a budget: the N and D that its law would choose within the limits, and the loss there.

Compute is spent by the rule that the runs followed: where all drew their records equally often, C = c(N) e D, and N and
D share it; where all drew the same number S of records (equal steps), C = c(N) S whatever D is, so that compute buys
size and D is all there is, up to S. c(N) is the measured FLOP per record drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ecgscale.answers.families import AdviceError, Family
from ecgscale.planning import (
    Allocation,
    Array,
    Cost,
    Params,
    PlanError,
    Steps,
    allocate,
    interval,
    loss,
    measured_cost,
    measured_steps,
    optimal,
    unpaired,
)

FAR = 4.0  # times the largest measured N or D: beyond it the answer is called an extrapolation


@dataclass(frozen=True)
class Budget:
    """What there is; None for no limit.

    Attributes:
        params: Largest N.
        records: Unique pre-training records.
        labels: Those of them with labels.
        flops: C of one training, FLOP.
        hours: The same as hours of the device that the study ran on.
        passes: Times a record is drawn; None for what the study did: one number of passes, or of records drawn.
    """

    params: float | None = None
    records: float | None = None
    labels: float | None = None
    flops: float | None = None
    hours: float | None = None
    passes: float | None = None

    @property
    def compute(self) -> bool:
        """Whether compute limits the answer."""
        return self.flops is not None or self.hours is not None


@dataclass(frozen=True)
class Option:
    """One family at its place.

    Attributes:
        size, data: N and D.
        loss, interval: Expected there, with 95 % interval.
        best: Probability of the lowest loss.
        status: Of the fit.
        beyond: {"N", "D"}: times the largest measured value, or times below the smallest; above 1 is an extrapolation.
        allocation: The unconstrained optimum where compute is the budget and N and D share it, else None.
        notes: What weakens the answer, in sentences.
    """

    family: str
    size: float
    data: float
    loss: float
    interval: tuple[float, float]
    best: float
    status: str
    beyond: dict[str, float]
    allocation: Allocation | None = None
    notes: tuple[str, ...] = ()


class Place:
    """A family at the place that the budget gives it."""

    def __init__(self, family: Family, budget: Budget, usual: dict[str, float], seed: int) -> None:
        self.family, self.budget = family, budget
        self.params: Params = family.fit.params
        if not family.fit.samples:
            raise AdviceError(f"its law has no interval (status {family.fit.status})")
        if family.fit.status == "engines_disagree":
            raise AdviceError("two fits of its law disagree")
        self.samples = unpaired(family.fit.samples, seed)
        self.draws = len(self.samples["E"])
        self.cost = _cost(family, budget) if budget.compute else None
        self.compute = _compute(family, budget)
        self.most = float("inf") if budget.params is None else budget.params
        self.assumes_records = budget.records is None and not isinstance(self.cost, Cost)  # none were named or bought
        asked = float("inf") if budget.records is None else budget.records
        self.records = usual["D"] if self.assumes_records else asked
        if self.cost is None:
            place: tuple[Any, Any] = budget.params or usual["N"], self.capped(self.records)
        else:
            place = self.spend(self.compute)
        self.size, self.data = (float(v) for v in place)
        self.expected = float(loss(self.params, self.size, self.data))
        self._refuse_far()

    def _refuse_far(self) -> None:
        """Refuse to read an exponent that was not identified outside the range that was measured."""
        far = [axis for axis, times in self.beyond().items() if times > 1 + 1e-9]
        fit = self.family.fit
        ends = [n for n, (low, high) in fit.law.bounds.items() if not low * 1.001 < fit.params[n] < high * 0.999]
        loose = [n for n in ends if fit.params["A" if n == "alpha" else "B"] > 0]
        if far and (loose or fit.status == "ill_conditioned"):
            raise AdviceError(f"its law is not identified, and {far[0]} lies {self.beyond()[far[0]]:.3g} times beyond "
                              "what was measured")  # fmt: skip

    def capped(self, records: Any) -> Array:
        """Return the records this family can use out of so many."""
        labels = self.budget.labels if self.family.supervised else None
        return np.asarray(np.minimum(records, np.inf if labels is None else labels))

    def spend(self, compute: Any) -> tuple[Array, Array]:
        """Return the N and D that are best for C within the other limits, by the fitted law."""
        assert self.cost is not None
        most = self.capped(self.records)
        if isinstance(self.cost, Steps):
            size = np.minimum(self.cost.size(compute), self.most)
            return size, np.broadcast_to(np.minimum(most, self.cost.seen), size.shape)
        size, _ = optimal(self.params, compute, self.cost)
        low, high = self.family.fit.ranges["N"]
        size = np.where(np.isnan(size), high if self.params["B"] <= 0 else low, size)  # one term absent: an end
        all_used = (np.asarray(compute) / (self.cost.factor * self.cost.passes * most)) ** (1 / self.cost.exponent)
        size = np.minimum(np.maximum(size, all_used), self.most)
        return size, np.minimum(self.cost.records(size, compute), most)

    def drawn(self) -> Array:
        """Return the loss [draw] at the place."""
        return loss(self.samples, self.size, self.data)

    def along(self, axis: str, of: Params, x: Any) -> Array:
        """Return the loss where `axis` is x and the rest of the budget is as asked."""
        if axis == "C":
            return loss(of, *self.spend(np.asarray(x) * self.compute))  # in units of what is asked
        return loss(of, x, self.data) if axis == "N" else loss(of, self.size, self.capped(x))

    def beyond(self) -> dict[str, float]:
        """Return N and D over the largest that was measured; below the smallest, how many times below."""
        ends = self.family.fit.ranges
        return {
            a: v / ends[a][1] if v >= ends[a][0] else ends[a][0] / v for a, v in (("N", self.size), ("D", self.data))
        }

    def option(self, drawn: Array, best: float) -> Option:
        """Return the place as an answer."""
        fit, notes = self.family.fit, []
        if fit.status != "converged":
            notes.append(f"law {fit.status}: {'; '.join(fit.warnings)}" if fit.warnings else f"law {fit.status}")
        notes += [f"{axis} lies {times:.3g} times outside what was measured: extrapolated, its interval is too narrow"
                  for axis, times in self.beyond().items() if times > FAR]  # fmt: skip
        allocation = None
        if isinstance(self.cost, Steps):
            notes.append(f"its runs drew {self.cost.seen:,.0f} records each, whatever D: C = {self.cost.factor:.4g} "
                         f"N^{self.cost.exponent:.3g} x these, so compute buys size and D is all there is")  # fmt: skip
        elif self.cost is not None:
            try:
                allocation = allocate(self.params, self.samples, self.compute, self.cost)
            except PlanError as error:
                notes.append(str(error))
        return Option(self.family.name, float(self.size), float(self.data), self.expected, interval(drawn), best,
                      fit.status, self.beyond(), allocation, tuple(notes))  # fmt: skip


def _cost(family: Family, budget: Budget) -> Cost | Steps:
    runs = family.runs
    if runs is None or runs.empty:
        raise AdviceError("its compute was not measured")
    records = runs["D"] if budget.passes is None else runs["seen"] / budget.passes
    try:
        return measured_cost(runs["N"], runs["C"], runs["seen"], records)
    except PlanError as error:
        if budget.passes is not None:
            raise AdviceError(str(error)) from None
        refused = str(error)
    try:
        return measured_steps(runs["N"], runs["C"], runs["seen"])
    except PlanError:
        raise AdviceError(f"{refused}, or say with --passes how often a record will be drawn") from None


def _compute(family: Family, budget: Budget) -> float:
    if budget.hours is None:
        return float("nan") if budget.flops is None else budget.flops
    if not np.isfinite(family.flops_per_second):
        raise AdviceError("how many FLOP an hour buys is not known for it: give --flops")
    return min(budget.hours * 3600 * family.flops_per_second, budget.flops or np.inf)
