"""From a source's records to a corpus folder, in chunks of bounded memory."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ecgscale.data import beats, fingerprint, quality, signal
from ecgscale.data.record import Record, Rejected, check
from ecgscale.data.signal import Band, Form, samples_in_form, to_form, to_millivolts, unit_in_form
from ecgscale.data.source import Source
from ecgscale.data.storage import (
    JOURNAL,
    SCALE,
    CorpusError,
    Pieces,
    Seen,
    Shards,
    Summary,
    TableHash,
    appearing,
    writing,
)

FORMAT = 2  # of the folder
CHUNK = 128  # records held at once
FLUSH = 32  # portions between two entries of the journal: what a killed ingest has to do again
ROWS = 2**16  # of the index held at once
_NOT_CONTENT = ("shard", "offset")  # where a record lies is no part of what it is
_QUARANTINE = pa.schema([("record", pa.string()), ("reason", pa.string())])


def run(
    dataset: Source,
    root: Path | None,
    form: Form,
    out: Path,
    progress: Callable[[int], None] | None = None,
    workers: int = 1,
) -> None:
    """Write the corpus of a source to `out`; see `ecgscale.data.corpus.ingest`."""
    identity = making(dataset, root, form)
    with appearing(out, identity) as folder:
        if folder is not None:
            _fill(folder, dataset, root, form, out, progress, workers, identity)


def making(dataset: Source, root: Path | None, form: Form) -> dict[str, Any]:
    """Return what decides the content of a corpus, without reading a record."""
    return {
        "format": FORMAT,
        "dataset": dataset.dump(),
        "form": form.dump(),
        "stamp": dataset.stamp(root),
        "revisions": _revisions(),
    }


def _fill(
    folder: Path,
    dataset: Source,
    root: Path | None,
    form: Form,
    out: Path,
    progress: Callable[[int], None] | None,
    workers: int,
    identity: dict[str, Any],
) -> None:
    """Read portion after portion, going on from the folder's journal, and write the corpus."""
    done = _Done.load(folder)
    unit = done.unit or unit_of_first(dataset, root, form)
    index, quarantine = (Pieces(folder, name, done.pieces[name]) for name in ("index", "quarantine"))
    seen = Seen()
    for name in _names(index):
        seen.add(name)
    with writing(out):
        shards = Shards(folder, len(form.leads), form.samples, done.records)
    with shards:
        todo = islice(dataset.portions(root), done.portions, None)
        job = partial(_portion, dataset, root, form, unit)
        for whole in _in_order(job, todo, workers):
            whole.drop_known(seen)
            with writing(out):
                if len(whole.table):
                    done.bands |= whole.bands
                    index.append(_placed(whole.table, shards.append(whole.counts)))
                quarantine.append(_rejections(whole.rejected))
                done.add(len(whole.table), len(whole.rejected))
                if done.portions % FLUSH == 0:
                    done.keep(folder, unit, shards, index, quarantine)
            if progress:
                progress(done.read)
        with writing(out):
            done.keep(folder, unit, shards, index, quarantine)
            shards.close()
            if not shards.records:
                (folder / JOURNAL).unlink()  # nothing to go on from
                raise CorpusError(_nothing_usable(dataset, root, [Rejected(**row) for row in quarantine.rows()]))
            _finish(folder, dataset, identity, form, shards, index, quarantine, unit, done.bands)


def _in_order(job: Callable[[Any], _Whole], portions: Iterator[Any], workers: int) -> Iterator[_Whole]:
    """Do the portions here, or several at a time in other processes; the results come in the order of the portions."""
    first = list(islice(portions, 2 * workers))
    if workers == 1 or len(first) < 2 * workers:
        yield from map(job, chain(first, portions))
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        under_way = deque(pool.submit(job, portion) for portion in first)
        while under_way:
            whole = under_way.popleft().result()
            under_way.extend(pool.submit(job, portion) for portion in islice(portions, 1))
            yield whole


def _portion(dataset: Source, root: Path | None, form: Form, unit: str, portion: Any) -> _Whole:
    """Read, judge and transform one portion, in chunks of bounded memory."""
    parts = [_prepare(chunk, dataset, form, unit) for chunk in _chunks(dataset.read(root, portion), CHUNK)]
    return parts[0] if len(parts) == 1 else _Whole.joined(parts, form)


