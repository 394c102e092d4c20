"""Backbone × objective: main effects, interaction and shares of variance of a score, with bootstrap intervals.

    y[b, o, s] = mean + backbone[b] + objective[o] + interaction[b, o] + seed[b, o, s]

over the cells of one complete table, effects summing to zero over each factor. Every cell counts the same, whatever
its number of seeds.

- Table: where cells are absent, the rows and columns that leave the most cells, at least two of each, none empty; of
  equal ones the one with the most runs, then the most backbones, then the alphabetically first.
- Patients are resampled with all their records: tasks of one source, and all runs, meet the same draws.
- Seeds: n - 1 of the n seeds of a cell are drawn with replacement, which makes the variance of the resampled mean
  unbiased; their deviations are widened by Student's t / z, with degrees of freedom (sum w²)² / sum(w⁴ / (n - 1)) of an
  estimate that gives its cells the weights w. Patients and seeds are crossed, so what is particular to one seed and
  patient counts more than once: the intervals err on the wide side.
- Shares: mean squares of the effects over the table, less the bootstrap variance of those effects (noise alone would
  make an interaction), and the pooled variance between the seeds of a cell; a resample of the latter is
  s² chi²(df) / df. What falls below zero is zero.

Source: Fisher 1925 for the table; Rao & Wu 1988, JASA 83:231 for n - 1; Satterthwaite 1946, Biometrics Bulletin 2:110
for the degrees of freedom, with equal variances; Owen 2007, Ann. Appl. Stat. 1:386 for crossed factors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Final

import numpy as np
import numpy.typing as npt

from ecgscale.fitting.resample import LEVEL, Array, Measured, percentiles, resample
from ecgscale.rng import generator

MEAN: Final = "mean"
SHARES: Final = ("backbone", "objective", "interaction", "between seeds")


@dataclass(frozen=True, slots=True)
class Scores:
    """Runs of a backbone × objective table, measured on the same tasks.

    Attributes:
        backbones, objectives: [run], the cell of each run; runs of one cell are its seeds.
        tasks: At least one.
    """

    backbones: tuple[str, ...]
    objectives: tuple[str, ...]
    tasks: tuple[Measured, ...]


@dataclass(frozen=True, slots=True)
class Estimate:
    """One number with its 95 % interval, NaN where none can be given.

    Attributes:
        task: The task, or `MEAN` over tasks.
        factor: "backbone", "objective", "interaction", "cell" (its mean score) or "share" (of the variance).
        name: A level, "backbone × objective", or one of `SHARES`.
        n_seeds: The fewest seeds of a cell it rests on.
        n_patients: Distinct patients.
    """

    task: str
    factor: str
    name: str
    value: float
    lo: float
    hi: float
    n_seeds: int
    n_patients: int


@dataclass(frozen=True, slots=True)
class Effects:
    """What `two_way` found; without two backbones and two objectives in full, `estimates` is empty.

    Attributes:
        backbones, objectives: Levels of the complete table.
        estimates: The mean over tasks first, then every task.
        left_out: (backbone, objective, reason) of every cell outside the table.
        notes: What the intervals and shares do not hold, in sentences.
    """

    backbones: tuple[str, ...]
    objectives: tuple[str, ...]
    estimates: tuple[Estimate, ...]
    left_out: tuple[tuple[str, str, str], ...]
    notes: tuple[str, ...]


def two_way(scores: Scores, resamples: int = 1000, seed: int = 0) -> Effects:
    """Separate what the backbone and what the objective does to a score.

    Args:
        scores: Runs and what they scored; lower or higher may be better.
        resamples: At least 1,000 for a 95 % interval.
        seed: Of the draws; names and the order of runs do not matter to them.

    Returns:
        Cell means, main effects, interactions and shares of variance, per task and over the mean of tasks.

    Raises:
        ValueError: the numbers of runs, records or patients differ, or unknown targets differ between runs.
    """
    _check(scores)
    cells = list(zip(scores.backbones, scores.objectives, strict=True))
    backbones, objectives = complete(cells)
    left_out = tuple(_left_out(cells, backbones, objectives))
    if not backbones:
        return Effects((), (), (), left_out, ("no two backbones share two objectives",))
    kept = np.array([b in backbones and o in objectives for b, o in cells])
    place = [(backbones.index(b), objectives.index(o)) for (b, o), k in zip(cells, kept, strict=True) if k]
    cell = np.array([b * len(objectives) + o for b, o in place])
    tasks = [replace(t, values=t.values[kept]) for t in scores.tasks]
    table = _Table(backbones, objectives, cell, resamples, seed)
    return Effects(backbones, objectives, tuple(table.estimates(tasks)), left_out, table.notes())


def complete(cells: Sequence[tuple[str, str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the backbones and objectives of the largest complete table among the cells of runs, or two empty tuples.

    Args:
        cells: (backbone, objective) of every run; the rule stands in the module's docstring.
    """
    runs = Counter(cells)
    rows, columns = _levels(cells)
    found = []
    for size in range(2, min(len(rows), len(columns)) + 1):
        for chosen in combinations(rows if len(rows) <= len(columns) else columns, size):
            if len(rows) <= len(columns):
                b, o = chosen, tuple(x for x in columns if all((y, x) in runs for y in chosen))
            else:
                b, o = tuple(y for y in rows if all((y, x) in runs for x in chosen)), chosen
            if len(b) > 1 and len(o) > 1:
                found.append((b, o))
    size_of = {(b, o): (len(b) * len(o), sum(runs[c] for c in product(b, o)), len(b)) for b, o in sorted(found)}
    return max(size_of, key=lambda c: size_of[c], default=((), ()))


