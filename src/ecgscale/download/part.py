"""The bytes of a file that have come so far: `NAME.part`, and `NAME.part.tag` where its version has a name."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from ecgscale.download.place import disk

CHUNK = 2**20  # bytes read at once


class Part:
    """An unfinished file and the checksum of what it holds; goes on with what an earlier process left.

    Args:
        target: The place of the whole file.
        checksum: "sha256:…", "md5:…" or "".

    Raises:
        DownloadError: the disk refuses it.
    """

    def __init__(self, target: Path, checksum: str) -> None:
        self.path, self._tag_path = (target.with_name(target.name + end) for end in (".part", ".part.tag"))
        self._kind, _, self._expected = checksum.partition(":")
        self._hash = self._new_hash()
        self.size = 0
        with disk(self.path):
            self._file = os.fdopen(
                os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b", buffering=0
            )
            while block := self._file.read(CHUNK):
                self._count(block)
            tagged = self.size and self._tag_path.is_file()
            self.tag = self._tag_path.read_text(encoding="latin-1") if tagged else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def begin(self, tag: str = "") -> None:
        """Throw away what came before; `tag` names the version that will come, where it needs a name."""
        with disk(self.path):
            self._tag_path.unlink(missing_ok=True)
            self._file.seek(0)
            self._file.truncate()
            if tag:
                self._tag_path.write_text(tag, encoding="latin-1")
        self.size, self.tag, self._hash = 0, tag, self._new_hash()

    def append(self, block: bytes) -> None:
        """Add bytes."""
        rest = memoryview(block)
        with disk(self.path):
            while rest:
                rest = rest[self._file.write(rest) :]
        self._count(block)

    def sound(self) -> bool:
        """Tell whether the bytes have the expected checksum, or none is known."""
        return self._hash is None or self._hash.hexdigest() == self._expected

    def keep(self, target: Path) -> None:
        """Give the file its own name."""
        with disk(target):
            self._file.close()
            self.path.replace(target)
            self._tag_path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove all trace of it."""
        self.begin()
        self.path.unlink(missing_ok=True)

    def _count(self, block: bytes) -> None:
        self.size += len(block)
        if self._hash is not None:
            self._hash.update(block)

    def _new_hash(self) -> hashlib._Hash | None:
        return hashlib.new(self._kind, usedforsecurity=False) if self._kind else None
