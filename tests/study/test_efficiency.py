"""Curves of labels are found in a lab and held against training from scratch on random weights of the same size."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ecgscale.data.split import SplitRule
from ecgscale.evaluation.evaluate import EvalSpec
from ecgscale.lab import Lab, write_json
from ecgscale.runs import Recipe, RunSpec
from ecgscale.spec import part
from ecgscale.study import efficiency
from ecgscale.study.plan import PlannedEval, PlannedRun

FRACTIONS = (1.0, 0.5, 0.25, 0.125)
RECORDS = 400


class Indexed:
    """As much of a corpus as an analysis reads."""

    def __init__(self) -> None:
        present = np.arange(RECORDS) % 4 == 0
        self.index = pd.DataFrame({"patient": [f"p{i // 2}" for i in range(RECORDS)], "label.lvh": present * 1.0})


def evaluations(path: Path, protocols: tuple[str, ...] = ("linear", "finetune")) -> tuple[PlannedEval, ...]:
    task, source = part("tasks", {"name": "ludb", "labels": "lvh"}), SimpleNamespace(label="ludb", path=path)
    specs = [EvalSpec.parse({"corpus": "0", "task": task.dump(), "protocol": protocol,
                             "fraction": fraction, "split": SplitRule().dump()})
             for protocol in protocols for fraction in FRACTIONS]  # fmt: skip
    return tuple(PlannedEval(spec, source, "ood", "shifted", task.title) for spec in specs)  # type: ignore[arg-type]


def planned(objective: str | None, seed: int, evaluate: tuple[PlannedEval, ...]) -> PlannedRun:
    steps = 0 if objective is None else 1
    run = RunSpec(
        role="grid" if objective else "baseline", backbone=part("backbones", {"name": "resnet1d"}),
        objective=objective and part("objectives", {"name": objective}), leads=12, samples=1000, corpus="",
        split=SplitRule(), D=8 * steps, seed=seed, recipe=Recipe(steps=steps, batch=1, lr=1e-3 * steps),
    )  # fmt: skip
    return PlannedRun(run, "main", run.role, 20_000, evaluate[0].source, None, evaluate)


def store(lab: Lab, p: PlannedRun, worth: float) -> None:
    """Losses as of a curve on which every label is worth so many from scratch, as hard as the patient."""
    hard = np.repeat(np.random.default_rng(0).gamma(50, 1 / 50, RECORDS // 2), 2)
    for e in p.evaluations:
        factor = worth if e.spec.protocol == "finetune" else 1.0
        folder = lab.run(p.run.uid) / "evaluations"
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{e.spec.uid}.npy", ((factor * e.spec.fraction) ** -0.3 * hard)[:, None])
        write_json(folder / f"{e.spec.uid}.json", {"spec": e.spec.dump(), "rows": []})


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    corpus: Any = Indexed()
    monkeypatch.setattr(efficiency, "opened", lambda path: corpus)
    return Lab(tmp_path / "lab")


def plan_of(runs: list[PlannedRun]) -> Any:
    return SimpleNamespace(runs={p.run.uid: p for p in runs}, study=SimpleNamespace(resamples=100))


def test_a_planted_factor_of_four_is_found_and_the_probe_stands_beside_it(lab: Lab, tmp_path: Path) -> None:
    every = evaluations(tmp_path)
    runs = [planned("cmsc", 0, every), planned("cmsc", 1, every), planned(None, 0, every)]
    for p, worth in zip(runs, (4.0, 4.0, 1.0), strict=True):
        store(lab, p, worth)
    found = efficiency.efficiency_of(plan_of(runs), lab)
    assert found["setting"] == {"arm": "main", "pretrain": "ludb", "target": 20_000, "D": 8}
    rows = {r["protocol"]: r for r in found["rows"]}
    assert set(rows) == {"linear", "finetune"}
    fine = rows["finetune"]
    assert fine["value"] == pytest.approx(4, rel=0.02) and fine["few"]["value"] == pytest.approx(4, rel=0.05)
    assert (fine["bound"], fine["n_seeds"], fine["n_patients"]) == (None, 2, RECORDS // 2)
    assert fine["lo"] == pytest.approx(4, rel=0.05) and fine["hi"] == pytest.approx(4, rel=0.05)  # paired: no luck left
    assert rows["linear"]["value"] == pytest.approx(1, rel=1e-6)
    labels = [x for x, _ in fine["own"]]
    assert labels == pytest.approx([RECORDS / 16, RECORDS / 8, RECORDS / 4, RECORDS / 2], rel=0.1)  # halves, by folds


def test_without_curves_from_scratch_there_is_nothing_to_say(lab: Lab, tmp_path: Path) -> None:
    probes = evaluations(tmp_path, ("linear",))
    runs = [planned("cmsc", 0, probes), planned(None, 0, probes)]
    for p in runs:
        store(lab, p, 1.0)
    assert efficiency.efficiency_of(plan_of(runs), lab) == {}
    every = evaluations(tmp_path)
    unmeasured = [planned("cmsc", 0, every), planned(None, 0, every)]
    assert efficiency.efficiency_of(plan_of(unmeasured), lab) == efficiency.efficiency_of(plan_of([]), lab) == {}
    two = tuple(e for e in every if e.spec.fraction >= 0.5)
    short = [planned("cmsc", 0, two), planned(None, 0, two)]
    for p in short:
        store(lab, p, 2.0)
    assert efficiency.efficiency_of(plan_of(short), lab) == {}