@dataclass(slots=True)
class _Done:
    """How far an ingest has come; kept in the folder's journal."""

    portions: int = 0
    records: int = 0  # written
    read: int = 0
    pieces: dict[str, int] = field(default_factory=lambda: {"index": 0, "quarantine": 0})
    bands: set[Band | None] = field(default_factory=set)
    unit: str | None = None

    @classmethod
    def load(cls, folder: Path) -> _Done:
        journal = folder / JOURNAL
        if not journal.exists():
            return cls()
        stored = json.loads(journal.read_text())
        stored["bands"] = {tuple(band) if band else None for band in stored["bands"]}
        return cls(**stored)

    def add(self, written: int, rejected: int) -> None:
        self.portions += 1
        self.records += written
        self.read += written + rejected

    def keep(self, folder: Path, unit: str, shards: Shards, index: Pieces, quarantine: Pieces) -> None:
        """Bring everything to the disk and then say so in the journal."""
        shards.flush()
        for pieces in (index, quarantine):
            pieces.flush()
        self.unit, self.pieces = unit, {"index": index.count, "quarantine": quarantine.count}
        text = json.dumps({**asdict(self), "bands": [list(b) if b else None for b in self.bands]})
        fresh = folder / f"{JOURNAL}.new"
        fresh.write_text(text)
        fresh.replace(folder / JOURNAL)


def _names(index: Pieces) -> Iterator[str]:
    for table in index.tables():
        yield from table["record"].to_pylist()


def _placed(table: pa.Table, places: list[tuple[int, int]]) -> pa.Table:
    shard, offset = zip(*places, strict=True)
    return table.append_column("shard", pa.array(shard, pa.int32())).append_column("offset", pa.array(offset, pa.int32()))


def _rejections(rejected: list[Rejected]) -> pa.Table:
    return pa.table({"record": [r.record for r in rejected], "reason": [r.reason for r in rejected]}, _QUARANTINE)


def unit_of_first(dataset: Source, root: Path | None, form: Form) -> str:
    """Return the unit the first good record has in `form`; see `ecgscale.data.corpus.check_form`."""
    rejected = []
    for portion in dataset.portions(root):
        for item in dataset.read(root, portion):
            reason = item.reason if isinstance(item, Rejected) else check(item)
            if reason is None:
                assert isinstance(item, Record)
                return unit_in_form(form, item.unit, item.band_hz, _name(dataset))
            rejected.append(Rejected(item.record, reason))
    raise CorpusError(_nothing_usable(dataset, root, rejected))


def digest_of(folder: Path, manifest: dict[str, Any]) -> str:
    """Compute the digest of a corpus folder from its files."""
    hasher, content = hashlib.blake2b(), TableHash(_NOT_CONTENT)
    for name in manifest["shards"]:
        shard = np.load(folder / name, mmap_mode="r")
        for start in range(0, len(shard), CHUNK):
            hasher.update(np.ascontiguousarray(shard[start : start + CHUNK]).data)
    for rows in pq.ParquetFile(folder / "index.parquet").iter_batches(ROWS):
        content.update(pa.table(rows))
    return _digest(hasher.digest(), content, manifest)


@dataclass(slots=True)
class _Whole:
    """The good records of a portion, side by side in the form of the corpus, and what was rejected."""

    table: pa.Table  # the index but for the places
    counts: npt.NDArray[np.int16]  # record lead time
    bands: set[Band | None]
    rejected: list[Rejected]

    @classmethod
    def joined(cls, parts: list[_Whole], form: Form) -> _Whole:
        """Put the chunks of a portion together."""
        return cls(
            pa.concat_tables([p.table for p in parts], promote_options="default") if parts else pa.table({}),
            np.concatenate([np.empty((0, len(form.leads), form.samples), np.int16), *(p.counts for p in parts)]),
            {band for p in parts for band in p.bands},
            [rejection for p in parts for rejection in p.rejected],
        )

    def drop_known(self, seen: Seen) -> None:
        """Reject records whose name came before."""
        names = self.table["record"].to_pylist() if len(self.table) else []
        new = np.array([seen.add(name) for name in names], bool)
        if not new.all():
            twice = "another record of this source has the same name"
            self.rejected += [Rejected(n, twice) for n, ok in zip(names, new, strict=True) if not ok]
            self.table, self.counts = self.table.filter(pa.array(new)), self.counts[new]


