"""One study on a cluster of Ray that loses a node, in jobs of Slurm of which one is pre-empted, and in two sessions."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ecgscale import api

CHANGES: dict[str, Any] = {
    "training.steps": 80, "data.code.count": 100, "data.hospital.count": 60, "arm.0.sizes": [20_000],
    "arm.0.records": [20, 30, 40], "arm.0.families": ["resnet1d-supervised"], "resamples": 20, "fit_resamples": 5,
}  # fmt: skip
SLURM = Path(__file__).parent / "slurm"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def run(lab: Path, **more: Any) -> pd.DataFrame:
    api.run("smoke", lab, changes=CHANGES, device="cpu", workers=1, **more)
    return pd.read_parquet(lab / "studies" / "smoke" / "table.parquet")


def done(said: str) -> tuple[int, int]:
    """Return how many runs and evaluations a session says it did."""
    words = re.search(r"trained (\d+) runs, measured (\d+) evaluations, 0 failed", " ".join(said.split()))
    assert words, said
    return int(words[1]), int(words[2])


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """A lab in which the study was run by one process, and its table."""
    lab = tmp_path_factory.mktemp("calm")
    return lab, run(lab)


def without(calm: Path, lab: Path, count: int) -> list[Path]:
    """Copy a lab but for what came of its last `count` trained runs; return the folders of these."""
    stored = json.loads((calm / "studies" / "smoke" / "runs.json").read_text())["runs"].values()
    gone = [lab / "runs" / r["uid"] for r in stored if r["role"] == "grid"][-count:]
    shutil.copytree(calm, lab, dirs_exist_ok=True, symlinks=True)
    for path in [*gone, lab / "studies", *(f for g in gone for f in lab.glob(f"features/{g.name}-*"))]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return gone


def meanwhile(act: Callable[[], None]) -> tuple[threading.Thread, list[BaseException]]:
    """Do something in a thread; what it raises is kept."""
    raised: list[BaseException] = []

    def guarded() -> None:
        try:
            act()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    return thread, raised


def under_way(folder: Path) -> None:
    """Wait until a run has logged a step, and has not ended."""
    until = time.monotonic() + 240
    while not ((folder / "curve.jsonl").exists() and (folder / "curve.jsonl").read_text().count("\n")):
        assert time.monotonic() < until, f"{folder} did not begin"
        time.sleep(0.05)
    assert not (folder / "result.json").exists()


def test_two_sessions_share_a_lab_and_do_nothing_twice(
    calm: tuple[Path, pd.DataFrame], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = without(calm[0], tmp_path, 3)
    shutil.rmtree(tmp_path / "runs")
    command = [sys.executable, "-m", "ecgscale.cli", "run", "smoke", "--lab", str(tmp_path), "--workers", "1"]
    command += [word for key, value in CHANGES.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    other = subprocess.Popen([*command, "--device", "cpu"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until = time.monotonic() + 240
    while not any(tmp_path.glob("runs/*/curve.jsonl")) and time.monotonic() < until:
        time.sleep(0.05)
    run(tmp_path)
    shares = done(capsys.readouterr().err), done(other.communicate()[0])
    assert all(trained >= 1 for trained, _ in shares)
    assert sum(trained for trained, _ in shares) == len(gone)
    evaluations = len(list(calm[0].glob("runs/*/evaluations/*.json")))
    assert sum(measured for _, measured in shares) == evaluations
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "studies" / "smoke" / "table.parquet"), calm[1])


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.filterwarnings("ignore::FutureWarning:ray", "ignore::ResourceWarning", "ignore::DeprecationWarning:ray")
def test_a_run_goes_on_elsewhere_when_its_node_of_ray_dies(calm: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'ecgscale[ray]'")
    from ray.cluster_utils import Cluster

    (folder,) = without(calm[0], tmp_path, 1)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]

        def kill() -> None:
            under_way(folder)
            (claim,) = folder.glob("claim-*")
            raylet = parent_of(json.loads(claim.read_text())["pid"])
            (node,) = [n for n in nodes if n.all_processes["raylet"][0].process.pid == raylet]
            cluster.remove_node(node, allow_graceful=False)

        killing, raised = meanwhile(kill)
        frame = run(tmp_path, on="ray", options={"address": cluster.address})
        killing.join()
    finally:
        cluster.shutdown()
    assert not raised, raised
    assert [p.name for p in folder.glob("claim-*")] == ["claim-2.free"]  # one began it, another ended it
    pd.testing.assert_frame_equal(frame, calm[1])


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Slurm on this machine."""
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'ecgscale[slurm]'")
    needed = ("slurmctld", "slurmd", "sbatch", "munged")
    missing = [name for name in needed if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]
    if missing or os.geteuid():
        pytest.skip(f"no Slurm can be started here: {', '.join(missing) or 'not root'} (tests/e2e/slurm/install.sh)")
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([SLURM / "start.sh", folder], capture_output=True, text=True)
    try:
        assert started.returncode == 0, started.stderr
        monkeypatch.setenv("SLURM_CONF", started.stdout.strip())
        yield
    finally:
        subprocess.run([SLURM / "stop.sh", folder], check=True)


@pytest.mark.usefixtures("slurm")
def test_a_job_of_slurm_that_is_preempted_goes_on_from_its_state(
    calm: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    (folder,) = without(calm[0], tmp_path, 1)

    def preempt() -> None:
        under_way(folder)
        jobs = subprocess.run(["squeue", "--me", "--noheader", "--format=%i"], capture_output=True, text=True).stdout
        subprocess.run(["scancel", "--signal=USR2", *jobs.split()], check=True)

    preempting, raised = meanwhile(preempt)
    frame = run(tmp_path, on="slurm", options={"minutes": 10})
    preempting.join()
    assert not raised, raised
    (log,) = folder.glob("slurm-*.out")
    assert "Requeued job" in log.read_text() and "Job completed successfully" in log.read_text()
    assert json.loads((folder / "env.json").read_text())["step"] > 0  # where its second job took it up
    pd.testing.assert_frame_equal(frame, calm[1])
