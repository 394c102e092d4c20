"""Signals and their index on disk in one form, written once and read by memory map.

A corpus is a folder: `signals-00000.npy` … (int16 [record, lead, time], 1e-3 mV or 1e-3 z-units per count),
`index.parquet` (one row per record, with beats and labels) and what training reads of it as arrays
(`data/mapped.py`), `quarantine.parquet` (record, reason), `spec.json` (what
it was made from) and `manifest.json`, written last: its existence means the corpus is whole.
"""

from __future__ import annotations

import filecmp
import json
import tempfile
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ecgscale.data import ingestion, mapped
from ecgscale.data.signal import Form, FormError
from ecgscale.data.source import Source
from ecgscale.data.storage import SCALE, CorpusError
from ecgscale.data.store import url_of

__all__ = ["Corpus", "CorpusError", "Form", "FormError", "check_form", "ingest"]

Rows = Sequence[int] | npt.NDArray[np.integer[Any]]

_HIDDEN = "fingerprint"  # kept out of the index frame: 128 bytes per record that only an overlap check wants


def ingest(
    dataset: Source,
    root: Path | None,
    form: Form,
    out: Path | str,
    progress: Callable[[int], None] | None = None,
    workers: int = 1,
) -> Corpus:
    """Read every record of a source, bring it to one form and write a corpus.

    The corpus appears at `out` whole or not at all; a bad record goes to quarantine with its reason and stops nothing.
    An ingest that was killed goes on where it was when it is called again with the same source, form and `out`.

    Args:
        dataset: The source.
        root: Its folder, None if it needs none.
        form: What all signals shall have in common.
        out: Folder of the corpus, or a URL (`s3://bucket/path`); an earlier corpus there is replaced. For a URL the
            corpus is made in the cache on the local disk, which must hold it, and then uploaded; a call that was
            killed goes on with the upload, too.
        progress: Called with the number of records read so far.
        workers: Processes that read and transform; the corpus does not depend on it.

    Raises:
        DatasetError: `root` is not this source.
        FormError: the source cannot be brought to `form`.
        CorpusError: `out` cannot be written, or no record is usable.
    """
    if url := url_of(out):
        from ecgscale.data import uploading  # which needs Corpus

        return uploading.ingest(dataset, root, form, url, progress, workers)
    ingestion.run(dataset, root, form, Path(out), progress, workers)
    return Corpus.open(out)


def check_form(dataset: Source, root: Path | None, form: Form) -> str:
    """Return the unit a source would have in `form`, judged by its first readable record.

    Raises:
        DatasetError: `root` is not this source.
        FormError: the source cannot be brought to `form`; the sentence names both.
        CorpusError: no record is readable.
    """
    return ingestion.unit_of_first(dataset, root, form)


