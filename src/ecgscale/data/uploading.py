"""A corpus is brought to a URL: made on the local disk, uploaded file by file, there when its manifest is.

What `data/object_storage.py` says of the place decides the order: the files of a version, their manifest, and then the
manifest at the URL, which replaces an earlier corpus in one moment.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ecgscale.data import ingestion
from ecgscale.data.corpus import Corpus
from ecgscale.data.object_storage import Place, RemoteCorpus, manifest_at, short, version_of
from ecgscale.data.shard_cache import alone, cache_folder, checksum
from ecgscale.data.signal import Form
from ecgscale.data.source import Source
from ecgscale.data.storage import CorpusError, writing
from ecgscale.data.store import NotThereError, ask


def ingest(
    dataset: Source, root: Path | None, form: Form, url: str, progress: Callable[[int], None] | None, workers: int
) -> RemoteCorpus:
    """Make a corpus beside the cache and bring it to a URL; see `ecgscale.data.corpus.ingest`."""
    staging = cache_folder() / "staging" / short(url)
    lock = staging.with_suffix(".lock")
    with writing(staging):
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    with alone(lock) as waited:
        earlier = manifest_at(url)  # before hours of work: can the store be reached?
        identity = json.loads(json.dumps(ingestion.making(dataset, root, form)))
        if waited and earlier and _is_of(earlier, identity):
            return RemoteCorpus.at(url)
        if not _is_made(staging, identity):
            ingestion.run(dataset, root, form, staging, progress, workers)
        manifest = json.loads((staging / "manifest.json").read_text())
        manifest["checksums"] = {name: checksum(staging / name) for name in manifest["files"]}
        place = Place(url, version_of(manifest), version_of(manifest))
        try:
            _upload(staging, manifest, place)
        except CorpusError as error:
            raise CorpusError(f"{error}; what was made is kept in {staging}: call again, it goes on there") from None
        if earlier:
            _remove(Place(url, earlier.get("folder", ""), ""), earlier, place)
        with writing(place.cache):
            _move(staging, manifest, place.cache)
    return RemoteCorpus(place, manifest)


def _upload(folder: Path, manifest: dict[str, Any], place: Place) -> None:
    """Bring what is not there to a URL: signals first, the manifest last."""
    there = _listed(place)
    for name in (name for name, size in manifest["files"].items() if there.get(name) != size):
        ask(place.address(name), partial(_put, folder / name))
    there = _listed(place)
    for name, size in manifest["files"].items():
        if there.get(name) != size:
            raise CorpusError(f"{place.address(name)} has {there.get(name)} bytes after its upload, expected {size}")
    for url, content in ((place.address(), manifest), (place.url, {**manifest, "folder": place.folder})):
        text = json.dumps(content, indent=1, allow_nan=False).encode()
        ask(f"{url}/manifest.json", partial(_write, text))


def _put(file: Path, store: Any, path: str) -> None:
    store.put_file(str(file), path)


def _write(content: bytes, store: Any, path: str) -> None:
    store.pipe_file(path, content)


def _listed(place: Place) -> dict[str, int]:
    """Return name and size of the files that are there."""
    try:
        found = ask(place.address(), lambda store, path: store.find(path, maxdepth=1, detail=True))
    except NotThereError:
        return {}
    return {name.rsplit("/", 1)[-1]: file["size"] for name, file in found.items()}


def _remove(earlier: Place, manifest: dict[str, Any], now: Place) -> None:
    """Delete the files of the corpus that was replaced; where that is not allowed the new one is whole all the same."""
    if earlier.folder == now.folder:
        return
    names = {*manifest["files"], *(["manifest.json"] if earlier.folder else [])}
    try:
        for name in sorted(names & set(_listed(earlier))):
            ask(earlier.address(name), lambda store, path: store.rm_file(path))
    except CorpusError as error:
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
    """Make a corpus that was uploaded part of the cache."""
    cache.mkdir(parents=True, exist_ok=True)
    (staging / "manifest.json").unlink()  # it is no longer whole
    for name in manifest["files"]:
        (staging / name).replace(cache / name)
    shutil.rmtree(staging)
