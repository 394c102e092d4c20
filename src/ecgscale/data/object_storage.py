"""Corpora in object storage (S3, or whatever else fsspec reaches), read through a cache on the local disk.

At its URL a corpus is `manifest.json`, which names a folder beside it, and that folder, a corpus as on a disk:

    s3://bucket/path/manifest.json        "folder": "<version>"; the only object that is ever written twice
    s3://bucket/path/<version>/…          signals-00000.npy, …, index.parquet, manifest.json

The version is the digest and a hash of every file, so what has its name and size has its content, and a corpus is
replaced in the moment in which `manifest.json` is. A corpus folder that was copied to a URL by other means, its files
beside `manifest.json`, opens as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ecgscale.data import ingestion, shard_cache
from ecgscale.data.corpus import Corpus
from ecgscale.data.shard_cache import alone, cache_folder, checksum
from ecgscale.data.storage import CorpusError, writing
from ecgscale.data.store import NotThereError, ask

_NAME = re.compile(r"\w[\w.-]*")  # of a file in a manifest: it becomes one on this disk
_VERSION = re.compile(r"[0-9a-f]{16}(-[0-9a-f]{8})?")


@dataclass(frozen=True)
class Place:
    """Where the files of one version of a corpus are."""

    url: str  # of the corpus
    folder: str  # below it; "" where the files lie beside the manifest
    version: str

    @property
    def cache(self) -> Path:
        """The folder on the local disk."""
        return cache_folder() / "corpora" / f"{short(self.url)}-{self.version}"

    def address(self, name: str = "") -> str:
        """Return the URL of a file, or of the folder."""
        return "/".join(part for part in (self.url, self.folder, name) if part)


class RemoteCorpus(Corpus):
    """A corpus at a URL. Opening fetches all but the signals; a shard of signals is fetched when a row of it is read.

    `path` is its folder in the cache (`data/shard_cache.py`). A shard comes whole, once for all processes, and counts
    only if its length and checksum are those in the manifest. Where the cache is bounded, the shards read longest ago
    go first. One that another process has mapped stays, so that each process may exceed the bound by a shard; this
    process lets go of its own where the rest is not enough. Files other than shards stay until the folder is deleted.
    """

    def __init__(self, place: Place, manifest: dict[str, Any]) -> None:
        super().__init__(place.cache, manifest)
        self.place, self.url = place, place.url
        self._shards = frozenset(manifest["shards"])
        self._read_at: dict[str, float] = {}  # of a shard that was mapped
        self._let_go: set[str] = set()
        self._told = False
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            for name in set(manifest["files"]) - self._shards:
                self._fetch(name)
            self._keep_manifest()
            self.make_room()

    @classmethod
    def at(cls, url: str) -> RemoteCorpus:
        """Open the corpus that is at a URL now; see `Corpus.open`."""
        manifest = manifest_at(url)
        if manifest is None:
            raise CorpusError(f"{url} holds no corpus: no manifest.json is there; ingest the data set to it")
        found = manifest.get("format")
        if found != ingestion.FORMAT:
            raise CorpusError(
                f"{url} has corpus format {found}, expected {ingestion.FORMAT}; ingest the data set again"
            )
        return cls(Place(url, manifest.pop("folder", ""), version_of(manifest)), manifest)

    @classmethod
    def of(cls, place: Place) -> RemoteCorpus:
        """Open this version of a corpus; if it is in the cache, without asking the store what is there now."""
        with suppress(FileNotFoundError):
            return cls(place, json.loads((place.cache / "manifest.json").read_text()))
        corpus = cls.at(place.url)
        if corpus.place != place:
            raise CorpusError(f"{place.url} was replaced: it is {corpus.place.version}, expected {place.version}")
        return corpus

    def __reduce__(self) -> tuple[Callable[..., Corpus], tuple[Any, ...]]:
        return RemoteCorpus.of, (self.place,)

    def verify(self) -> None:
        """Read everything once more, fetching what is not here.

        Raises:
            CorpusError: the content does not have the digest in the manifest.
        """
        self._verify_mapped()
        fetched = (name for name in self.manifest["shards"] if len(self._map(name)))  # each as its turn comes
        found = ingestion.digest_of(self.path, {**self.manifest, "shards": fetched})
        if found != self.digest:
            raise CorpusError(f"{self.url} was changed: its digest is {found}, expected {self.digest}; ingest again")

    def make_room(self, size: int = 0) -> None:
        """Evict shards from the cache until `size` more bytes fit into its bound.

        Raises:
            CorpusError: the bound is smaller than `size`.
        """
        if size > (bound := shard_cache.bound_bytes()):
            what = f"a file of {self.url} has {size / 1e9:.3g} GB"
            raise CorpusError(f"ECGSCALE_CACHE_GB is {bound / 1e9:g}, but {what}; raise it")
        excess = shard_cache.make_room(size)
        for name in sorted(set(self._maps) & set(self._read_at), key=lambda name: self._read_at[name]):
            if excess > 0:
                self._let_go.add(name)
                self._maps.pop(name, None)
                excess -= self.manifest["files"][name] if shard_cache.evict(self.path / name) else 0

    def _map(self, name: str) -> npt.NDArray[Any]:
        if name not in self._shards:
            return super()._map(name)
        found = self._maps.get(name)
        if found is None:
            found = self._maps[name] = self._mapped(name)
        self._read_at[name] = time.monotonic()
        with suppress(OSError):  # a cache may be read-only, or emptied by hand: what is mapped stays
            os.utime(self.path / name, ns=(time.time_ns(),) * 2)  # by itself it would be to a few milliseconds only
        return found

    def _mapped(self, name: str) -> npt.NDArray[Any]:
        while True:
            self._fetch(name)
            with suppress(FileNotFoundError):  # another process needed the room in the meantime
                try:
                    return shard_cache.map_locked(self.path / name)
                except ValueError:
                    raise CorpusError(f"{self.place.address(name)} is no array; ingest the data set again") from None

    def _fetch(self, name: str) -> None:
        """Bring a file into the cache, unless it is there."""
        part = self.path / f".{name}.part"
        if self._is_here(name):
            return
        with writing(self.path), alone(part):
            if self._is_here(name):  # another process was first
                part.unlink()
                return
            try:
                self._download(name, part)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
            part.replace(self.path / name)

    def _is_here(self, name: str) -> bool:
        try:
            return (self.path / name).stat().st_size == int(self.manifest["files"][name])
        except FileNotFoundError:
            return False

    def _download(self, name: str, part: Path) -> None:
        size, expected = self.manifest["files"][name], self.manifest.get("checksums", {}).get(name)
        self.make_room(size)
        self._warn_if_again(name)
        try:
            ask(self.place.address(name), lambda store, path: store.get_file(path, str(part)))
        except NotThereError:
            what = "is missing"
        else:
            found = part.stat().st_size
            what = f"has {found} bytes, expected {size}" if found != size else ""
            if not what and expected and checksum(part) != expected:  # none where the folder was copied there
                what = "does not have the checksum in the manifest"
        if what:
            raise CorpusError(
                f"the corpus {self.url} is torn, or was replaced after it was opened: {name} {what}; open it again, or "
                "ingest the data set again"
            )

    def _warn_if_again(self, name: str) -> None:
        if name in self._let_go and not self._told:
            self._told = True
            warnings.warn(
                f"ECGSCALE_CACHE_GB={os.environ.get('ECGSCALE_CACHE_GB')} does not hold what this process reads of "
                f"{self.url}: shards are fetched again and again; raise it",
                stacklevel=2,
            )

    def _keep_manifest(self) -> None:
        text, file = json.dumps(self.manifest, indent=1), self.path / "manifest.json"
        if not (file.is_file() and file.read_text() == text):
            fresh = self.path / f".manifest-{os.getpid()}-{threading.get_ident()}"
            fresh.write_text(text)
            fresh.replace(file)


def manifest_at(url: str) -> dict[str, Any] | None:
    """Return the manifest at a URL, None if there is none.

    Raises:
        CorpusError: the URL cannot be reached, or something else is there.
    """
    try:
        text = ask(f"{url}/manifest.json", lambda store, path: store.cat_file(path))
    except NotThereError:
        return None
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        manifest: dict[str, Any] = json.loads(text)
        names = [*manifest["files"], *manifest["shards"]]
        versions = [manifest["digest"], manifest.get("folder", manifest["digest"])]
        if all(map(_NAME.fullmatch, names)) and all(map(_VERSION.fullmatch, versions)):
            return manifest
    raise CorpusError(f"{url}/manifest.json is not that of a corpus; choose another URL")


def version_of(manifest: dict[str, Any]) -> str:
    """Return what tells one set of files from another: the digest, and a hash of their names, sizes and checksums."""
    files = json.dumps([manifest["files"], manifest.get("checksums")], sort_keys=True)
    return f"{manifest['digest']}-{hashlib.blake2b(files.encode(), digest_size=4).hexdigest()}"


def short(url: str) -> str:
    """Return the name a URL has in the cache."""
    return hashlib.blake2b(url.encode(), digest_size=8).hexdigest()
