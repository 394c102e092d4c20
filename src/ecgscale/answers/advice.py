"""Which family, at which size, on how much data: the families of a study ranked under a budget.

A family is placed by its fitted law: at the largest N and D that the budget allows, or, where compute is the budget, at
the N and D that are best for it (planning). Its expected loss is the curve there, and the interval that of the
bootstrap; draws of two families are not paired. The probability of being best is the share of draws in which a family
has the lowest loss.

Labels are counted where pre-training reads them: a supervised family can use no more records than have labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ecgscale.answers.families import AdviceError, Family, common
from ecgscale.answers.places import Budget, Option, Place
from ecgscale.planning import Array, Params, PlanError, crossing, interval

__all__ = ["Advice", "Budget", "Change", "Option", "advise"]

REACH = 10.0  # how far beyond what was measured and asked a change of the advice is looked for
COMPUTE_REACH = 100.0  # the same on the axis of compute
POINTS = 400  # of that search, even in log


@dataclass(frozen=True)
class Change:
    """Where the advice changes along one axis, the rest of the budget as asked.

    Attributes:
        axis: "N", "D" or "C".
        at, interval: Where, with 95 % interval; NaN ends where fewer than half of the draws cross.
        share: Of the draws that cross within the range searched.
        winner: Who is best beyond.
        asked: The place of the advice on that axis.
    """

    axis: str
    at: float
    interval: tuple[float, float]
    share: float
    winner: str
    asked: float


@dataclass(frozen=True)
class Advice:
    """Families in the order of expected loss.

    Attributes:
        options: The first is the advice, the second the runner-up.
        gap: Loss of the runner-up less that of the advice, with its interval; NaN where there is one family.
        changes: What would change the advice; empty where nothing within reach does.
        left_out: {family: why it cannot be ranked}.
        notes: Of the whole answer.
    """

    options: tuple[Option, ...]
    gap: tuple[float, float, float]
    changes: tuple[Change, ...]
    left_out: dict[str, str]
    notes: tuple[str, ...] = field(default=())


def advise(families: Sequence[Family], budget: Budget) -> Advice:
    """Rank families under a budget.

    Raises:
        AdviceError: no family has a law that can be read there, or compute was asked for and is not known.
    """
    places, left_out = [], {}
    usual = common(families)
    for i, family in enumerate(families):
        try:
            places.append(Place(family, budget, usual, i))
        except (AdviceError, PlanError) as error:
            left_out[family.name] = str(error)
    if not places:
        why = {reason: [n for n, r in left_out.items() if r == reason] for reason in left_out.values()}
        reasons = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in why.items())
        raise AdviceError(f"no family can be advised: {reasons or 'the study has none'}")
    draws = min(p.draws for p in places)
    losses = np.stack([p.drawn()[:draws] for p in places])  # [family, draw]
    lowest = losses == losses.min(axis=0)
    shares = (lowest / lowest.sum(axis=0)).mean(axis=1)
    order = np.argsort([p.expected for p in places], kind="stable")
    options = tuple(places[i].option(losses[i], float(shares[i])) for i in order)
    notes = _notes(budget, usual, options, assumed=any(p.assumes_records for p in places))
    if budget.hours is not None:
        notes += tuple(f"{p.family.name}: an hour buys {3600 * p.family.flops_per_second:.3g} FLOP, measured on "
                       f"{p.family.device or 'an unknown device'} at its largest size" for p in places)  # fmt: skip
    if left_out:
        notes += ("a family that is not ranked may be better than those that are",)
    changes = tuple(_changes([places[i] for i in order]))
    return Advice(options, _gap(losses[order], options), changes, left_out, notes)


def _gap(losses: Array, options: Sequence[Option]) -> tuple[float, float, float]:
    if len(options) < 2:
        return (float("nan"),) * 3
    return (options[1].loss - options[0].loss, *interval(losses[1] - losses[0]))


def _changes(places: Sequence[Place]) -> list[Change]:
    """Return the nearest change of the winner below and above the asked place, on each axis of the budget."""
    found = []
    for axis in ("C",) if places[0].cost is not None else ("N", "D"):
        asked, low, high = _reach(places, axis)
        for end in (low, high):
            x = np.geomspace(asked, end, POINTS)
            curves = np.stack([np.broadcast_to(p.along(axis, p.params, x), x.shape) for p in places])
            winner = curves.argmin(axis=0)
            turn = np.flatnonzero((winner != 0) & (curves.min(axis=0) < curves[0] * (1 - 1e-9)))
            if len(turn):
                found.append(_change(places, axis, int(winner[turn[0]]), asked, end))
    return found


def _reach(places: Sequence[Place], axis: str) -> tuple[float, float, float]:
    if axis == "C":
        return 1.0, 1 / COMPUTE_REACH, COMPUTE_REACH
    asked = float(places[0].size if axis == "N" else places[0].records)
    ends = [p.family.fit.ranges[axis] for p in places]
    return asked, min(asked, *(e[0] for e in ends)), REACH * max(asked, *(e[1] for e in ends))


def _change(places: Sequence[Place], axis: str, other: int, asked: float, end: float) -> Change:
    """Locate where the winner gives way, outwards from the asked place; `crossing` looks upwards only."""
    down = end < asked
    low, high = (1 / asked, 1 / end) if down else (asked, end)

    def curve(place: Place, of: Params) -> Callable[[Array], Array]:
        columns = {name: np.asarray(v).reshape(-1, 1) for name, v in of.items()}
        return lambda x: place.along(axis, columns, 1 / x if down else x)

    def where(kind: str) -> Array:
        first, second = ([p.params, p.samples][kind == "samples"] for p in (places[0], places[other]))
        draws = min(len(np.atleast_1d(p["E"])) for p in (first, second))
        first, second = ({k: np.atleast_1d(v)[:draws] for k, v in p.items()} for p in (first, second))
        x = crossing(curve(places[0], first), curve(places[other], second), low, high, 100)
        return np.asarray(1 / x if down else x)

    unit = places[0].compute if axis == "C" else 1.0
    drawn = where("samples")
    lo, hi = interval(drawn)
    share = float(np.mean(~np.isnan(drawn)))
    name = places[other].family.name
    return Change(axis, float(where("params")[0]) * unit, (lo * unit, hi * unit), share, name, asked * unit)


def _notes(budget: Budget, usual: dict[str, float], options: Sequence[Option], assumed: bool) -> tuple[str, ...]:
    notes = []
    if not budget.compute and budget.params is None:
        notes.append(f"no --params given: N = {usual['N']:,.0f}, the largest that every family was trained at")
    if assumed:
        notes.append(f"no --records given: D = {usual['D']:,.0f}, the most that every family was trained on")
    if budget.passes is not None:
        notes.append(f"every record is taken to be drawn {budget.passes:g} times; the laws were measured with the "
                     "study's own number of passes")  # fmt: skip
    if len(options) > 1 and options[0].best < 0.95:
        notes.append(f"not settled: {options[0].family} is best with probability {options[0].best:.2f}, below 0.95")
    return tuple(notes)
