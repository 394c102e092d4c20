"""Processes of a study are killed at random, one is frozen for a while, the disk is full: the table is a calm run's."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ecgscale import api

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


def start(study: Path, lab: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ecgscale.cli", "run", str(study), "--lab", str(lab), "--workers", "2"]
    command += [word for key, value in CHANGES.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


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


def table(lab: Path) -> pd.DataFrame:
    return pd.read_parquet(lab / "studies" / "smoke" / "table.parquet")


@pytest.fixture(scope="module")
def calm(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    lab = tmp_path_factory.mktemp("calm")
    frame = api.run(study, lab, changes=CHANGES, workers=2, device="cpu")
    assert set(frame["status"]) == {"ok"}
    return lab


def test_killed_and_frozen_workers_change_nothing(study: Path, calm: Path, tmp_path: Path) -> None:
    shutil.copytree(calm / "corpora", tmp_path / "corpora")
    chance, session, kills = random.Random(0), start(study, tmp_path), 0
    while session.poll() is None:
        time.sleep(chance.uniform(0.2, 1.0))
        alive = workers_of(session.pid)
        if len(alive) >= 2 - kills and kills < 2 and any(tmp_path.glob("runs/*/curve.jsonl")):
            chance.shuffle(alive)
            os.kill(alive[0], signal.SIGKILL)
            for other in alive[1:]:
                os.kill(other, signal.SIGSTOP)  # it will not hear a polite end
            kills += 1
    said, _ = session.communicate()
    assert session.returncode == 0 and kills == 2, said
    assert "a worker process was killed" in said and " 0 failed" in said, said
    pd.testing.assert_frame_equal(table(tmp_path), table(calm))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a disk of 64 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_stops_the_study_in_one_sentence_and_loses_nothing(
    study: Path, calm: Path, small_disk: Path
) -> None:
    shutil.copytree(calm / "corpora", small_disk / "corpora")
    ballast = small_disk / "ballast"
    free = shutil.disk_usage(small_disk).free
    ballast.write_bytes(bytes(free - 400_000))
    session = start(study, small_disk)
    said = " ".join(session.communicate()[0].split())
    assert session.returncode == 1 and "Traceback" not in said, said
    assert "No space left on device" in said and "make room and run the same command again" in said, said
    ballast.unlink()
    api.run(study, small_disk, changes=CHANGES, workers=2, device="cpu")
    pd.testing.assert_frame_equal(table(small_disk), table(calm))
