"""What stands or falls with the choice of tasks that count as out of distribution: the facts, and other choices.

The families are those of `study.ranking`, in the same setting and under the same resamples of patients; only the tasks
that are averaged change from grouping to grouping.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from ecgscale.fitting.ranking import Ranked, order
from ecgscale.fitting.resample import resample
from ecgscale.lab import Lab
from ecgscale.study.compared import Compared, cells_of, compared, scored
from ecgscale.study.plan import Plan, PlannedEval
from ecgscale.study.stored import load_evaluation

STATED = "as the study groups them"
_Tasks = list[PlannedEval]


def groupings_of(plan: Plan, lab: Lab, seed: int = 0) -> dict[str, Any]:
    """Return how every task stands to pre-training, and the order of the families under other groupings of tasks.

    Args:
        plan: The study's plan.
        lab: Where results stand.
        seed: Of the bootstrap, which draws `study.resamples` times.

    Returns:
        `tasks` (pretrain, eval_corpus, task and what `study.shift.Relation` holds), `groupings` (name, tasks
        [[eval_corpus, task]], order [[backbone, objective]], tied: families that may be first beside the first, tau:
        Kendall's, of the families' mean losses with those of the study's own grouping, None where it is not defined)
        and `left_out` (name, reason). Without two families to compare there are no groupings.
    """
    facts = {(p.source.label, e.source.label, e.title): e for p in plan.runs.values() for e in p.evaluations
             if e.relation is not None and p.run.objective is not None}  # fmt: skip
    found = compared(plan, lab, lambda runs: len(set(cells_of(runs))))
    made, missing = _orders(found, plan.study.resamples, lab, seed)
    return {"tasks": [_facts(key, e) for key, e in facts.items()], "groupings": made, "left_out": missing}


def _facts(key: tuple[str, str, str], e: PlannedEval) -> dict[str, Any]:
    r = e.relation
    assert r is not None
    named = dict(zip(("pretrain", "eval_corpus", "task"), key, strict=True))
    return {**named, **asdict(r), "by_rule": r.by_rule, "by_supervision": r.by_supervision, "split": e.split}


def _orders(found: Compared, resamples: int, lab: Lab, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    names = ["\n".join(cell) for cell in cells_of([p for p, _ in found.pairs])]
    if len(set(names)) < 2:
        return [], []
    tasks = _measured(found, lab)
    losses = {e.spec.uid: m for e, m in zip(tasks, scored(lab, found.pairs, tasks, "loss"), strict=True)}
    drawn = resample(list(losses.values()), resamples, seed)
    made: list[dict[str, Any]] = []
    empty: list[dict[str, str]] = []
    own: list[Ranked] = []
    for name, chosen in _groupings(tasks, found.tasks):
        same = next((g for g in made if g["tasks"] == _named(chosen)), None)
        if not chosen:
            empty.append({"name": name, "reason": "no task of the study is in it"})
        elif same:
            same["name"] += f"; {name}"
        else:
            ranked = order(names, [losses[e.spec.uid] for e in chosen], drawn, seed)
            own = own or ranked
            made.append({"name": name, "tasks": _named(chosen), "order": [r.name.split("\n") for r in ranked],
                         "tied": sum(r.best == 1 for r in ranked[1:]), "tau": _tau(own, ranked)})  # fmt: skip
    return made, empty


def _measured(found: Compared, lab: Lab) -> _Tasks:
    """Return the plain evaluations of the setting that all its runs and their random weights have."""
    plain = {e.spec.uid: e for p, _ in found.pairs for e in p.evaluations if e.plain}
    runs = {p.run.uid for pair in found.pairs for p in pair}
    return [e for e in plain.values() if all(load_evaluation(lab, uid, e.spec) is not None for uid in runs)]


def _groupings(tasks: _Tasks, own: _Tasks) -> Iterator[tuple[str, _Tasks]]:
    """Yield names of groupings and their tasks, the study's own first."""
    yield STATED, [e for e in tasks if e in own]
    yield from ((f"{kind} only, as stated", [e for e in tasks if e.shift == kind]) for kind in ("shifted", "unseen"))
    known = [(e, e.relation) for e in tasks if e.relation is not None]
    yield "all but the same, by the rule", [e for e, r in known if r.by_rule != "same"]
    yield from (
        (f"{kind} only, by the rule", [e for e, r in known if r.by_rule == kind]) for kind in ("shifted", "unseen")
    )
    if any(r.supervised for _, r in known):
        for kind in ("shifted", "unseen"):
            yield f"{kind} only, by supervised labels", [e for e, r in known if r.by_supervision == kind]
    yield "every task", tasks
    sources = dict.fromkeys(e.source.label for e in own)
    for source in sources if len(sources) > 1 else ():
        yield f"without {source}", [e for e in tasks if e in own and e.source.label != source]


def _named(tasks: _Tasks) -> list[list[str]]:
    return [[e.source.label, e.title] for e in tasks]


def _tau(own: Sequence[Ranked], other: Sequence[Ranked]) -> float | None:
    """Kendall's tau between two lists of mean losses of the same families."""
    values = {r.name: r.value for r in other}
    tau = float(kendalltau([r.value for r in own], [values[r.name] for r in own]).statistic)
    return tau if np.isfinite(tau) else None
