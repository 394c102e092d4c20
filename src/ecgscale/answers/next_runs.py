"""Which runs to do next: the cells that narrow the answer most per unit of cost.

The truth is not known, so it is drawn: every bootstrap sample of the present fit is one. Around each, the law is
linear enough for its information: a run at (N, D) whose log loss has noise sigma adds j j^T / sigma^2, j the slope of
log L(N, D) in the parameters, to what the runs so far have given. The expected interval of an exponent, or of the loss
at a place, follows from the inverse; the next run is the one with the largest fall of the mean log width per cost, then
the one after it given that one, and so on. Cheap runs first may leave too little for a dear one that is worth more, so
the order is also made with less weight on cost, and the one that ends narrowest is taken. A weak prior (sd 1 in scaled
coefficients and log exponents) stands for what the search ranges say, so that a grid too small to fit still gives an
order.

Source: Chaloner & Verdinelli 1995, Statistical Science 10:273 (Bayesian design of experiments, pseudo-Bayesian
average over local information); greedy by gain over cost. `benchmarks/next_runs.py` compares with refits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ecgscale.answers.families import AdviceError, Family
from ecgscale.planning import Array, Params

DRAWS = 64  # truths, evenly out of the bootstrap samples
ALPHA, BETA = 3, 4  # places of log alpha and log beta among the parameters
IDENTIFIED = 1.25  # factor within which an exponent must be known at 95 % to count as identified
HUBER = float(np.sqrt(np.pi / 2))  # a Huber fit with a small delta is as certain as one of this much more normal noise
POWERS = (1.0, 0.7, 0.4, 0.0)  # of the cost that a gain is divided by; the order that ends narrowest is proposed
LONGEST = 2000  # runs looked at before a grid is called unable to identify


@dataclass(frozen=True)
class Cell:
    """A run that could be done."""

    family: str
    N: float
    D: float
    cost: float  # in any one unit: hours, FLOP


@dataclass(frozen=True)
class Pick:
    """One proposed run, with what is spent and how well the answer is known after it.

    Attributes:
        factors: {target: the factor within which it is expected to be known at 95 %}, of the cell's family.
    """

    cell: Cell
    spent: float
    factors: dict[str, float]


@dataclass(frozen=True)
class NextRuns:
    """The order of runs.

    Attributes:
        picks: In the order of doing.
        before, after: {family: {target: factor}}.
        needed: Cost until every target is known within `IDENTIFIED`; inf where these cells cannot do it.
    """

    picks: tuple[Pick, ...]
    before: dict[str, dict[str, float]]
    after: dict[str, dict[str, float]]
    needed: float


class Design:
    """What one family's runs say about its targets, over the drawn truths.

    Args:
        samples: E, A, B, alpha, beta [draw] of the present fit.
        runs: N and D of what was done.
        noise: Of log loss, one run.
        place: (N, D) whose loss is asked for; None asks for both exponents.
    """

    def __init__(
        self, samples: Params, runs: pd.DataFrame, noise: float, place: tuple[float, float] | None = None
    ) -> None:
        chosen = np.unique(np.linspace(0, len(samples["E"]) - 1, DRAWS).astype(int))
        self.truths = {name: np.asarray(samples[name])[chosen, None] for name in ("E", "A", "B", "alpha", "beta")}
        self.noise = noise
        n, d = runs["N"].to_numpy(float), runs["D"].to_numpy(float)
        self.centre = (float(np.exp(np.log(n).mean())), float(np.exp(np.log(d).mean())))
        done = self.slopes(n, d) / noise
        self.covariance = np.linalg.inv(np.eye(5) + np.einsum("bcp,bcq->bpq", done, done))
        if place is None:
            self.targets = np.broadcast_to(np.eye(5)[[ALPHA, BETA]], (len(chosen), 2, 5))
            self.names: tuple[str, ...] = ("alpha", "beta")
        else:
            self.targets, self.names = self.slopes(np.array([place[0]]), np.array([place[1]])), ("loss",)

    def slopes(self, n: Array, d: Array) -> Array:
        """Return d log L / d parameters [draw, cell, 5]: E, A, B over the mean loss at the centre, log exponents."""
        t = self.truths
        size, data = np.log(n / self.centre[0]), np.log(d / self.centre[1])
        a, b = np.exp(-t["alpha"] * size), np.exp(-t["beta"] * data)
        height, width = (t[c] * self.centre[i] ** -t[e] for i, (c, e) in enumerate((("A", "alpha"), ("B", "beta"))))
        middle, value = t["E"] + height + width, t["E"] + height * a + width * b
        rows = (middle + 0 * a, middle * a, middle * b, -t["alpha"] * height * a * size, -t["beta"] * width * b * data)
        return np.asarray(np.stack(np.broadcast_arrays(*rows), axis=-1) / value[..., None])

    def variances(self) -> Array:
        """Return the variance of every target [draw, target]."""
        return np.asarray(np.einsum("btp,bpq,btq->bt", self.targets, self.covariance, self.targets))

    def gains(self, slopes: Array) -> Array:
        """Return by how much one run at each cell lowers the mean log width of the targets [cell]."""
        moved = np.einsum("bpq,bcq->bcp", self.covariance, slopes)
        rest = self.noise**2 + np.einsum("bcp,bcp->bc", slopes, moved)
        now = self.variances()[:, None]
        fall = np.einsum("btp,bcp->bct", self.targets, moved) ** 2 / rest[..., None]
        return np.asarray(-0.5 * np.log1p(-np.minimum(fall / now, 1 - 1e-12)).mean(axis=(0, 2)))

    def add(self, slope: Array) -> None:
        """Count one run with the slopes [draw, 5] as done."""
        moved = np.einsum("bpq,bq->bp", self.covariance, slope)
        rest = self.noise**2 + np.einsum("bp,bp->b", slope, moved)
        self.covariance = self.covariance - np.einsum("bp,bq->bpq", moved, moved) / rest[:, None, None]

    def factors(self) -> dict[str, float]:
        """Return the factor within which each target is expected to be known at 95 %, the median over truths."""
        wide = np.exp(1.96 * np.sqrt(np.median(self.variances(), axis=0)))
        return dict(zip(self.names, map(float, wide), strict=True))


def design_of(family: Family, place: tuple[float, float] | None = None) -> Design:
    """Return the design of a family of a study.

    Raises:
        AdviceError: its fit has no samples or no noise, or its runs are not known.
    """
    if not family.fit.samples:
        raise AdviceError(f"{family.name}: its law has no interval to draw truths from (status {family.fit.status}); "
                          "do at least 8 runs on 3 sizes and 3 data sizes")  # fmt: skip
    if not np.isfinite(family.fit.noise):
        raise AdviceError(f"{family.name}: its fit does not say how noisy runs are; fit the study again")
    if family.runs is None or family.runs.empty:
        raise AdviceError(f"{family.name}: its runs are not known")
    noise = max(family.fit.noise, 1e-6) * (HUBER if family.fit.objective == "huber_log" else 1.0)
    return Design(family.fit.samples, family.runs, noise, place)


def propose(designs: dict[str, Design], cells: Sequence[Cell], budget: float, repeats: int = 5) -> NextRuns:
    """Return the runs to do next within a budget, best first.

    Args:
        designs: {family: what is known}.
        cells: What could be run.
        budget: In the unit of the cells' cost.
        repeats: Most new runs (seeds) of one cell.

    Raises:
        AdviceError: no cell costs less than the budget.
    """
    if not any(c.cost <= budget for c in cells):
        cheapest = min((c.cost for c in cells), default=float("nan"))
        raise AdviceError(f"no cell fits into {budget:.3g}: the cheapest costs {cheapest:.3g}")
    before = {name: d.factors() for name, d in designs.items()}
    queues = [Queue(designs, cells, repeats, power) for power in POWERS]
    for queue in queues:
        while (i := queue.best(budget - queue.spent)) is not None:
            queue.take(i)
    chosen = min(queues, key=lambda q: q.width())
    after = {name: d.factors() for name, d in chosen.designs.items()}
    return NextRuns(tuple(chosen.picks), before, after, _needed(Queue(designs, cells, repeats, 1.0)))


def _needed(queue: Queue) -> float:
    """Return what it costs until every target is identified; inf where these cells cannot do it."""
    while not queue.identified():
        if len(queue.picks) >= LONGEST or (i := queue.best(np.inf)) is None:
            return float("inf")
        queue.take(i)
    return queue.spent


class Queue:
    """Cells by gain over cost to a power, with what is already taken; the designs it is given stay as they are."""

    def __init__(self, designs: dict[str, Design], cells: Sequence[Cell], repeats: int, power: float) -> None:
        self.designs, self.cells = {name: copy(d) for name, d in designs.items()}, cells
        self.cost = np.array([c.cost for c in cells])
        self.weight = self.cost**power
        self.left = np.full(len(cells), repeats)
        self.spent = 0.0
        self.picks: list[Pick] = []
        self.gain = np.zeros(len(cells))
        self.members = {name: [i for i, c in enumerate(cells) if c.family == name] for name in designs}
        self.slopes = {
            name: designs[name].slopes(np.array([cells[i].N for i in m]), np.array([cells[i].D for i in m]))
            for name, m in self.members.items()
            if m
        }
        for name in self.slopes:
            self._weigh(name)

    def _weigh(self, name: str) -> None:
        self.gain[self.members[name]] = self.designs[name].gains(self.slopes[name])

    def best(self, remaining: float) -> int | None:
        """Return the cell with the largest gain per cost that can be paid, or None."""
        may = (self.cost <= remaining * (1 + 1e-9)) & (self.left > 0)
        return int(np.argmax(np.where(may, self.gain / self.weight, -np.inf))) if may.any() else None

    def take(self, i: int) -> None:
        """Do one run of a cell."""
        cell = self.cells[i]
        self.designs[cell.family].add(self.slopes[cell.family][:, self.members[cell.family].index(i)])
        self.left[i] -= 1
        self.spent += cell.cost
        self._weigh(cell.family)
        self.picks.append(Pick(cell, self.spent, self.designs[cell.family].factors()))

    def width(self) -> float:
        """Return the mean log width of all targets."""
        return float(np.mean([0.5 * np.log(d.variances()).mean() for d in self.designs.values()]))

    def identified(self) -> bool:
        """Return whether every target of every family is expected to be known within `IDENTIFIED`."""
        return all(max(d.factors().values()) <= IDENTIFIED for d in self.designs.values())


def hours_of(family: Family) -> Callable[[float, float], float]:
    """Return what a run at N and D takes in hours, a power law in both of the times measured.

    Raises:
        AdviceError: the runs' times are not known.
    """
    runs = family.runs
    known = None if runs is None else runs[runs["seconds"].notna() & (runs["seconds"] > 0)]
    if known is None or known.empty:
        raise AdviceError(f"{family.name}: how long its runs took is not stored, so hours cannot be counted")
    columns = np.stack([np.ones(len(known)), np.log(known["N"]), np.log(known["D"])], axis=1)
    law = np.linalg.lstsq(columns, np.log(known["seconds"].to_numpy(float)), rcond=None)[0]
    return lambda n, d: float(np.exp(law @ [1.0, np.log(n), np.log(d)])) / 3600


def levels_of(family: Family, sizes: Sequence[float]) -> list[float]:
    """Return the sizes of a grid; one that was trained keeps the N that was reached."""
    reached = np.unique(family.runs["N"].to_numpy(float)) if family.runs is not None else np.array(sizes, float)
    nearest = [float(min(reached, key=lambda r: abs(np.log(r / s)))) for s in sizes]
    levels = [r if abs(np.log(r / s)) < np.log(1.2) else float(s) for r, s in zip(nearest, sizes, strict=True)]
    return list(dict.fromkeys(levels))


def cells_of(family: Family, sizes: Sequence[float], records: Sequence[float]) -> list[Cell]:
    """Return the cells of a family's grid with their cost in hours.

    Args:
        family: With its finished runs.
        sizes, records: Of the study's grid.

    Raises:
        AdviceError: the runs' times are not known.
    """
    price = hours_of(family)
    return [Cell(family.name, n, float(d), price(n, float(d))) for n in levels_of(family, sizes) for d in records]


@dataclass(frozen=True)
class Askable:
    """The families whose next runs can be judged.

    Attributes:
        designs: {family: what its runs say}.
        cells: What could be run, of all of them.
        left_out: {family: why it cannot be judged}.
    """

    designs: dict[str, Design]
    cells: list[Cell]
    left_out: dict[str, str]


def askable(
    families: Sequence[Family],
    grids: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    place: tuple[float, float] | None = None,
) -> Askable:
    """Return what can be asked of several families.

    Args:
        families: Of a study.
        grids: {family: sizes and records of its cells}.
        place: (N, D) whose loss is the question; None for both exponents.

    Raises:
        AdviceError: no family can be simulated.
    """
    found = Askable({}, [], {})
    for family in families:
        try:
            design, own = design_of(family, place), cells_of(family, *grids[family.name])
        except AdviceError as error:
            found.left_out[family.name] = str(error)
        else:
            found.designs[family.name] = design
            found.cells.extend(own)
    if not found.designs:
        raise AdviceError("; ".join(found.left_out.values()) or "the study has no family")
    return found


def next_runs(
    families: Sequence[Family],
    grids: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    budget: float,
    place: tuple[float, float] | None = None,
    repeats: int = 5,
) -> tuple[NextRuns, dict[str, str]]:
    """Return the runs that narrow several families' answers most in so many hours, and who is left out and why.

    Args:
        families, grids, place: See `askable`.
        budget: Hours of the workers that the study ran on.
        repeats: Most new seeds of one cell.

    Raises:
        AdviceError: no family can be simulated, or no cell fits into the budget.
    """
    found = askable(families, grids, place)
    return propose(found.designs, found.cells, budget, repeats), found.left_out
