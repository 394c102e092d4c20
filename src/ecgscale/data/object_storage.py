"""Corpora in object storage (S3 and whatever else fsspec reaches), read through a cache on the local disk.

At its URL a corpus is `manifest.json`, which names a folder beside it, and that folder, a corpus as on a disk:

    s3://bucket/path/manifest.json        "folder": "<version>"; the only object that is ever written twice
    s3://bucket/path/<version>/…          signals-00000.npy, …, index.parquet, manifest.json

The version is the digest and a hash of every file, so what has its name and size has its content, and a corpus is
replaced in the moment in which `manifest.json` is. A corpus folder that was copied to a URL by other means, its files
beside `manifest.json`, opens as well.

Environment: `ECGSCALE_CACHE` is the folder of the cache (default `~/.cache/ecgscale`); `ECGSCALE_CACHE_GB` bounds it,
in 1e9 bytes (default: no bound). Credentials, end point and the like come from where fsspec and the store's own
library look for them (for S3 `AWS_PROFILE`, `AWS_ENDPOINT_URL`, `FSSPEC_S3_ANON`, …).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib
import json
import os
import re
import shutil
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ecgscale.data import ingestion
from ecgscale.data.corpus import Corpus
from ecgscale.data.signal import Form
from ecgscale.data.source import Source
from ecgscale.data.storage import CorpusError, writing

_URL = re.compile(r"([A-Za-z][\w+.:-]+):/+(.*)")
_PASSWORD = re.compile(r"//[^/@]*:[^/@]*@")
_FILE = re.compile(r"\w[\w.-]*")  # a name from a manifest becomes a name on this disk
_VERSION = re.compile(r"[0-9a-f]{16}(-[0-9a-f]{8})?")
_SHARD = re.compile(r"\.?signals-\d+\.npy(\.part)?")
_NO_ANSWER = re.compile("Connect|Timeout|Endpoint|Network|gaierror|Resol")

Call = Callable[[Any, str], Any]


def url_of(place: Path | str) -> str | None:
    """Return the URL that a place is, None for a folder. A Path has lost one of the two slashes and gets it back.

    Raises:
        CorpusError: the URL holds a password.
    """
    match = _URL.fullmatch(os.fspath(place))
    if match is None:
        return None
    scheme, rest = match[1].lower(), match[2].rstrip("/")
    url = f"{scheme}:///{rest}" if scheme in ("file", "local") else f"{scheme}://{rest}"
    if _PASSWORD.search(url):
        shown = _PASSWORD.sub("//***@", url)
        raise CorpusError(f"{shown} holds a password, which would be written down with it; give it by the environment")
    return url


@dataclass(frozen=True)
class Place:
    """Where the files of one version of a corpus are."""

    url: str  # of the corpus
    folder: str  # below it; "" where the files lie beside the manifest
    version: str

    @property
    def cache(self) -> Path:
        """The folder on the local disk."""
        return cache_folder() / "corpora" / f"{_short(self.url)}-{self.version}"

    def address(self, name: str = "") -> str:
        """The URL of a file, or of the folder."""
        return "/".join(part for part in (self.url, self.folder, name) if part)


class RemoteCorpus(Corpus):
    """A corpus at a URL. Opening fetches all but the signals; a shard of signals is fetched when a row of it is read.

    `path` is its folder in the cache. A shard comes whole, once for all processes, and is believed only if its length
    and checksum are those in the manifest. Where the cache is bounded, the shards read longest ago go first; one that
    any process has mapped stays, but this one lets go of its own where that is not enough. Several processes may exceed
    the bound by a shard each. Files other than shards stay until the folder is deleted.
    """

    def __init__(self, place: Place, manifest: dict[str, Any]) -> None:
        super().__init__(place.cache, manifest)
        self.place, self.url = place, place.url
        self._read_at: dict[str, float] = {}  # of the shards that are mapped
        self._let_go: set[str] = set()
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        for name in manifest["files"]:
            if name not in manifest["shards"]:
                self._fetch(name)
        self._keep_manifest()

    @classmethod
    def at(cls, url: str) -> RemoteCorpus:
        """Open the corpus that is at a URL now; see `Corpus.open`."""
        manifest = _manifest_at(url)
        if manifest is None:
            raise CorpusError(f"{url} holds no corpus: no manifest.json is there; ingest the data set to it")
        if manifest.get("format") != ingestion.FORMAT:
            found = manifest.get("format")
            raise CorpusError(f"{url} has corpus format {found}, expected {ingestion.FORMAT}; ingest the data set again")
        return cls(Place(url, manifest.pop("folder", ""), _version(manifest)), manifest)

    @classmethod
    def of(cls, place: Place) -> RemoteCorpus:
        """Open this version of a corpus, from the cache if it is there: without asking the store what is there now."""
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
        fetched = (name for name in self.manifest["shards"] if self._map(name) is not None)  # as many as the cache holds
        found = ingestion.digest_of(self.path, {**self.manifest, "shards": fetched})
        if found != self.digest:
            raise CorpusError(f"{self.url} was changed: its digest is {found}, expected {self.digest}; ingest again")

    def _map(self, name: str) -> npt.NDArray[Any]:
        if name not in self.manifest["shards"]:
            return super()._map(name)
        found = self._maps.get(name)
        if found is None:
            found = self._maps[name] = self._mapped(name)
        self._read_at[name] = time.monotonic()
        with suppress(OSError):  # a cache may be read-only, and somebody may have emptied it: what is mapped stays
            os.utime(self.path / name)
        return found

    def _mapped(self, name: str) -> npt.NDArray[Any]:
        while True:
            self._fetch(name)
            with suppress(FileNotFoundError):  # another process needed the room in the meantime
                try:
                    return _map_held(self.path / name)
                except (ValueError, EOFError):
                    raise CorpusError(f"{self.place.address(name)} is no array; ingest the data set again") from None

    def _fetch(self, name: str) -> None:
        """Bring a file into the cache, unless it is there."""
        target, part = self.path / name, self.path / f".{name}.part"
        if self._is_here(name):
            return
        with writing(self.path), _alone(part):
            try:
                if self._is_here(name):  # another process was first
                    return
                self._make_room(self.manifest["files"][name])
                self._say_again(name)
                _ask(self.place.address(name), lambda store, path: store.get_file(path, str(part)))
                self._check(name, part)
                part.replace(target)
            except FileNotFoundError:
                raise CorpusError(
                    f"the corpus {self.url} is torn or was replaced: {self.place.address(name)} is missing; open it "
                    "again, or ingest the data set again"
                ) from None
            finally:
                part.unlink(missing_ok=True)

    def _is_here(self, name: str) -> bool:
        target = self.path / name
        return target.is_file() and target.stat().st_size == self.manifest["files"][name]

    def _check(self, name: str, part: Path) -> None:
        found, size = part.stat().st_size, self.manifest["files"][name]
        what = f"has {found} bytes, expected {size}" if found != size else ""
        checksum = self.manifest.get("checksums", {}).get(name)  # none where the folder was copied there
        if not what and checksum and _checksum(part) != checksum:
            what = "does not have the checksum in the manifest"
        if what:
            raise CorpusError(f"the corpus {self.url} is torn: {name} {what}; ingest the data set again")

    def _make_room(self, size: int) -> None:
        """Evict shards until `size` more bytes fit into the bound."""
        bound = _bound()
        if bound is None:
            return
        if size > bound:
            raise CorpusError(f"ECGSCALE_CACHE_GB is {bound / 1e9:g}, but a shard of {self.url} has {size / 1e9:.3g} GB")
        there = _cached()
        excess = sum(file.st_size for file in there.values()) + size - bound
        for path, file in sorted(there.items(), key=lambda item: item[1].st_mtime_ns):
            if excess > 0 and _SHARD.fullmatch(path.name) and _evict(path):
                excess -= file.st_size
        for name in sorted(set(self._maps) & set(self._read_at), key=lambda name: self._read_at[name]):
            if excess > 0:
                del self._maps[name]
                self._let_go.add(name)
                excess -= self.manifest["files"][name] if _evict(self.path / name) else 0

    def _say_again(self, name: str) -> None:
        if name in self._let_go:
            self._let_go.clear()
            warnings.warn(
                f"ECGSCALE_CACHE_GB={os.environ['ECGSCALE_CACHE_GB']} does not hold what this process reads of "
                f"{self.url}: shards are fetched again and again; raise it",
                stacklevel=2,
            )

    def _keep_manifest(self) -> None:
        text, file = json.dumps(self.manifest, indent=1), self.path / "manifest.json"
        if not (file.is_file() and file.read_text() == text):
            fresh = self.path / f".manifest-{os.getpid()}-{threading.get_ident()}"
            with writing(self.path):
                fresh.write_text(text)
                fresh.replace(file)


def ingest(
    dataset: Source, root: Path | None, form: Form, url: str, progress: Callable[[int], None] | None, workers: int
) -> RemoteCorpus:
    """Make a corpus in the cache and bring it to a URL; see `ecgscale.data.corpus.ingest`."""
    staging = cache_folder() / "staging" / _short(url)
    with writing(staging):
        staging.parent.mkdir(parents=True, exist_ok=True)
    with _alone(staging.with_suffix(".lock")) as waited:
        earlier = _manifest_at(url)  # before hours of work: can the store be reached?
        identity = json.loads(json.dumps(ingestion.making(dataset, root, form)))
        if waited and earlier and _is_of(earlier, identity):
            return RemoteCorpus.at(url)
        if not _is_made(staging, identity):
            ingestion.run(dataset, root, form, staging, progress, workers)
        manifest = json.loads((staging / "manifest.json").read_text())
        manifest["checksums"] = {name: _checksum(staging / name) for name in manifest["files"]}
        place = Place(url, _version(manifest), _version(manifest))
        try:
            _upload(staging, manifest, place)
        except CorpusError as error:
            raise CorpusError(f"{error}; what was made is kept in {staging}, the same call goes on from there") from None
        if earlier:
            _remove(Place(url, earlier.get("folder", ""), ""), earlier, place)
        with writing(place.cache):
            _move(staging, manifest, place.cache)
    corpus = RemoteCorpus(place, manifest)
    corpus._make_room(0)
    return corpus


def cache_folder() -> Path:
    """Return the folder of the cache: `$ECGSCALE_CACHE`, or `ecgscale` in the user's folder for caches."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("ECGSCALE_CACHE") or home / "ecgscale").expanduser()


