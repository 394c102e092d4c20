"""Processes of a study are killed at random, one is frozen for a while, the disk is full: the table is a calm run's."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ecgscale import api
from ecgscale.lab import DiskFull

CHANGES: dict[str, Any] = {
    "training.steps": 120, "data.code.count": 100, "arm.0.sizes": [20_000], "arm.0.records": [40],
    "arm.0.families": ["resnet1d-supervised", "resnet1d-cmsc"], "resamples": 20, "fit_resamples": 5,
}  # fmt: skip
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke study, measured on its own corpus only."""
    whole = (files("ecgscale") / "studies" / "smoke.toml").read_text()
    path = tmp_path_factory.mktemp("study") / "smoke.toml"
    path.write_text("[[evaluate]]".join(whole.split("[[evaluate]]")[:2]))
    return path


def run(study: Path, lab: Path, workers: int = 1) -> pd.DataFrame:
    api.run(study, lab, changes=CHANGES, workers=workers, device="cpu")
    return pd.read_parquet(lab / "studies" / "smoke" / "table.parquet")


@pytest.fixture(scope="module")
def calm(study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """The corpora of a study, and the table of a run that nothing disturbed."""
    lab = tmp_path_factory.mktemp("calm")
    frame = run(study, lab)
    assert set(frame["status"]) == {"ok"}
    return lab / "corpora", frame


def workers_of(parent: int) -> list[int]:
    """Return the worker processes that have begun to train or measure: those that use a second of CPU time and more."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            spawned = b"spawn_main" in (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if int(words[1]) == parent and spawned and int(words[11]) > 100:
            found.append(int(folder.name))
    return sorted(found)


def test_killed_and_frozen_workers_change_nothing(
    study: Path, calm: tuple[Path, pd.DataFrame], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(calm[0], tmp_path / "corpora")
    chance, kills, end = random.Random(0), 0, threading.Event()

    def disturb() -> None:
        nonlocal kills
        while kills < 2 and not end.wait(chance.uniform(0.2, 1.0)):
            alive = workers_of(os.getpid())
            if len(alive) >= 2 - kills and any(tmp_path.glob("runs/*/curve.jsonl")):
                chance.shuffle(alive)
                os.kill(alive[0], signal.SIGKILL)
                for other in alive[1:]:
                    os.kill(other, signal.SIGSTOP)  # it will not hear a polite end
                kills += 1

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    try:
        frame = run(study, tmp_path, workers=2)
    finally:
        end.set()
        disturbing.join()
    said = " ".join(capsys.readouterr().err.split())
    assert kills == 2 and said.count("a worker process was killed") == 2 and " 0 failed" in said, said
    pd.testing.assert_frame_equal(frame, calm[1])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a disk of 64 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_stops_the_study_in_one_sentence_and_loses_nothing(
    study: Path, calm: tuple[Path, pd.DataFrame], small_disk: Path
) -> None:
    shutil.copytree(calm[0], small_disk / "corpora")
    ballast = small_disk / "ballast"
    free = shutil.disk_usage(small_disk).free
    ballast.write_bytes(bytes(free - 400_000))
    with pytest.raises(DiskFull, match=r"No space left on device.*make room and run the same command again"):
        run(study, small_disk)
    ballast.unlink()
    pd.testing.assert_frame_equal(run(study, small_disk), calm[1])
