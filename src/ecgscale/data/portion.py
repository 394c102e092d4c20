"""One portion of a source judged, brought to the form of the corpus and indexed: what a worker of an ingest does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ecgscale.data import beats, fingerprint, quality
from ecgscale.data.examples import Examples
from ecgscale.data.indexing import Seen
from ecgscale.data.record import Record, Rejected, check
from ecgscale.data.signal import (
    Band,
    Form,
    derive_limb_leads,
    seconds_in_form,
    to_form,
    to_millivolts,
    unit_in_form,
)
from ecgscale.data.source import PORTION, Source, corpus_name, portioned
from ecgscale.data.storage import SCALE

CHUNK = PORTION  # records held at once, whatever a portion holds
_BLOCK, _NEAR = 32, 8  # records transformed at a time; records whose windows stay in the cache


def prepare(dataset: Source, root: Path | None, form: Form, unit: str, portion: Any) -> Prepared:
    """Read, judge and transform one portion, in chunks of bounded memory.

    Args:
        dataset, root: The source and its folder.
        form: What all signals shall have in common.
        unit: That of the corpus; a record that has another in `form` is rejected.
        portion: As `dataset.portions` yields it.
    """
    parts = [_prepare(chunk, dataset, form, unit) for chunk in portioned(dataset.read(root, portion), CHUNK)]
    return parts[0] if len(parts) == 1 else Prepared.joined(parts, form)


@dataclass(slots=True)
class Prepared:
    """The good records of a portion, side by side in the form of the corpus, and what was rejected."""

    table: pa.Table  # the index but for the places
    counts: npt.NDArray[np.int16]  # record lead time
    bands: set[Band | None]
    rejected: list[Rejected]
    examples: Examples  # of what was rejected

    @classmethod
    def joined(cls, parts: list[Prepared], form: Form) -> Prepared:
        """Put the chunks of a portion together."""
        return cls(
            pa.concat_tables([p.table for p in parts], promote_options="default") if parts else pa.table({}),
            np.concatenate([_no_counts(form), *(p.counts for p in parts)]),
            {band for p in parts for band in p.bands},
            [rejection for p in parts for rejection in p.rejected],
            Examples(example for p in parts for example in p.examples),
        )

    def drop_known(self, seen: Seen) -> None:
        """Reject records whose name came before."""
        names = self.table["record"].to_pylist() if len(self.table) else []
        new = np.array([seen.add(name) for name in names], bool)
        if not new.all():
            twice = "another record of this source has the same name"
            self.rejected += [Rejected(n, twice) for n, ok in zip(names, new, strict=True) if not ok]
            self.table, self.counts = self.table.filter(pa.array(new)), self.counts[new]


def _prepare(chunk: list[Record | Rejected], dataset: Source, form: Form, unit: str) -> Prepared:
    """Judge and transform a chunk: records that agree in everything but content are treated as one array."""
    reasons: list[str | None] = [_reason(item, form) for item in chunk]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, item in enumerate(chunk):
        if reasons[i] is None and isinstance(item, Record):
            here = unit_in_form(form, item.unit, item.band_hz, corpus_name(dataset))
            if here != unit:
                reasons[i] = f"the unit is {item.unit}; earlier records of this source are {unit}"
                continue
            key = (item.unit, item.rate_hz, item.leads, item.signal.shape[1], item.band_hz)
            groups.setdefault(key, []).append(i)
    shaped: dict[int, _Shaped] = {}
    for key, rows in groups.items():
        for block in portioned(rows, _BLOCK):
            made = _transform([chunk[i] for i in block], key, dataset, form)  # type: ignore[misc]
            shaped |= zip(block, made, strict=True)
    bad = [Rejected(item.record, r) for i, item in enumerate(chunk) if (r := reasons[i] or shaped[i].reason)]
    good = [shaped[i] for i in sorted(shaped) if shaped[i].reason is None]
    examples = _examples(chunk, bad)
    if not good:
        return Prepared(pa.table({}), _no_counts(form), set(), bad, examples)
    counts = np.concatenate([s.counts for s in good])
    return Prepared(pa.table(_columns(good, counts, form)), counts, {s.record.band_hz for s in good}, bad, examples)


def _examples(chunk: list[Record | Rejected], bad: list[Rejected]) -> Examples:
    """Keep a few of the rejected records that have a signal, to be drawn."""
    reasons = {rejected.record: rejected.reason for rejected in bad}
    kept = Examples()
    for item in chunk:
        if isinstance(item, Record) and item.record in reasons:
            kept.add(item, reasons[item.record])
    return kept


@dataclass(slots=True)
class _Shaped:
    """One record in the form of the corpus, or the reason why not."""

    record: Record
    counts: npt.NDArray[np.int16]  # window lead time
    lead_ok: npt.NDArray[np.bool_]  # lead, of the form
    derived: npt.NDArray[np.bool_]
    reason: str | None


def _no_counts(form: Form) -> npt.NDArray[np.int16]:
    return np.empty((0, len(form.leads), form.samples), np.int16)


def _reason(item: Record | Rejected, form: Form) -> str | None:
    if isinstance(item, Rejected):
        return item.reason
    return check(item) or quality.too_short(item.signal.shape[1], item.rate_hz, form.length_s) or _no_lead(item, form)


def _no_lead(record: Record, form: Form) -> str | None:
    if set(record.leads) & set(form.leads):
        return None
    return f"the record holds {', '.join(record.leads)}, none of the leads {', '.join(form.leads)}"


def _transform(
    records: list[Record],
    key: tuple[str, float, tuple[str, ...], int, Band | None],
    dataset: Source,
    form: Form,
) -> list[_Shaped]:
    """Judge the records of one group and bring them to the form."""
    unit, rate_hz, leads, _, band_hz = key
    raw = np.empty((len(records), *records[0].signal.shape), np.float32)  # lead after lead, however a source lays it
    for place, record in zip(raw, records, strict=True):
        place[:] = record.signal
    raw = to_millivolts(raw, unit)
    reasons, live = quality.flaws(raw, leads, unit, dataset.flat_leads, dataset.limb_leads, rate_hz, dataset.keep)
    good = [i for i, reason in enumerate(reasons) if reason is None]
    if not live[good].all():
        raw[~live] = 0.0
    derived = np.zeros_like(live)
    if form.derive_limb_leads:
        raw, leads, live, derived = derive_limb_leads(raw, leads, live)
    counts, too_large = _counted(to_form(raw if len(good) == len(raw) else raw[good], leads, rate_hz, band_hz, form))
    empty = _no_counts(form)
    live, derived = (_in_order_of(form, leads, mask) for mask in (live, derived))
    shaped = [_Shaped(r, empty, live[i], derived[i], reasons[i]) for i, r in enumerate(records)]
    for i, found, reason in zip(good, counts, too_large, strict=True):
        shaped[i].counts, shaped[i].reason = found, reason
    return shaped


def _in_order_of(form: Form, leads: tuple[str, ...], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return [record, lead of `leads`] as [record, lead of the form], False where there is no such lead."""
    where = [leads.index(lead) if lead in leads else -1 for lead in form.leads]
    return np.concatenate([mask, np.zeros((len(mask), 1), bool)], axis=1)[:, where]


