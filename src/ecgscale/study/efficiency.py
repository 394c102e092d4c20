"""How many labels pre-training saves against training from scratch, read from the lab (`fitting.efficiency`).

One setting enters: the arm, size and D with the most curves; of equal ones the largest size, then the largest D. From
scratch is `finetune` on random weights of the same backbone and size; against it stand all protocols of the study that
were measured at three fractions of labels or more. Seeds are averaged, and where there are several a resample draws
them anew with the patients.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ecgscale.fitting.efficiency import Saved, labels_saved
from ecgscale.fitting.resample import Array, Measured, Resampled, resample
from ecgscale.lab import Lab
from ecgscale.rng import generator
from ecgscale.study.compared import cells_of
from ecgscale.study.plan import Plan, PlannedEval, PlannedRun
from ecgscale.study.stored import load_evaluation, load_losses
from ecgscale.study.work import opened

POINTS = 3  # a curve has at least

_Curve = tuple[PlannedEval, ...]  # one protocol at several fractions, the fewest labels first


class _Wanted(NamedTuple):
    """Two curves to hold against each other."""

    cell: tuple[str, str]
    own: tuple[PlannedRun, ...]  # seeds
    curve: _Curve
    random: PlannedRun
    scratch: _Curve


def efficiency_of(plan: Plan, lab: Lab, seed: int = 0) -> dict[str, Any]:
    """Return the factor of labels saved as plain data, or {} where no two curves can be held against each other.

    Args:
        plan: The study's plan.
        lab: Where results stand.
        seed: Of the bootstrap, which draws `study.resamples` times.

    Returns:
        `setting` (arm, pretrain, target, D) and `rows`: backbone, its variant (the fields that tell it from others of
        the study), objective, eval_corpus, task, protocol; value, lo, hi (None: not bounded), bound ("at least", "at
        most" or None) and loss at the lowest loss that both reach; few: the same at the loss of the fewest labels;
        n_seeds, n_patients; own, scratch: [[labelled records, loss]].
    """
    groups: dict[tuple[str, int, int], list[PlannedRun]] = {}
    for p in plan.runs.values():
        if p.role == "grid" and not p.provisional:
            groups.setdefault((p.arm, p.target, p.run.D), []).append(p)
    random = {(p.arm, p.run.backbone.uid): p for p in plan.runs.values() if p.run.objective is None}
    wanted = {key: list(_wanted(runs, random, lab)) for key, runs in groups.items()}
    best = max(wanted, key=lambda key: (len(wanted[key]), key[1], key[2]), default=None)
    if best is None or not wanted[best]:
        return {}
    arm, target, D = best
    setting = {"arm": arm, "pretrain": groups[best][0].source.label, "target": target, "D": D}
    return {"setting": setting, "rows": [_row(w, lab, plan.study.resamples, seed) for w in wanted[best]]}


def _wanted(runs: Sequence[PlannedRun], random: Mapping[tuple[str, str], PlannedRun], lab: Lab) -> Iterator[_Wanted]:
    cells = cells_of(runs)
    for cell in dict.fromkeys(cells):
        own = tuple(p for p, name in zip(runs, cells, strict=True) if name == cell)
        base = random.get((own[0].arm, own[0].run.backbone.uid))
        if base is None:
            continue
        from_scratch = [c for c in _curves((base,), lab) if c[0].spec.protocol == "finetune"]
        for curve in _curves(own, lab):
            for scratch in from_scratch:
                if _place(curve[0]) == _place(scratch[0]) and _same_test(curve[0], scratch[0]):
                    yield _Wanted(cell, own, curve, base, scratch)


def _curves(runs: Sequence[PlannedRun], lab: Lab) -> list[_Curve]:
    """Return the protocols that all of these runs were measured by at `POINTS` fractions or more."""
    found: dict[str, dict[float, PlannedEval]] = {}
    for e in runs[0].evaluations:
        if all(load_evaluation(lab, p.run.uid, e.spec) is not None for p in runs):
            found.setdefault(e.spec.model_copy(update={"fraction": 1.0}).uid, {})[e.spec.fraction] = e
    return [tuple(points[f] for f in sorted(points)) for points in found.values() if len(points) >= POINTS]


def _place(e: PlannedEval) -> tuple[Any, ...]:
    return e.spec.corpus, e.spec.task.uid, e.spec.crop_s


def _same_test(one: PlannedEval, other: PlannedEval) -> bool:
    corpus = opened(one.source.path)
    return bool(np.array_equal(one.spec.tested(corpus), other.spec.tested(corpus)))


def _row(w: _Wanted, lab: Lab, resamples: int, seed: int) -> dict[str, Any]:
    e = w.curve[-1]
    corpus = opened(e.source.path)
    patients = corpus.index["patient"].factorize()[0][e.spec.tested(corpus)]
    losses = [load_losses(lab, p.run.uid, x.spec) for p in w.own for x in w.curve]
    losses += [load_losses(lab, w.random.run.uid, x.spec) for x in w.scratch]
    found = resample([Measured("", e.spec.corpus, np.stack(losses), patients)], resamples, seed)[""]
    own, own_drawn = _over_seeds(found, len(w.own), len(w.curve), seed)
    rest = len(w.own) * len(w.curve)
    labels, scratch_labels = (np.array([x.spec.labelled(corpus) for x in curve]) for curve in (w.curve, w.scratch))
    scratch = found.value[rest:]
    curves = (labels, own, own_drawn, scratch_labels, scratch, found.drawn[:, rest:])
    return {
        "backbone": w.own[0].run.backbone.called, "variant": w.cell[0], "objective": w.cell[1],
        "eval_corpus": e.source.label, "task": e.title,
        "protocol": e.spec.protocol, **_numbers(labels_saved(*curves)), "few": _numbers(labels_saved(*curves, True)),
        "n_seeds": len(w.own), "n_patients": len(found.patients), "own": np.stack([labels, own], 1).tolist(),
        "scratch": np.stack([scratch_labels, scratch], 1).tolist(),
    }  # fmt: skip


def _numbers(saved: Saved) -> dict[str, Any]:
    """Return what JSON can hold: None for what is not bounded or not defined."""
    return {
        k: None if isinstance(v, float) and (not np.isfinite(v) or v == 0) else v for k, v in saved._asdict().items()
    }


def _over_seeds(found: Resampled, seeds: int, points: int, seed: int) -> tuple[Array, Array]:
    """Return the mean over seeds [point], and in every resample that over seeds drawn anew [resample, point]."""
    value = found.value[: seeds * points].reshape(seeds, points)
    drawn = found.drawn[:, : seeds * points].reshape(-1, seeds, points)
    picks = generator(seed, "efficiency").integers(seeds, size=(len(drawn), seeds))
    return value.mean(0), np.take_along_axis(drawn, picks[:, :, None], axis=1).mean(1)