def decompose(table: Array) -> tuple[Array, Array, Array]:
    """Return main effects [..., b], [..., o] and interactions [..., b, o] of cell means [..., b, o]."""
    centred = table - table.mean(axis=(-2, -1), keepdims=True)
    rows, columns = centred.mean(axis=-1), centred.mean(axis=-2)
    return rows, columns, centred - rows[..., :, None] - columns[..., None, :]


class _Table:
    """A complete table: the cell of each run, and the draws of patients and seeds."""

    def __init__(
        self, backbones: tuple[str, ...], objectives: tuple[str, ...], cell: npt.NDArray[np.intp], resamples: int,
        seed: int,
    ) -> None:  # fmt: skip
        self.cell, self.resamples, self.seed = cell, resamples, seed
        self.shape = (len(backbones), len(objectives))
        pairs = [f"{b} × {o}" for b, o in product(backbones, objectives)]
        names = {"backbone": backbones, "objective": objectives, "interaction": pairs, "cell": pairs}
        self.labels = [(factor, name) for factor, some in names.items() for name in some]
        one = np.eye(len(pairs))
        self.member = one[cell]  # [run, cell]
        self.counts = self.member.sum(axis=0).astype(int)
        self.df = int((self.counts - 1).sum())
        parts = [d.reshape(len(pairs), -1) for d in (*decompose(one.reshape(-1, *self.shape)), one)]
        self.contrasts = np.hstack(parts)  # [cell, estimate]
        self.student = _student(self.contrasts, self.counts)
        grid = self.counts.reshape(self.shape)
        self.seeds = np.concatenate([grid.min(axis=1), grid.min(axis=0), self.counts, self.counts])

    def notes(self) -> tuple[str, ...]:
        """Say what the intervals and shares do not hold."""
        single = int((self.counts == 1).sum())
        if self.df == 0:
            return (
                "every cell has one seed: no share between seeds can be given, and the intervals hold patients only",
            )
        return (f"{single} of {len(self.counts)} cells have one seed: their intervals hold patients only",) * bool(
            single
        )

    def estimates(self, tasks: Sequence[Measured]) -> list[Estimate]:
        """Return all estimates, the mean over tasks first."""
        found = resample(tasks, self.resamples, self.seed)
        value = np.mean([f.value for f in found.values()], axis=0)
        drawn = np.mean([f.drawn for f in found.values()], axis=0)
        weights = self._seeds(value)
        seen = {(t.source, p) for t in tasks for p in found[t.task].patients.tolist()}
        out = self._level(MEAN, value, drawn, weights, len(seen))
        for t in tasks:
            value, drawn, patients = found[t.task]
            out += self._level(t.task, value, drawn, weights, len(patients))
        return out

    def _seeds(self, value: Array) -> Array:
        """Weights [resample, run] of n - 1 draws from the n seeds of each cell, dealt by score and not by name."""
        rng = generator(self.seed, "effects", "seeds")
        weights = np.ones((self.resamples, len(self.cell)))
        order = np.lexsort((value, self._means(value)[self.cell]))
        for c in dict.fromkeys(self.cell[order].tolist()):
            runs = order[self.cell[order] == c]
            if (n := len(runs)) > 1:
                weights[:, runs] = rng.multinomial(n - 1, np.full(n, 1 / n), size=self.resamples) * (n / (n - 1))
        return weights

    def _means(self, values: Array) -> Array:
        """Cell means [..., cell] of values [..., run]."""
        return np.asarray(values @ self.member / self.counts)

    def _level(self, task: str, value: Array, drawn: Array, weights: Array, patients: int) -> list[Estimate]:
        """All estimates from scores [run], their patient resamples [resample, run] and the weights of seeds."""
        by_patient = self._means(drawn)
        by_seed = self._means(drawn * weights) - by_patient
        found = self._means(value) @ self.contrasts
        lo, hi = percentiles(by_patient @ self.contrasts + self.student * (by_seed @ self.contrasts))
        share, low, high = self._shares(value, by_patient + by_seed)
        labels = [*self.labels, *(("share", name) for name in SHARES[: len(share)])]
        unknown = np.nan if patients < 2 else 0.0
        numbers = np.concatenate([(found, lo + unknown, hi + unknown), (share, low + unknown, high + unknown)], axis=1)
        seeds = np.concatenate([self.seeds, np.full(len(share), self.counts.min())])
        return [
            Estimate(task, factor, name, float(v), float(a), float(b), int(n), patients)
            for (factor, name), v, a, b, n in zip(labels, *numbers, seeds, strict=True)
        ]

    def _shares(self, value: Array, drawn: Array) -> tuple[Array, Array, Array]:
        """Shares of the variance of a run drawn from the table, and their limits; `drawn` holds cell means."""
        table, spread = (decompose(x.reshape(-1, *self.shape)) for x in (self._means(value), drawn))
        noise = [float(d.var(axis=0).mean()) for d in spread]
        parts = [float((t**2).mean()) - n for t, n in zip(table, noise, strict=True)]
        redrawn = [(d**2).reshape(self.resamples, -1).mean(axis=1) - 2 * n for d, n in zip(spread, noise, strict=True)]
        if self.df:
            parts.append(float(((value - self._means(value)[self.cell]) ** 2).sum() / self.df))
            chi2 = generator(self.seed, "effects", "shares").chisquare(self.df, self.resamples)
            redrawn.append(parts[-1] * chi2 / self.df)
        return _normalised(np.array(parts)), *percentiles(_normalised(np.stack(redrawn, axis=1)))


