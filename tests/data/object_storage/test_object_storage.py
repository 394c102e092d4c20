"""A corpus at a URL is the corpus: it reads as on the disk, opens whole or not at all, and may be copied."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecgscale.data.corpus import Corpus, CorpusError, Form, ingest
from ecgscale.data.split import SplitRule, corpus_parts

from .bucket import SHARD, URL, Build, Calls, Make, alter, empty_cache, remote, shards_in

fsspec = pytest.importorskip("fsspec")


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


def test_another_format_is_refused(there: Corpus) -> None:
    manifest = json.loads(remote()["manifest.json"]) | {"format": 1}
    fsspec.filesystem("memory").pipe_file("memory://bucket/corpus/manifest.json", json.dumps(manifest).encode())
    with pytest.raises(CorpusError, match="memory://bucket/corpus has corpus format 1, expected"):
        Corpus.open(URL)
