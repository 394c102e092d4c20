"""How alike the features of a study's models are: the same records seen by families, sizes, seeds and random weights.

The records are those that the in-distribution probes read (of a study without such probes, those of its first task);
the features are the ones the probes saw, read from the lab.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ecgscale.evaluation import features
from ecgscale.evaluation.cka import similarity
from ecgscale.lab import Lab
from ecgscale.rng import generator
from ecgscale.runs import RunResult
from ecgscale.study.layers import RECORDS, layered
from ecgscale.study.plan import Plan, PlannedRun
from ecgscale.study.work import chosen_steps, feature_file, opened, read

MOST = 24  # models of one map
SEEDS = 2  # of one family and size


def similar(plan: Plan, lab: Lab) -> dict[str, Any]:
    """Return the CKA of every pair of models as plain data, or {} where fewer than two have left their features.

    Of every family the smallest and the largest size are taken, at the largest D, with up to two seeds, random weights
    of these sizes, and external checkpoints.

    Returns:
        `setting` (arm, corpus, D, records, and missing: models whose features are not in the lab), `models` (backbone,
        objective, size, seed), `values` [model, model], and `layers`: of one model per family its `values` [layer,
        layer], on fewer records.
    """
    evaluations = [e for p in plan.runs.values() for e in p.evaluations if not e.spec.trains and e.spec.crop_s is None]
    chosen = next((e for e in evaluations if e.split == "id"), next(iter(evaluations), None))
    if chosen is None:
        return {}
    arm = next(p.arm for p in plan.runs.values() if chosen in p.evaluations)
    corpus = opened(chosen.source.path)
    models, seen, missing = [], [], 0
    for planned in _models([p for p in plan.runs.values() if p.arm == arm and chosen in p.evaluations]):
        x = _features(lab, planned, corpus)
        if x is None:
            missing += 1
        else:
            models.append(planned)
            seen.append(x)
    shared = {len(x) for x in seen}
    if len(models) < 2 or len(shared) != 1 or min(shared) < 4:
        return {}
    order = generator(0, "similar").permutation(min(shared))  # consecutive records may be one patient's
    rows = np.sort(read(models[0], corpus)[order[:RECORDS]])
    return {
        "setting": {"arm": arm, "corpus": chosen.source.label, "D": max(p.run.D for p in models),
                    "records": min(shared), "missing": missing},
        "models": [_name(p) for p in models],
        "values": similarity([x[order] for x in seen]).tolist(),
        "layers": [_name(p) | {"values": values.tolist()} for p in _largest(models)
                   if (values := layered(lab, p, corpus, rows)) is not None],
    }  # fmt: skip


def _largest(models: list[PlannedRun]) -> list[PlannedRun]:
    """Return one model of every family, of the largest size."""
    most = max(p.target for p in models)
    found = {p.run.family: p for p in reversed(models) if p.target == most or p.run.origin == "external"}
    return [p for p in models if found.get(p.run.family) is p]


def _models(runs: list[PlannedRun]) -> list[PlannedRun]:
    """Return the runs to compare, family by family, random weights last."""
    trained = [p for p in runs if p.run.objective is not None and p.role in ("grid", "baseline")]
    if not trained:
        return []
    most = max(p.run.D for p in trained)
    ends = {min(p.target for p in trained), max(p.target for p in trained)}
    chosen = [p for p in trained if most == p.run.D and p.target in ends]
    chosen += [p for p in runs if p.run.objective is None and (p.target in ends or p.run.origin == "external")]
    kept: list[PlannedRun] = []
    for p in sorted(chosen, key=lambda p: (p.run.objective is None, p.run.family, p.target, p.run.seed)):
        if sum((k.run.family, k.target) == (p.run.family, p.target) for k in kept) < SEEDS:
            kept.append(p)
    return kept[:MOST]


def _features(lab: Lab, planned: PlannedRun, corpus: Any) -> np.ndarray | None:
    stored = lab.result(planned.run.uid)
    if stored is None:
        return None
    step = next(iter(chosen_steps(planned.run, RunResult.parse(stored)).values()))
    rows = read(planned, corpus)
    return features.cached(feature_file(lab, planned.run, step, corpus, rows), rows)


def _name(planned: PlannedRun) -> dict[str, Any]:
    run = planned.run
    return {"backbone": run.backbone.called, "objective": run.origin, "size": planned.target, "seed": run.seed}
