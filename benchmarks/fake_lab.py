"""A lab full of finished runs that nobody trained: well-formed folders with made-up numbers, written in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ecgscale.lab import Lab
from ecgscale.runs import RunResult
from ecgscale.study.bind import Binder
from ecgscale.study.expand import expand
from ecgscale.study.plan import HANDCRAFTED, Plan, PlannedEval, PlannedRun
from ecgscale.study.study import Study
from ecgscale.study.work import opened

LOSSES = {"metric": "loss", "unit": "nats"}


def fake_lab(study: Study, lab: Lab) -> Plan:
    """Write what a study would leave, and return its plan; the corpora are real, so let them be small."""
    plan = expand(study, Binder(study, lab, {}))
    random = np.random.default_rng(0)
    for planned in plan.runs.values():
        _run(planned, lab, random)
    for e in plan.handcrafted:
        _evaluation(lab.run(HANDCRAFTED) / "evaluations", e, random)
    return plan


def _run(planned: PlannedRun, lab: Lab, random: np.random.Generator) -> None:
    run = planned.run
    folder = lab.run(run.uid)
    if (folder / "result.json").exists():
        return
    loss = float(0.1 + random.random())
    trained = run.objective is not None
    both = {"best": loss, "last": loss + 0.01} if trained else {}
    result = RunResult(
        N=planned.target, N_total=planned.target, steps=run.recipe.steps, best=run.recipe.steps,
        flop_per_record=1e6 if trained else 0.0, validation=both, test=both,
        records={"validation": 32, "test": 64} if trained else {}, seconds=1.0,
    )  # fmt: skip
    (folder / "evaluations").mkdir(parents=True, exist_ok=True)
    _write(folder / "spec.json", run.dump())
    for e in planned.evaluations:
        _evaluation(folder / "evaluations", e, random)
    if planned.role == "codebook":
        lab.codes(run.uid, run.corpus).touch()
    _write(folder / "result.json", result.dump())


def _evaluation(folder: Path, e: PlannedEval, random: np.random.Generator) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for metric, unit in (("auroc", "1"), ("auprc", "1"), ("loss", "nats")):
        value = float(random.random())
        rows.append({"metric": metric, "unit": unit, "value": value, "lo": value - 0.1, "hi": value + 0.1, "n": 64,
                     "n_pos": 9, "part": "test"})  # fmt: skip
    rows.append({**LOSSES, "value": float(random.random()), "n": 32, "n_pos": 4, "part": "validation"})
    _write(folder / f"{e.spec.uid}.json", {"spec": e.spec.dump(), "rows": rows})
    tested = len(e.spec.tested(opened(e.source.path)))
    np.save(folder / f"{e.spec.uid}.npy", random.random((tested, 1)))


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True))
