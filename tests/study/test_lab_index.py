"""Status and table read an index instead of every folder: they say what the folders hold, torn ones included."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ecgscale.lab import Lab
from ecgscale.study import status, table
from ecgscale.study.execute import watch
from ecgscale.study.plan import Plan
from ecgscale.study.status import status_of
from ecgscale.study.study import Study
from ecgscale.study.table import build_table

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fake_lab.py"
MANY = {"arm.0.records": [20, 40, 60, 80], "arm.0.seeds": list(range(4))}  # 4 families × 2 sizes × 4 D × 4 seeds


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, Plan]:
    spec = importlib.util.spec_from_file_location("fake_lab", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    lab = Lab(tmp_path_factory.mktemp("lab"))
    return lab, module.fake_lab(Study.load("smoke", MANY), lab)


def straight(plan: Plan, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> tuple[pd.DataFrame, int]:
    """Read every folder."""
    with monkeypatch.context() as patch:
        for module in (table, status):
            patch.setattr(module, "IndexedLab", Unindexed)
        return build_table(plan, lab), status_of(watch(plan), lab, {}).done


class Unindexed(Lab):
    def __init__(self, lab: Lab, study: str, values: bool = True) -> None:
        self.root = lab.root

    def save(self) -> None:
        pass


def agree(plan: Plan, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> tuple[pd.DataFrame, int]:
    """Return what both ways of reading say."""
    expected, done = straight(plan, lab, monkeypatch)
    pd.testing.assert_frame_equal(build_table(plan, lab), expected)
    assert status_of(watch(plan), lab, {}).done == done
    return expected, done


def test_the_index_says_what_the_folders_say_and_reads_none_of_them_again(
    made: tuple[Lab, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, plan = made
    frame, done = agree(plan, lab, monkeypatch)
    assert done == len(plan.runs) == 133
    assert (frame["metric"] == "loss_minus_random").sum() == 12

    def refuse(*_: Any) -> Any:
        raise AssertionError("a folder was read")

    monkeypatch.setattr(Lab, "result", refuse)
    monkeypatch.setattr(Lab, "evaluation", refuse)
    pd.testing.assert_frame_equal(build_table(plan, lab), frame)


def test_torn_foreign_and_missing_files_are_noticed_behind_a_warm_index(
    made: tuple[Lab, Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, plan = made
    lab = Lab(shutil.copytree(made[0].root, tmp_path / "lab"))
    _, done = agree(plan, lab, monkeypatch)
    torn, foreign, unmeasured, gone = [p.run.uid for p in plan.runs.values() if p.role == "grid"][:4]
    path = lab.run(torn) / "result.json"
    path.write_text(path.read_text()[:-9])
    (lab.run(foreign) / "spec.json").write_bytes((lab.run(gone) / "spec.json").read_bytes())
    rows = next((lab.run(unmeasured) / "evaluations").glob("*.json"))
    rows.write_text("{}")
    shutil.rmtree(lab.run(gone))
    frame, left = agree(plan, lab, monkeypatch)
    assert left == done - 4
    assert set(frame.loc[frame["status"] == "waiting", "run"]) == {torn, foreign, gone}


def test_a_torn_index_is_made_anew(made: tuple[Lab, Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    lab, plan = made
    build_table(plan, lab)
    path = lab.study("smoke") / "index.jsonl"
    path.write_bytes(path.read_bytes()[:-5000])
    agree(plan, lab, monkeypatch)
