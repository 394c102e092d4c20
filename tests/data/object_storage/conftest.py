"""An empty cache and an empty memory:// for each test, and a corpus to fill them with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ecgscale.data import storage
from ecgscale.data.corpus import Corpus, Form, ingest
from ecgscale.datasets.simulated import Simulated

from .bucket import PER_SHARD, URL, Calls, memory


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, an empty memory:// and small shards."""
    monkeypatch.setenv("ECGSCALE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ECGSCALE_CACHE_GB", raising=False)
    monkeypatch.setattr(storage, "SHARD_BYTES", PER_SHARD * 12 * 1000 * 2)
    bucket = memory()
    yield tmp_path / "cache"
    bucket.store.clear()
    bucket.pseudo_dirs[:] = [""]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Counts (method, name of the file) of everything that memory:// is asked for."""
    counted: Calls = Counter()
    kind = type(memory())
    for method in ("get_file", "cat_file", "put_file", "pipe_file", "rm_file"):
        original = getattr(kind, method)

        def call(self: Any, *args: Any, _original: Any = original, _method: str = method, **kwargs: Any) -> Any:
            path = args[1] if _method == "put_file" else args[0]
            counted[_method, path.rsplit("/", 1)[-1]] += 1
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(kind, method, call)
    return counted


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A corpus of three shards, and what an ingest to URL puts there."""
    folder, bucket = tmp_path_factory.mktemp("made"), memory()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECGSCALE_CACHE", str(folder / "cache"))
        patch.setattr(storage, "SHARD_BYTES", PER_SHARD * 12 * 1000 * 2)
        ingest(Simulated(count=30), None, Form(), folder / "corpus")
        ingest(Simulated(count=30), None, Form(), URL)
    return folder / "corpus", {name: bucket.cat_file(name) for name in bucket.find(URL)}


@pytest.fixture
def there(made: tuple[Path, dict[str, bytes]]) -> Corpus:
    """A corpus on the local disk which is also at URL; the cache is empty."""
    for name, content in made[1].items():
        memory().pipe_file(name, content)
    return Corpus.open(made[0])
