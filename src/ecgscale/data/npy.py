"""Record after record out of an NPY file or a member of an NPZ archive, without holding the whole array.

An NPY file is memory-mapped; an NPZ member is decompressed as a stream where records are its first axis.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np

_DAMAGED = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


@contextmanager
def reading(error_type: type[Exception]) -> Iterator[None]:
    """Turn every way in which an array file can be broken into one sentence of `error_type`."""
    try:
        yield
    except _DAMAGED as error:
        if isinstance(error, error_type):
            raise
        if isinstance(error, ArrayError):
            raise error_type(str(error)) from None
        raise error_type(f"the array cannot be read, it may be cut short: {error}") from None


class ArrayError(ValueError):
    """An array file is missing or broken."""


class Rows:
    """The records of one array, in order.

    Attributes:
        name: File and key, for messages.
        shape: Of the whole array.
    """

    def __init__(self, file: Path, key: str | None, axis: int) -> None:
        self._file, self._key, self._axis = file, key, axis
        self.name = file.name if key is None else f"{file.name}:{key}"
        self.shape, self._fortran, self._kind, self._start = _shape(file, key)
        if self._kind.kind not in "biuf":
            raise ArrayError(f"{self.name} holds values of the kind {self._kind}; expected real numbers")
        self._open: IO[bytes] | None = None  # of an NPZ member, `_next` records into it
        self._next = 0
        self._whole: Any = None

    @classmethod
    def open(cls, root: Path, where: str, axis: int) -> Rows:
        """Find the array that `where` names below `root`; `axis` is the one that counts records."""
        return cls(*locate(root, where), axis)

    def __len__(self) -> int:
        return self.shape[self._axis]

    def span(self, start: int, stop: int) -> Iterator[Any]:
        """Yield the records from `start` to before `stop`."""
        if self._key is None:
            yield from np.moveaxis(_load(self._file, mmap_mode="r"), self._axis, 0)[start:stop]
        elif self._axis == 0 and not self._fortran:
            yield from self._stream(start, stop)
        else:
            if self._whole is None:
                self._whole = np.moveaxis(_member(self._file, self._key), self._axis, 0)
            yield from self._whole[start:stop]

    def _stream(self, start: int, stop: int) -> Iterator[Any]:
        """Decompress on from where the last span ended; a span before it starts the archive anew."""
        assert self._key is not None
        size = int(np.prod(self.shape[1:])) * self._kind.itemsize
        if self._open is None or self._next > start:
            self._open = zipfile.ZipFile(self._file).open(f"{self._key}.npy")  # noqa: SIM115  (kept for the next span)
            self._open.read(self._start)
            self._next = 0
        while self._next < start:
            self._skip(self._open.read(size), size)
        while self._next < stop:
            data = self._open.read(size)
            self._skip(data, size)
            yield np.frombuffer(data, self._kind).reshape(self.shape[1:])

    def _skip(self, data: bytes, size: int) -> None:
        if len(data) < size:
            raise ArrayError(f"{self.name} ends in record {self._next} of {self.shape[0]}; the file is cut short")
        self._next += 1


def rows(root: Path, where: str, axis: int) -> Rows:
    """Return `Rows.open` of these arguments, kept open: portions of one archive are mostly read one after the other."""
    file, key = locate(root, where)
    return _kept(file, key, axis, file.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _kept(file: Path, key: str | None, axis: int, written: int) -> Rows:
    return Rows(file, key, axis)


def whole(root: Path, where: str, beside: str) -> Any:
    """Return a whole array; `where` may be a key alone if it lies in the same NPZ archive as `beside`."""
    if ".np" not in where and ".npz" in beside:
        where = f"{beside.partition(':')[0]}:{where}"
    file, key = locate(root, where)
    return _load(file) if key is None else _member(file, key)


def locate(root: Path, where: str) -> tuple[Path, str | None]:
    """Return file and key of FILE.npy, FILE.npz:KEY, FILE.npz with one array of three axes, or KEY of the only NPZ."""
    name, _, key = where.partition(":")
    if root.is_file():
        root, name, key = root.parent, root.name, key or ("" if where == root.name else where)
    elif not name.endswith((".npy", ".npz")):
        archives = sorted(root.glob("*.npz"))
        if len(archives) != 1:
            raise ArrayError(f"`{where}` is no .npy or .npz file, and {root} holds {len(archives)} .npz files")
        name, key = archives[0].name, where
    file = root / name
    if not file.is_file():
        raise ArrayError(f"{file} does not exist")
    if file.suffix == ".npy":
        return file, None
    return file, key or _largest(file)


def _largest(file: Path) -> str:
    with _archive(file) as archive:
        cubes = [n for n in archive.namelist() if n.endswith(".npy") and len(_shape(file, n[:-4])[0]) == 3]
    if len(cubes) != 1:
        raise ArrayError(f"{file} holds {len(cubes)} arrays with three axes; name one as {file.name}:KEY")
    return cubes[0].removesuffix(".npy")


def _archive(file: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except zipfile.BadZipFile:
        raise ArrayError(f"{file} is no NPZ archive or is cut short; copy it again") from None


def _shape(file: Path, key: str | None) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, order, kind and the length of the header."""
    if key is None:
        array = _load(file, mmap_mode="r")
        return array.shape, array.flags.f_contiguous, array.dtype, 0
    with _broken(file), _archive(file) as archive:
        if f"{key}.npy" not in archive.namelist():
            have = ", ".join(sorted(n.removesuffix(".npy") for n in archive.namelist()))
            raise ArrayError(f"{file} has no array `{key}`; it holds {have}")
        with archive.open(f"{key}.npy") as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, kind = read(stream)
            if kind.hasobject:
                raise ArrayError(f"{file}: `{key}` holds Python objects; save plain numbers")
            return shape, fortran, kind, stream.tell()


def _load(file: Path, mmap_mode: Any = None) -> Any:
    with _broken(file):
        return np.load(file, mmap_mode=mmap_mode, allow_pickle=False)


@contextmanager
def _broken(file: Path) -> Iterator[None]:
    """Turn what NumPy and zipfile raise on damaged bytes into one sentence; NumPy reads a header as Python's text."""
    try:
        yield
    except ArrayError:
        raise
    except (*_DAMAGED, SyntaxError, TokenError, TypeError, KeyError, OverflowError, MemoryError, struct.error) as error:
        said = " ".join(str(error).split())
        raise ArrayError(f"{file} is no whole array file ({said}); it may be cut short, copy it again") from None


def _member(file: Path, key: str) -> Any:
    with _broken(file), np.load(file, allow_pickle=False) as archive:
        return archive[key]
