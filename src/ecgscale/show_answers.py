"""What the commands print that need no torch: advice, the next runs, the rehearsal of a grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from ecgscale.answers import advice as advices
from ecgscale.answers.advice import Advice, Budget, Change
from ecgscale.answers.families import AdviceError, Question, grid, read
from ecgscale.answers.few_labels import Expected, curves_of, expected
from ecgscale.answers.gap import Gap, gap_of
from ecgscale.answers.new_levels import Level, new_levels
from ecgscale.answers.next_runs import IDENTIFIED, askable, propose
from ecgscale.answers.published import STUDY, exponents
from ecgscale.answers.rehearsal import planted_of, simulate
from ecgscale.printing import between, print_json, print_whole
from ecgscale.study.files import name_of

AXES = {"N": "parameters", "D": "records", "C": "FLOP"}


def show_advice(
    study: str | None, lab: Path, task: str | None, protocol: str | None, budget: Budget, published: bool, as_json: bool
) -> None:
    """Print which family to take under a budget, from the study's own laws or from published exponents.

    Raises:
        AdviceError: the question cannot be answered; the sentence says why.
    """
    if published:
        _show_published(task, as_json)
        return
    if study is None:
        raise AdviceError("give a study whose laws should answer, or --published")
    question, families = read(lab, name_of(study), task, protocol)
    found = advices.advise(families, budget)
    few = () if budget.labels is None else expected(curves_of(lab, question), budget.labels)
    if as_json:
        print_json({"schema": "ecgscale.advice/1", "source": "study", **asdict(question), "budget": asdict(budget),
                    **asdict(found), "few_labels": [asdict(e) for e in few]})  # fmt: skip
        return
    _print_advice(question, found)
    if budget.labels is not None:
        _print_few(question, few, budget.labels)


def show_next(
    study: str, lab: Path, budget: float, task: str | None, protocol: str | None, place: tuple[float, float] | None,
    repeats: int, as_json: bool,
) -> None:  # fmt: skip
    """Print which runs to do next.

    Raises:
        AdviceError: nothing can be simulated or paid for; the sentence says why.
    """
    question, families = read(lab, name_of(study), task, protocol)
    grids = {f.name: grid(lab, question.study, f.name) for f in families}
    asked = askable(families, grids, place)
    found = propose(asked.designs, asked.cells, budget, repeats)
    able = [f for f in families if f.name in asked.designs]
    levels = [level for f in able for level in new_levels(f, asked.designs[f.name], *grids[f.name])]
    gap = gap_of(able, grids, place, repeats)
    if as_json:
        print_json({"schema": "ecgscale.next/1", **asdict(question), "budget": budget, "place": place, **asdict(found),
                    "left_out": asked.left_out, "levels": [asdict(level) for level in levels],
                    "gap": None if gap is None else asdict(gap)})  # fmt: skip
        return
    print(f"{question.study}, {question.label} ({question.protocol}): {len(found.picks)} runs, "
          f"{found.picks[-1].spent:.3g} of {budget:.3g} hours of one worker")  # fmt: skip
    table = Table("family", "N", "D", "new runs", "hours")
    counts = Counter(p.cell for p in found.picks)
    for cell, count in counts.items():
        table.add_row(cell.family, f"{cell.N:,.0f}", f"{cell.D:,.0f}", str(count), f"{count * cell.cost:.3g}")
    print_whole(table)
    for name, before in found.before.items():
        after = found.after[name]
        known = (f"{t} within a factor {before[t]:.3g} now, {after[t]:.3g} after" for t in before)
        print(f"{name}: at 95 %, {'; '.join(known)}")
    print(_needed(found.needed))
    _print_levels(levels, found.before, budget)
    if gap is not None:
        print(_apart(gap, budget))
    for family, why in asked.left_out.items():
        print(f"left out: {family}: {why}")


def show_rehearsal(grids: Mapping[str, tuple[Sequence[float], Sequence[float]]], noise: float, floor: float,
                   alpha: float | None, beta: float | None, simulations: int) -> None:  # fmt: skip
    """Print whether grids could identify planted exponents.

    Args:
        grids: {family: N and D of every run}.
        noise, floor, alpha, beta: See `rehearsal.Planted`; exponents None for the published ones.
        simulations: Studies per grid.

    Raises:
        AdviceError: a family has no published exponents and none are given, or a grid is too small for any interval.
    """
    distinct: dict[Any, list[str]] = {}
    left_out = []
    for name, (size, records) in grids.items():
        try:
            truth = planted_of(name, noise, floor, alpha, beta)
        except AdviceError as error:
            left_out.append(str(error))
        else:
            distinct.setdefault((tuple(size), tuple(records), truth), []).append(name)
    if not distinct:
        raise AdviceError("; ".join(left_out))
    table = Table("family", "runs", "planted alpha, beta", "identified", "alpha within", "beta within", "held",
                  "detectable ratio of alpha, beta")  # fmt: skip
    for (size, records, truth), names in distinct.items():
        found = simulate(size, records, truth, simulations)
        values = [" ".join(f"{v:.3g}" for v in d.values()) for d in (found.held, found.detectable)]
        table.add_row(", ".join(names), str(found.runs), f"{truth.alpha:g}, {truth.beta:g}", f"{found.identified:.0%}",
                      f"× {found.factors['alpha']:.3g}", f"× {found.factors['beta']:.3g}", *values)  # fmt: skip
    print_whole(table)
    print(f"{simulations} simulated studies each, noise {noise:g} of log loss, {floor:.0%} of the loss in the middle "
          "of the grid irreducible; nothing was trained. Within: 95 % interval, up and down, median of the studies; "
          "held: share of the intervals that hold the planted value; detectable: in 80 % of such studies")  # fmt: skip
    for why in left_out:
        print(f"left out: {why}")


def _print_levels(levels: Sequence[Level], before: Mapping[str, Mapping[str, float]], budget: float) -> None:
    """Print the best new level of each family and axis: what the grid does not have yet."""
    best: dict[tuple[str, str], Level] = {}
    for level in sorted(levels, key=lambda level: -level.gain):
        best.setdefault((level.family, level.axis), level)
    print("new levels, one run at every level of the other axis, the best of each axis by what it narrows per hour:")
    table = Table("family", "level", "runs", "hours", "expected, at 95 % within a factor")
    for level in best.values():
        now = before[level.family]
        known = "; ".join(f"{t} {now[t]:.3g} now, {f:.3g} after" for t, f in level.factors.items())
        there = "inside" if level.where == "between" else level.where
        hours = f"{level.cost:.3g}" + (" (above the budget)" if level.cost > budget else "")
        what = f"{level.axis} = {level.value:,.0f} ({there} the grid)"
        table.add_row(level.family, what, str(len(level.cells)), hours, known)
    print_whole(table)


def _apart(gap: Gap, budget: float) -> str:
    """Say how far apart the two best families are and what it takes to tell."""
    words = (f"{gap.first} is ahead of {gap.second} at N = {gap.place[0]:,.0f}, D = {gap.place[1]:,.0f}: the second's "
             f"loss is {gap.ratio:.3g} {between(*gap.interval)} times as large; ")  # fmt: skip
    if gap.runs == 0:
        return words + "the two can be told apart now"
    if gap.runs == float("inf"):
        return words + "these cells cannot tell the two apart"
    within = "" if gap.hours <= budget else ", not within this budget"
    return words + (f"about {gap.runs:.0f} more runs of the two, {gap.hours:.3g} hours, would tell them apart if the "
                    f"gap is what it seems{within}")  # fmt: skip


def _needed(hours: float) -> str:
    what = f"every answer known within a factor {IDENTIFIED:g}"
    if hours == 0:
        return f"the present grid suffices: {what}"
    if hours == float("inf"):
        return f"these cells cannot do it: {what} needs more runs of a cell, or larger or other cells, than there are"
    return f"about {hours:.3g} hours of one worker would have {what}"


def _print_advice(question: Question, found: Advice) -> None:
    first = found.options[0]
    print(f"{question.study}, {question.label} ({question.protocol}), from the study's own laws:")
    print(f"take {first.family} with {first.size:,.0f} parameters on {first.data:,.0f} records; expected loss "
          f"{first.loss:.4g} {between(*first.interval, '.4g')}, best with probability {first.best:.2f}")  # fmt: skip
    table = Table("family", "N", "D", "expected loss [95 % interval]", "best with probability", "law")
    for o in found.options:
        table.add_row(o.family, f"{o.size:,.0f}", f"{o.data:,.0f}", f"{o.loss:.4g} {between(*o.interval, '.4g')}",
                     f"{o.best:.2f}", o.status)  # fmt: skip
    print_whole(table)
    for o in found.options:
        if o.allocation is not None:
            a = o.allocation
            print(f"{o.family}: compute-optimal N* {a.size:,.0f} {between(*a.intervals['size'])}, D* {a.data:,.0f} "
                  f"{between(*a.intervals['data'])}; N from {a.flat[0]:,.0f} to {a.flat[1]:,.0f} is within 1 % of the "
                  f"best loss; {a.rule}")  # fmt: skip
    if len(found.options) > 1:
        print(
            f"runner-up: {found.options[1].family}, its loss is higher by {found.gap[0]:.3g} {between(*found.gap[1:])}"
        )
    for change in found.changes:
        print(_sentence(change))
    if not found.changes and len(found.options) > 1:
        print("nothing within reach changes the advice: no curves cross there")
    for note in [*found.notes, *(f"{o.family}: {n}" for o in found.options for n in o.notes)]:
        print(f"note: {note}")
    for family, why in found.left_out.items():
        print(f"not ranked: {family}: {why}")


def _print_few(question: Question, few: Sequence[Expected], labels: float) -> None:
    """Print what so many labels of the task itself are worth."""
    if not few:
        print(f"{question.task} was not measured with few labels, so what {labels:,.0f} labels of its own would give "
              "is not known: add evaluations with `fraction` to the study")  # fmt: skip
        return
    print(f"with {labels:,.0f} labelled records of {question.task} itself, the largest run of each family, by its "
          "learning curve:")  # fmt: skip
    table = Table("family", "expected loss [95 % interval]", "curve", "measured with")
    for e in few:
        far = "; far outside" if e.far else ""
        table.add_row(e.family, f"{e.loss:.4g} {between(*e.interval, '.4g')}", e.status + far,
                     f"{e.measured[0]:,.0f} to {e.measured[1]:,.0f}")  # fmt: skip
    print_whole(table)


def _sentence(change: Change) -> str:
    way = "above" if change.at > change.asked else "below"
    return (f"would change the advice: {way} {change.at:.3g} {AXES[change.axis]} {between(*change.interval)} "
            f"{change.winner} is best (the advice is for {change.asked:.3g}; the curves cross in {change.share:.0%} "
            "of the draws)")  # fmt: skip


def _show_published(task: str | None, as_json: bool) -> None:
    rows = exponents(task)
    if as_json:
        print_json({"schema": "ecgscale.advice/1", "source": f"published, arXiv:{STUDY}", "task": task, "rows": rows})
        return
    print(f"published exponents of arXiv:{STUDY}, not measured here; no coefficients were published, so no loss can be "
          "expected and no family ranked by it")  # fmt: skip
    table = Table("quantity", "family", "task", "value", "grade", "source", "what it says")
    for row in rows:
        table.add_row(*(str(row[k]) for k in ("quantity", "family", "task")), f"{row['value']:g}", row["grade"],
                     row["source"], row["says"])  # fmt: skip
    print_whole(table)
