"""How far each task is from pre-training, and what other choices of "out of distribution" would have concluded."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecgscale.reporting import style
from ecgscale.reporting.curves import Fit, is_pretext_transfer, law_name, scales
from ecgscale.reporting.ranking import called
from ecgscale.reporting.tables import Cell, Table

RULE = (
    "The rule looks at no result. Same: the task's patients are of a population of the pre-training corpus. Shifted: "
    "of another, and some record of the pre-training corpus has at least one of the task's labels (names compared by "
    "what they mean). Unseen: of another, and none has."
)


def tables_of(shift: dict[str, Any], fits: list[Fit]) -> list[Table]:
    """Return the facts about every task, and the order of the families under every grouping of the tasks."""
    made = [_facts(shift["tasks"])] if shift.get("tasks") else []
    return made + ([_groupings(shift, fits)] if len(shift.get("groupings", [])) > 1 else [])


def _facts(tasks: list[dict[str, Any]]) -> Table:
    body = tuple(
        (
            Cell(t["task"], f"on {t['eval_corpus']}, pre-training on {t['pretrain']}"),
            Cell("the same" if t["same_population"] else "another", f"{t['source']}: {', '.join(t['population'])}"),
            _labels(t["shared"], t["labels"]),
            _labels(t["supervised"], t["labels"]),
            Cell(t["by_rule"]),
            Cell(t["stated"] or "as the rule", "not as the rule" if _differs(t) else "", mark="tie" * _differs(t)),
        )
        for t in tasks
    )
    caption = (
        f"{RULE} Where the study states a relation by hand, the study's table goes by that, and ≈ marks where the rule "
        "says otherwise. Supervised: labels that a family of the study is trained on."
    )
    head = ("task", "population", "labels in pre-training corpus", "of them supervised", "by the rule", "as stated")
    return Table("shift", "How far each task is from pre-training", caption, head, body, tasks)


def _labels(some: list[str], of: list[str]) -> Cell:
    shown = ", ".join(some[:6]) + (" …" if len(some) > 6 else "")
    return Cell(f"{len(some)} of {len(of)}", shown, len(some) / len(of) if of else 0.0)


def _differs(task: dict[str, Any]) -> bool:
    return task["stated"] not in (None, task["by_rule"])


def _groupings(shift: dict[str, Any], fits: list[Fit]) -> Table:
    records = [g | {"kappa": _kappas(g, fits)} for g in shift["groupings"]]
    rows = [{"backbone": b, "objective": o} for b, o in shift["groupings"][0]["order"]]
    names = {(r["backbone"], r["objective"]): called(r, rows) for r in rows}
    own = names[tuple(shift["groupings"][0]["order"][0])]
    body = []
    for g in records:
        order = [names[tuple(cell)] for cell in g["order"]]
        tied = f"{style.plural(g['tied'], 'other')} may be first too" if g["tied"] else "no other may be first"
        tau = Cell("–") if g["tau"] is None else Cell(f"{g['tau']:.2f}".replace("-", "−"), sort=g["tau"])
        cells = [Cell(g["name"]), Cell(str(len(g["tasks"])), sort=len(g["tasks"]))]
        cells += [Cell(order[0], tied, mark="" if order[0] == own else "tie"), tau, Cell(", ".join(order))]
        body.append((*cells, Cell(", ".join(_kappa(*k) for k in g["kappa"].items()) or "none can be read")))
    left = "".join(f" {e['name'][:1].upper()}{e['name'][1:]}: {e['reason']}." for e in shift["left_out"])
    caption = (
        "The same families, runs and resamples of patients; only the tasks that are averaged change. ≈: another family "
        "has the lowest mean loss than under the study's own grouping. tau: Kendall's, of the order of the families "
        "with that under the study's own; 1 is the same order, −1 its reverse. kappa: mean exponent, loss to loss from "
        f"the common probe, over those tasks of the grouping whose fit can be read.{left}"
    )
    head = ("tasks that count", "tasks", "lowest mean loss", "tau", "order, lowest loss first", "mean kappa")
    return Table("groupings", "The conclusions under other groupings", caption, head, tuple(body), records)


def _kappas(grouping: dict[str, Any], fits: list[Fit]) -> dict[str, tuple[float, int]]:
    """Return of every family the mean of its kappas that can be read on these tasks, and their number."""
    tasks = {tuple(t) for t in grouping["tasks"]}
    found: dict[str, list[float]] = {}
    for fit in fits:
        here = (str(fit.get("eval_corpus")), str(fit.get("task"))) in tasks and fit.get("protocol") == "linear"
        if here and law_name(fit) == "transfer" and not is_pretext_transfer(fit) and scales(fit):
            found.setdefault(str(fit.get("family")), []).append(float(fit["params"]["kappa"]))
    return {family: (float(np.mean(values)), len(values)) for family, values in sorted(found.items())}


def _kappa(family: str, found: tuple[float, int]) -> str:
    return f"{family.replace('-', ' · ', 1)} {style.number(found[0])} ({style.plural(found[1], 'task')})"


def sentences(shift: dict[str, Any]) -> list[str]:
    """Say whether the family in front stays there when other tasks count, and where the study's words are not the
    rule's."""
    out = []
    groupings = shift.get("groupings", [])
    if len(groupings) > 1:
        rows = [{"backbone": b, "objective": o} for b, o in groupings[0]["order"]]
        first = groupings[0]["order"][0]
        other = [g for g in groupings[1:] if g["order"][0] != first]
        front = called(dict(zip(("backbone", "objective"), first, strict=True)), rows)
        alone = sum(g["tied"] == 0 for g in groupings[1:] if g not in other)
        changed = f"; not with {style.listed([g['name'] for g in other])}" if other else ""
        out.append(
            f"{front} keeps the lowest mean loss under {len(groupings) - 1 - len(other)} of {len(groupings) - 1} other "
            f"groupings of the tasks, without a tie under {alone}{changed}."
        )
    differ = [t for t in shift.get("tasks", []) if _differs(t)]
    if differ:
        named = [f"{t['task']} on {t['eval_corpus']} ({t['stated']}, by the rule {t['by_rule']})" for t in differ[:4]]
        more = f" and {len(differ) - 4} more" if len(differ) > 4 else ""
        out.append(
            f"On {len(differ)} of {len(shift['tasks'])} tasks the study states another shift than the rule finds: "
            f"{', '.join(named)}{more}."
        )
    return out