def _counted(scaled: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int16], list[str | None]]:
    """Return [record, window, lead, time] as int16 counts, and a sentence for each record too large for them."""
    limit = np.iinfo(np.int16).max
    text = "the signal reaches {:.4g}, more than a corpus can hold (32.767)"
    counts, reasons = np.empty(scaled.shape, np.int16), []
    for start in range(0, len(scaled), _NEAR):
        near = scaled[start : start + _NEAR]
        near /= np.float32(SCALE)
        largest = np.maximum(near.max(axis=(1, 2, 3), initial=0), -near.min(axis=(1, 2, 3), initial=0))
        reasons += [text.format(value * SCALE) if value > limit else None for value in largest]
        np.rint(near, out=near)
        counts[start : start + _NEAR] = np.clip(near, -limit, limit, out=near)
    return counts, reasons


def _columns(shaped: list[_Shaped], counts: npt.NDArray[np.int16], form: Form) -> dict[str, pa.Array]:
    """Return the index of windows [window of any record, lead, time], but for their places."""
    records = [s.record for s in shaped for _ in s.counts]
    lead_ok, derived = (np.repeat(m, [len(s.counts) for s in shaped], axis=0) for m in _masks(shaped))
    window = [i for s in shaped for i in range(len(s.counts))]
    seconds = [t for s in shaped for t in seconds_in_form(s.record.signal.shape[1], s.record.rate_hz, form)]
    stored = counts.astype(np.float32) * np.float32(SCALE)
    found = beats.find_beats(stored, form.rate_hz, lead_ok, form.beats)
    prints = fingerprint.fingerprints(stored, form.leads, form.rate_hz)
    names = dict.fromkeys(name for r in records for name in r.labels)
    valued = dict.fromkeys(name for r in records for name in r.values)
    called = [f"{r.record}:{i}" for r, i in zip(records, window, strict=True)] if form.windows == "all" else None
    return {
        "record": pa.array(called or [r.record for r in records], pa.string()),
        "patient": pa.array([r.patient for r in records], pa.string()),
        "age": pa.array([np.nan if r.age is None else r.age for r in records], pa.float64()),
        "sex": pa.array([r.sex for r in records], pa.string()),
        "fold": pa.array([r.fold for r in records], pa.int64()),
        "source_rate_hz": pa.array([r.rate_hz for r in records], pa.float64()),
        "source_s": pa.array([r.signal.shape[1] / r.rate_hz for r in records], pa.float64()),
        "window": pa.array(window, pa.int32()),
        "seconds": pa.array(seconds, pa.float64()),
        "lead_ok": pa.array(_bits(lead_ok), pa.int64()),
        "lead_derived": pa.array(_bits(derived), pa.int64()),
        "beats": pa.array(found, pa.list_(pa.int32())),
        "fingerprint": pa.array([row.tobytes() for row in prints], pa.binary()),
        **{f"label.{n}": pa.array([r.labels.get(n, np.nan) for r in records], pa.float32()) for n in names},
        **{f"value.{n}": pa.array([r.values.get(n, np.nan) for r in records], pa.float32()) for n in valued},
    }


def _masks(shaped: list[_Shaped]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    return np.stack([s.lead_ok for s in shaped]), np.stack([s.derived for s in shaped])


def _bits(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Write [row, lead] as one integer per row, bit i for lead i."""
    return np.asarray(mask @ (1 << np.arange(mask.shape[1], dtype=np.int64)), dtype=np.int64)
