"""Which runs of a study are held against each other, on which tasks, and what each scored on every held-out record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ecgscale.fitting.resample import Measured
from ecgscale.lab import Lab
from ecgscale.spec import Plugin
from ecgscale.study.plan import Plan, PlannedEval, PlannedRun
from ecgscale.study.stored import load_evaluation, load_losses
from ecgscale.study.work import opened

SCORES = ("loss_minus_random", "loss")
Pair = tuple[PlannedRun, PlannedRun]  # a run, and random weights of its backbone and size


class Compared(NamedTuple):
    """The runs of one arm, size and D.

    Attributes:
        pairs: Those that the lab holds measured on every task, each with equally measured random weights.
        tasks: The evaluations that are averaged: out of distribution, or all where there are none.
        missing: Runs that were planned and are not among the pairs.
    """

    pairs: list[Pair]
    tasks: list[PlannedEval]
    missing: int

    @property
    def setting(self) -> dict[str, Any]:
        """What all pairs have in common: arm, pretrain, target, D, and the split of the tasks."""
        first = self.pairs[0][0]
        return {
            "arm": first.arm, "pretrain": first.source.label, "target": first.target, "D": first.run.D,
            "split": self.tasks[0].split,
        }  # fmt: skip


def compared(plan: Plan, lab: Lab, worth: Callable[[Sequence[PlannedRun]], int]) -> Compared:
    """Return the setting whose measured runs are worth the most; of equal ones the largest size, then the largest D."""
    groups: dict[tuple[str, int, int], list[PlannedRun]] = {}
    for p in plan.runs.values():
        if p.role == "grid" and not p.provisional:
            groups.setdefault((p.arm, p.target, p.run.D), []).append(p)
    random = {(p.arm, p.run.backbone.uid): p for p in plan.runs.values() if p.run.objective is None}
    found = {key: _measured(runs, random, lab) for key, runs in groups.items()}
    best = max(found, key=lambda key: (worth([p for p, _ in found[key].pairs]), key[1], key[2]), default=None)
    return found[best] if best else Compared([], [], 0)


def _measured(runs: Sequence[PlannedRun], random: Mapping[tuple[str, str], PlannedRun], lab: Lab) -> Compared:
    planned = list({e.spec.uid: e for p in runs for e in p.evaluations if e.plain}.values())
    tasks = [e for e in planned if e.split == "ood"] or planned
    pairs = [(p, base) for p in runs if (base := random.get((p.arm, p.run.backbone.uid)))]
    done = [
        pair for pair in pairs
        if tasks and all(load_evaluation(lab, p.run.uid, e.spec) is not None for p in pair for e in tasks)
    ]  # fmt: skip
    return Compared(done, tasks, len(runs) - len(done))


def cells_of(runs: Sequence[PlannedRun]) -> list[tuple[str, str]]:
    """Return backbone and objective of every run: names of parts, with the fields in which specs of one name differ."""
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


def scored(lab: Lab, pairs: Sequence[Pair], tasks: Sequence[PlannedEval], score: str) -> tuple[Measured, ...]:
    """Return what every run scored: its loss, or that minus the loss of the random weights it is paired with."""
    made = []
    for e in tasks:
        corpus = opened(e.source.path)
        patients = corpus.index["patient"].factorize()[0][e.spec.tested(corpus)]
        values = np.stack([load_losses(lab, p.run.uid, e.spec) for p, _ in pairs])
        if score == "loss_minus_random":
            values = values - np.stack([load_losses(lab, base.run.uid, e.spec) for _, base in pairs])
        made.append(Measured(e.spec.uid, e.spec.corpus, values, patients))
    return tuple(made)
