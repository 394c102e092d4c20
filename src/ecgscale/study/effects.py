"""What the backbone and what the objective does in a study: its crossed runs, read from the lab (`fitting.effects`).

One setting enters: the arm, size and D whose measured runs fill the largest complete table; of equal ones the largest
size, then D. Scores are means over held-out records of tasks out of distribution (of all, where a study has none):
the probe loss minus that of equally large random weights of the same backbone, and the probe loss itself. The two
differ in what they say of backbones only; for objectives and interactions they are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ecgscale.fitting.effects import MEAN, Effects, Scores, complete, two_way
from ecgscale.lab import Lab
from ecgscale.study.compared import SCORES, cells_of, compared, scored
from ecgscale.study.plan import Plan, PlannedEval, PlannedRun


def effects_of(plan: Plan, lab: Lab, seed: int = 0) -> dict[str, Any]:
    """Return the effects of backbone and objective as plain data, or {} where no two backbones share two objectives.

    Args:
        plan: The study's plan.
        lab: Where results stand.
        seed: Of the bootstrap, which draws `study.resamples` times.

    Returns:
        `setting` (arm, pretrain, target, D, split, seeds), `backbones`, `objectives`, `rows` (level, task, eval_corpus,
        score, factor, name, value, lo, hi, n_seeds, n_patients), `left_out` (backbone, objective, reason), `notes`.
    """
    runs = compared(plan, lab, _crossed)
    done, tasks, missing = runs
    names = cells_of([p for p, _ in done])
    if not complete(names)[0]:
        return {}
    rows: list[dict[str, Any]] = []
    for score in SCORES:
        scores = Scores(tuple(b for b, _ in names), tuple(o for _, o in names), scored(lab, done, tasks, score))
        found = two_way(scores, plan.study.resamples, seed)
        rows += _rows(found, score, {e.spec.uid: e for e in tasks})
    planned = missing + len(done)
    gaps = f"{missing} of {planned} runs are not measured on every task, or have no random weights beside them"
    return {
        "setting": runs.setting | {"seeds": sorted({p.run.seed for p, _ in done})},
        "backbones": list(found.backbones),
        "objectives": list(found.objectives),
        "rows": rows,
        "left_out": _left_out(found, plan),
        "notes": [*found.notes, *([gaps] if missing else [])],
    }


def _crossed(runs: Sequence[PlannedRun]) -> int:
    """The cells of the largest complete table."""
    backbones, objectives = complete(cells_of(runs))
    return len(backbones) * len(objectives)


def _rows(found: Effects, score: str, tasks: dict[str, PlannedEval]) -> list[dict[str, Any]]:
    rows = []
    for estimate in found.estimates:
        e = tasks.get(estimate.task)
        where = {"level": "task", "task": e.title, "eval_corpus": e.source.label} if e else {
            "level": MEAN, "task": f"mean of {len(tasks)} tasks", "eval_corpus": "",
        }  # fmt: skip
        rows.append({**where, "score": score, **{k: v for k, v in asdict(estimate).items() if k != "task"}})
    return rows


def _left_out(found: Effects, plan: Plan) -> list[dict[str, str]]:
    """Cells outside the table; of those never planned, with the plan's reason."""
    refused = {entry["what"]: entry["reason"] for entry in plan.skipped}
    return [
        {"backbone": b, "objective": o, "reason": refused.get(f"{b}-{o}", reason)} for b, o, reason in found.left_out
    ]
