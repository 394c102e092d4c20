"""What is done before, around and instead of training, on the smallest study there is."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ecgscale import api
from ecgscale.data.signal import FormError
from ecgscale.lab import Lab
from ecgscale.study import execute, work
from ecgscale.study.bind import Binder, Source
from ecgscale.study.expand import PlannedRun, expand
from ecgscale.study.study import Study

TINY: dict[str, Any] = {
    "data.code.count": 100,
    "data.hospital.count": 60,
    "training.steps": 4,
    "arm.0.sizes": [20_000],
    "arm.0.records": [40],
    "arm.0.families": ["resnet1d-supervised"],
    "resamples": 20,
}


class Refusing(execute.Workers):
    """Workers that must not be asked for anything."""

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a worker was started")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab in which the tiny study was run in one worker."""
    root = tmp_path_factory.mktemp("lab")
    api.run("smoke", root, changes=TINY, workers=1, device="cpu")
    return root


def test_a_finished_study_starts_no_worker(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "Workers", Refusing)
    frame = api.run("smoke", lab, changes=TINY, workers=1, device="cpu")
    assert set(frame["status"]) == {"ok"}


def test_status_of_a_finished_study(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    api.show_status("smoke", lab, {}, TINY)
    assert "smoke: 2 done, 0 waiting, 0 failed" in capsys.readouterr().out


def test_status_says_what_is_not_ingested_and_ingests_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api.show_status("smoke", tmp_path / "lab", {}, TINY)
    assert capsys.readouterr().out.startswith("smoke: not ingested yet: code, hospital; ")
    assert not list((tmp_path / "lab" / "corpora").iterdir())


def test_plan_is_complete_in_a_pipe(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    api.show_plan("smoke", lab, {}, TINY)
    text = capsys.readouterr().out
    assert "…" not in text
    row = next(line for line in text.splitlines() if "resnet1d supervised" in line)
    assert all(cell in row for cell in ("main", "20,000", " 40 ", "0.004", "e+"))
    head = next(line for line in text.splitlines() if "family" in line)
    assert "core-s per run" in head


def test_a_form_that_cannot_be_made_is_refused_before_anything_is_ingested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Source) -> None:
        if source.name == "hospital":
            raise FormError("hospital is already filtered to 0.5-40 Hz")

    monkeypatch.setattr(Source, "check", refuse)
    study, where = Study.load("smoke", TINY), Lab(tmp_path / "lab")
    with Refusing(1, 1) as workers, pytest.raises(FormError, match="already filtered"):
        execute.prepare(study, Binder(study, where, {}), workers, Console(file=io.StringIO()))


def test_a_source_is_judged_by_its_first_record(tmp_path: Path) -> None:
    import numpy as np
    import pandas as pd

    folder = tmp_path / "z"
    folder.mkdir()
    np.save(folder / "ecg.npy", np.random.default_rng(0).standard_normal((4, 1000, 12)).astype(np.float32))
    pd.DataFrame({"id": range(4), "patient": range(4), "AF": 0}).to_csv(folder / "t.csv", index=False)
    described = {
        "dataset": "arrays", "signal": "ecg.npy", "axes": "record time lead", "rate_hz": 100.0, "table": "t.csv",
        "unit": "z_record_lead", "id": "id", "patient": "patient", "population": "p", "labels": {"rhythm": ["AF"]},
    }  # fmt: skip
    study = Study.load("smoke", TINY | {"data.code": described})
    binder = Binder(study, Lab(tmp_path / "lab"), {"code": folder})
    with Refusing(1, 1) as workers, pytest.raises(FormError, match='cannot become normalise = "none"'):
        execute.prepare(study, binder, workers, Console(file=io.StringIO()))


def test_a_run_under_way_moves_the_display(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step a training reports through its slot becomes its share of the work; all of it only when it has ended."""
    study = Study.load("smoke", TINY)
    plan = expand(study, Binder(study, Lab(lab), {}))
    planned = next(p for p in plan.runs.values() if p.run.objective is not None)
    shares = [execute.trained_weight(planned, step) for step in (0, 2, 4, 9)]
    assert shares[0] == 0
    assert 0 < shares[1] < shares[2] == shares[3] < execute.weight(planned)

    steps = [0, 0, 0]

    def train(lab: Lab, planned: PlannedRun, device: str, progress: Any) -> bool:
        progress(3)
        return False

    monkeypatch.setattr(execute, "_steps", steps)
    monkeypatch.setattr(work, "train", train)
    execute._job(tmp_path, planned, "cpu", 1)
    assert steps == [0, 3, 0]
