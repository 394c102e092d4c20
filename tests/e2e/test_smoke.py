"""The packaged smoke study from nothing to a report, a second call, and kills at random moments."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

COMMAND = [sys.executable, "-m", "ecgscale.cli"]


def ecgscale(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=300)
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="session")
def smoke_lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lab = tmp_path_factory.mktemp("lab")
    ecgscale("run", "smoke", "--lab", str(lab), "--workers", "2")
    return lab


def table(lab: Path) -> pd.DataFrame:
    return pd.read_parquet(lab / "studies" / "smoke" / "table.parquet")


def test_every_run_left_its_rows(smoke_lab: Path) -> None:
    frame = table(smoke_lab)
    assert set(frame["status"]) == {"ok"}
    grid = frame[frame["role"] == "grid"]
    assert grid["run"].nunique() == 16
    assert grid.groupby(["backbone", "objective"]).ngroups == 4
    assert frame.loc[frame["metric"].isin(["loss", "auroc", "auprc"]), "value"].notna().all()
    probes = grid[(grid["protocol"] == "linear") & (grid["metric"] != "loss_minus_random") & (grid["part"] == "test")]
    assert (probes.groupby("run").size() == 18).all()  # three tasks, six metrics
    assert {"random", "handcrafted"} <= set(frame["objective"])
    assert (frame.loc[frame["objective"] == "random", ["D", "C"]] == 0).all().all()
    assert (grid["C"] > 0).all()


def test_the_report_and_its_twin_stand(smoke_lab: Path) -> None:
    folder = smoke_lab / "studies" / "smoke" / "report"
    page = (folder / "index.html").read_text()
    assert "simulated" in page.lower()
    twin = json.loads((folder / "report.json").read_text())
    assert twin


def test_fits_are_files_of_one_schema(smoke_lab: Path) -> None:
    fits = [json.loads(p.read_text()) for p in (smoke_lab / "studies" / "smoke" / "fits").glob("*.json")]
    assert {f["law"]["name"] for f in fits} == {"power", "scaling", "transfer"}
    for f in fits:
        assert {"params", "intervals", "status", "samples", "objective", "n", "holdout", "optimum", "warnings"} <= set(
            f
        )
        assert f["status"] in {"converged", "bound", "ill_conditioned", "engines_disagree", "too_few"}
        assert f["status"] != "converged" or f["n"] >= 8  # four points per family: no interval is honest here


def test_a_second_call_trains_nothing_and_changes_nothing(smoke_lab: Path) -> None:
    before = table(smoke_lab)
    done = ecgscale("run", "smoke", "--lab", str(smoke_lab))
    assert "trained 0 runs, measured 0 evaluations, 0 failed" in done.stderr
    pd.testing.assert_frame_equal(before, table(smoke_lab))


def test_status_and_fit_and_plan_read_the_same_lab(smoke_lab: Path) -> None:
    assert "0 running, 0 waiting, 0 failed" in ecgscale("status", "smoke", "--lab", str(smoke_lab)).stdout
    dumps = json.loads(ecgscale("fit", "smoke", "--lab", str(smoke_lab), "--json").stdout)
    assert dumps
    plan = ecgscale("plan", "smoke", "--lab", str(smoke_lab), "--workers", "1").stdout
    assert "0 to do" in plan
    assert "FLOP" in plan


def test_three_kills_lose_nothing_and_repeat_nothing(smoke_lab: Path, tmp_path: Path) -> None:
    """`kill -9` at three random moments, then the same command: the table equals the uninterrupted one."""
    lab = tmp_path / "killed"
    draw = random.Random(os.environ.get("PYTEST_SEED", "1"))
    finished: dict[Path, int] = {}
    for _ in range(3):
        process = subprocess.Popen(
            [*COMMAND, "run", "smoke", "--lab", str(lab), "--workers", "2"],
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(draw.uniform(3, 9))
        os.kill(process.pid, signal.SIGKILL)  # the main process only: its workers must end by themselves
        process.wait()
        time.sleep(0.5)
        assert all((lab / path).stat().st_mtime_ns == stamp for path, stamp in finished.items())
        finished |= {p.relative_to(lab): p.stat().st_mtime_ns for p in (lab / "runs").glob("*/result.json")}
    ecgscale("run", "smoke", "--lab", str(lab), "--workers", "1")
    assert all((lab / path).stat().st_mtime_ns == stamp for path, stamp in finished.items())
    pd.testing.assert_frame_equal(table(smoke_lab), table(lab))
