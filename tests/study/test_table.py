"""The paired comparison with random weights: what an evaluation leaves in the lab and what the table makes of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ecgscale.data.split import SplitRule
from ecgscale.evaluation.evaluate import EvalSpec
from ecgscale.lab import Lab
from ecgscale.runs import Recipe, RunResult, RunSpec
from ecgscale.spec import part
from ecgscale.study import table, work
from ecgscale.study.plan import PlannedEval, PlannedRun
from ecgscale.study.stored import load_evaluation, load_losses

RECORDS = 80


class Indexed:
    """As much of a corpus as an evaluation reads."""

    def __init__(self) -> None:
        present = np.random.default_rng(0).random(RECORDS) < 0.4
        patient = [f"p{i // 2}" for i in range(RECORDS)]
        self.index = pd.DataFrame({"patient": patient, "label.lvh": present.astype(np.float32)})


def _run(objective: str | None, evaluation: PlannedEval) -> PlannedRun:
    trained = objective is not None
    recipe = Recipe(steps=1, batch=1, lr=1e-3) if trained else Recipe(steps=0, batch=1, lr=0.0)
    run = RunSpec(
        role="grid" if trained else "baseline", backbone=part("backbones", {"name": "resnet1d"}),
        objective=part("objectives", {"name": objective}) if trained else None, leads=12, samples=1000, corpus="",
        split=SplitRule(), D=8 if trained else 0, seed=0, recipe=recipe,
    )  # fmt: skip
    return PlannedRun(run, "main", run.role, 1000, evaluation.source, None, (evaluation,))


def test_the_gain_over_random_weights_counts_records_not_repeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus: Any = Indexed()
    monkeypatch.setattr(table, "opened", lambda path: corpus)
    task = part("tasks", {"name": "ludb", "labels": "lvh"})
    spec = EvalSpec(corpus="0", task=task, split=SplitRule(), resamples=100)
    source: Any = SimpleNamespace(label="ludb", path=tmp_path)
    evaluation = PlannedEval(spec, source, "ood", "shifted", task.title)
    trained, random = _run("cmsc", evaluation), _run(None, evaluation)
    lab, rng, rows = Lab(tmp_path / "lab"), np.random.default_rng(1), np.arange(RECORDS)
    told = corpus.index[["label.lvh"]].to_numpy() + 0.5 * rng.normal(size=(RECORDS, 3))
    for planned, x in ((trained, told), (random, rng.normal(size=(RECORDS, 3)))):
        uid = planned.run.uid
        lab.begin(uid, planned.run.dump())
        result = RunResult(
            N=1, N_total=1, steps=1, best=1, flop_per_record=1.0, validation={}, test={}, records={}, seconds=0.0
        )
        lab.finish(uid, result.dump())
        work._measure(lab, uid, [spec], corpus, rows, x)
        assert load_losses(lab, uid, spec).shape == (RECORDS, 1)
    plan: Any = SimpleNamespace(
        runs={p.run.uid: p for p in (trained, random)}, study=SimpleNamespace(name="s", resamples=100)
    )
    ((_, _, row),) = table._against_random(plan, lab)
    losses = {
        p.run.uid: next(r["value"] for r in load_evaluation(lab, p.run.uid, spec) or [] if r["metric"] == "loss")
        for p in (trained, random)
    }
    assert row["n"] == RECORDS
    assert row["value"] == pytest.approx(losses[trained.run.uid] - losses[random.run.uid], abs=1e-9)
    assert row["lo"] < row["value"] < row["hi"] < 0
