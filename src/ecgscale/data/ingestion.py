"""From a source's records to a corpus folder, in chunks of bounded memory."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ecgscale.data import beats, fingerprint, quality, signal
from ecgscale.data.indexing import Pieces, Seen, Summary, TableHash
from ecgscale.data.mapped import FILES, Mapped
from ecgscale.data.portion import CHUNK, Prepared, prepare
from ecgscale.data.record import Record, Rejected, check
from ecgscale.data.signal import Band, Form, unit_in_form
from ecgscale.data.source import Source, corpus_name
from ecgscale.data.storage import JOURNAL, SCALE, CorpusError, Shards, appearing, writing

FORMAT = 2  # of the folder
FLUSH = 32  # portions between two entries of the journal: what a killed ingest has to do again
ROWS = 2**16  # of the index held at once
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
        job = partial(prepare, dataset, root, form, unit)
        for whole in _in_order(job, todo, workers):
            whole.drop_known(seen)
            with writing(out):
                if len(whole.table):
                    done.bands |= whole.bands
                    shards.append(whole.counts)
                    index.append(whole.table)
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


def _in_order(job: Callable[[Any], Prepared], portions: Iterator[Any], workers: int) -> Iterator[Prepared]:
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
                return unit_in_form(form, item.unit, item.band_hz, corpus_name(dataset))
            rejected.append(Rejected(item.record, reason))
    raise CorpusError(_nothing_usable(dataset, root, rejected))


def digest_of(folder: Path, manifest: dict[str, Any]) -> str:
    """Compute the digest of a corpus folder from its files."""
    hasher, content = hashlib.blake2b(), TableHash()
    for name in manifest["shards"]:
        shard = np.load(folder / name, mmap_mode="r")
        for start in range(0, len(shard), CHUNK):
            hasher.update(np.ascontiguousarray(shard[start : start + CHUNK]).data)
    for rows in pq.ParquetFile(folder / "index.parquet").iter_batches(ROWS):
        content.append(pa.table(rows))
    return _digest(hasher.digest(), content, manifest)


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
    content, summary = TableHash(), Summary()
    mapped = Mapped(folder, [name.removeprefix("label.") for name in index.columns() if name.startswith("label.")])
    for piece in index.joined(_QUARANTINE):
        for part in (content, summary, mapped):
            part.append(piece)
    mapped.close()
    rejected = sum(len(piece) for piece in quarantine.joined(_QUARANTINE))
    (folder / "spec.json").write_text(json.dumps({key: identity[key] for key in ("dataset", "form")}, indent=1))
    files = [*shards.files, *FILES, "index.parquet", "quarantine.parquet", "spec.json"]
    facts = summary.facts()
    per_record = facts.pop("beats_per_record")
    manifest = {
        **identity,
        "name": corpus_name(dataset),
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
        "shard_records": shards.limit,
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


def _nothing_usable(dataset: Source, root: Path | None, rejected: list[Rejected]) -> str:
    where = f"{corpus_name(dataset)} in {root}" if root else corpus_name(dataset)
    if not rejected:
        return f"{where} holds no record"
    first = rejected[0]
    return (
        f"{where} holds no usable record: all {len(rejected)} are rejected, the first ({first.record}): {first.reason}"
    )
