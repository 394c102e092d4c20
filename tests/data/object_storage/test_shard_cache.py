"""Shards come to the local disk once, whatever asks for them, and stay within the bound."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecgscale.data import shard_cache
from ecgscale.data.corpus import Corpus, CorpusError, Form, ingest

from .bucket import SHARD, URL, Build, Calls, Make, empty_cache, shards_in

fsspec = pytest.importorskip("fsspec")


def test_what_was_fetched_is_not_fetched_again(there: Corpus, calls: Calls) -> None:
    Corpus.open(URL).signals([0])
    calls.clear()
    Corpus.open(URL).signals([1])
    assert calls == {("cat_file", "manifest.json"): 1}  # is it the same corpus still?


def test_a_shard_that_was_cut_in_the_cache_is_fetched_again(there: Corpus, calls: Calls) -> None:
    corpus = Corpus.open(URL)
    corpus.signals([0])
    os.truncate(corpus.path / "signals-00000.npy", 500)
    assert np.array_equal(Corpus.open(URL).signals([0]), there.signals([0]))
    assert calls["get_file", "signals-00000.npy"] == 2


def test_threads_fetch_a_shard_once(there: Corpus, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    corpora = [Corpus.open(URL) for _ in range(4)]
    calls.clear()
    kind = fsspec.get_filesystem_class("memory")
    fetch, found = kind.get_file, []

    def slow(*args: Any, **kwargs: Any) -> None:
        time.sleep(0.2)
        fetch(*args, **kwargs)

    monkeypatch.setattr(kind, "get_file", slow)
    threads = [threading.Thread(target=lambda c=c: found.append(c.signals([15]))) for c in corpora]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == {("get_file", "signals-00001.npy"): 1}
    assert all(np.array_equal(signals, there.signals([15])) for signals in found)
    assert len(found) == 4


FETCH = """
import sys, time
from fsspec.implementations.local import LocalFileSystem
from ecgscale.data.corpus import Corpus
get = LocalFileSystem.get_file
def slow(self, path, *args, **kwargs):
    print(path.rsplit("/", 1)[-1], flush=True)
    time.sleep(0.5)
    return get(self, path, *args, **kwargs)
corpus = Corpus.open(sys.argv[1])
LocalFileSystem.get_file = slow
corpus.signals([15])
print("read", flush=True)
sys.stdin.read()  # the shard stays mapped
"""


def test_processes_fetch_a_shard_once(
    make: Make, listed: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file://{tmp_path}/bucket/corpus"
    expected = ingest(listed(make(25)), None, Form(), url).signals([15])
    empty_cache()
    command = [sys.executable, "-c", FETCH, url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "signals-00001.npy\n"  # it begins
        monkeypatch.setattr(fsspec.get_filesystem_class("file"), "get_file", lambda *_: pytest.fail("fetched again"))
        assert np.array_equal(Corpus.open(url).signals([15]), expected)
        assert other.stdout.readline() == "read\n"
        assert other.poll() is None
        other.communicate("", timeout=10)


def test_the_cache_keeps_its_bound(there: Corpus, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    small = sum(there.manifest["files"].values()) - sum(there.manifest["files"][s] for s in there.manifest["shards"])
    monkeypatch.setenv("ECGSCALE_CACHE_GB", str((small + 2.5 * SHARD + 20_000) / 1e9))
    first = Corpus.open(URL)
    for row in (0, 10, 3):
        first.signals([row])
    del first
    second = Corpus.open(URL)
    second.signals([20])
    assert shards_in(second) == ["signals-00000.npy", "signals-00002.npy"]  # 1 was read longest ago
    assert np.array_equal(second.signals([2]), there.signals([2]))
    assert calls["get_file", "signals-00000.npy"] == 1


def test_what_another_process_has_mapped_stays(there: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    holder, other = Corpus.open(URL), Corpus.open(URL)
    small = sum(f.stat().st_size for f in holder.path.iterdir())
    monkeypatch.setenv("ECGSCALE_CACHE_GB", str((small + 1.5 * SHARD) / 1e9))
    holder.signals([0])
    other.signals([10])
    assert shards_in(other) == ["signals-00000.npy", "signals-00001.npy"]
    del holder
    other.signals([20])  # of which it holds 1 and nobody 0 any more
    assert shards_in(other) == ["signals-00002.npy"]


def test_a_process_that_reads_more_than_the_bound_goes_on_and_is_told(
    there: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = Corpus.open(URL)
    small = sum(f.stat().st_size for f in corpus.path.iterdir())
    monkeypatch.setenv("ECGSCALE_CACHE_GB", str((small + 1.5 * SHARD) / 1e9))
    corpus.verify()  # in order, each shard once: no warning
    assert shards_in(corpus) == ["signals-00002.npy"]
    with pytest.warns(UserWarning, match="fetched again and again"):
        assert np.array_equal(corpus.signals([0, 24]), there.signals([0, 24]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        corpus.signals([0, 1])
    monkeypatch.setenv("ECGSCALE_CACHE_GB", str(0.5 * SHARD / 1e9))
    with pytest.raises(CorpusError, match=r"ECGSCALE_CACHE_GB is .* but a file of memory://bucket/corpus has"):
        corpus.signals([10])
    monkeypatch.setenv("ECGSCALE_CACHE_GB", "much")
    with pytest.raises(CorpusError, match="ECGSCALE_CACHE_GB is 'much', expected a number of gigabytes"):
        corpus.signals([10])


def test_opening_brings_a_cache_within_a_new_bound(there: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = Corpus.open(URL)
    small = sum(f.stat().st_size for f in corpus.path.iterdir())
    for row in (20, 0, 10):
        corpus.signals([row])
    del corpus
    monkeypatch.setenv("ECGSCALE_CACHE_GB", str((small + 1.5 * SHARD) / 1e9))
    assert shards_in(Corpus.open(URL)) == ["signals-00001.npy"]


def test_what_a_killed_fetch_left_is_evicted(there: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = Corpus.open(URL)
    small = sum(f.stat().st_size for f in corpus.path.iterdir())
    left = corpus.path / ".signals-00000.npy.part"
    left.write_bytes(b"x" * SHARD)
    monkeypatch.setenv("ECGSCALE_CACHE_GB", str((small + 1.5 * SHARD) / 1e9))
    corpus.signals([10])
    assert not left.exists()


def test_a_cache_that_cannot_be_written_is_named(
    there: Corpus, make: Make, listed: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ECGSCALE_CACHE", str(tmp_path / "file"))
    with pytest.raises(CorpusError, match=r"cannot write the corpus to .*/file/corpora/"):
        Corpus.open(URL)
    with pytest.raises(CorpusError, match=r"cannot write the corpus to .*/file/staging/"):
        ingest(listed(make(12)), None, Form(), URL)


def test_the_cache_lies_where_caches_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ECGSCALE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert shard_cache.cache_folder() == Path("/caches/ecgscale")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert shard_cache.cache_folder() == Path("/home/me/.cache/ecgscale")
