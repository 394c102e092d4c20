"""What counts as a URL, what a store's errors become, and S3 from end to end."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ecgscale.data import store, uploading
from ecgscale.data.corpus import Corpus, CorpusError, Form, ingest
from ecgscale.data.object_storage import RemoteCorpus

from .bucket import URL, Build, Make, empty_cache, shards_in

fsspec = pytest.importorskip("fsspec")


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
