"""The end of every run is read from its curve, and the curves shown are those of the largest size."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ecgscale.lab import Lab
from ecgscale.study.overfitting import overfitting_of


def planned(uid: str, target: int, D: int, seed: int = 0, role: str = "grid") -> Any:
    run = SimpleNamespace(uid=uid, family="resnet1d-cmsc", backbone=SimpleNamespace(called="resnet1d"), origin="cmsc",
                          D=D, seed=seed, recipe=SimpleNamespace(batch=10))  # fmt: skip
    return SimpleNamespace(run=run, role=role, provisional=False, target=target, source=SimpleNamespace(label="code"))


def write(lab: Lab, uid: str, validation: list[float]) -> None:
    """Two training losses between validations, the second higher by two."""
    (folder := lab.run(uid)).mkdir(parents=True)
    lines: list[dict[str, float]] = []
    for i, value in enumerate(validation):
        lines += [{"step": 2 * i + 1, "loss": 5 - i}, {"step": 2 * i + 2, "loss": 7 - i, "validation": value}]
    (folder / "curve.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 9, "lo')


def test_ends_and_curves(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab")
    cells = [(20, 100, 0), (20, 400, 0), (30, 100, 1), (30, 100, 0), (30, 200, 0), (30, 400, 0)]
    runs = [planned(f"r{i}", *cell) for i, cell in enumerate(cells)]
    runs += [planned("trial", 30, 400, role="tune"), planned("waits", 30, 400)]
    for p in runs[:-1]:
        write(lab, p.run.uid, [6.0, 4.0, 4.5])
    found = overfitting_of(SimpleNamespace(runs={p.run.uid: p for p in runs}), lab)  # type: ignore[arg-type]
    assert [r["run"] for r in found["runs"]] == [f"r{i}" for i in range(6)]
    end = found["runs"][0]
    assert (end["steps"], end["train"], end["validation"], end["best"], end["best_step"]) == (6, 4.0, 4.5, 4.0, 4)
    assert end["gap"] == pytest.approx(0.5) and end["passes"] == pytest.approx(0.6)
    assert [(c["size"], c["D"], c["seed"]) for c in found["curves"]] == [(30, 100, 0), (30, 400, 0)]
    assert found["curves"][0]["points"] == [[2, 6.0, 6.0], [4, 5.0, 4.0], [6, 4.0, 4.5]]
    assert overfitting_of(SimpleNamespace(runs={}), lab) == {}  # type: ignore[arg-type]
