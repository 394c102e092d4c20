"""From a source's records to a corpus folder, in chunks of bounded memory."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
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

from ecgscale.data import beats, examples, fingerprint, quality, signal
from ecgscale.data.examples import Examples
from ecgscale.data.indexing import Pieces, Seen, Summary, TableHash
from ecgscale.data.mapped import FILES, Mapped
from ecgscale.data.portion import CHUNK, Prepared, prepare
from ecgscale.data.record import Record, Rejected, check
from ecgscale.data.signal import Band, Form, unit_in_form
from ecgscale.data.source import Source, corpus_name
from ecgscale.data.storage import JOURNAL, SCALE, CorpusError, Shards, appearing, writing
from ecgscale.processes import die_with

FORMAT = 2  # of the folder
FLUSH = 32  # portions between two entries of the journal: what a killed ingest has to do again
ROWS = 2**16  # of the index held at once
_DERIVED = "fingerprint"  # follows from the signals, but for a bit that another processor may round otherwise
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
            _Ingest(folder, dataset, root, form, out, identity).run(progress, workers)


def making(dataset: Source, root: Path | None, form: Form) -> dict[str, Any]:
    """Return what decides the content of a corpus, without reading a record."""
    return {
        "format": FORMAT,
        "dataset": dataset.dump(),
        "form": form.dump(),
        "stamp": dataset.stamp(root),
        "revisions": _revisions(),
    }


def _in_order(job: Callable[[Any], Prepared], portions: Iterator[Any], workers: int) -> Iterator[Prepared]:
    """Do the portions here, or several at a time in other processes; the results come in the order of the portions."""
    first = list(islice(portions, 2 * workers))
    if workers == 1 or len(first) < 2 * workers:
        yield from map(job, chain(first, portions))
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), die_with, (os.getpid(),)) as pool:
        under_way = deque(pool.submit(job, portion) for portion in first)
        while under_way:
            whole = under_way.popleft().result()
            under_way.extend(pool.submit(job, portion) for portion in islice(portions, 1))
            yield whole


@dataclass(slots=True)
class _Done:
    """How far an ingest has come; kept in the folder's journal."""

    portions: int = 0
    records: int = 0  # rows written
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

    def save(self, folder: Path) -> None:
        text = json.dumps({**asdict(self), "bands": [list(b) if b else None for b in self.bands]})
        fresh = folder / f"{JOURNAL}.new"
        fresh.write_text(text)
        fresh.replace(folder / JOURNAL)


