"""A corpus at a URL is the corpus: it comes to the local disk shard by shard, once, whole, and within the bound."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ecgscale.data import shard_cache, storage, store, uploading
from ecgscale.data.corpus import Corpus, CorpusError, Form, ingest
from ecgscale.data.object_storage import RemoteCorpus
from ecgscale.data.record import Record
from ecgscale.data.split import SplitRule, corpus_parts
from ecgscale.datasets.simulated import Simulated

fsspec = pytest.importorskip("fsspec")

Make = Callable[..., list[Record]]
Build = Callable[..., Any]
Calls = Counter[tuple[str, str]]

URL = "memory://bucket/corpus"
PER_SHARD = 10
SHARD = PER_SHARD * 12 * 1000 * 2 + 128  # bytes of a full one, with the header of NPY


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, an empty memory:// and small shards."""
    monkeypatch.setenv("ECGSCALE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ECGSCALE_CACHE_GB", raising=False)
    monkeypatch.setattr(storage, "SHARD_BYTES", PER_SHARD * 12 * 1000 * 2)
    memory = fsspec.filesystem("memory")
    yield tmp_path / "cache"
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Counts (method, name of the file) of everything that memory:// is asked for."""
    counted: Calls = Counter()
    kind = fsspec.get_filesystem_class("memory")
    for method in ("get_file", "cat_file", "put_file", "pipe_file", "rm_file"):
        original = getattr(kind, method)

        def call(self: Any, *args: Any, _original: Any = original, _method: str = method, **kwargs: Any) -> Any:
            path = args[1] if _method == "put_file" else args[0]
            counted[_method, path.rsplit("/", 1)[-1]] += 1
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(kind, method, call)
    return counted


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A corpus of three shards, and what an ingest to URL puts there."""
    folder, memory = tmp_path_factory.mktemp("made"), fsspec.filesystem("memory")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECGSCALE_CACHE", str(folder / "cache"))
        patch.setattr(storage, "SHARD_BYTES", PER_SHARD * 12 * 1000 * 2)
        ingest(Simulated(count=30), None, Form(), folder / "corpus")
        ingest(Simulated(count=30), None, Form(), URL)
    return folder / "corpus", {name: memory.cat_file(name) for name in memory.find(URL)}


@pytest.fixture
def there(made: tuple[Path, dict[str, bytes]]) -> Corpus:
    """A corpus on the local disk which is also at URL; the cache is empty."""
    for name, content in made[1].items():
        fsspec.filesystem("memory").pipe_file(name, content)
    return Corpus.open(made[0])


def empty_cache() -> None:
    """As on another machine."""
    shutil.rmtree(shard_cache.cache_folder())


def shards_in(corpus: Corpus) -> list[str]:
    return sorted(p.name for p in corpus.path.glob("signals-*.npy"))


def remote(url: str = URL) -> dict[str, bytes]:
    files = fsspec.filesystem("memory").find(url)
    return {name.removeprefix("/bucket/corpus/"): fsspec.filesystem("memory").cat_file(name) for name in files}


def alter(name: str, content: bytes) -> None:
    path = next(name_ for name_ in fsspec.filesystem("memory").find(URL) if name_.endswith(name))
    fsspec.filesystem("memory").pipe_file(path, content)


def test_a_corpus_at_a_url_reads_as_the_one_on_the_disk(there: Corpus) -> None:
    found = Corpus.open(URL)
    rows = [24, 3, 11, 4]
    assert np.array_equal(found.signals(rows), there.signals(rows))
    assert np.array_equal(found.beats(rows), there.beats(rows))
    assert np.array_equal(found.lead_ok(rows), there.lead_ok(rows))
    assert np.array_equal(found.known(rows, found.labels), there.known(rows, there.labels))
    assert found.index.equals(there.index)
    assert (found.digest, len(found)) == (there.digest, len(there))
    rule = SplitRule(by="patients", fractions=(0.4, 0.3, 0.3))
    expected = corpus_parts(there, rule, 0)
    assert all(np.array_equal(rows, expected[part]) for part, rows in corpus_parts(found, rule, 0).items())
    found.verify()


def test_opening_fetches_no_shard_and_a_row_fetches_its_own(there: Corpus, calls: Calls, cache: Path) -> None:
    corpus = Corpus.open(URL)
    small = set(there.manifest["files"]) - set(there.manifest["shards"])
    assert {name for method, name in calls if method == "get_file"} == small
    assert shards_in(corpus) == []
    assert corpus.path.parent == cache / "corpora"
    calls.clear()
    for _ in range(2):
        corpus.signals([12, 13])
    assert calls == {("get_file", "signals-00001.npy"): 1}
    corpus.signals([0, 13])
    assert shards_in(corpus) == ["signals-00000.npy", "signals-00001.npy"]


def test_what_was_fetched_is_not_fetched_again(there: Corpus, calls: Calls) -> None:
    Corpus.open(URL).signals([0])
    calls.clear()
    Corpus.open(URL).signals([1])
    assert calls == {("cat_file", "manifest.json"): 1}  # is it the same corpus still?


def test_it_can_be_sent_to_another_process(there: Corpus, calls: Calls) -> None:
    corpus = Corpus.open(URL)
    sent = pickle.dumps(corpus)
    calls.clear()
    again: Any = pickle.loads(sent)
    assert not calls
    assert (again.url, again.path, again.digest) == (URL, corpus.path, there.digest)
    empty_cache()  # another machine
    assert np.array_equal(pickle.loads(sent).signals([20]), there.signals([20]))


def test_a_corpus_that_was_replaced_is_another(there: Corpus, make: Make, listed: Build) -> None:
    before: Any = Corpus.open(URL)
    sent, old = pickle.dumps(before), set(remote())
    before.signals([0])
    after: Any = ingest(listed(make(30)[10:]), None, Form(), URL)
    assert after.digest != before.digest
    assert after.path != before.path
    assert Corpus.open(URL).digest == after.digest
    assert not (old - {"manifest.json"}) & set(remote())
    assert np.array_equal(before.signals([0]), there.signals([0]))
    with pytest.raises(
        CorpusError, match=r"memory://bucket/corpus is torn, or was replaced .* signals-00001.npy is mi"
    ):
        before.signals([10])
    empty_cache()
    with pytest.raises(CorpusError, match="memory://bucket/corpus was replaced"):
        pickle.loads(sent)


def test_a_torn_file_is_refused_and_not_kept(there: Corpus) -> None:
    content = next(v for k, v in remote().items() if k.endswith("signals-00001.npy"))
    corpus = Corpus.open(URL)
    alter("signals-00001.npy", content[:-2])
    with pytest.raises(CorpusError, match=f"signals-00001.npy has {SHARD - 2} bytes, expected {SHARD}"):
        corpus.signals([10])
    alter("signals-00001.npy", content[:-2] + b"ab")
    with pytest.raises(CorpusError, match=r"signals-00001.npy does not have the checksum"):
        corpus.signals([10])
    assert not list(corpus.path.glob("*signals*"))
    alter("signals-00001.npy", content)
    assert np.array_equal(corpus.signals([10]), there.signals([10]))
    empty_cache()
    alter("labels.npy", b"")
    with pytest.raises(CorpusError, match=r"labels.npy has 0 bytes"):
        Corpus.open(URL)


def test_a_shard_that_was_cut_in_the_cache_is_fetched_again(there: Corpus, calls: Calls) -> None:
    corpus = Corpus.open(URL)
    corpus.signals([0])
    os.truncate(corpus.path / "signals-00000.npy", 500)
    assert np.array_equal(Corpus.open(URL).signals([0]), there.signals([0]))
    assert calls["get_file", "signals-00000.npy"] == 2


def test_verify_reads_every_shard(there: Corpus) -> None:
    corpus = Corpus.open(URL)
    corpus.verify()
    assert len(shards_in(corpus)) == 3
    shard = corpus.path / "signals-00002.npy"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(CorpusError, match="memory://bucket/corpus was changed"):
        Corpus.open(URL).verify()


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


def test_ingest_fills_the_cache_and_uploads_the_manifest_last(
    make: Make, listed: Build, calls: Calls, cache: Path
) -> None:
    corpus: Any = ingest(listed(make(25)), None, Form(), Path(URL))  # as the command line has it: one slash is lost
    assert (corpus.url, Corpus.open(URL).digest) == (URL, corpus.digest)
    assert not [name for method, name in calls if method == "get_file"]
    assert len(shards_in(corpus)) == 3
    corpus.verify()
    order = [key for key in calls if key[0] in ("put_file", "pipe_file")]
    assert order[:3] == [("put_file", f"signals-{i:05d}.npy") for i in range(3)]
    assert order[-1] == ("pipe_file", "manifest.json")
    assert [p.suffix for p in (cache / "staging").iterdir()] == [".lock"]
    with pytest.raises(CorpusError, match="manifest"):
        Corpus.open("memory://bucket")


def test_a_killed_upload_goes_on_and_the_earlier_corpus_stays_until_its_end(
    there: Corpus, make: Make, listed: Build, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = uploading._put
    done: list[str] = []

    def breaking(file: Path, *args: Any) -> None:
        if len(done) == 2:
            raise ConnectionError
        put(file, *args)
        done.append(file.name)

    source = listed(make(35, age=40.0))
    monkeypatch.setattr(uploading, "_put", breaking)
    with pytest.raises(
        CorpusError, match=r"memory://bucket/corpus/.* does not answer .* what was made is kept in .*/st"
    ):
        ingest(source, None, Form(), URL)
    assert Corpus.open(URL).digest == there.digest
    assert np.array_equal(Corpus.open(URL).signals([24]), there.signals([24]))
    monkeypatch.setattr(uploading, "_put", put)
    calls.clear()
    corpus = ingest(source, None, Form(), URL, progress=lambda _: pytest.fail("it was made again"))
    assert done == ["signals-00000.npy", "signals-00001.npy"]
    assert not {("put_file", name) for name in done} & set(calls)
    assert calls["put_file", "signals-00002.npy"] == calls["put_file", "signals-00003.npy"] == 1
    assert Corpus.open(URL).digest == corpus.digest != there.digest
    empty_cache()
    Corpus.open(URL).verify()


def test_what_was_made_for_another_form_is_made_again(
    make: Make, listed: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking(*_: Any) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(uploading, "_put", breaking)
        with pytest.raises(CorpusError, match="access was denied"):
            ingest(listed(make(12)), None, Form(), URL)
    assert ingest(listed(make(12)), None, Form(length_s=5.0), URL).samples == 500


def test_a_truncated_upload_is_noticed(make: Make, listed: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(file: Path, store: Any, path: str) -> None:
        store.pipe_file(path, file.read_bytes()[:100])

    monkeypatch.setattr(uploading, "_put", cut)
    with pytest.raises(CorpusError, match=r"signals-00000.npy has 100 bytes after its upload, expected"):
        ingest(listed(make(12)), None, Form(), URL)
    with pytest.raises(CorpusError, match="holds no corpus"):
        Corpus.open(URL)


def test_two_ingests_to_one_url_make_and_upload_it_once(make: Make, listed: Build, calls: Calls) -> None:
    source, started, go_on, found = listed(make(25)), threading.Event(), threading.Event(), []

    def hold(_: int) -> None:
        started.set()
        go_on.wait(10)

    first = threading.Thread(target=lambda: found.append(ingest(source, None, Form(), URL, hold)))
    first.start()
    started.wait(10)
    second = threading.Thread(
        target=lambda: found.append(ingest(source, None, Form(), URL, lambda _: pytest.fail("made twice")))
    )
    second.start()
    time.sleep(0.2)
    go_on.set()
    for thread in (first, second):
        thread.join()
    assert len(found) == 2
    assert calls["put_file", "signals-00000.npy"] == 1


def test_where_nothing_may_be_deleted_the_earlier_files_stay(
    there: Corpus, make: Make, listed: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: Any) -> None:
        raise PermissionError("key AKIAIOSFODNN7EXAMPLE")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "rm_file", denied)
    with pytest.warns(UserWarning, match="replaced stay in memory://bucket/corpus/.*access was denied") as said:
        corpus = ingest(listed(make(12)), None, Form(), URL)
    assert Corpus.open(URL).digest == corpus.digest
    assert "AKIA" not in str(said[0].message)


def test_a_folder_that_was_copied_opens_on_both_sides(there: Corpus, tmp_path: Path, make: Make, listed: Build) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(f"{there.path}/", "memory://bucket/copied/", recursive=True)
    copied = Corpus.open("memory://bucket/copied/")
    assert np.array_equal(copied.signals([1, 24]), there.signals([1, 24]))
    memory.get("memory://bucket/corpus/", str(tmp_path / "down"), recursive=True)
    down = Corpus.open(tmp_path / "down")
    down.verify()
    assert (type(down), down.digest) == (Corpus, there.digest)
    replaced = ingest(listed(make(12)), None, Form(), "memory://bucket/copied")
    assert Corpus.open("memory://bucket/copied").digest == replaced.digest
    names = {name.removeprefix("/bucket/copied/").count("/") for name in memory.find("memory://bucket/copied")}
    assert sum("/" not in n.removeprefix("/bucket/copied/") for n in memory.find("memory://bucket/copied")) == 2, names


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"../../evil.npy": 3}},
        {"files": {".hidden": 3}},
        {"folder": "../other"},
        {"digest": "/etc"},
        {"shards": 3},
        {"digest": None},
    ],
)
def test_a_manifest_names_no_file_outside_its_folders(there: Corpus, change: dict[str, Any], cache: Path) -> None:
    manifest = json.loads(remote()["manifest.json"])
    fsspec.filesystem("memory").pipe_file(
        "memory://bucket/corpus/manifest.json", json.dumps(manifest | change).encode()
    )
    with pytest.raises(CorpusError, match=r"memory://bucket/corpus/manifest.json is not that of a corpus"):
        Corpus.open(URL)
    assert not cache.exists()


@pytest.mark.parametrize("content", [b"[]", b"\xff", b"{", b'{"name": "somebody\'s own"}'])
def test_somebody_elses_manifest_is_not_overwritten(make: Make, listed: Build, content: bytes) -> None:
    fsspec.filesystem("memory").pipe_file("memory://bucket/corpus/manifest.json", content)
    with pytest.raises(CorpusError, match="is not that of a corpus; choose another URL"):
        ingest(listed(make(12)), None, Form(), URL)
    assert remote() == {"manifest.json": content}


def test_another_format_is_refused(there: Corpus) -> None:
    manifest = json.loads(remote()["manifest.json"]) | {"format": 1}
    fsspec.filesystem("memory").pipe_file("memory://bucket/corpus/manifest.json", json.dumps(manifest).encode())
    with pytest.raises(CorpusError, match="memory://bucket/corpus has corpus format 1, expected"):
        Corpus.open(URL)


def test_places_that_are_urls() -> None:
    assert store.url_of("s3://bucket/a b/c/") == store.url_of(Path("s3://bucket/a b/c")) == "s3://bucket/a b/c"
    assert store.url_of(Path("file:///data/c")) == store.url_of("file:///data/c") == "file:///data/c"
    assert store.url_of("GS://bucket") == "gs://bucket"
    assert [store.url_of(p) for p in ("corpus", "/data/corpus", "a:b", Path("../corpus"))] == [None] * 4
    with pytest.raises(CorpusError, match=r"sftp://\*\*\*@host/corpus holds a password") as refused:
        Corpus.open("sftp://me:secret@host/corpus")
    assert "secret" not in str(refused.value)
    assert store.url_of("abfs://container@account/corpus") == "abfs://container@account/corpus"


def _boto_error(code: str) -> Exception:
    error = OSError("quoting the secret")
    error.__cause__ = type("ClientError", (Exception,), {"response": {"Error": {"Code": code}}})()
    return error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (PermissionError("secret"), "access was denied"),
        (ConnectionRefusedError("secret"), r".* does not answer \(ConnectionRefusedError\)"),
        (
            type("EndpointConnectionError", (Exception,), {})("secret"),
            r".* does not answer \(EndpointConnectionError\)",
        ),
        (type("NoCredentialsError", (Exception,), {})("secret"), "no credentials were found; for S3 set AWS_PROFILE"),
        (OSError(28, "secret"), "no space is left"),
        (_boto_error("SlowDown"), "its store answered SlowDown"),
        (KeyError("secret"), "its store answered KeyError"),
    ],
)
def test_an_error_of_a_store_is_one_sentence_without_secrets(
    monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "cat_file", failing)
    with pytest.raises(
        CorpusError, match=f"memory://bucket/corpus/manifest.json cannot be reached: {sentence}"
    ) as said:
        Corpus.open(URL)
    assert "secret" not in str(said.value)
    assert said.value.__suppress_context__


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    for known in ("s3", "gs"):
        monkeypatch.delitem(importlib.import_module("fsspec.registry")._registry, known, raising=False)
    with pytest.raises(CorpusError, match=r's3://bucket/corpus.* not installed: pip install "ecgscale\[s3\]"'):
        Corpus.open("s3://bucket/corpus")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(CorpusError, match=r"gs://bucket/corpus.* not installed: .*gcsfs"):
        Corpus.open("gs://bucket/corpus")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(CorpusError, match=r'not installed: pip install "ecgscale\[s3\]"'):
        Corpus.open("s3://bucket/corpus")


def test_an_unknown_kind_of_url_and_an_empty_place_are_one_sentence() -> None:
    with pytest.raises(CorpusError, match=r"nonsense://a/b/manifest.json is of no kind that fsspec knows"):
        Corpus.open("nonsense://a/b")
    with pytest.raises(CorpusError, match=r"memory://bucket/corpus holds no corpus: no manifest.json is there"):
        Corpus.open(URL)


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


@pytest.fixture(scope="module")
def s3() -> Iterator[SimpleNamespace]:
    """An S3 server on 127.0.0.1 with a bucket, or a skip with its reason."""
    for package in ("s3fs", "moto", "flask"):
        pytest.importorskip(package, reason=f"no {package}: pip install s3fs 'moto[server]'")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "topsecret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.filesystem("s3").mkdir("bucket")
        yield SimpleNamespace(url="s3://bucket/path/corpus")
    server.stop()
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_a_corpus_goes_to_s3_and_comes_from_there(
    s3: SimpleNamespace, make: Make, listed: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Any = ingest(listed(make(25)), None, Form(), s3.url)
    expected = made.signals(range(len(made)))
    with monkeypatch.context() as patch:
        patch.setattr(uploading, "_put", lambda file, *_: pytest.fail(f"{file.name} is there already"))
        assert ingest(listed(make(25)), None, Form(), s3.url).digest == made.digest
    empty_cache()
    corpus: Any = Corpus.open(s3.url)
    assert isinstance(corpus, RemoteCorpus)
    assert shards_in(corpus) == []
    assert np.array_equal(corpus.signals(range(len(made))), expected)
    other = ingest(listed(make(12)), None, Form(), s3.url)
    found = fsspec.filesystem("s3", use_listings_cache=False).find("bucket/path")
    assert len(found) == len(other.manifest["files"]) + 2
    assert Corpus.open(s3.url).digest == other.digest != made.digest


def test_what_s3_says_no_to_is_one_sentence(s3: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        CorpusError, match=r"s3://nobucket/corpus/manifest.json cannot be reached: there is no such bucke"
    ):
        Corpus.open("s3://nobucket/corpus")
    with pytest.raises(CorpusError, match="s3://bucket/nothing holds no corpus"):
        Corpus.open("s3://bucket/nothing")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(
        CorpusError, match=r"s3://bucket/x/manifest.json cannot be reached: the network or the server"
    ) as e:
        Corpus.open("s3://bucket/x")
    assert "topsecret" not in str(e.value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
