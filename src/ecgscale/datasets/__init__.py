"""Where records come from: one module per source, each a `DatasetSpec`.

The root folder of a source is never part of its spec: the same spec bound to another folder is told apart by the digest
of what was read.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from ecgscale.data.record import Record, Rejected
from ecgscale.data.remote import Remote
from ecgscale.data.source import PORTION as PORTION
from ecgscale.data.source import Fault
from ecgscale.data.source import portioned as portioned
from ecgscale.spec import Explained, Plugin


class DatasetError(Explained, ValueError):
    """A source cannot be read at all: the message names the file, what was found, what was expected and what to do."""


class DatasetSpec(Plugin):
    """A source of ECGs."""

    kind: ClassVar[str] = "datasets"
    title: ClassVar[str]  # e.g. "PTB-XL 1.0.3"
    licence: ClassVar[str]
    access: ClassVar[str]  # "open", "credentialed", "on request", "generated", "yours"
    url: ClassVar[str]
    citation: ClassVar[str]
    version: ClassVar[str]
    files: ClassVar[Remote | None] = None  # where an open source can be downloaded
    simulated: ClassVar[bool] = False
    needs_root: ClassVar[bool] = True

    flat_leads: Literal["quarantine", "missing"] = "quarantine"  # what becomes of a record with a constant lead
    limb_leads: Literal["check", "trust"] = "check"  # "check": a record whose I + III is not II is quarantined
    keep: tuple[Fault, ...] = ()  # faults that do not quarantine a record

    @abstractmethod
    def portions(self, root: Path | None) -> Iterator[Any]:
        """Yield the reading of the source in pieces of at most `PORTION` records, in a fixed order.

        A portion is what `read` needs to know: rows of a table, say. It can be pickled, since another process may
        read it, and opens no signal, since an ingest that was killed passes over what it had done.

        Raises:
            DatasetError: the folder is not this source.
        """

    @abstractmethod
    def read(self, root: Path | None, portion: Any) -> Iterator[Record | Rejected]:
        """Yield the records of a portion in their order; an unreadable one as `Rejected`."""

    def records(self, root: Path | None = None) -> Iterator[Record | Rejected]:
        """Yield every record of the source below `root`, in a fixed order; an unreadable one as `Rejected`.

        Raises:
            DatasetError: the folder is not this source.
        """
        for portion in self.portions(root):
            yield from self.read(root, portion)

    @classmethod
    @abstractmethod
    def sample(cls, root: Path, seed: int = 0) -> DatasetSpec:
        """Write a small sample in the source's own format below `root` and return the spec that reads it."""

    def facts(self) -> dict[str, Any]:
        """Return what is known before reading and belongs in the manifest, e.g. a simulator's floors."""
        return {}

    def stamp(self, root: Path | None) -> str:
        """Return a cheap fingerprint of the files below `root`: it decides whether a corpus must be ingested anew."""
        hasher = hashlib.sha256()
        if root is not None:
            files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
            for path in files:
                status = path.stat()
                hasher.update(f"{path.relative_to(root)}|{status.st_size}|{status.st_mtime_ns}\n".encode())
        return hasher.hexdigest()[:16]