class Corpus:
    """A corpus on disk. Opening reads the manifest only; signals are read when asked for, row by row."""

    url: str | None = None  # where it is kept, if `path` is a cache of it

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.form = Form.parse(manifest["form"])
        self.name: str = manifest["name"]
        self.unit: str = manifest["unit"]
        self.digest: str = manifest["digest"]
        self.leads: tuple[str, ...] = self.form.leads
        self.rate_hz: float = self.form.rate_hz
        self.samples: int = self.form.samples

    @classmethod
    def open(cls, path: Path | str) -> Corpus:
        """Open a corpus in a folder, or at a URL (`s3://bucket/path`): its signals come when they are read.

        Raises:
            CorpusError: the folder is no corpus, was written by another version, or a file is missing or cut short;
                the URL cannot be reached, or a package that it needs is missing.
        """
        if url := url_of(path):
            from ecgscale.data.object_storage import RemoteCorpus  # which is a Corpus

            return RemoteCorpus.at(url)
        path = Path(path)
        try:
            manifest = json.loads((path / "manifest.json").read_text())
        except FileNotFoundError:
            raise CorpusError(f"{path} is no corpus: it has no manifest.json; ingest the data set again") from None
        except (OSError, ValueError) as error:
            raise CorpusError(f"{path / 'manifest.json'} cannot be read ({error}); ingest the data set again") from None
        if manifest.get("format") != ingestion.FORMAT:
            found = manifest.get("format")
            raise CorpusError(
                f"{path} has corpus format {found}, expected {ingestion.FORMAT}; ingest the data set again"
            )
        path = Path(path, manifest.get("folder", ""))  # in a copy of what stands at a URL
        for name, size in manifest["files"].items():
            file = path / name
            found = file.stat().st_size if file.is_file() else None
            if found != size:
                what = "is missing" if found is None else f"has {found} bytes, expected {size}"
                raise CorpusError(f"the corpus {path} is torn: {name} {what}; ingest the data set again")
        if "mixture" in manifest:
            from ecgscale.data.mixture import Mixture  # which is a Corpus

            return Mixture(path, manifest)
        return cls(path, manifest)

    def __len__(self) -> int:
        return int(self.manifest["records"])

    def __repr__(self) -> str:
        return f"Corpus({self.name}, {len(self)} records, {self.unit}, {self.rate_hz:g} Hz, {self.digest})"

    def __reduce__(self) -> tuple[Callable[..., Corpus], tuple[Any, ...]]:
        return Corpus.open, (self.path,)  # a worker process opens its own memory maps

    @cached_property
    def index(self) -> pd.DataFrame:
        """One row per record, its label is the row in the corpus.

        Columns: record (`name:window` where the form asks for all windows), patient (`population:id`), age, sex,
        fold, source_rate_hz, source_s (length of the whole record), window, seconds (of signal in the window), lead_ok
        and lead_derived (bit i for lead i), beats (sample indices), `label.<name>` (1, 0 or NaN) and
        `value.<name>` (any number or NaN).
        """
        names = [name for name in pq.read_schema(self.path / "index.parquet").names if name != _HIDDEN]
        frame: pd.DataFrame = pq.read_table(self.path / "index.parquet", columns=names).to_pandas()
        frame["fold"] = frame["fold"].astype("Int64")
        frame["sex"] = frame["sex"].astype(object).where(frame["sex"].notna(), None)
        return frame

    @property
    def labels(self) -> list[str]:
        """Names of the labels, without the prefix they have in the index."""
        return list(self.manifest["labels"])

    @cached_property
    def quarantine(self) -> pd.DataFrame:
        """The records that were left out: record, reason."""
        return pd.read_parquet(self.path / "quarantine.parquet")

    @cached_property
    def fingerprints(self) -> npt.NDArray[np.uint8]:
        """[record, 128] uint8, see data/fingerprint.py."""
        column = pq.read_table(self.path / "index.parquet", columns=[_HIDDEN])[_HIDDEN].combine_chunks()
        return np.frombuffer(b"".join(column.to_pylist()), np.uint8).reshape(len(self), -1)

    def signals(self, rows: Rows) -> npt.NDArray[np.float32]:
        """Return [row, lead, time] float32 in `unit`; missing leads and the end of short records are zero."""
        return np.multiply(self.counts(rows), np.float32(SCALE), dtype=np.float32)

    def counts(self, rows: Rows) -> npt.NDArray[np.int16]:
        """Return [row, lead, time] as stored: `SCALE` in `unit` a count. Rising rows are read fastest."""
        shard, offset = np.divmod(np.asarray(rows, dtype=np.int64), self.manifest["shard_records"])
        if len(shard) and shard[0] == shard[-1] and (shard == shard[0]).all():
            return np.take(self._map(f"signals-{shard[0]:05d}.npy"), offset, axis=0)
        out = np.empty((len(shard), len(self.leads), self.samples), np.int16)
        for number in np.unique(shard):
            here = np.flatnonzero(shard == number)
            out[here] = self._map(f"signals-{number:05d}.npy")[offset[here]]
        return out

    def beats(self, rows: Rows) -> npt.NDArray[np.int32]:
        """Return [row, beat] int32 sample indices of the beats, padded with -1 to the longest of these rows."""
        wanted = np.asarray(rows, dtype=np.int64)
        ends, values = self._map("beat_ends.npy"), self._map("beats.npy")
        start = np.where(wanted > 0, ends[wanted - 1], 0)
        count = ends[wanted] - start
        position = np.arange(count.max(initial=0))
        inside = position[None] < count[:, None]
        out = np.full(inside.shape, -1, np.int32)
        out[inside] = values[(start[:, None] + position[None])[inside]]
        return out

    def lead_ok(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Return [row, lead] bool: does the lead carry a signal?"""
        mask = self._map("lead_ok.npy")[np.asarray(rows, dtype=np.int64)]
        return np.asarray((mask[:, None] >> np.arange(len(self.leads))[None]) & 1, dtype=bool)

    def patients(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Return [row] int64, equal where and only where the patient is the same, in every corpus."""
        return np.asarray(self._map("patients.npy")[np.asarray(rows, dtype=np.int64)])

    def known(self, rows: Rows, names: Sequence[str]) -> npt.NDArray[np.int8]:
        """Return [row, label] int8: 1 present, 0 absent, -1 unknown.

        Raises:
            ValueError: the corpus lacks a label.
        """
        self._refuse_unknown(names)
        columns = [self.labels.index(name) for name in names]
        return np.asarray(self._map("labels.npy")[np.asarray(rows, dtype=np.int64)][:, columns])

    def _refuse_unknown(self, names: Sequence[str]) -> None:
        missing = [name for name in names if name not in self.labels]
        if missing:
            raise ValueError(f"the corpus {self.path} has no label {', '.join(missing)}")

    def verify(self) -> None:
        """Read everything once more.

        Raises:
            CorpusError: the content does not have the digest in the manifest.
        """
        self._verify_mapped()
        found = ingestion.digest_of(self.path, self.manifest)
        if found != self.digest:
            raise CorpusError(f"{self.path} was changed: its digest is {found}, expected {self.digest}; ingest again")

    def _verify_mapped(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            fresh = mapped.Mapped(Path(folder), self.labels)
            for rows in pq.ParquetFile(self.path / "index.parquet").iter_batches(ingestion.ROWS):
                fresh.append(pa.table(rows))
            fresh.close()
            for name in mapped.FILES:
                if not filecmp.cmp(Path(folder) / name, self.path / name, shallow=False):
                    raise CorpusError(f"{self.path} was changed: {name} is not what its index says; ingest again")

    @cached_property
    def _maps(self) -> dict[str, npt.NDArray[Any]]:
        return {}

    def _map(self, name: str) -> npt.NDArray[Any]:
        if name not in self._maps:
            self._maps[name] = mapped.load(self.path / name)
        return self._maps[name]
