"""How a corpus is written: int16 shards in sequence, an index by columns, a folder that appears whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ecgscale.spec import Explained

SCALE = 1e-3  # mV or z-units per count: 1 µV resolves any ADC in clinical use, ±32.767 mV holds any ECG
SHARD_BYTES = 128 * 2**20

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
            f"cannot write the corpus to {out}: {what.lower()}; choose another folder or make room"
        ) from None


@contextmanager
def appearing(out: Path) -> Iterator[Path]:
    """Yield a folder beside `out` that takes its place when the block ends well and vanishes when it does not.

    Raises:
        CorpusError: `out` cannot be written, or holds something that is no corpus.
    """
    if out.exists() and not (out / "manifest.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise CorpusError(f"{out} exists and is no corpus; choose another folder for the corpus")
    part = out.parent / f".{out.name}.{socket.gethostname()}-{os.getpid()}.part"
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        _sweep(out)
        part.mkdir()
    try:
        yield part
        with writing(out):
            _swap(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _sweep(out: Path) -> None:
    """Remove what killed processes of this machine left of earlier ingests to `out`."""
    prefix = f".{out.name}.{socket.gethostname()}-"
    for left in out.parent.glob(f"{prefix}*.part"):
        process = left.name.removeprefix(prefix).removesuffix(".part")
        if not process.isdigit() or int(process) == os.getpid() or not _alive(int(process)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _swap(part: Path, out: Path) -> None:
    if not out.exists():
        part.replace(out)
        return
    old = part.with_suffix(".old.part")
    out.replace(old)
    part.replace(out)
    shutil.rmtree(old, ignore_errors=True)


class Shards:
    """Writes int16 [record, lead, time] one chunk after the other into NPY files of bounded size.

    The number of records is not known beforehand: a shard's header is written for no record and again when it is full
    (NPY headers are padded for this).
    """

    def __init__(self, folder: Path, leads: int, samples: int) -> None:
        self._folder, self._shape = folder, (leads, samples)
        self.limit = max(1, SHARD_BYTES // (2 * leads * samples))
        self.hash = hashlib.blake2b()
        self.records = 0
        self.files: list[str] = []
        self._file: IO[bytes] | None = None
        self._start = 0

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
                self._open()
            assert self._file is not None
            free = self.limit - (self.records - self._start)
            now = np.ascontiguousarray(counts[:free])
            self._file.write(now.data)
            self.hash.update(now.data)
            first = self.records - self._start
            places += [(len(self.files) - 1, first + i) for i in range(len(now))]
            self.records += len(now)
            counts = counts[free:]
            if self.records - self._start == self.limit:
                self.close()
        return places

    def close(self) -> None:
        """Finish the open shard."""
        if self._file is not None:
            self._file.seek(0)
            self._header(self._file, self.records - self._start)
            self._file.close()
            self._file = None
            self._start = self.records

    def _open(self) -> None:
        self.files.append(f"signals-{len(self.files):05d}.npy")
        self._file = (self._folder / self.files[-1]).open("wb")
        self._header(self._file, 0)

    def _header(self, file: IO[bytes], records: int) -> None:
        header = {"descr": "<i2", "fortran_order": False, "shape": (records, *self._shape)}
        np.lib.format.write_array_header_1_0(file, header)


class Columns:
    """Collects the index chunk by chunk; labels may appear late, records without them hold NaN."""

    def __init__(self) -> None:
        self._chunks: list[pa.Table] = []

    def append(self, columns: dict[str, pa.Array]) -> None:
        """Add one chunk."""
        self._chunks.append(pa.table(columns))

    def table(self) -> pa.Table:
        """Return all rows; labels unknown to a chunk become NaN."""
        table = pa.concat_tables(self._chunks, promote_options="default").combine_chunks()
        for i, name in enumerate(table.column_names):
            if name.startswith("label.") and table[name].null_count:
                table = table.set_column(i, name, table[name].fill_null(float("nan")))
        return table


def hash_table(table: pa.Table, skip: tuple[str, ...]) -> bytes:
    """Hash the content of a table, whatever its row groups, chunks or compression."""
    hasher = hashlib.blake2b()
    for name in sorted(set(table.column_names) - set(skip)):
        hasher.update(f"\x1e{name}\x1f".encode())
        for block in _bytes(table[name]):
            hasher.update(block)
    return hasher.digest()


def _bytes(column: pa.ChunkedArray) -> Iterator[Any]:
    if pa.types.is_list(column.type):
        flat = pa.concat_arrays(list(column.chunks)) if column.num_chunks else pa.array([], column.type)
        yield flat.value_lengths().to_numpy(zero_copy_only=False).astype("<i4").tobytes()
        yield flat.flatten().to_numpy(zero_copy_only=False).astype("<i4").tobytes()
    elif pa.types.is_floating(column.type):
        values = column.to_numpy()
        yield np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes()  # one NaN, whatever its sign bit
    else:
        for value in column.to_pylist():
            yield b"\x00" if value is None else (value if isinstance(value, bytes) else str(value).encode()) + b"\x1f"
