"""A folder on the local disk that holds what was fetched: shared by processes, bounded if that is asked for.

`ECGSCALE_CACHE` is the folder (default `~/.cache/ecgscale`); `ECGSCALE_CACHE_GB` bounds it, in 1e9 bytes (default: no
bound). A shard is locked as long as a process has it mapped, and while it is being fetched; what is locked is not
evicted. The locks are the kernel's (flock): they end with their process.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ecgscale.data.storage import CorpusError

_SHARD = re.compile(r"\.?signals-\d+\.npy(\.part)?")  # a part is what a killed process left
_PATIENCE_S = 0.05  # between two attempts to hold a file


def cache_folder() -> Path:
    """Return the folder: `$ECGSCALE_CACHE`, or `ecgscale` in the user's folder for caches."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("ECGSCALE_CACHE") or home / "ecgscale").expanduser()


def bound_bytes() -> float:
    """Return how large the cache may become.

    Raises:
        CorpusError: `ECGSCALE_CACHE_GB` is no number above 0.
    """
    text = os.environ.get("ECGSCALE_CACHE_GB") or "inf"
    try:
        bound = float(text) * 1e9
    except ValueError:
        bound = 0.0
    if not bound > 0:
        raise CorpusError(f"ECGSCALE_CACHE_GB is {text!r}, expected a number of gigabytes above 0")
    return bound


def make_room(size: int) -> float:
    """Delete the shards read longest ago that nobody has mapped, until `size` bytes fit; return how many do not fit."""
    if bound_bytes() == float("inf"):
        return 0
    there = _files()
    excess = sum(file.st_size for file in there.values()) + size - bound_bytes()
    for path, file in sorted(there.items(), key=lambda item: item[1].st_mtime_ns):
        if excess > 0 and _SHARD.fullmatch(path.name) and evict(path):
            excess -= file.st_size
    return max(0, excess)


def evict(path: Path) -> bool:
    """Delete a file, unless a process has it mapped or is fetching it; return whether it was deleted."""
    try:
        with path.open("r+b") as file:
            free = _locks(file)
            if free:
                path.unlink()
    except OSError:  # it is gone, or this process may not delete it
        return False
    return free


def map_locked(path: Path) -> npt.NDArray[Any]:
    """Map an NPY file. It stays locked as long as it is mapped: a memory map keeps the file open that has the lock.

    Raises:
        FileNotFoundError: it is not there, or was evicted while it was being opened.
        ValueError: it is no NPY file.
    """
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        if not _is_at(file, path):
            raise FileNotFoundError(path)
        np.lib.format.read_magic(file)
        shape, _, kind = np.lib.format.read_array_header_1_0(file)
        return np.asarray(np.memmap(file, kind, "r", file.tell(), shape))


@contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Create and hold a file that no other thread or process holds; yields whether one had to be waited for."""
    waited = False
    while True:  # not asleep in flock: the file may be moved, and then be locked as long as it is mapped
        with path.open("ab") as file:
            if _locks(file) and _is_at(file, path):
                yield waited
                return
        waited = True
        time.sleep(_PATIENCE_S)


def checksum(path: Path) -> str:
    """Return the BLAKE2b of a file, 128 bits in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _locks(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(file: IO[bytes], path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _files() -> dict[Path, os.stat_result]:
    found = {}
    for path in (cache_folder() / "corpora").glob("*/*"):
        with suppress(FileNotFoundError):
            if path.is_file():
                found[path] = path.stat()
    return found
