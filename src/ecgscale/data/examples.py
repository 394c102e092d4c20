"""A few signals of records in quarantine, kept while the records stream by, so that a page can show what was left out.

On disk they are one file of NPY arrays: a signal each, and what is known of them as JSON in bytes. Nothing is pickled.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ecgscale.data.record import Record
from ecgscale.data.signal import to_millivolts
from ecgscale.data.storage import CorpusError

FILE = "examples.npz"
PER_KIND = 3
MOST_KINDS = 24  # with twelve leads and 500 samples/s about 17 MB before compression
LONGEST_S = 10.0  # of a signal: what a page of ECG paper holds
_MOST_SAMPLES = 12 * 10_000  # of a signal: a rate nobody measured at shall not fill the memory

_QUOTED = re.compile(r"\"[^\"]*\"|(?<!\w)'[^']*'(?!\w)")
_LEAD = re.compile(r"\b(?:aV[RLF]|V[1-6]|I{1,3})\b", re.IGNORECASE)
_NUMBER = re.compile(r"[^\s,;:()\[\]]*\d[^\s,;:()\[\]]*")  # with what clings to it: "83%", "E07501.mat"
_LIST = re.compile(r"…(?:(?:, ?| and | or )…)+")


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """An ECG to be looked at.

    Attributes:
        record: Its name.
        reason: Why it is in quarantine; empty for a good record.
        signal: [lead, time] float32, mV where the source's unit is a voltage; at most the first `LONGEST_S` seconds.
        leads: One name per row of `signal`, as the source gave it.
        rate_hz: Samples per second.
        unit: "mV", a z-unit, or the unknown word that put the record into quarantine.
        seconds: How long the record is.
    """

    record: str
    reason: str
    signal: npt.NDArray[np.float32]
    leads: tuple[str, ...]
    rate_hz: float
    unit: str
    seconds: float


def kind_of(reason: str) -> str:
    """Return a sentence without its numbers, lead names and quotations, each of which becomes "…".

    "lead V3 is flat" and "lead I is flat" are of one kind; so are "E07501.mat is missing" and "JS10646.mat is missing".
    """
    for pattern in (_QUOTED, _LEAD, _NUMBER):
        reason = pattern.sub("…", reason)
    return _LIST.sub("…", reason)


def example_of(record: Record, reason: str = "") -> Example | None:
    """Return the beginning of a record as an example, None where its signal has no shape that could be drawn."""
    signal, rate_hz = np.asarray(record.signal), record.rate_hz
    if signal.ndim != 2 or signal.size == 0 or len(record.leads) != len(signal):
        return None
    if not (math.isfinite(rate_hz) and rate_hz > 0) or not np.issubdtype(signal.dtype, np.number):
        return None
    samples = min(max(1, round(LONGEST_S * rate_hz)), _MOST_SAMPLES // len(signal))
    with np.errstate(over="ignore", invalid="ignore"):  # infinity may be what is wrong with it
        first = to_millivolts(signal[:, :samples].astype(np.float32), record.unit)
    unit = record.unit if record.unit not in ("uV", "V") else "mV"
    return Example(record.record, reason, first, tuple(record.leads), rate_hz, unit, signal.shape[1] / rate_hz)


class Examples:
    """At most `PER_KIND` examples of each kind of reason, the first that came; of at most `MOST_KINDS` kinds.

    What is kept depends on the order of the records only: examples of pieces, joined in the order of the pieces, are
    those of the whole.
    """

    def __init__(self, kept: Iterable[Example] = ()) -> None:
        self._kept: list[Example] = []
        self._kinds: Counter[str] = Counter()
        self._names: set[str] = set()
        self.extend(kept)

    def __iter__(self) -> Iterator[Example]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def wants(self, reason: str) -> bool:
        """Say whether another example with this reason would be kept."""
        kind = kind_of(reason)
        return self._kinds[kind] < PER_KIND if kind in self._kinds else len(self._kinds) < MOST_KINDS

    def add(self, record: Record, reason: str) -> None:
        """Keep a rejected record if its kind is wanted and it can be drawn; its signal is copied, cut and in mV."""
        if self.wants(reason) and (example := example_of(record, reason)) is not None:
            self.extend([example])

    def extend(self, others: Iterable[Example]) -> None:
        """Keep those of `others` that are wanted; an example that is already here is not kept twice."""
        for example in others:
            if example.record not in self._names and self.wants(example.reason):
                self._kept.append(example)
                self._kinds[kind_of(example.reason)] += 1
                self._names.add(example.record)


def save(examples: Iterable[Example], folder: Path) -> None:
    """Write `examples.npz` into `folder`, whole or not at all; the same examples give the same bytes."""
    kept = list(examples)
    about = [
        {
            "record": e.record,
            "reason": e.reason,
            "leads": list(e.leads),
            "rate_hz": float(e.rate_hz),
            "unit": e.unit,
            "seconds": float(e.seconds),
        }
        for e in kept
    ]
    arrays: dict[str, Any] = {f"signal-{i}": np.asarray(e.signal, np.float32) for i, e in enumerate(kept)}
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    fresh = folder / f"{FILE}.new"
    with fresh.open("wb") as file:
        np.savez_compressed(file, **arrays)
    fresh.replace(folder / FILE)


def load(folder: Path) -> list[Example]:
    """Read `examples.npz`; a folder without one holds no example.

    Raises:
        CorpusError: the file is torn or holds something else.
    """
    path = folder / FILE
    if not path.is_file():
        return []
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            about = json.loads(stored["about"].tobytes())
            return [_example(fields, stored[f"signal-{i}"]) for i, fields in enumerate(about)]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise CorpusError(f"{path} cannot be read ({error}); ingest the data set again") from None


def _example(fields: dict[str, object], signal: npt.NDArray[np.float32]) -> Example:
    leads = fields.pop("leads")
    if not isinstance(leads, list) or signal.ndim != 2 or len(signal) != len(leads) or signal.dtype != np.float32:
        raise ValueError(f"a signal has shape {list(signal.shape)} and the leads {leads}")
    return Example(signal=signal, leads=tuple(leads), **fields)  # type: ignore[arg-type]