class _Ingest:
    """One corpus in the making, in a folder that may hold the beginning of it."""

    def __init__(
        self, folder: Path, dataset: Source, root: Path | None, form: Form, out: Path, identity: dict[str, Any]
    ) -> None:
        self.folder, self.dataset, self.root, self.form, self.out = folder, dataset, root, form, out
        self.identity = identity
        self.done = _Done.load(folder)
        self.unit = self.done.unit or unit_of_first(dataset, root, form)
        self.index, self.quarantine = (Pieces(folder, n, self.done.pieces[n]) for n in ("index", "quarantine"))
        self.examples = Examples(examples.load(folder))
        self.saved = len(self.examples) or -1  # examples on disk; the file is there even if it holds none
        self.seen = Seen()
        for name in self.index.values("record"):
            self.seen.add(name)

    def run(self, progress: Callable[[int], None] | None, workers: int) -> None:
        """Read portion after portion, going on from where the journal says, and write the corpus."""
        with writing(self.out):
            shards = Shards(self.folder, len(self.form.leads), self.form.samples, self.done.records)
        with shards:
            todo = islice(self.dataset.portions(self.root), self.done.portions, None)
            job = partial(prepare, self.dataset, self.root, self.form, self.unit)
            for prepared in _in_order(job, todo, workers):
                with writing(self.out):
                    self._take(prepared, shards)
                if progress:
                    progress(self.done.read)
            with writing(self.out):
                self._keep(shards)
                shards.close()
                if not shards.records:
                    (self.folder / JOURNAL).unlink()  # nothing to go on from
                    raise CorpusError(_nothing_usable(self.dataset, self.root, self._rejected()))
                self._finish(shards)

    def _take(self, prepared: Prepared, shards: Shards) -> None:
        prepared.drop_known(self.seen)
        if len(prepared.table):
            self.done.bands |= prepared.bands
            shards.append(prepared.counts)
            self.index.append(prepared.table)
        rejected = prepared.rejected
        columns = {"record": [r.record for r in rejected], "reason": [r.reason for r in rejected]}
        self.quarantine.append(pa.table(columns, _QUARANTINE))
        self.examples.extend(prepared.examples)
        self.done.portions += 1
        self.done.records += len(prepared.table)
        self.done.read += len(prepared.table) + len(rejected)
        if self.done.portions % FLUSH == 0:
            self._keep(shards)

    def _keep(self, shards: Shards) -> None:
        """Bring everything to the disk and then say so in the journal."""
        shards.flush()
        self.index.flush()
        self.quarantine.flush()
        if len(self.examples) > self.saved:
            examples.save(self.examples, self.folder)
            self.saved = len(self.examples)
        self.done.unit = self.unit
        self.done.pieces = {"index": self.index.count, "quarantine": self.quarantine.count}
        self.done.save(self.folder)

    def _rejected(self) -> list[Rejected]:
        return [Rejected(**row) for row in self.quarantine.rows()]

    def _finish(self, shards: Shards) -> None:
        """Write index, quarantine and specification, and the manifest last."""
        labels = [name.removeprefix("label.") for name in self.index.columns() if name.startswith("label.")]
        content, summary, mapped = TableHash(_DERIVED), Summary(), Mapped(self.folder, labels)
        for piece in self.index.joined(_QUARANTINE):
            for part in (content, summary, mapped):
                part.append(piece)
        mapped.close()
        rejected = sum(len(piece) for piece in self.quarantine.joined(_QUARANTINE))
        spec = {key: self.identity[key] for key in ("dataset", "form")}
        (self.folder / "spec.json").write_text(json.dumps(spec, indent=1))
        files = [*shards.files, *FILES, "index.parquet", "quarantine.parquet", "spec.json", examples.FILE]
        source, bands, facts = self.dataset, self.done.bands, summary.facts()
        per_record = facts.pop("beats_per_record")
        manifest = {
            **self.identity,
            "name": corpus_name(source),
            **{
                k: getattr(source, k) for k in ("title", "licence", "access", "url", "citation", "version", "simulated")
            },
            "facts": source.facts(),
            "unit": self.unit,
            "band_hz": self.form.band_hz or (next(iter(bands)) if len(bands) == 1 else None),
            "scale": SCALE,
            "quarantined": rejected,
            **facts,
            "beats": {"finder": self.form.beats, "revision": beats.REVISION, "per_record": per_record},
            "ecgscale": version("ecgscale"),
            "shards": shards.files,
            "shard_records": shards.limit,
            "files": {name: (self.folder / name).stat().st_size for name in files},
        }
        manifest["digest"] = _digest(shards.hash.digest(), content, manifest)
        (self.folder / "manifest.json").write_text(json.dumps(manifest, indent=1, allow_nan=False))
        (self.folder / JOURNAL).unlink()  # until here an ingest that is killed has all that the journal names
        self.index.remove()
        self.quarantine.remove()


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
    hasher, content = hashlib.blake2b(), TableHash(_DERIVED)
    for name in manifest["shards"]:
        shard = np.load(folder / name, mmap_mode="r")
        for start in range(0, len(shard), CHUNK):
            hasher.update(np.ascontiguousarray(shard[start : start + CHUNK]).data)
    for rows in pq.ParquetFile(folder / "index.parquet").iter_batches(ROWS):
        content.append(pa.table(rows))
    return _digest(hasher.digest(), content, manifest)


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
