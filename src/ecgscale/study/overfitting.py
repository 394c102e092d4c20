"""Training and validation loss of a study's runs on the objective they were trained on, from the curves in the lab.

A run writes its mean training loss at steps that depend on its recipe alone, and its validation loss at some of them.
Training loss is that of the batches since the validation before, with dropout and masks drawn anew: it is the loss of
weights a little older, and a gap below zero is no error.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ecgscale.lab import Lab, read_curve
from ecgscale.study.plan import Plan, PlannedRun

Point = list[float]  # step, training loss, validation loss


def overfitting_of(plan: Plan, lab: Lab) -> dict[str, Any]:
    """Return the end of every run of the grid, and whole curves of the largest networks, as plain data.

    Returns:
        `runs` (run, backbone, objective, pretrain, size, D, seed, steps, passes: records drawn over D; train,
        validation, gap: at the last step; best, best_step: the lowest validation loss) and `curves` (the same names,
        points [[step, train, validation]]: of every family the largest size at the smallest and the largest D, lowest
        seed); {} without a run.
    """
    trained = [p for p in plan.runs.values() if p.role == "grid" and not p.provisional]
    found = {p.run.uid: points for p in trained if (points := validated(lab, p.run.uid))}
    measured = [p for p in trained if p.run.uid in found]
    if not measured:
        return {}
    return {
        "runs": [_end(p, found[p.run.uid]) for p in measured],
        "curves": [_name(p) | {"points": found[p.run.uid]} for p in _shown(measured)],
    }


def validated(lab: Lab, uid: str) -> list[Point]:
    """Return a run's curve at the steps of its validations."""
    points: list[Point] = []
    since: list[float] = []
    for line in read_curve(lab.run(uid) / "curve.jsonl"):
        since.append(line["loss"])
        if "validation" in line:
            points.append([line["step"], float(np.mean(since)), line["validation"]])
            since = []
    return points


def _name(p: PlannedRun) -> dict[str, Any]:
    run = p.run
    named = {"run": run.uid, "backbone": run.backbone.called, "objective": run.origin, "pretrain": p.source.label}
    return named | {"size": p.target, "D": run.D, "seed": run.seed}


def _end(p: PlannedRun, points: list[Point]) -> dict[str, Any]:
    step, train, validation = points[-1]
    best = min(points, key=lambda point: point[2])
    return _name(p) | {
        "steps": step, "passes": step * p.run.recipe.batch / p.run.D, "train": train, "validation": validation,
        "gap": validation - train, "best": best[2], "best_step": best[0],
    }  # fmt: skip


def _shown(runs: list[PlannedRun]) -> list[PlannedRun]:
    """Return of every family the runs of largest size at the smallest and the largest D."""
    kept = []
    for family in dict.fromkeys((p.run.family, p.source.label) for p in runs):
        own = [p for p in runs if (p.run.family, p.source.label) == family]
        largest = [p for p in own if p.target == max(q.target for q in own)]
        for D in sorted({min(p.run.D for p in largest), max(p.run.D for p in largest)}):
            kept.append(min((p for p in largest if p.run.D == D), key=lambda p: p.run.seed))
    return kept