def _bound() -> int | None:
    text = os.environ.get("ECGSCALE_CACHE_GB")
    if not text:
        return None
    try:
        bound = int(float(text) * 1e9)
    except (ValueError, OverflowError):
        bound = 0
    if bound <= 0:
        raise CorpusError(f"ECGSCALE_CACHE_GB is {text!r}, expected a number of gigabytes above 0")
    return bound


def _ask(url: str, call: Call) -> Any:
    """Do something with the file system of a URL and its path there; only FileNotFoundError comes through as it is."""
    store, path = _store(url)
    try:
        return call(store, path)
    except Exception as error:  # every store's library has its own; their texts may quote credentials
        answer = getattr(error.__cause__, "response", None) or {}
        code = str(answer.get("Error", {}).get("Code", "")) or type(error).__name__
        if isinstance(error, FileNotFoundError) and code != "NoSuchBucket":
            raise
        raise CorpusError(f"{url} cannot be reached: {_why(error, code)}") from None


def _why(error: Exception, code: str) -> str:
    if code == "NoSuchBucket":
        return "there is no such bucket"
    if isinstance(error, PermissionError):
        return "access was denied; check the credentials and what they may do there"
    if "Credential" in code:
        return "no credentials were found; for S3 set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space is left where its files are written; make room, or set ECGSCALE_CACHE to a larger disk"
    if isinstance(error, ConnectionError | TimeoutError) or _NO_ANSWER.search(code):
        return f"the network or the server does not answer ({code}); try again"
    return f"its store answered {code}"


