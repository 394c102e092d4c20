"""An ingest goes on where it was killed, gives the same corpus whatever its workers, and holds little at a time."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecgscale.data import ingestion
from ecgscale.data.corpus import Corpus, CorpusError, Form, ingest
from ecgscale.data.indexing import Seen
from ecgscale.data.record import Record, Rejected
from ecgscale.datasets.simulated import Simulated

KILLED = """
import os, signal, sys
from pathlib import Path
from ecgscale.data import ingestion, storage
from ecgscale.data.corpus import Form, ingest
from ecgscale.datasets.simulated import Simulated
ingestion.FLUSH, storage.SHARD_BYTES = 1, 24_000 * 300
def progress(done):
    if done >= int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
ingest(Simulated(count=1000), None, Form(), Path(sys.argv[1]), progress)
"""


@pytest.mark.parametrize("moments", [[1], [250, 600], [999]])
def test_a_killed_ingest_goes_on_and_ends_as_if_nothing_had_been(
    moments: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingestion, "FLUSH", 1)
    monkeypatch.setattr("ecgscale.data.storage.SHARD_BYTES", 24_000 * 300)
    for moment in moments:
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path / "corpus"), str(moment)], check=False, capture_output=True
        )
        assert done.returncode == -9, done.stderr.decode()
        assert not (tmp_path / "corpus").exists()
    read = []
    monkeypatch.setattr(Simulated, "read", _counted(Simulated.read, read))
    corpus = ingest(Simulated(count=1000), None, Form(), tmp_path / "corpus")
    again = len(read)
    whole = ingest(Simulated(count=1000), None, Form(), tmp_path / "whole")
    assert again < len(read) - again
    assert corpus.digest == whole.digest
    assert corpus.manifest["files"] == whole.manifest["files"]
    corpus.verify()
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["corpus", "whole"]


def _counted(read: Callable[..., Any], calls: list[Any]) -> Callable[..., Any]:
    def counting(self: Simulated, root: Path | None, portion: Any) -> Iterator[Record]:
        calls.append(portion)
        return read(self, root, portion)  # type: ignore[no-any-return]

    return counting


@pytest.mark.parametrize("moment", ["close", "remove"])
def test_an_ingest_that_ends_at_its_very_end_goes_on(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = {"close": ingestion.Mapped, "remove": ingestion.Pieces}[moment]
    usual = getattr(where, moment)

    def stop(self: Any) -> None:
        usual(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(where, moment, stop)
    with pytest.raises(KeyboardInterrupt):
        ingest(Simulated(count=200), None, Form(), tmp_path / "corpus")
    monkeypatch.undo()
    corpus = ingest(Simulated(count=200), None, Form(), tmp_path / "corpus")
    corpus.verify()
    files = {*corpus.manifest["files"], "manifest.json", "making.json"}
    assert {p.name for p in corpus.path.iterdir()} == files
    assert [p.name for p in tmp_path.iterdir()] == ["corpus"]


def test_what_another_source_left_is_not_gone_on_from(
    make: Callable[..., list[Record]], listed: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingestion, "FLUSH", 1)

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(listed(make(12)), None, Form(), tmp_path / "corpus", stop)
    assert (tmp_path / ".corpus.part" / "journal.json").exists()
    corpus = ingest(listed(make(12)[6:], dataset="other"), None, Form(), tmp_path / "corpus")
    assert list(corpus.index["record"]) == [f"r{i}" for i in range(6, 12)]
    assert [p.name for p in tmp_path.iterdir()] == ["corpus"]


def test_the_corpus_does_not_depend_on_the_workers(tmp_path: Path) -> None:
    spec = Simulated(count=1500)
    alone = ingest(spec, None, Form(), tmp_path / "alone")
    together = ingest(spec, None, Form(), tmp_path / "together", workers=2)
    assert alone.digest == together.digest
    assert alone.manifest["files"] == together.manifest["files"]


def test_a_second_process_waits_and_takes_what_the_first_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, calls = threading.Event(), []
    monkeypatch.setattr(Simulated, "read", _counted(Simulated.read, calls))

    def hold(_: int) -> None:
        held.set()
        time.sleep(0.5)

    spec, found = Simulated(count=40), []
    first = threading.Thread(target=lambda: found.append(ingest(spec, None, Form(), tmp_path / "corpus", hold)))
    first.start()
    assert held.wait(60)
    found.append(ingest(spec, None, Form(), tmp_path / "corpus"))
    first.join()
    assert len(calls) == 2  # the first process's look at the first record, and its reading
    assert found[0].digest == found[1].digest


def test_names_are_unique_across_portions_and_restarts(
    make: Callable[..., list[Record]], corpus_of: Callable[..., Corpus]
) -> None:
    records: list[Record | Rejected] = list(make(12))
    records[11] = replace(make(1)[0], record="r2")
    corpus = corpus_of(records)
    assert list(corpus.index["record"]) == [f"r{i}" for i in range(11)]
    assert "same name" in corpus.quarantine["reason"][0]


def test_seen_tells_new_names_from_old_ones_beyond_its_first_level() -> None:
    seen = Seen()
    names = [str(i) for i in range(150_000)]
    assert all(map(seen.add, names))
    assert not any(map(seen.add, names[::997]))
    assert seen.add("150000")


def test_memory_does_not_grow_with_the_number_of_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    form = Form(rate_hz=50.0, length_s=2.0)
    one = next(Simulated(count=1).read(None, (0, 1)))

    def read(self: Simulated, root: Path | None, portion: tuple[int, int]) -> Iterator[Record]:
        chunk, wanted = portion
        return (replace(one, record=f"{chunk}-{i}", patient=f"made:{chunk}-{i}") for i in range(wanted))

    monkeypatch.setattr(Simulated, "read", read)  # what makes the signals is not what is measured
    ingest(Simulated(count=300), None, form, tmp_path / "warm")
    peaks = [_peak(Simulated(count=count), form, tmp_path / str(count)) for count in (1000, 4000)]
    assert peaks[1] < 1.15 * peaks[0]


def _peak(spec: Simulated, form: Form, out: Path) -> float:
    tracemalloc.start()
    try:
        ingest(spec, None, form, out)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_full_disk_keeps_what_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingestion, "FLUSH", 1)
    whole, written = ingestion.Shards.append, []

    def full(self: Any, counts: np.ndarray) -> Any:
        written.append(len(counts))
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        return whole(self, counts)

    monkeypatch.setattr(ingestion.Shards, "append", full)
    with pytest.raises(CorpusError, match=r"no space left on device; .* what was done is kept"):
        ingest(Simulated(count=1000), None, Form(), tmp_path / "corpus")
    monkeypatch.setattr(ingestion.Shards, "append", whole)
    assert len(ingest(Simulated(count=1000), None, Form(), tmp_path / "corpus")) == 1000
