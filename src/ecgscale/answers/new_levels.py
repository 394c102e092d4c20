"""Levels that a study's grid does not have: one step beyond its ends, or inside its widest gap, each with its price.

A level is a line of cells, one run at every level of the other axis. Steps are the grid's own: the geometric mean of
the ratios of its levels. What a level would narrow is read from the same expected information as the next runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np

from ecgscale.answers.families import Family
from ecgscale.answers.next_runs import Cell, Design, hours_of, levels_of

WIDE = 3.0  # ratio of neighbouring levels from which a level between them is proposed


@dataclass(frozen=True)
class Level:
    """One new size or number of records.

    Attributes:
        axis: "N" or "D".
        where: "above", "below" or "between" the levels that there are.
        cells: Its runs, one at every level of the other axis.
        cost: Hours of one worker, of all of them; a price outside the measured sizes and records is extrapolated.
        factors: {target: the factor within which it is expected to be known at 95 % afterwards}.
        gain: Fall of the mean log width of the targets per hour.
    """

    family: str
    axis: str
    where: str
    value: float
    cells: tuple[Cell, ...]
    cost: float
    factors: dict[str, float]
    gain: float


def new_levels(family: Family, design: Design, sizes: Sequence[float], records: Sequence[float]) -> list[Level]:
    """Return the levels that a family's grid could get, the one that narrows most per hour first.

    Args:
        family: With its finished runs.
        design: Of `design_of`.
        sizes, records: Of the study's grid.

    Raises:
        AdviceError: the runs' times are not known.
    """
    price, n, d = hours_of(family), levels_of(family, sizes), [float(v) for v in records]
    found = []
    for axis, own, other in (("N", n, d), ("D", d, n)):
        for where, value in _steps(own):
            places = [(value, o) if axis == "N" else (o, value) for o in other]
            cells = tuple(Cell(family.name, *place, price(*place)) for place in places)
            found.append(_level(design, axis, where, value, cells))
    return sorted(found, key=lambda level: -level.gain)


def _steps(levels: Sequence[float]) -> list[tuple[str, float]]:
    own = np.unique(np.asarray(levels, float))
    if len(own) < 2:
        return []
    ratio = float((own[-1] / own[0]) ** (1 / (len(own) - 1)))
    steps = [("above", float(own[-1]) * ratio), ("below", float(own[0]) / ratio)]
    i = int(np.argmax(own[1:] / own[:-1]))
    if own[i + 1] / own[i] > WIDE:
        steps.append(("between", float(np.sqrt(own[i] * own[i + 1]))))
    return [(where, float(f"{value:.2g}")) for where, value in steps]


def _level(design: Design, axis: str, where: str, value: float, cells: tuple[Cell, ...]) -> Level:
    after = copy(design)
    slopes = design.slopes(np.array([c.N for c in cells]), np.array([c.D for c in cells]))
    for i in range(len(cells)):
        after.add(slopes[:, i])
    cost = sum(c.cost for c in cells)
    gain = float(0.5 * np.log(design.variances() / after.variances()).mean()) / cost
    return Level(cells[0].family, axis, where, value, cells, cost, after.factors(), gain)
