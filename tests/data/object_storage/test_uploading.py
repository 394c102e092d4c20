"""An ingest to a URL: the manifest goes last, a kill loses nothing, and nobody's files are overwritten."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecgscale.data import uploading
from ecgscale.data.corpus import Corpus, CorpusError, Form, ingest

from .bucket import URL, Build, Calls, Make, empty_cache, remote, shards_in

fsspec = pytest.importorskip("fsspec")


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


@pytest.mark.parametrize("content", [b"[]", b"\xff", b"{", b'{"name": "somebody\'s own"}'])
def test_somebody_elses_manifest_is_not_overwritten(make: Make, listed: Build, content: bytes) -> None:
    fsspec.filesystem("memory").pipe_file("memory://bucket/corpus/manifest.json", content)
    with pytest.raises(CorpusError, match="is not that of a corpus; choose another URL"):
        ingest(listed(make(12)), None, Form(), URL)
    assert remote() == {"manifest.json": content}