def _chunks(items: Iterable[Record | Rejected], size: int) -> Iterator[list[Record | Rejected]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _prepare(chunk: list[Record | Rejected], dataset: Source, form: Form, unit: str) -> _Whole:
    """Judge and transform a chunk: records that agree in everything but content are treated as one array."""
    reasons: list[str | None] = [_reason(item, form) for item in chunk]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, item in enumerate(chunk):
        if reasons[i] is None and isinstance(item, Record):
            here = unit_in_form(form, item.unit, item.band_hz, _name(dataset))
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
    bad = [Rejected(item.record, reason) for item, reason in zip(chunk, reasons, strict=True) if reason is not None]
    table = pa.table(_columns(good, counts[keep], lead_ok[keep], form)) if good else pa.table({})
    return _Whole(table, counts[keep], {r.band_hz for r in good}, bad)


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


def _columns(
    records: list[Record], counts: npt.NDArray[np.int16], lead_ok: npt.NDArray[np.bool_], form: Form
) -> dict[str, pa.Array]:
    stored = counts.astype(np.float32) * np.float32(SCALE)
    found = beats.find_beats(stored, form.rate_hz, lead_ok, form.beats)
    prints = fingerprint.fingerprints(stored, form.leads, form.rate_hz)
    bits = lead_ok @ (1 << np.arange(len(form.leads), dtype=np.int64))
    seconds = [samples_in_form(r.signal.shape[1], r.rate_hz, form) / form.rate_hz for r in records]
    names = dict.fromkeys(name for r in records for name in r.labels)
    return {
        "record": pa.array([r.record for r in records], pa.string()),
        "patient": pa.array([r.patient for r in records], pa.string()),
        "age": pa.array([np.nan if r.age is None else r.age for r in records], pa.float64()),
        "sex": pa.array([r.sex for r in records], pa.string()),
        "fold": pa.array([r.fold for r in records], pa.int64()),
        "seconds": pa.array(seconds, pa.float64()),
        "lead_ok": pa.array(bits, pa.int64()),
        "beats": pa.array(found, pa.list_(pa.int32())),
        "fingerprint": pa.array([row.tobytes() for row in prints], pa.binary()),
        **{f"label.{n}": pa.array([r.labels.get(n, np.nan) for r in records], pa.float32()) for n in names},
    }


def _finish(
    folder: Path,
    dataset: Source,
    identity: dict[str, Any],
    form: Form,
    shards: Shards,
    index: Pieces,
    quarantine: Pieces,
    unit: str,
    bands: set[Band | None],
) -> None:
    """Write index, quarantine and specification, and the manifest last."""
    content, summary = TableHash(_NOT_CONTENT), Summary()
    for piece in index.joined(_QUARANTINE):
        content.update(piece)
        summary.update(piece)
    rejected = sum(len(piece) for piece in quarantine.joined(_QUARANTINE))
    (folder / "spec.json").write_text(json.dumps({key: identity[key] for key in ("dataset", "form")}, indent=1))
    files = [*shards.files, "index.parquet", "quarantine.parquet", "spec.json"]
    facts = summary.facts()
    per_record = facts.pop("beats_per_record")
    manifest = {
        **identity,
        "name": _name(dataset),
        **{k: getattr(dataset, k) for k in ("title", "licence", "access", "url", "citation", "version", "simulated")},
        "facts": dataset.facts(),
        "unit": unit,
        "band_hz": form.band_hz or (next(iter(bands)) if len(bands) == 1 else None),
        "scale": SCALE,
        "quarantined": rejected,
        **facts,
        "beats": {"finder": form.beats, "revision": beats.REVISION, "per_record": per_record},
        "ecgscale": version("ecgscale"),
        "shards": shards.files,
        "files": {name: (folder / name).stat().st_size for name in files},
    }
    manifest["digest"] = _digest(shards.hash.digest(), content, manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, allow_nan=False))


def _revisions() -> dict[str, int]:
    return {
        "preprocessing": signal.REVISION,
        "quality": quality.REVISION,
        "beats": beats.REVISION,
        "fingerprint": fingerprint.REVISION,
    }


def _digest(signals: bytes, content: TableHash, manifest: dict[str, Any]) -> str:
    """Hash what a run can read: samples, index, form and the revisions of everything that shaped them."""
    how = {key: manifest[key] for key in ("form", "unit", "band_hz", "scale", "revisions")}
    hasher = hashlib.blake2b(signals)
    hasher.update(content.digest())
    hasher.update(json.dumps(how, sort_keys=True).encode())
    return hasher.hexdigest()[:16]


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
