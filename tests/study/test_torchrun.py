"""A planned run by several processes of this machine: it pauses, goes on, and leaves what one process leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from ecgscale.data.corpus import Corpus, Form, ingest
from ecgscale.data.split import SplitRule
from ecgscale.lab import DiskFull, Lab, read_json, write_json
from ecgscale.runs import Recipe, RunResult, RunSpec
from ecgscale.spec import part
from ecgscale.study import torchrun, work
from ecgscale.study.bind import Source
from ecgscale.study.plan import PlannedRun
from ecgscale.training import checkpoint
from ecgscale.training.pretrain import Paused, TrainingError


class _Here:
    """A corpus that stands at a path."""

    def __init__(self, path: Path) -> None:
        self.path = path


def _planned(corpus: Corpus) -> PlannedRun:
    run = RunSpec(
        role="grid", backbone={"name": "resnet1d", "dial": 0.03}, objective={"name": "mae"}, leads=12,
        samples=corpus.samples, corpus=corpus.digest, split=SplitRule(by="patients", fractions=(0.6, 0.2, 0.2)), D=16,
        seed=0, recipe=Recipe(steps=12, batch=5, lr=3e-4, validations=1, validation_records=6, test_records=6),
    )  # fmt: skip
    return PlannedRun(run, "arm", "grid", 7000, cast(Source, _Here(corpus.path)), None, ())


def test_two_processes_pause_and_go_on_and_leave_what_one_leaves(tmp_path: Path) -> None:
    corpus = ingest(part("datasets", {"name": "simulated", "count": 40}), None, Form(length_s=2.56), tmp_path / "data")
    planned, told = _planned(corpus), []
    one, two = Lab(tmp_path / "one"), Lab(tmp_path / "two")
    uid = planned.run.uid
    work.train(one, planned, "cpu")
    with pytest.raises(Paused):
        work.train(two, planned, "cpu", halt=lambda: True, processes=2)
    state = checkpoint.load_state(two.run(uid))
    assert state is not None and 0 < state["step"] < planned.run.recipe.steps
    assert two.result(uid) is None
    assert work.train(two, planned, "cpu", lambda *said: told.append(said), processes=2)
    assert told and 0 < told[-1][0] <= planned.run.recipe.steps
    results = [RunResult.parse(cast(dict[str, Any], lab.result(uid))) for lab in (one, two)]
    assert (results[0].N, results[0].N_total, results[0].best) == (results[1].N, results[1].N_total, results[1].best)
    assert results[0].flop_per_record == results[1].flop_per_record
    for name in ("validation", "test", "health"):
        assert getattr(results[1], name) == pytest.approx(getattr(results[0], name), rel=1e-3), name
    env = read_json(two.run(uid) / "env.json")
    assert (env["processes"], env["sharded"]) == (2, False)
    assert not (two.run(uid) / "processes").exists()


def test_a_process_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = ingest(part("datasets", {"name": "simulated", "count": 20}), None, Form(length_s=2.56), tmp_path / "data")
    about = {"folder": str(tmp_path), "corpus": str(corpus.path), "codes": None, "device": "cpu", "sharded": False}
    about |= {"flop_per_record": 1.0, "trunk": None}
    write_json(tmp_path / "job.json", {**about, "run": _planned(corpus).run.dump()})
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(SystemExit):
        torchrun.work(tmp_path)
    with pytest.raises(TrainingError, match="RANK is not in the environment: start the processes with torchrun"):
        torchrun._heard(tmp_path, tmp_path / "log", 1)


def test_what_a_process_explains_comes_before_what_ended_the_others(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"ended with code -9 and no result: see .*log"):
        torchrun._heard(tmp_path, tmp_path / "log", -9)
    write_json(tmp_path / "said-0.json", {"reason": "connection closed", "explained": False, "full": False})
    with pytest.raises(TrainingError, match="connection closed"):
        torchrun._heard(tmp_path, tmp_path / "log", 1)
    write_json(tmp_path / "said-1.json", {"reason": "no room", "explained": True, "full": True})
    with pytest.raises(DiskFull, match="no room"):
        torchrun._heard(tmp_path, tmp_path / "log", 1)
