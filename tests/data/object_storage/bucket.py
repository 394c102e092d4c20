"""A corpus in a bucket of memory://, and how the tests look into the bucket and the cache."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from ecgscale.data import shard_cache
from ecgscale.data.corpus import Corpus
from ecgscale.data.record import Record

Make = Callable[..., list[Record]]
Build = Callable[..., Any]
Calls = Counter[tuple[str, str]]

URL = "memory://bucket/corpus"
PER_SHARD = 10
SHARD = PER_SHARD * 12 * 1000 * 2 + 128  # bytes of a full one, with the header of NPY


def memory() -> Any:
    """Return the store behind memory://, or skip the test where fsspec is not installed."""
    return pytest.importorskip("fsspec").filesystem("memory")


def empty_cache() -> None:
    """As on another machine."""
    shutil.rmtree(shard_cache.cache_folder())


def shards_in(corpus: Corpus) -> list[str]:
    return sorted(p.name for p in corpus.path.glob("signals-*.npy"))


def remote(url: str = URL) -> dict[str, bytes]:
    return {name.removeprefix("/bucket/corpus/"): memory().cat_file(name) for name in memory().find(url)}


def alter(name: str, content: bytes) -> None:
    path = next(name_ for name_ in memory().find(URL) if name_.endswith(name))
    memory().pipe_file(path, content)
