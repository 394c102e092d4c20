"""Fixtures for the whole suite: the data and golden vectors that stand beside a checkout, and no network."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy and torch are imported: tests run a process per core

SHARED = Path(__file__).resolve().parents[2] / "shared"


FIRST = ("tests/e2e/", "tests/study/", "tests/training/")  # files that take minutes: begun first, so none is waited for


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; `--no-loadscope-reorder` keeps it so where processes share the tests."""
    items.sort(key=lambda item: next((i for i, name in enumerate(FIRST) if name in item.nodeid), len(FIRST)))


def _beside(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"no folder ../shared/{name} beside the checkout")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real ECGs, or a skip with its reason."""
    return _beside("data")


@pytest.fixture(scope="session")
def shared_golden() -> Path:
    """The folder of golden vectors, or a skip with its reason."""
    return _beside("golden")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else "localhost"
        if str(host) not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"a test tried to reach {host}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Any]:
    """A function that builds synthetic batches: `make_batch(records=6, samples=1000, beats=(9, 12, 15), ...)`."""
    return _make_batch


def _make_batch(
    records: int = 6,
    samples: int = 1000,
    beats: Sequence[int] = (9, 12, 15),
    labels: int = 3,
    codes: int | None = None,
    signal: Any = None,
    peaks: Sequence[Sequence[int]] | None = None,
    patients: Sequence[int] | None = None,
    seed: int = 0,
) -> Any:
    """Build a Batch: record i has beats[i % len(beats)] even spikes in noise, and labels read off its signal.

    Args:
        records: Number of rows; of `signal` [batch, lead, time] where that is given.
        codes: Number of codes; ids then depend on lead and beat.
        peaks: Beats of each record, instead of `beats`.
        patients: Patient of each record; all different by default.
    """
    import torch

    from ecgscale.batch import Batch

    g = torch.Generator().manual_seed(seed)
    if signal is not None:
        records, samples = signal.shape[0], signal.shape[2]
    if peaks is None:
        counts = [beats[i % len(beats)] for i in range(records)]
        peaks = [[int((k + 0.5) * samples / n) for k in range(n)] for n in counts]
    columns = max((len(p) for p in peaks), default=0) + 1
    where = torch.full((records, columns), -1, dtype=torch.int32)
    for i, row in enumerate(peaks):
        where[i, : len(row)] = torch.tensor(row, dtype=torch.int32)
    known = torch.rand(records, labels, generator=g) < 0.8
    known[0] = True
    truth = (torch.rand(records, labels, generator=g) < 0.5).float()
    if signal is None:
        signal = 0.3 * torch.randn(records, 12, samples, generator=g)
        for i, row in enumerate(peaks):
            signal[i, :, list(row)] += 3 * torch.rand(12, 1, generator=g) + truth[i].sum()
    ids = None
    if codes is not None:
        ids = torch.randint(codes, (records, signal.shape[1], columns), generator=g)
        ids = torch.where(where[:, None] >= 0, ids, -1)
    return Batch(
        signal=signal.float(),
        lead_ok=torch.ones(signal.shape[:2], dtype=torch.bool),
        beats=where,
        record=torch.arange(records),
        patient=torch.tensor(patients) if patients is not None else torch.arange(records),
        rate_hz=100.0,
        labels=truth * known,
        labels_ok=known,
        codes=ids,
    )
