"""The index of a corpus while it is made: collected, joined, hashed and summed up piece by piece, never held whole."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq


class Pieces:
    """Collects a table piece by piece in Parquet files of a folder and joins them into one, piece by piece.

    Columns may appear late, as labels and values do: rows before hold NaN in them.
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

    def values(self, column: str) -> Iterator[Any]:
        """Yield the values of one column, reading no other."""
        for i in range(self.count):
            yield from pq.read_table(self._path(i), columns=[column])[column].to_pylist()

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield row after row."""
        for table in self.tables():
            yield from table.to_pylist()

    def joined(self, empty: pa.Schema) -> Iterator[pa.Table]:
        """Write `<name>.parquet`, yielding each piece as it is written; `empty` if there is none."""
        writer: pq.ParquetWriter | None = None
        for piece in self.tables():
            writer = writer or pq.ParquetWriter(self._folder / f"{self._name}.parquet", piece.schema)
            writer.write_table(piece)
            yield piece
        if writer is None:
            pq.write_table(empty.empty_table(), self._folder / f"{self._name}.parquet")
        else:
            writer.close()

    def remove(self) -> None:
        """Remove the pieces."""
        for i in range(self.count):
            self._path(i).unlink()

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._name}-{number:05d}.parquet"


def _completed(table: pa.Table, names: list[str]) -> pa.Table:
    nothing = pa.nulls(table.num_rows, pa.float32()).fill_null(float("nan"))
    columns = {name: table[name] if name in table.column_names else nothing for name in names}
    for name in names:
        if name.startswith(("label.", "value.")) and columns[name].null_count:
            columns[name] = columns[name].fill_null(float("nan"))
    return pa.table({name: columns[name] for name in names})


class TableHash:
    """Hashes the content of a table piece by piece, whatever its pieces, row groups or compression.

    Args:
        skip: Columns that are no part of the content.
    """

    def __init__(self, *skip: str) -> None:
        self._skip = skip
        self._columns: dict[str, Any] = {}

    def append(self, table: pa.Table) -> None:
        """Add rows; all pieces have the same columns."""
        for name in (n for n in table.column_names if n not in self._skip):
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
        yield (
            "",
            b"".join(
                b"\x00" if value is None else (value if isinstance(value, bytes) else str(value).encode()) + b"\x1f"
                for value in column.to_pylist()
            ),
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

    def append(self, table: pa.Table) -> None:
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


def count_patients(keys: Iterable[npt.NDArray[np.int64]]) -> int:
    """Return how many different patients there are in several arrays of `patient_key`s."""
    return len(np.unique(np.concatenate(list(keys))))


def _moments(value: npt.NDArray[np.float64], count: npt.NDArray[np.float64]) -> dict[str, float]:
    if not len(value):
        return {"known": 0}
    mean = float(np.average(value, weights=count))
    spread = float(np.average((value - mean) ** 2, weights=count)) ** 0.5
    return {"known": int(count.sum()), "mean": mean, "sd": spread}
