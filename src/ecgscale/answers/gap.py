"""Which of two families is better at a place, and how many more runs until that can be told.

The gap is the ratio of the losses that their laws expect there. It can be told once it is larger than what both curves
are expected to be uncertain by at 95 %: |log ratio| > 1.96 sqrt(v1 + v2), v the expected variance of each log loss
(`next_runs.Design`). The present gap is taken for the true one; one that is truly smaller needs more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ecgscale.answers.families import Family, common
from ecgscale.answers.next_runs import LONGEST, Queue, askable
from ecgscale.fitting.compare import WIDE
from ecgscale.planning import interval, loss, unpaired


@dataclass(frozen=True)
class Gap:
    """The two best families at a place.

    Attributes:
        first, second: The first is ahead.
        place: N and D.
        ratio, interval: Of the second's expected loss to the first's, with 95 % interval of the bootstrap.
        runs, hours: More runs of these two until they can be told apart, best first; 0 where they can be now, inf where
            these cells cannot do it.
    """

    first: str
    second: str
    place: tuple[float, float]
    ratio: float
    interval: tuple[float, float]
    runs: float
    hours: float


def gap_of(
    families: Sequence[Family],
    grids: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    place: tuple[float, float] | None = None,
    repeats: int = 5,
) -> Gap | None:
    """Return the gap of the two best families; None where fewer than two can be asked.

    Args:
        families: Of a study.
        grids: {family: sizes and records of its cells}.
        place: N and D; None for the largest that every family was measured at.
        repeats: Most new runs (seeds) of one cell.

    Raises:
        AdviceError: no family can be simulated.
    """
    place = place or (common(families)["N"], common(families)["D"])
    found = askable(families, grids, place)
    able = sorted((f for f in families if f.name in found.designs), key=lambda f: float(loss(f.fit.params, *place)))
    if len(able) < 2:
        return None
    first, second = able[:2]
    ratio = float(loss(second.fit.params, *place) / loss(first.fit.params, *place))
    drawn = [loss(unpaired(f.fit.samples, i), *place) for i, f in enumerate((first, second))]
    draws = min(map(len, drawn))
    names = (first.name, second.name)
    cells = [c for c in found.cells if c.family in names]
    runs, hours = _until_apart(Queue({n: found.designs[n] for n in names}, cells, repeats, 1.0), float(np.log(ratio)))
    return Gap(*names, place, ratio, interval(drawn[1][:draws] / drawn[0][:draws]), runs, hours)


def _until_apart(queue: Queue, gap: float) -> tuple[float, float]:
    while WIDE * np.sqrt(sum(np.median(d.variances()) for d in queue.designs.values())) >= gap:
        if len(queue.picks) >= LONGEST or (i := queue.best(np.inf)) is None:
            return float("inf"), float("inf")
        queue.take(i)
    return float(len(queue.picks)), queue.spent
