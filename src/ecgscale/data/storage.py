"""How a corpus is written: int16 shards in sequence, an index by columns, a folder that appears whole or not at all.

While it is being made the folder stands beside its place as `.<name>.part`. Every so many records what is done is
written down in its `journal.json`; an ingest that was killed goes on from there.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ecgscale.data.mapped import GrowingArray
from ecgscale.spec import Explained

SCALE = 1e-3  # mV or z-units per count: 1 µV resolves any ADC in clinical use, ±32.767 mV holds any ECG
SHARD_BYTES = 2 * 2**30
BLOCK = 128  # records read back at a time

Int16 = npt.NDArray[np.int16]


class CorpusError(Explained, ValueError):
    """A corpus cannot be written or read; one sentence says where, what was found and what to do."""


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turn an operating-system error while writing into one sentence about `out`."""
    try:
        yield
    except OSError as error:
        what = error.strerror or str(error)
        raise CorpusError(
            f"cannot write the corpus to {out}: {what.lower()}; choose another folder, or make room and call again: "
            "what was done is kept"
        ) from None


JOURNAL = "journal.json"
_MAKING = "making.json"


@contextmanager
def appearing(out: Path, identity: dict[str, Any]) -> Iterator[Path | None]:
    """Yield a folder beside `out` that takes its place when the block ends well.

    Where it does not end well the folder is kept if its journal holds anything, for the next call to go on from. While
    another process makes the same corpus this one waits; if that one brought it to its end, None is yielded.

    Args:
        out: The place.
        identity: What is being made; a folder left by the making of anything else is emptied first.

    Raises:
        CorpusError: `out` cannot be written, or holds something that is no corpus.
    """
    if out.exists() and not (out / "manifest.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise CorpusError(f"{out} exists and is no corpus; choose another folder for the corpus")
    part = out.parent / f".{out.name}.part"
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        held, waited = _hold(part)
    try:
        if waited and _made(out) == identity:
            part.rmdir()
            yield None
            return
        with writing(out):
            _begin(part, identity)
        yield part
        with writing(out):
            _swap(part, out)
    finally:
        if not (part / JOURNAL).exists():
            shutil.rmtree(part, ignore_errors=True)
        os.close(held)


def _hold(part: Path) -> tuple[int, bool]:
    """Make the folder and lock it; return its descriptor, and whether another process had to be waited for."""
    waited = False
    while True:
        part.mkdir(exist_ok=True)
        held = os.open(part, os.O_RDONLY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = True
            fcntl.flock(held, fcntl.LOCK_EX)
        except OSError as error:  # a network file system without locks of folders: a study's claims stand for it
            if error.errno not in (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
        if part.exists() and os.fstat(held).st_ino == part.stat().st_ino:
            return held, waited
        os.close(held)  # it took its place while this process waited


def _made(out: Path) -> dict[str, Any] | None:
    made = out / _MAKING
    return json.loads(made.read_text()) if made.is_file() else None


def _begin(part: Path, identity: dict[str, Any]) -> None:
    """Keep what an earlier process left of the same making, if its journal says how far it came; else start empty."""
    text = json.dumps(identity, sort_keys=True)
    making = part / _MAKING
    if not (making.is_file() and making.read_text() == text and (part / JOURNAL).is_file()):
        for file in part.iterdir():
            file.unlink()
        making.write_text(text)


def _swap(part: Path, out: Path) -> None:
    if not out.exists():
        part.replace(out)
        return
    old = part.with_suffix(".old")
    shutil.rmtree(old, ignore_errors=True)
    out.replace(old)
    part.replace(out)
    shutil.rmtree(old, ignore_errors=True)


class Shards:
    """Writes int16 [record, lead, time] chunk by chunk into NPY files of bounded size; only the last is not full.

    Args:
        folder: Where the files go.
        leads, samples: Of a record.
        records: How many an earlier process wrote that are to be kept; what it wrote after them is cut off.
    """

    def __init__(self, folder: Path, leads: int, samples: int, records: int = 0) -> None:
        self._folder, self._shape = folder, (leads, samples)
        self.limit = max(1, SHARD_BYTES // (2 * leads * samples))
        self.hash = hashlib.blake2b()
        self.records = 0
        self.files: list[str] = []
        self._open: GrowingArray | None = None
        while self.records < records:
            self._resume(min(self.limit, records - self.records))

    def __enter__(self) -> Shards:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open.abandon()

    def append(self, counts: Int16) -> None:
        """Write records."""
        while len(counts):
            shard = self._open or self._next("w+b")
            now = shard.append(counts[: self.limit - shard.length])
            self._count(now)
            counts = counts[len(now) :]

    def flush(self) -> None:
        """Bring what was written to the disk."""
        if self._open is not None:
            self._open.flush()

    def close(self) -> None:
        """Finish the open shard."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _resume(self, kept: int) -> None:
        """Take over the next shard with its first `kept` records."""
        shard = self._next("r+b")
        while shard.length < kept:
            self._count(shard.keep(min(BLOCK, kept - shard.length)))
        if self._open is not None:  # a full one is closed, and nothing lies behind it
            shard.end()

    def _count(self, written: Int16) -> None:
        self.hash.update(written.data)
        self.records += len(written)
        if self._open is not None and self._open.length == self.limit:
            self.close()

    def _next(self, mode: str) -> GrowingArray:
        self.files.append(f"signals-{len(self.files):05d}.npy")
        self._open = GrowingArray(self._folder / self.files[-1], "<i2", self._shape, mode)
        return self._open
