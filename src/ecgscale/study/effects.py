"""What the backbone and what the objective does in a study: its crossed runs, read from the lab (`fitting.effects`).

One setting enters: the arm, size and D whose runs fill the largest complete table; of equal ones the largest size, then
the largest D. Scores are means over held-out records of tasks out of distribution (of all, where a study has none):
the probe loss minus that of equally large random weights of the same backbone, and the probe loss itself. The two
differ in what they say of backbones only; for objectives and interactions they are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ecgscale.fitting.effects import MEAN, Effects, Scores, complete, two_way
from ecgscale.fitting.resample import Measured
from ecgscale.lab import Lab
from ecgscale.spec import Plugin
from ecgscale.study.expand import Plan, PlannedEval, PlannedRun
from ecgscale.study.stored import load_evaluation, load_losses
from ecgscale.study.work import opened

SCORES = ("loss_minus_random", "loss")


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
    runs = _setting([p for p in plan.runs.values() if p.role == "grid" and not p.provisional])
    random = {(p.arm, p.run.backbone.uid): p for p in plan.runs.values() if p.run.objective is None}
    pairs = [(p, base) for p in runs if (base := random.get((p.arm, p.run.backbone.uid)))]
    tasks = _tasks(runs)
    done = [pair for pair in pairs if all(_measured(lab, p, tasks) for p in pair)]
    names = _names([p for p, _ in done])
    if not tasks or not complete(names)[0]:
        return {}
    rows: list[dict[str, Any]] = []
    for score in SCORES:
        found = two_way(_scores(lab, done, names, tasks, score), plan.study.resamples, seed)
        rows += _rows(found, score, {e.spec.uid: e for e in tasks})
    missing = len(runs) - len(done)
    gaps = f"{missing} of {len(runs)} runs are not measured on every task, or have no random weights beside them"
    first = done[0][0]
    return {
        "setting": {
            "arm": first.arm, "pretrain": first.source.label, "target": first.target, "D": first.run.D,
            "split": tasks[0].split, "seeds": sorted({p.run.seed for p, _ in done}),
        },
        "backbones": list(found.backbones),
        "objectives": list(found.objectives),
        "rows": rows,
        "left_out": _left_out(found, plan),
        "notes": [*found.notes, *([gaps] if missing else [])],
    }  # fmt: skip


def _setting(runs: list[PlannedRun]) -> list[PlannedRun]:
    """The runs of the one arm, size and D that are analysed; none where no complete table is planned."""
    groups: dict[tuple[str, int, int], list[PlannedRun]] = {}
    for p in runs:
        groups.setdefault((p.arm, p.target, p.run.D), []).append(p)

    def rank(key: tuple[str, int, int]) -> tuple[int, int, int]:
        backbones, objectives = complete(_names(groups[key]))
        return len(backbones) * len(objectives), key[1], key[2]

    best = max(groups, key=rank, default=None)
    return groups[best] if best and rank(best)[0] else []


def _tasks(runs: list[PlannedRun]) -> list[PlannedEval]:
    """The evaluations that are averaged: out of distribution, or all where there are none."""
    planned = list({e.spec.uid: e for p in runs for e in p.evaluations}.values())
    return [e for e in planned if e.split == "ood"] or planned


def _measured(lab: Lab, planned: PlannedRun, tasks: Sequence[PlannedEval]) -> bool:
    return all(load_evaluation(lab, planned.run.uid, e.spec) is not None for e in tasks)


def _names(runs: Sequence[PlannedRun]) -> list[tuple[str, str]]:
    """The cell of every run: names of parts, with the fields in which specs of one name differ."""
    backbones = _levels([p.run.backbone for p in runs])
    objectives = _levels([p.run.objective for p in runs if p.run.objective is not None])
    return list(zip(backbones, objectives, strict=True))


def _levels(specs: Sequence[Plugin]) -> list[str]:
    fields: dict[str, dict[str, list[Any]]] = {}
    for spec in specs:
        for key, value in spec.dump().items():
            fields.setdefault(spec.part_name(), {}).setdefault(key, []).append(value)
    differ = {
        name: [key for key, values in found.items() if key != "dial" and any(v != values[0] for v in values)]
        for name, found in fields.items()
    }  # fmt: skip
    return [_level(spec, differ[spec.part_name()]) for spec in specs]


def _level(spec: Plugin, differ: list[str]) -> str:
    dump = spec.dump()
    said = ", ".join(f"{key} {dump[key]}" for key in differ)
    return f"{spec.part_name()} ({said})" if said else spec.part_name()


def _scores(
    lab: Lab,
    pairs: Sequence[tuple[PlannedRun, PlannedRun]],
    names: Sequence[tuple[str, str]],
    tasks: Sequence[PlannedEval],
    score: str,
) -> Scores:
    measured = []
    for e in tasks:
        corpus = opened(e.source.path)
        patients = corpus.index["patient"].factorize()[0][e.spec.tested(corpus)]
        values = np.stack([load_losses(lab, p.run.uid, e.spec) for p, _ in pairs])
        if score == "loss_minus_random":
            values = values - np.stack([load_losses(lab, base.run.uid, e.spec) for _, base in pairs])
        measured.append(Measured(e.spec.uid, e.spec.corpus, values, patients))
    return Scores(tuple(b for b, _ in names), tuple(o for _, o in names), tuple(measured))


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
