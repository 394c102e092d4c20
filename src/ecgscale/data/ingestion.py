"""From a source's records to a corpus folder, in chunks of bounded memory."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ecgscale.data import beats, fingerprint, quality, signal
from ecgscale.data.record import Record, Rejected, check
from ecgscale.data.signal import Band, Form, samples_in_form, to_form, to_millivolts, unit_in_form
from ecgscale.data.source import Source
from ecgscale.data.storage import SCALE, Columns, CorpusError, Shards, appearing, hash_table, writing

FORMAT = 1  # of the folder
CHUNK = 128  # records held at once
_NOT_CONTENT = ("shard", "offset")  # where a record lies is no part of what it is


def run(
    dataset: Source, root: Path | None, form: Form, out: Path, progress: Callable[[int], None] | None = None
) -> None:
    """Write the corpus of a source to `out`; see `ecgscale.data.corpus.ingest`."""
    with appearing(out) as folder, Shards(folder, len(form.leads), form.samples) as shards:
        columns, rejected, units, band, done = Columns(), [], Counter[str](), set[Band | None](), 0
        for chunk in _chunks(_named_once(dataset.records(root)), CHUNK):
            whole, bad = _prepare(chunk, dataset, form, next(iter(units), None))
            rejected += bad
            if whole.records:
                units.update([whole.unit])
                band |= {r.band_hz for r in whole.records}
                with writing(out):
                    places = shards.append(whole.counts)
                columns.append(_columns(whole, places, form))
            done += len(chunk)
            if progress:
                progress(done)
        if not units:
            raise CorpusError(_nothing_usable(dataset, root, rejected))
        with writing(out):
            shards.close()
            _finish(folder, dataset, root, form, shards, columns.table(), rejected, next(iter(units)), band)


def unit_of_first(dataset: Source, root: Path | None, form: Form) -> str:
    """Return the unit the first good record has in `form`; see `ecgscale.data.corpus.check_form`."""
    rejected = []
    for item in dataset.records(root):
        reason = item.reason if isinstance(item, Rejected) else check(item)
        if reason is None:
            assert isinstance(item, Record)
            return unit_in_form(form, item.unit, item.band_hz, _name(dataset))
        rejected.append(Rejected(item.record, reason))
    raise CorpusError(_nothing_usable(dataset, root, rejected))


def digest_of(folder: Path, manifest: dict[str, Any]) -> str:
    """Compute the digest of a corpus folder from its files."""
    hasher = hashlib.blake2b()
    for name in manifest["shards"]:
        shard = np.load(folder / name, mmap_mode="r")
        for start in range(0, len(shard), CHUNK):
            hasher.update(np.ascontiguousarray(shard[start : start + CHUNK]).data)
    return _digest(hasher.digest(), pq.read_table(folder / "index.parquet"), manifest)


@dataclass(slots=True)
class _Whole:
    """The good records of a chunk, side by side in the form of the corpus."""

    records: list[Record]
    counts: npt.NDArray[np.int16]  # record lead time
    lead_ok: npt.NDArray[np.bool_]  # record lead
    seconds: list[float]
    unit: str


def _chunks(items: Iterable[Record | Rejected], size: int) -> Iterator[list[Record | Rejected]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _named_once(items: Iterable[Record | Rejected]) -> Iterator[Record | Rejected]:
    seen: set[str] = set()
    for item in items:
        if isinstance(item, Record) and item.record in seen:
            yield Rejected(item.record, "another record of this source has the same name")
        else:
            seen.add(item.record)
            yield item


def _prepare(
    chunk: list[Record | Rejected], dataset: Source, form: Form, unit: str | None
) -> tuple[_Whole, list[Rejected]]:
    """Judge and transform a chunk: records that agree in everything but content are treated as one array."""
    reasons: list[str | None] = [_reason(item, form) for item in chunk]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, item in enumerate(chunk):
        if reasons[i] is None and isinstance(item, Record):
            here = unit_in_form(form, item.unit, item.band_hz, _name(dataset))
            unit = unit or here
            if here != unit:
                reasons[i] = f"the unit is {item.unit}; earlier records of this source are {unit}"
                continue
            key = (item.unit, item.rate_hz, item.leads, item.signal.shape[1], item.band_hz)
            groups.setdefault(key, []).append(i)
    counts = np.zeros((len(chunk), len(form.leads), form.samples), np.int16)
    lead_ok = np.zeros(counts.shape[:2], bool)
    for key, rows in groups.items():
        found = _transform([chunk[i] for i in rows], key, dataset, form, counts, lead_ok, rows)  # type: ignore[misc]
        for i, reason in zip(rows, found, strict=True):
            reasons[i] = reason
    keep = [i for i, reason in enumerate(reasons) if reason is None]
    good = [item for i in keep if isinstance(item := chunk[i], Record)]
    seconds = [samples_in_form(r.signal.shape[1], r.rate_hz, form) / form.rate_hz for r in good]
    bad = [Rejected(item.record, reason) for item, reason in zip(chunk, reasons, strict=True) if reason is not None]
    return _Whole(good, counts[keep], lead_ok[keep], seconds, unit or "mV"), bad


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
    counts: npt.NDArray[np.int16],
    lead_ok: npt.NDArray[np.bool_],
    rows: list[int],
) -> list[str | None]:
    """Write the records of one group into their rows of `counts` and `lead_ok`; return their reasons."""
    unit, rate_hz, leads, _, band_hz = key
    raw = to_millivolts(np.stack([r.signal for r in records]).astype(np.float32, copy=False), unit)
    reasons, live = quality.flaws(raw, leads, unit, dataset.flat_leads, dataset.limb_leads)
    good = [i for i, reason in enumerate(reasons) if reason is None]
    if not good:
        return reasons
    if not live[good].all():
        raw[~live] = 0.0
    scaled = to_form(raw[good], leads, rate_hz, band_hz, form) / np.float32(SCALE)
    largest = np.abs(scaled).max(axis=(1, 2))
    np.rint(scaled, out=scaled)
    for i, value, row in zip(good, largest, scaled, strict=True):
        if value > np.iinfo(np.int16).max:
            reasons[i] = f"the signal reaches {value * SCALE:.4g}, more than a corpus can hold (32.767)"
        else:
            counts[rows[i]] = row
    for column, lead in enumerate(form.leads):
        if lead in leads:
            lead_ok[rows, column] = live[:, leads.index(lead)]
    return reasons


def _columns(whole: _Whole, places: list[tuple[int, int]], form: Form) -> dict[str, pa.Array]:
    records = whole.records
    stored = whole.counts.astype(np.float32) * np.float32(SCALE)
    found = beats.find_beats(stored, form.rate_hz, whole.lead_ok, form.beats)
    prints = fingerprint.fingerprints(stored, form.leads, form.rate_hz)
    bits = whole.lead_ok @ (1 << np.arange(len(form.leads), dtype=np.int64))
    names = dict.fromkeys(name for r in records for name in r.labels)
    return {
        "record": pa.array([r.record for r in records], pa.string()),
        "patient": pa.array([r.patient for r in records], pa.string()),
        "age": pa.array([np.nan if r.age is None else r.age for r in records], pa.float64()),
        "sex": pa.array([r.sex for r in records], pa.string()),
        "fold": pa.array([r.fold for r in records], pa.int64()),
        "shard": pa.array([shard for shard, _ in places], pa.int32()),
        "offset": pa.array([offset for _, offset in places], pa.int32()),
        "seconds": pa.array(whole.seconds, pa.float64()),
        "lead_ok": pa.array(bits, pa.int64()),
        "beats": pa.array(found, pa.list_(pa.int32())),
        "fingerprint": pa.array([row.tobytes() for row in prints], pa.binary()),
        **{f"label.{n}": pa.array([r.labels.get(n, np.nan) for r in records], pa.float32()) for n in names},
    }


def _finish(
    folder: Path,
    dataset: Source,
    root: Path | None,
    form: Form,
    shards: Shards,
    table: pa.Table,
    rejected: list[Rejected],
    unit: str,
    bands: set[Band | None],
) -> None:
    """Write index, quarantine and specification, and the manifest last."""
    pq.write_table(table, folder / "index.parquet")
    quarantine = {"record": [r.record for r in rejected], "reason": [r.reason for r in rejected]}
    text = pa.schema([("record", pa.string()), ("reason", pa.string())])
    pq.write_table(pa.table(quarantine, schema=text), folder / "quarantine.parquet")
    spec = {"dataset": dataset.dump(), "form": form.dump()}
    (folder / "spec.json").write_text(json.dumps(spec, indent=1))
    files = [*shards.files, "index.parquet", "quarantine.parquet", "spec.json"]
    manifest = {
        "format": FORMAT,
        "name": _name(dataset),
        **spec,
        **{k: getattr(dataset, k) for k in ("title", "licence", "access", "url", "citation", "version", "simulated")},
        "facts": dataset.facts(),
        "unit": unit,
        "band_hz": form.band_hz or (next(iter(bands)) if len(bands) == 1 else None),
        "scale": SCALE,
        "records": table.num_rows,
        "patients": pc.count_distinct(table["patient"]).as_py(),
        "quarantined": len(rejected),
        **_summary(table),
        "revisions": _revisions(),
        "beats": {
            "finder": form.beats,
            "revision": beats.REVISION,
            "per_record": pc.mean(pc.list_value_length(table["beats"])).as_py(),
        },
        "stamp": dataset.stamp(root),
        "ecgscale": version("ecgscale"),
        "shards": shards.files,
        "files": {name: (folder / name).stat().st_size for name in files},
    }
    manifest["digest"] = _digest(shards.hash.digest(), table, manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, allow_nan=False))


def _revisions() -> dict[str, int]:
    return {
        "preprocessing": signal.REVISION,
        "quality": quality.REVISION,
        "beats": beats.REVISION,
        "fingerprint": fingerprint.REVISION,
    }


def _digest(signals: bytes, table: pa.Table, manifest: dict[str, Any]) -> str:
    """Hash what a run can read: samples, index, form and the revisions of everything that shaped them."""
    how = {key: manifest[key] for key in ("form", "unit", "band_hz", "scale", "revisions")}
    hasher = hashlib.blake2b(signals)
    hasher.update(hash_table(table, _NOT_CONTENT))
    hasher.update(json.dumps(how, sort_keys=True).encode())
    return hasher.hexdigest()[:16]


def _summary(table: pa.Table) -> dict[str, Any]:
    """Count labels, ages, sexes, folds and populations."""
    labels = {}
    for name in table.column_names:
        if name.startswith("label."):
            values = table[name].to_numpy()
            known = values[~np.isnan(values)]
            labels[name.removeprefix("label.")] = {
                "positive": int(known.sum()),
                "known": len(known),
                "prevalence": float(known.mean()) if len(known) else None,
            }
    ages = table["age"].to_numpy()
    ages = ages[~np.isnan(ages)]
    patients = {p: p.partition(":")[0] for p in table["patient"].to_pylist()}
    return {
        "labels": labels,
        "age": {"known": len(ages), "mean": float(ages.mean()), "sd": float(ages.std())} if len(ages) else {"known": 0},
        "sex": {str(k): v for k, v in sorted(Counter(s or "unknown" for s in table["sex"].to_pylist()).items())},
        "folds": {str(k): v for k, v in sorted(Counter(f for f in table["fold"].to_pylist() if f is not None).items())},
        "populations": dict(sorted(Counter(patients.values()).items())),
    }


def _name(dataset: Source) -> str:
    return str(getattr(dataset, "dataset", None) or dataset.part_name())


def _nothing_usable(dataset: Source, root: Path | None, rejected: list[Rejected]) -> str:
    where = f"{_name(dataset)} in {root}" if root else _name(dataset)
    if not rejected:
        return f"{where} holds no record"
    first = rejected[0]
    return (
        f"{where} holds no usable record: all {len(rejected)} are rejected, the first ({first.record}): {first.reason}"
    )
