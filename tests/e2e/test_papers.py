"""The two papers' studies, shrunk: every data set's sample, every task, from nothing to a report, in one process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ecgscale import api
from ecgscale.reporting import gallery
from ecgscale.study import shrunk, workers
from ecgscale.study.study import Study, StudyError

PAPERS = {
    "scaling-2605.17276": (12, 4),
    "pretraining-2605.12241": (26, 5),
    "label-scaling-mimic": (13, 2),
}  # tasks, families


class Here(workers.Workers):
    """Workers that do a job when they are given it: no process has to import torch."""

    def _start(self) -> None:  # type: ignore[override]
        workers._shared[:] = [self.shared]

    def submit(self, job: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(job(*args))
        return future

    def map(self, job: Callable[..., Any], items: Any) -> Iterator[Any]:
        return map(job, items)

    def one_died(self) -> bool:
        return False

    def __exit__(self, *_: object) -> None:
        workers._shared.clear()


@pytest.mark.parametrize("name", PAPERS)
def test_a_papers_study_runs_on_the_samples_of_all_its_data_sets(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "Workers", Here)
    monkeypatch.setattr(gallery, "gallery", lambda *_: [])  # drawing is tested elsewhere
    tasks, families = PAPERS[name]
    frame = api.run(name, tmp_path, workers=1, shrink=True)
    page = tmp_path / "studies" / f"{name}-shrunk" / "report"
    twin = json.loads((page / "report.json").read_text())
    assert twin["origin"] == "simulated" and shrunk.NOTE in (page / "index.html").read_text()
    assert all("hand-crafted features have no encoder" in left["reason"] for left in twin["skipped"])
    assert {"ok"} <= set(frame["status"]) <= {"ok", "skipped"} and set(frame["study"]) == {f"{name}-shrunk"}
    assert not (tmp_path / "studies" / name).exists()
    grid = frame[frame["role"] == "grid"]
    assert set(grid["D"]) == set(shrunk.RECORDS) and grid.groupby(["backbone", "objective"]).ngroups == families
    probed = grid[(grid["task"] != "pretext") & (grid["part"] == "test") & (grid["metric"] == "loss")]
    assert probed.groupby(["eval_corpus", "task"]).ngroups == tasks and probed["value"].notna().all()
    assert {p.split("-")[0] for p in probed["protocol"]} == {e.protocol for e in Study.load(name).evaluate}
    _runs_once(name, tmp_path, frame)
    if name == "label-scaling-mimic":
        subsets = frame[frame["role"] == "labels"]
        assert set(subsets["label_order"]) == {"frequency", "random"} and set(subsets["labels"]) == {2}
        assert set(grid["labels"]) == {5} and {"labels-law", "labels-loss"} <= {t["id"] for t in twin["tables"]}


def _runs_once(name: str, lab: Path, before: pd.DataFrame) -> None:
    """A second plan finds everything done: samples are written once."""
    plan, where = api.planned(name, lab, None, None, shrink=True)
    assert {p.run.uid for p in plan.runs.values()} >= set(before.loc[before["role"] == "grid", "run"])
    assert all(where.result(p.run.uid) for p in plan.runs.values())


def test_a_shrunk_study_takes_no_data(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="--shrink runs on samples: leave out --data code"):
        api.run("scaling-2605.17276", tmp_path, {"code": tmp_path}, shrink=True)