def _store(url: str) -> tuple[Any, str]:
    local = {"auto_mkdir": True} if url.startswith(("file:", "local:")) else {}
    try:
        store, path = importlib.import_module("fsspec.core").url_to_fs(url, use_listings_cache=False, **local)
    except ImportError as error:
        how = 'pip install "ecgscale[s3]"' if url.startswith(("s3:", "s3a:")) else f"{error}"
        raise CorpusError(f"{url} needs a package that is not installed: {how}") from None
    except ValueError:
        raise CorpusError(f"{url} is of no kind that fsspec knows; s3://bucket/path is one") from None
    return store, str(path)


def _manifest_at(url: str) -> dict[str, Any] | None:
    """Return the manifest at a URL, None if there is none."""
    try:
        text = _ask(f"{url}/manifest.json", lambda store, path: store.cat_file(path))
    except FileNotFoundError:
        return None
    try:
        manifest: dict[str, Any] = json.loads(text)
        version, names = manifest.get("folder", manifest["digest"]), {*manifest["files"], *manifest["shards"]}
        good = _VERSION.fullmatch(version) and all(map(_FILE.fullmatch, names)) and names == set(manifest["files"])
    except (ValueError, KeyError, TypeError, AttributeError):
        good = None
    if not good:
        raise CorpusError(f"{url}/manifest.json is not that of a corpus; choose another URL")
    return manifest


