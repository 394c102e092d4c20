"""How a corpus is written: int16 shards in sequence, an index by columns, a folder that appears whole or not at all.

While it is being made the folder stands beside its place as `.<name>.part`. Every so many records what is done is
written down in its `journal.json`; an ingest that was killed goes on from there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ecgscale.spec import Explained

SCALE = 1e-3  # mV or z-units per count: 1 µV resolves any ADC in clinical use, ±32.767 mV holds any ECG
SHARD_BYTES = 2 * 2**30

Int16 = npt.NDArray[np.int16]


class CorpusError(Explained, ValueError):
    """A corpus cannot be written or read; one sentence says where, what was found and what to do."""


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turn an operating-system error while writing into one sentence about `out`."""
    try:
        yield
    except OSError as error:
        what = error.strerror or str(error)
        raise CorpusError(
            f"cannot write the corpus to {out}: {what.lower()}; choose another folder, or make room and call again: "
            "what was done is kept"
        ) from None


JOURNAL = "journal.json"
_MAKING = "making.json"


@contextmanager
def appearing(out: Path, identity: dict[str, Any]) -> Iterator[Path | None]:
    """Yield a folder beside `out` that takes its place when the block ends well.

    Where it does not end well the folder is kept if its journal holds anything, for the next call to go on from. While
    another process makes the same corpus this one waits; if that one brought it to its end, None is yielded.

    Args:
        out: The place.
        identity: What is being made; a folder left by the making of anything else is emptied first.

    Raises:
        CorpusError: `out` cannot be written, or holds something that is no corpus.
    """
    if out.exists() and not (out / "manifest.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise CorpusError(f"{out} exists and is no corpus; choose another folder for the corpus")
    part = out.parent / f".{out.name}.part"
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        held, waited = _hold(part)
    try:
        if waited and _made(out) == identity:
            part.rmdir()
            yield None
            return
        with writing(out):
            _begin(part, identity)
        yield part
        with writing(out):
            _swap(part, out)
    finally:
        if not (part / JOURNAL).exists():
            shutil.rmtree(part, ignore_errors=True)
        os.close(held)


def _hold(part: Path) -> tuple[int, bool]:
    """Make the folder and lock it; return its descriptor, and whether another process had to be waited for."""
    waited = False
    while True:
        part.mkdir(exist_ok=True)
        held = os.open(part, os.O_RDONLY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = True
            fcntl.flock(held, fcntl.LOCK_EX)
        if part.exists() and os.fstat(held).st_ino == part.stat().st_ino:
            return held, waited
        os.close(held)  # it took its place while this process waited


def _made(out: Path) -> dict[str, Any] | None:
    made = out / _MAKING
    return json.loads(made.read_text()) if made.is_file() else None


def _begin(part: Path, identity: dict[str, Any]) -> None:
    """Keep what an earlier process left of the same making; otherwise empty the folder."""
    text = json.dumps(identity, sort_keys=True)
    making = part / _MAKING
    if not (making.is_file() and making.read_text() == text):
        for file in part.iterdir():
            file.unlink()
        making.write_text(text)


def _swap(part: Path, out: Path) -> None:
    (part / JOURNAL).unlink(missing_ok=True)
    if not out.exists():
        part.replace(out)
        return
    old = part.with_suffix(".old")
    shutil.rmtree(old, ignore_errors=True)
    out.replace(old)
    part.replace(out)
    shutil.rmtree(old, ignore_errors=True)


class Shards:
    """Writes int16 [record, lead, time] one chunk after the other into NPY files of bounded size.

    The number of records is not known beforehand: a shard's header is written for no record and again when it is full
    (NPY headers are padded for this).

    Args:
        folder: Where the files go.
        leads, samples: Of a record.
        records: How many an earlier process wrote that are to be kept; what it wrote after them is cut off.
    """

    def __init__(self, folder: Path, leads: int, samples: int, records: int = 0) -> None:
        self._folder, self._shape = folder, (leads, samples)
        self._size = 2 * leads * samples
        self.limit = max(1, SHARD_BYTES // self._size)
        self.hash = hashlib.blake2b()
        self.records = 0
        self.files: list[str] = []
        self._file: IO[bytes] | None = None
        self._start = 0
        while self.records < records:
            self._resume(min(self.limit, records - self.records))

    def __enter__(self) -> Shards:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def append(self, counts: Int16) -> list[tuple[int, int]]:
        """Write records and return the shard and offset of each."""
        places = []
        while len(counts):
            if self._file is None:
                self._open("w+b")
            assert self._file is not None
            free = self.limit - (self.records - self._start)
            now = np.ascontiguousarray(counts[:free])
            self._file.write(now.data)
            self.hash.update(now.data)
            first = self.records - self._start
            places += [(len(self.files) - 1, first + i) for i in range(len(now))]
            self._count(len(now))
            counts = counts[free:]
        return places

    def flush(self) -> None:
        """Bring what was written to the disk."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Finish the open shard."""
        if self._file is not None:
            self._file.seek(0)
            self._header(self._file, self.records - self._start)
            self.flush()
            self._file.close()
            self._file = None
            self._start = self.records

    def _resume(self, kept: int) -> None:
        """Take over the next shard with its first `kept` records."""
        self._open("r+b")
        assert self._file is not None
        for _ in range(kept):
            self.hash.update(self._file.read(self._size))
        self._file.truncate()
        self._count(kept)

    def _count(self, records: int) -> None:
        self.records += records
        if self.records - self._start == self.limit:
            self.close()

    def _open(self, mode: str) -> None:
        self.files.append(f"signals-{len(self.files):05d}.npy")
        self._file = (self._folder / self.files[-1]).open(mode)  # type: ignore[assignment]
        self._header(self._file, 0)  # type: ignore[arg-type]

    def _header(self, file: IO[bytes], records: int) -> None:
        header = {"descr": "<i2", "fortran_order": False, "shape": (records, *self._shape)}
        np.lib.format.write_array_header_1_0(file, header)


class Pieces:
    """Collects a table piece by piece in Parquet files of a folder and joins them into one, piece by piece.

    Columns may appear late, as labels do: rows before hold NaN in them.
    """

    def __init__(self, folder: Path, name: str, kept: int = 0) -> None:
        self._folder, self._name, self.count = folder, name, kept
        self._rows: list[pa.Table] = []

    def append(self, rows: pa.Table) -> None:
        """Add rows; they are on disk after the next `flush`."""
        self._rows.append(rows)

    def flush(self) -> None:
        """Write the rows added since the last time."""
        if self._rows:
            pq.write_table(pa.concat_tables(self._rows, promote_options="default"), self._path(self.count))
            self.count += 1
            self._rows = []

    def columns(self) -> list[str]:
        """Return the names of all columns, in the order in which they appeared."""
        return list(dict.fromkeys(n for i in range(self.count) for n in pq.read_schema(self._path(i)).names))

    def tables(self) -> Iterator[pa.Table]:
        """Yield the pieces, each with all columns."""
        names = self.columns()
        for i in range(self.count):
            yield _completed(pq.read_table(self._path(i)), names)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield row after row."""
        for table in self.tables():
            yield from table.to_pylist()

    def joined(self, empty: pa.Schema) -> Iterator[pa.Table]:
        """Write `<name>.parquet`, yielding each piece as it is written, and remove the pieces; `empty` if none."""
        writer: pq.ParquetWriter | None = None
        for piece in self.tables():
            writer = writer or pq.ParquetWriter(self._folder / f"{self._name}.parquet", piece.schema)
            writer.write_table(piece)
            yield piece
        if writer is None:
            pq.write_table(empty.empty_table(), self._folder / f"{self._name}.parquet")
        else:
            writer.close()
        for i in range(self.count):
            self._path(i).unlink()

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._name}-{number:05d}.parquet"


def _completed(table: pa.Table, names: list[str]) -> pa.Table:
    nothing = pa.nulls(table.num_rows, pa.float32()).fill_null(float("nan"))
    columns = {name: table[name] if name in table.column_names else nothing for name in names}
    for name in names:
        if name.startswith("label.") and columns[name].null_count:
            columns[name] = columns[name].fill_null(float("nan"))
    return pa.table({name: columns[name] for name in names})


class TableHash:
    """Hashes the content of a table piece by piece, whatever its pieces, row groups or compression.

    Args:
        skip: Columns that are no part of the content.
    """

    def __init__(self, skip: tuple[str, ...]) -> None:
        self._skip = skip
        self._columns: dict[str, Any] = {}

    def update(self, table: pa.Table) -> None:
        """Add rows; all pieces have the same columns."""
        for name in table.column_names:
            if name not in self._skip:
                for part, block in _bytes(table[name]):
                    self._columns.setdefault(f"{name}\x1f{part}", hashlib.blake2b()).update(block)

    def digest(self) -> bytes:
        """Return the hash of all rows."""
        whole = hashlib.blake2b()
        for name, column in sorted(self._columns.items()):
            whole.update(f"\x1e{name}\x1f".encode() + column.digest())
        return whole.digest()


def _bytes(column: pa.ChunkedArray) -> Iterator[tuple[str, Any]]:
    if pa.types.is_list(column.type):
        for chunk in column.chunks:
            yield "lengths", chunk.value_lengths().to_numpy(zero_copy_only=False).astype("<i4").tobytes()
            yield "values", chunk.flatten().to_numpy(zero_copy_only=False).astype("<i4").tobytes()
    elif pa.types.is_floating(column.type):
        values = column.to_numpy()
        yield "", np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes()  # one NaN, whatever its sign bit
    else:
        yield "", b"".join(
            b"\x00" if value is None else (value if isinstance(value, bytes) else str(value).encode()) + b"\x1f"
            for value in column.to_pylist()
        )


class Seen:
    """Which of many names came before, in eight bytes a name: sorted arrays of hashes, merged as they grow."""

    def __init__(self) -> None:
        self._new: set[int] = set()
        self._sorted: list[npt.NDArray[np.uint64]] = []

    def add(self, name: str) -> bool:
        """Take note of a name; return whether it is new."""
        key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
        if key in self._new or any(_holds(keys, key) for keys in self._sorted):
            return False
        self._new.add(key)
        if len(self._new) == 2**16:
            keys = np.sort(np.fromiter(self._new, np.uint64, len(self._new)))
            while self._sorted and len(self._sorted[-1]) <= len(keys):
                keys = np.sort(np.concatenate([self._sorted.pop(), keys]))
            self._sorted.append(keys)
            self._new = set()
        return True


def _holds(keys: npt.NDArray[np.uint64], key: int) -> bool:
    place = int(np.searchsorted(keys, np.uint64(key)))
    return place < len(keys) and int(keys[place]) == key


class Summary:
    """Counts labels, ages, sexes, folds and populations of an index, piece by piece."""

    def __init__(self) -> None:
        self.records = 0
        self._labels: dict[str, tuple[int, int]] = {}
        self._ages: Counter[float] = Counter()
        self._sex: Counter[str] = Counter()
        self._folds: Counter[int] = Counter()
        self._patients: Counter[str] = Counter()
        self._seen = Seen()
        self._beats = 0

    def update(self, table: pa.Table) -> None:
        """Add rows."""
        self.records += table.num_rows
        for name in table.column_names:
            if name.startswith("label."):
                values = table[name].to_numpy()
                known = values[~np.isnan(values)]
                positive, count = self._labels.get(name[6:], (0, 0))
                self._labels[name[6:]] = positive + int(known.sum()), count + len(known)
        ages = table["age"].to_numpy()
        self._ages.update(ages[~np.isnan(ages)].tolist())
        self._sex.update(sex or "unknown" for sex in table["sex"].to_pylist())
        self._folds.update(fold for fold in table["fold"].to_pylist() if fold is not None)
        self._patients.update(p.partition(":")[0] for p in table["patient"].to_pylist() if self._seen.add(p))
        self._beats += len(table["beats"].combine_chunks().flatten())

    def facts(self) -> dict[str, Any]:
        """Return what stands in the manifest."""
        age, people = np.array(sorted(self._ages.items())).reshape(-1, 2).T
        return {
            "records": self.records,
            "patients": self._patients.total(),
            "labels": {
                name: {"positive": positive, "known": known, "prevalence": positive / known if known else None}
                for name, (positive, known) in self._labels.items()
            },
            "age": _moments(age, people),
            "sex": dict(sorted(self._sex.items())),
            "folds": {str(fold): count for fold, count in sorted(self._folds.items())},
            "populations": dict(sorted(self._patients.items())),
            "beats_per_record": self._beats / self.records if self.records else None,
        }


def _moments(value: npt.NDArray[np.float64], count: npt.NDArray[np.float64]) -> dict[str, float]:
    if not len(value):
        return {"known": 0}
    mean = float(np.average(value, weights=count))
    spread = float(np.average((value - mean) ** 2, weights=count)) ** 0.5
    return {"known": int(count.sum()), "mean": mean, "sd": spread}
