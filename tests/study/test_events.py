"""Curves as TensorBoard files: what is read back is what the curves say; without the package there is one sentence."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ecgscale.data.split import SplitRule
from ecgscale.lab import Lab
from ecgscale.runs import Recipe, RunSpec
from ecgscale.spec import part
from ecgscale.study.events import EventsError, name_of, write_events
from ecgscale.study.plan import PlannedRun

LINES = [
    {"step": 5, "seen": 40, "loss": 2.5, "lr": 1e-3, "accuracy": 0.25},
    {"step": 10, "seen": 80, "loss": 1.5, "lr": 5e-4, "validation": 1.75, "rankme": 7.5},
]


def planned(seed: int) -> PlannedRun:
    run = RunSpec(
        role="grid", backbone=part("backbones", "resnet1d"), objective=part("objectives", "cmsc"), leads=12,
        samples=1000, corpus="c", split=SplitRule(), D=60, seed=seed, recipe=Recipe(steps=10, batch=8, lr=1e-3),
    )  # fmt: skip
    source: Any = SimpleNamespace()
    return PlannedRun(run, "main", "grid", 20_000, source, None, ())


def test_event_files_say_what_the_curves_say(tmp_path: Path) -> None:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    lab, runs = Lab(tmp_path / "lab"), [planned(0), planned(1)]
    plan: Any = SimpleNamespace(runs={p.run.uid: p for p in runs})
    folder = lab.begin(runs[0].run.uid, runs[0].run.dump())
    torn = '{"step": 15, "lo'
    (folder / "curve.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES) + torn)
    for _ in range(2):  # the second call replaces what the first wrote
        assert write_events(plan, lab, tmp_path / "out") == 1  # the other run has not begun
    assert name_of(runs[0]) == f"resnet1d-cmsc/main-N20000-D60-seed0-{runs[0].run.uid[:6]}"
    (file,) = (tmp_path / "out" / name_of(runs[0])).iterdir()
    read = [(e.step, v.tag, v.tensor.float_val[0]) for e in loader.EventFileLoader(str(file)).Load()
            for v in e.summary.value]  # fmt: skip
    assert read == [
        (5, "recipe/seen", 40), (5, "loss/training", 2.5), (5, "recipe/lr", pytest.approx(1e-3)),
        (5, "health/accuracy", 0.25),
        (10, "recipe/seen", 80), (10, "loss/training", 1.5), (10, "recipe/lr", pytest.approx(5e-4)),
        (10, "loss/validation", 1.75), (10, "health/rankme", 7.5),
    ]  # fmt: skip


def test_without_the_package_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with pytest.raises(EventsError, match=r"pip install 'ecgscale\[tensorboard\]'"):
        write_events(SimpleNamespace(runs={}), Lab(tmp_path), tmp_path / "out")  # type: ignore[arg-type]