def _version(manifest: dict[str, Any]) -> str:
    files = json.dumps([manifest["files"], manifest.get("checksums")], sort_keys=True)
    return f"{manifest['digest']}-{hashlib.blake2b(files.encode(), digest_size=4).hexdigest()}"


def _upload(folder: Path, manifest: dict[str, Any], place: Place) -> None:
    """Bring what is not there to a URL: signals first, the manifest last."""
    there = _listed(place)
    for name, size in manifest["files"].items():
        if there.get(name) != size:
            _ask(place.address(name), lambda store, path, file=folder / name: store.put_file(str(file), path))
    there = _listed(place)
    for name, size in manifest["files"].items():
        if there.get(name) != size:
            raise CorpusError(f"{place.address(name)} has {there.get(name)} bytes after its upload, expected {size}")
    for url, content in (
        (place.address(), manifest),
        (place.url, {**manifest, "folder": place.folder}),
    ):
        text = json.dumps(content, indent=1, allow_nan=False).encode()
        _ask(f"{url}/manifest.json", lambda store, path, text=text: store.pipe_file(path, text))


def _listed(place: Place) -> dict[str, int]:
    try:
        found = _ask(place.address(), lambda store, path: store.find(path, maxdepth=1, detail=True))
    except FileNotFoundError:
        return {}
    return {name.rsplit("/", 1)[-1]: file["size"] for name, file in found.items()}


def _remove(earlier: Place, manifest: dict[str, Any], now: Place) -> None:
    """Delete the files of the corpus that was replaced; where that is not allowed the new one is whole all the same."""
    if earlier.folder == now.folder:
        return
    names = {*manifest["files"], *(["manifest.json"] if earlier.folder else [])}
    try:
        for name in sorted(names & set(_listed(earlier))):
            _ask(earlier.address(name), lambda store, path: store.rm_file(path))
    except (CorpusError, FileNotFoundError) as error:
        warnings.warn(f"the files of the corpus that was replaced stay in {earlier.address()}: {error}", stacklevel=2)


def _is_of(manifest: dict[str, Any], identity: dict[str, Any]) -> bool:
    return all(manifest.get(key) == value for key, value in identity.items())


def _is_made(staging: Path, identity: dict[str, Any]) -> bool:
    """Did an earlier call make this corpus, and not bring it to its URL?"""
    try:
        return _is_of(Corpus.open(staging).manifest, identity)
    except CorpusError:
        return False


def _move(staging: Path, manifest: dict[str, Any], cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    (staging / "manifest.json").unlink()  # it is whole no more
    for name in manifest["files"]:
        (staging / name).replace(cache / name)
    shutil.rmtree(staging)


def _map_held(path: Path) -> npt.NDArray[Any]:
    """Map an NPY file; as long as it is mapped it is locked against eviction, by the file that a memory map keeps open.

    Raises:
        FileNotFoundError: it is not there, or was evicted while it was being opened.
    """
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        if os.fstat(file.fileno()).st_ino != path.stat().st_ino:
            raise FileNotFoundError(path)
        np.lib.format.read_magic(file)
        shape, _, kind = np.lib.format.read_array_header_1_0(file)
        return np.asarray(np.memmap(file, kind, "r", file.tell(), shape))


def _evict(path: Path) -> bool:
    """Delete a file of the cache, unless a process has it mapped or is writing it."""
    try:
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except OSError:
        return False
    return True


def _cached() -> dict[Path, os.stat_result]:
    found = {}
    for path in (cache_folder() / "corpora").glob("*/*"):
        with suppress(FileNotFoundError):
            if path.is_file():
                found[path] = path.stat()
    return found


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Hold a file that no other thread or process holds; yields whether one had to be waited for."""
    waited = False
    while True:
        with path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waited = True
                fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                yield waited
                return


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _short(url: str) -> str:
    return hashlib.blake2b(url.encode(), digest_size=8).hexdigest()
