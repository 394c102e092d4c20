"""Records made in memory, and a data set that yields whatever a test hands it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from ecgscale.data import synthetic
from ecgscale.data.corpus import Corpus, Form, ingest
from ecgscale.data.record import Record, Rejected
from ecgscale.datasets import DatasetSpec, portioned
from ecgscale.units import LEADS

Make = Callable[..., list[Record]]


class Listed(DatasetSpec):
    """Yields the records of a list."""

    title: ClassVar[str] = "A list"
    licence: ClassVar[str] = "none"
    access: ClassVar[str] = "generated"
    url: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    version: ClassVar[str] = "1"
    needs_root: ClassVar[bool] = False
    items: ClassVar[list[Record | Rejected]] = []

    dataset: str = "listed"

    def portions(self, root: Path | None) -> Iterator[list[Record | Rejected]]:
        yield from portioned(self.items, 5)

    def read(self, root: Path | None, portion: list[Record | Rejected]) -> Iterator[Record | Rejected]:
        yield from portion

    @classmethod
    def sample(cls, root: Path, seed: int = 0) -> Listed:
        return cls()


def _make(count: int = 24, rate_hz: float = 100.0, **changes: Any) -> list[Record]:
    ecg = synthetic.population(patients=max(1, count * 2 // 3), records=count, rate_hz=rate_hz, seed=3)
    usual = {"unit": "mV", "rate_hz": rate_hz, "leads": LEADS, "age": 50.0, "sex": "F", **changes}
    return [
        Record(
            signal=ecg.signal[i],
            record=f"r{i}",
            patient=f"made:{ecg.patient[i]}",
            fold=int(ecg.patient[i] % 10 + 1),
            labels={name: float(values[i]) for name, values in ecg.labels.items()},
            **usual,
        )
        for i in range(count)
    ]


@pytest.fixture(scope="session")
def make() -> Make:
    """A function that makes records: make(count, rate_hz, **fields of Record)."""
    return _make


@pytest.fixture
def listed() -> Callable[..., Listed]:
    """A function that turns items into a data set."""

    def build(items: list[Record | Rejected], **fields: Any) -> Listed:
        return type("Listed", (Listed,), {"items": items, "__module__": __name__})(**fields)

    return build


@pytest.fixture
def corpus_of(listed: Callable[..., Listed], tmp_path: Path) -> Callable[..., Corpus]:
    """A function that ingests items: corpus_of(items, form, name)."""

    def build(items: list[Record | Rejected], form: Form | None = None, name: str = "corpus", **fields: Any) -> Corpus:
        return ingest(listed(items, **fields), None, form or Form(), tmp_path / name)

    return build


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
