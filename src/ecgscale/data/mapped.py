"""What training reads of an index, as plain arrays: they are mapped, so that memory does not grow with the corpus.

`beats.npy` int32 [beat of any record] and `beat_ends.npy` int64 [record]; `lead_ok.npy` int64 [record], bit i for lead
i; `patients.npy` int64 [record], a hash of `population:id`; `labels.npy` int8 [record, label], -1 where unknown.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

FILES = ("beats.npy", "beat_ends.npy", "lead_ok.npy", "patients.npy", "labels.npy")


class Mapped:
    """Writes the arrays piece by piece.

    Args:
        folder: Of the corpus.
        labels: Names of the labels, in the order of the last axis of `labels.npy`.
    """

    def __init__(self, folder: Path, labels: list[str]) -> None:
        self._labels = labels
        self._beats = GrowingArray(folder / "beats.npy", "<i4")
        self._ends = GrowingArray(folder / "beat_ends.npy", "<i8")
        self._lead_ok = GrowingArray(folder / "lead_ok.npy", "<i8")
        self._patients = GrowingArray(folder / "patients.npy", "<i8")
        self._known = GrowingArray(folder / "labels.npy", "<i1", (len(labels),))

    def append(self, index: pa.Table) -> None:
        """Add rows of the index."""
        lengths = index["beats"].combine_chunks().value_lengths().to_numpy(zero_copy_only=False)
        self._ends.append(np.cumsum(lengths, dtype=np.int64) + self._beats.length)
        self._beats.append(index["beats"].combine_chunks().flatten().to_numpy(zero_copy_only=False))
        self._lead_ok.append(index["lead_ok"].to_numpy())
        self._patients.append(np.array([patient_key(p) for p in index["patient"].to_pylist()], np.int64))
        values = [np.nan_to_num(index[f"label.{name}"].to_numpy(), nan=-1) for name in self._labels]
        self._known.append(np.array(values, np.int8).reshape(len(self._labels), len(index)).T)

    def close(self) -> None:
        """Finish the files."""
        for array in (self._beats, self._ends, self._lead_ok, self._patients, self._known):
            array.close()


def load(path: Path) -> npt.NDArray[Any]:
    """Map an NPY file; one without values, which cannot be mapped, is read."""
    try:
        return np.asarray(np.load(path, mmap_mode="r"))
    except ValueError:
        return np.asarray(np.load(path))


def patient_key(patient: str) -> int:
    """Return 63 bits that stand for a patient, the same in every corpus."""
    return int.from_bytes(hashlib.blake2b(patient.encode(), digest_size=8).digest(), "little") >> 1


class GrowingArray:
    """An NPY file that is written row by row; its header is written for no row and again at the end.

    NPY headers are padded for this.

    Args:
        path: Of the file.
        kind: Of a value.
        row: Shape of a row.
        mode: "w+b" for a new file, "r+b" to go on with one.
    """

    def __init__(self, path: Path, kind: str, row: tuple[int, ...] = (), mode: str = "w+b") -> None:
        self.path, self.length = path, 0
        self._kind, self._row = np.dtype(kind), row
        self._file: IO[bytes] = path.open(mode)
        self._header()

    def append(self, rows: npt.ArrayLike) -> npt.NDArray[Any]:
        """Write rows and return them as they were written."""
        values = np.ascontiguousarray(rows, self._kind)
        self._file.write(values.data)
        self.length += len(values)
        return values

    def keep(self, rows: int) -> npt.NDArray[Any]:
        """Take over the next rows of an existing file and return them."""
        size = self._kind.itemsize * int(np.prod(self._row, dtype=np.int64))
        self.length += rows
        return np.frombuffer(self._file.read(rows * size), self._kind).reshape(rows, *self._row)

    def end(self) -> None:
        """Cut off what lies behind the rows written or taken over."""
        self._file.truncate()

    def flush(self) -> None:
        """Bring what was written to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Finish the file."""
        if not self._file.closed:
            self._file.seek(0)
            self._header()
            self.flush()
            self._file.close()

    def abandon(self) -> None:
        """Close the file as it is, to be gone on with later."""
        self._file.close()

    def _header(self) -> None:
        header = {"descr": self._kind.str, "fortran_order": False, "shape": (self.length, *self._row)}
        np.lib.format.write_array_header_1_0(self._file, header)