def _student(contrasts: Array, counts: npt.NDArray[np.int_]) -> Array:
    """Student's t over z for every estimate, by what its cells with two seeds or more contribute."""
    several = counts > 1
    w2 = contrasts[several] ** 2 / counts[several, None]
    top, bottom = w2.sum(axis=0) ** 2, (w2**2 / (counts[several, None] - 1)).sum(axis=0)
    df = np.divide(top, bottom, out=np.full(len(top), np.inf), where=bottom > 0)
    upper = (1 + LEVEL) / 2
    from scipy import stats  # a second to import

    return np.asarray(stats.t.ppf(upper, df) / stats.norm.ppf(upper))


def _normalised(parts: Array) -> Array:
    """Parts of a whole, none below zero; equal scores everywhere leave zero shares."""
    parts = np.maximum(parts, 0.0)
    total = parts.sum(axis=-1, keepdims=True)
    return np.asarray(np.divide(parts, total, out=np.zeros_like(parts), where=total > 0))


def _levels(cells: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return sorted({b for b, _ in cells}), sorted({o for _, o in cells})


def _left_out(
    cells: Sequence[tuple[str, str]], backbones: tuple[str, ...], objectives: tuple[str, ...]
) -> list[tuple[str, str, str]]:
    reasons = {True: "measured, but outside the largest complete table", False: "not measured"}
    outside = [(b, o) for b, o in product(*_levels(cells)) if b not in backbones or o not in objectives]
    return [(b, o, reasons[(b, o) in cells]) for b, o in outside]


def _check(scores: Scores) -> None:
    runs = len(scores.backbones)
    if len(scores.objectives) != runs or not scores.tasks:
        raise ValueError(f"{runs} backbones, {len(scores.objectives)} objectives, {len(scores.tasks)} tasks; "
                         "expected one of each per run, and a task")  # fmt: skip
    for t in scores.tasks:
        if t.values.ndim != 3 or t.values.shape[:2] != (runs, len(t.patients)):
            raise ValueError(f"{t.task}: expected values [{runs} runs, {len(t.patients)} records, label], "
                             f"found {t.values.shape}")  # fmt: skip
        if (np.isnan(t.values) != np.isnan(t.values[:1])).any():
            raise ValueError(f"{t.task}: unknown targets differ between runs")
