"""What ingestion needs to know of a source; every `DatasetSpec` is one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from ecgscale.data.record import Record, Rejected

PORTION = 128  # records a worker holds at once

T = TypeVar("T")

Fault = Literal["gaps", "clipped", "spikes", "swapped"]  # what a source may be told to keep, see data/quality.py


class Source(Protocol):
    """A source of ECGs, see `ecgscale.datasets.DatasetSpec` (which lies above this package)."""

    @property
    def title(self) -> str: ...
    @property
    def licence(self) -> str: ...
    @property
    def access(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def citation(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def simulated(self) -> bool: ...
    @property
    def flat_leads(self) -> Literal["quarantine", "missing"]: ...
    @property
    def limb_leads(self) -> Literal["check", "trust"]: ...
    @property
    def keep(self) -> tuple[Fault, ...]: ...
    def part_name(self) -> str: ...
    def portions(self, root: Path | None) -> Iterator[Any]: ...
    def read(self, root: Path | None, portion: Any) -> Iterator[Record | Rejected]: ...
    def facts(self) -> dict[str, Any]: ...
    def stamp(self, root: Path | None) -> str: ...
    def dump(self) -> dict[str, Any]: ...


def corpus_name(dataset: Source) -> str:
    """Return what the corpus of a source is called: its own field `dataset` if it has one, else the part's name."""
    return str(getattr(dataset, "dataset", None) or dataset.part_name())


def portioned(items: Iterable[T], size: int = PORTION) -> Iterator[list[T]]:
    """Yield the items in lists of `size`, the last one shorter."""
    iterator = iter(items)
    while portion := list(islice(iterator, size)):
        yield portion
