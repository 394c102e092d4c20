"""Rows out of HDF5 files: a portion with one call, no chunk decoded twice, the last files kept open per process.

Every way in which a file can be broken is one sentence. h5py is imported where a file is opened, since it is slow to
import. Source of the layout rules: https://docs.h5py.org/en/stable/high/dataset.html#chunked-storage.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
Shape = tuple[int | None, ...]  # None: any length
_Stamp = tuple[int, int]

EMPTY = "the tracing is empty: every sample of every lead is 0"
OPEN = 4  # files a process keeps open
BAND = 2**28  # bytes of decoded rows a process keeps, where a chunk spans more rows than a portion

_BROKEN = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError)  # what h5py makes of damage

_files: OrderedDict[Path, tuple[_Stamp, Any]] = OrderedDict()
_band: dict[tuple[Path, _Stamp, str, int], Any] = {}  # one entry at most
_kept: list[Float] = []  # likewise


class Hdf5Error(ValueError):
    """An HDF5 file, or a dataset in it, cannot be read; the sentence names it."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a dataset lies in its file.

    Attributes:
        rows: Length of the first axis.
        chunk_rows: Rows that one chunk spans; 1 where the dataset is contiguous.
    """

    rows: int
    chunk_rows: int

    def spans(self, size: int) -> Iterator[tuple[int, int]]:
        """Yield start and stop of pieces of at most `size` rows that end where chunks end.

        A chunk of more than `size` rows is cut into several pieces; `read` then decodes it once and keeps its rows.
        """
        step = size // self.chunk_rows * self.chunk_rows
        for chunk in range(0, self.rows, step or self.chunk_rows):
            end = min(chunk + (step or self.chunk_rows), self.rows)
            yield from ((start, min(start + size, end)) for start in range(chunk, end, size))


def close() -> None:
    """Close the files this process keeps open, as is needed before it writes to one of them."""
    _band.clear()
    while _files:
        _files.popitem()[1][1].close()


def below(root: Path, name: str) -> Path:
    """Return the path of a file below `root`.

    Raises:
        Hdf5Error: `name` leads out of `root`.
    """
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise Hdf5Error(f"the file {name} lies outside {root}; nothing outside the data set is read")
    return path


def layout(root: Path, name: str, dataset: str, shape: Shape) -> Layout:
    """Return how a dataset lies in its file, without reading it.

    Args:
        root: Of the data set; nothing outside it is opened, whatever a table or an HDF5 file says.
        name: Of the file below `root`.
        dataset: Name inside the file.
        shape: What it must have.

    Raises:
        Hdf5Error: the file is missing, broken or outside `root`, or the dataset is missing or of another shape.
    """
    data = _dataset(root, name, dataset, shape)
    return Layout(len(data), _chunk_rows(data))


def whole(root: Path, name: str, dataset: str, shape: Shape) -> npt.NDArray[Any]:
    """Return all of a small dataset in its own type; arguments and errors as in `layout`."""
    data = _dataset(root, name, dataset, shape)
    try:
        return np.asarray(data[()])
    except _BROKEN as error:
        raise Hdf5Error(_damaged(root / name, dataset, "", error)) from None


def read(
    root: Path, name: str, dataset: str, shape: Shape, start: int, stop: int, fresh: bool = True
) -> tuple[Float, dict[int, str]]:
    """Read the rows from `start` to before `stop` with one call.

    Args:
        root, name, dataset, shape: As in `layout`.
        start, stop: Rows; see `Layout.spans`.
        fresh: Return new memory; otherwise the next call overwrites it, and reading takes two thirds of the time.

    Returns:
        [row, ...] float32, and a sentence for each row (counted from `start`) that a damaged chunk spoils; such rows
        are 0.

    Raises:
        Hdf5Error: as in `layout`.
    """
    data = _dataset(root, name, dataset, shape)
    wanted = (stop - start, *data.shape[1:])
    block = np.empty(wanted, np.float32) if fresh else _scratch(wanted)
    return block, _read_into(block, data, root / name, start)


def unpadded(
    root: Path, name: str, dataset: str, shape: Shape, start: int, stop: int, scale: float = 1.0
) -> Iterator[Float | str]:
    """Yield rows of a [record, time, lead] dataset without the zeros that pad them at both ends.

    Args:
        root, name, dataset, shape, start, stop: As in `read`.
        scale: What every value is multiplied by.

    Yields:
        [lead, time] float32, a view into the rows read together, or the sentence why there is none. Only samples at
        the ends at which all leads are exactly 0 are padding.

    Raises:
        Hdf5Error: as in `layout`.
    """
    block, damaged = read(root, name, dataset, shape, start, stop)
    for i, row in enumerate(block):
        some = (row != 0).tobytes()
        begin, end = (place // row.shape[1] for place in (some.find(1), some.rfind(1)))  # -1 where all are 0
        signal = row[max(0, begin) : end + 1]
        signal *= np.float32(scale)
        yield damaged.get(i) or (signal.T if len(signal) else EMPTY)


def _scratch(shape: tuple[int, ...]) -> Float:
    """Return the array that this process keeps for reading, made larger where need be."""
    size = int(np.prod(shape))
    if not _kept or _kept[0].size < size:
        _kept[:] = [np.empty(size, np.float32)]
    return _kept[0][:size].reshape(shape)


def _read_into(block: Float, data: Any, path: Path, start: int) -> dict[int, str]:
    """Fill `block` with rows from `start` on; return a sentence for each row that a damaged chunk spoils."""
    try:
        _fill(block, data, path, start)
        return {}
    except _BROKEN:
        block[:] = 0  # a chunk is damaged: find the rows it spoils
    damaged = {}
    for i in range(len(block)):
        try:
            block[i] = data[start + i]
        except _BROKEN as error:
            damaged[i] = _damaged(path, data.name[1:], f"[{start + i}]", error)
    return damaged


def _fill(block: Float, data: Any, path: Path, start: int) -> None:
    size, stop = _chunk_rows(data), start + len(block)
    first, last = start // size * size, min(-(-stop // size) * size, len(data))
    row_bytes = data.dtype.itemsize * int(np.prod(data.shape[1:]))
    if (first, last) == (start, stop) or (last - first) * row_bytes > BAND:
        data.read_direct(block, np.s_[start:stop])
        return
    key = (path, _files[path][0], data.name, first)
    if key not in _band or len(_band[key]) < stop - first:
        _band.clear()  # before reading, so that one band is held at a time
        _band[key] = data[first:last]
    with np.errstate(over="ignore"):  # what overflows becomes infinite and is rejected later
        block[:] = _band[key][start - first : stop - first]


def _dataset(root: Path, name: str, dataset: str, shape: Shape) -> Any:
    path = below(root, name)
    file = _open(path)
    try:
        return _checked(root, path, file, dataset, shape)
    except Hdf5Error:
        raise
    except _BROKEN as error:
        raise Hdf5Error(_damaged(path, dataset, "", error)) from None


def _checked(root: Path, path: Path, file: Any, dataset: str, shape: Shape) -> Any:
    import h5py

    link = file.get(dataset, getlink=True)
    if link is None:
        raise Hdf5Error(f'{path} has no dataset "{dataset}"; it has {", ".join(sorted(file)[:8]) or "nothing"}')
    if not isinstance(link, h5py.HardLink):
        raise Hdf5Error(f'"{dataset}" of {path} is a link to elsewhere; only what the file itself holds is read')
    data = file[dataset]
    if not isinstance(data, h5py.Dataset) or data.dtype.kind not in "fiu":
        raise Hdf5Error(f'"{dataset}" of {path} holds no numbers; expected a dataset of shape {_text(shape)}')
    if len(data.shape) != len(shape) or any(want not in (None, n) for n, want in zip(data.shape, shape, strict=True)):
        raise Hdf5Error(f'"{dataset}" of {path} has shape {_text(data.shape)}; expected {_text(shape)}')
    _refuse_elsewhere(root, path, data)
    return data


def _refuse_elsewhere(root: Path, path: Path, data: Any) -> None:
    """Refuse a dataset whose numbers lie in another file that is not below `root`."""
    sources = [source.file_name for source in data.virtual_sources()] if data.is_virtual else []
    for file in (*sources, *(name for name, *_ in data.external or [])):
        if file != "." and not (path.parent / file).resolve().is_relative_to(root.resolve()):
            raise Hdf5Error(f'"{data.name}" of {path} is stored in {file}, outside {root}; that is not read')


def _open(path: Path) -> Any:
    """Return the open file; one that changed since it was opened is opened anew."""
    import h5py

    try:
        status = path.stat()
    except OSError as error:
        raise Hdf5Error(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    stamp = (status.st_mtime_ns, status.st_size)
    if path in _files and _files[path][0] != stamp:
        _files.pop(path)[1].close()
    if path not in _files:
        try:
            _files[path] = (stamp, _opened(h5py, path))
        except OSError as error:
            raise Hdf5Error(
                f"{path} cannot be opened as HDF5 ({_reason(error)}): "
                "it is damaged or was not copied to its end, copy it again"
            ) from None
        while len(_files) > OPEN:
            _files.popitem(last=False)[1][1].close()
    _files.move_to_end(path)
    return _files[path][1]


def _opened(h5py: Any, path: Path) -> Any:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if "lock file" not in str(error):
            raise
    return h5py.File(path, "r", locking=False)  # a file system without locks, as clusters have them


def _chunk_rows(data: Any) -> int:
    return int(data.chunks[0]) if data.chunks else 1


def _damaged(path: Path, dataset: str, where: str, error: Exception) -> str:
    return f"{dataset}{where} of {path} cannot be read ({_reason(error)}): the file is damaged, copy it again"


def _reason(error: Exception) -> str:
    """Return the part in parentheses of "Unable to synchronously open file (truncated file: eof = …)"."""
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return line[line.index("(") + 1 : -1] if "(" in line and line.endswith(")") else line


def _text(shape: Shape) -> str:
    return f"[{', '.join('any' if n is None else str(n) for n in shape)}]"
