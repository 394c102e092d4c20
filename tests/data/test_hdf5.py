"""The HDF5 reader gives what h5py gives, decodes no chunk twice, and says in one sentence what is wrong with a file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgscale.data import hdf5
from ecgscale.data.hdf5 import Hdf5Error, Layout

_ANY = (None, 6, 3)


@pytest.fixture
def tracings(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(23, 6, 3)).astype(np.float32)


def _store(path: Path, data: Any, **how: Any) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("tracings", data=data, **how)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"chunks": (1, 6, 3), "compression": "gzip"},
        {"chunks": (4, 3, 3), "compression": "gzip"},
        {"chunks": (20, 2, 1), "compression": "lzf"},
    ],
)
@pytest.mark.parametrize("kind", ["<f4", ">f8", "<f2", "<i2"])
def test_every_layout_gives_what_h5py_gives(
    tmp_path: Path, tracings: np.ndarray, how: dict[str, Any], kind: str
) -> None:
    stored = (tracings * 100).astype(kind)
    _store(tmp_path / "a.h5", stored, **how)
    found = [
        hdf5.read(tmp_path, "a.h5", "tracings", _ANY, start, stop)
        for start, stop in hdf5.layout(tmp_path, "a.h5", "tracings", _ANY).spans(8)
    ]
    assert all(block.dtype == np.float32 and not damaged for block, damaged in found)
    assert np.array_equal(np.concatenate([block for block, _ in found]), stored.astype(np.float32))


@given(st.integers(0, 500), st.integers(1, 200), st.integers(1, 150))
def test_spans_cover_every_row_once_and_end_where_chunks_end(rows: int, chunk_rows: int, size: int) -> None:
    spans = list(Layout(rows, chunk_rows).spans(size))
    assert [row for start, stop in spans for row in range(start, stop)] == list(range(rows))
    assert all(0 < stop - start <= size for start, stop in spans)
    if chunk_rows <= size:
        assert all(stop % chunk_rows == 0 or stop == rows for _, stop in spans)
    else:
        assert all(start // chunk_rows == (stop - 1) // chunk_rows for start, stop in spans)


@pytest.mark.parametrize(("chunk_rows", "calls"), [(None, 3), (4, 3), (20, 2)])
def test_no_chunk_is_decoded_twice(
    tmp_path: Path, tracings: np.ndarray, monkeypatch: pytest.MonkeyPatch, chunk_rows: int | None, calls: int
) -> None:
    _store(tmp_path / "a.h5", tracings, chunks=chunk_rows and (chunk_rows, 2, 1))
    asked: list[slice] = []
    get, into = h5py.Dataset.__getitem__, h5py.Dataset.read_direct
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda self, key: asked.append(key) or get(self, key))
    monkeypatch.setattr(h5py.Dataset, "read_direct", lambda self, to, key: asked.append(key) or into(self, to, key))
    for start, stop in hdf5.layout(tmp_path, "a.h5", "tracings", _ANY).spans(8):
        hdf5.read(tmp_path, "a.h5", "tracings", _ANY, start, stop)
    rows = [row for part in asked for row in range(part.start, part.stop)]
    assert rows == list(range(23))
    assert len(asked) == calls


def test_what_was_read_is_the_callers_own(tmp_path: Path, tracings: np.ndarray) -> None:
    _store(tmp_path / "a.h5", tracings, chunks=(20, 6, 3))
    first, _ = hdf5.read(tmp_path, "a.h5", "tracings", _ANY, 0, 8)
    first *= 0
    again, _ = hdf5.read(tmp_path, "a.h5", "tracings", _ANY, 0, 8)
    assert np.array_equal(again, tracings[:8])


def test_memory_that_is_not_fresh_is_used_again(tmp_path: Path, tracings: np.ndarray) -> None:
    _store(tmp_path / "a.h5", tracings)
    for start, stop in ((0, 8), (8, 20), (3, 5)):
        block, _ = hdf5.read(tmp_path, "a.h5", "tracings", _ANY, start, stop, fresh=False)
        assert np.array_equal(block, tracings[start:stop])
    first, _ = hdf5.read(tmp_path, "a.h5", "tracings", _ANY, 0, 8, fresh=False)
    second, _ = hdf5.read(tmp_path, "a.h5", "tracings", _ANY, 8, 16, fresh=False)
    assert np.shares_memory(first, second)
    signals = [list(hdf5.unpadded(tmp_path, "a.h5", "tracings", _ANY, start, start + 8)) for start in (0, 8)]
    assert np.array_equal(np.stack(signals[0]), tracings[:8].transpose(0, 2, 1))


def test_chunks_too_large_to_keep_are_read_all_the_same(
    tmp_path: Path, tracings: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5, "BAND", 100)
    _store(tmp_path / "a.h5", tracings, chunks=(20, 6, 3))
    assert np.array_equal(hdf5.read(tmp_path, "a.h5", "tracings", _ANY, 8, 16)[0], tracings[8:16])


@pytest.mark.parametrize("chunks", [None, (20, 6, 3)])
def test_a_file_that_changed_is_read_anew(tmp_path: Path, tracings: np.ndarray, chunks: Any) -> None:
    for factor in (1, 2):
        _store(tmp_path / "new.h5", factor * tracings, chunks=chunks)
        os.utime(tmp_path / "new.h5", (factor, factor))
        (tmp_path / "new.h5").replace(tmp_path / "a.h5")
        assert np.array_equal(hdf5.read(tmp_path, "a.h5", "tracings", _ANY, 0, 8)[0], factor * tracings[:8])


def test_few_files_stay_open(tmp_path: Path, tracings: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    file = h5py.File
    monkeypatch.setattr(h5py, "File", lambda *args, **how: opened.append(file(*args, **how)) or opened[-1])
    for i in range(hdf5.OPEN + 2):
        with file(tmp_path / f"{i}.h5", "w") as made:
            made["tracings"] = tracings
        for _ in range(2):
            hdf5.layout(tmp_path, f"{i}.h5", "tracings", _ANY)
    assert len(opened) == hdf5.OPEN + 2
    assert [bool(handle) for handle in opened] == [False, False] + [True] * hdf5.OPEN


def test_a_file_system_without_locks_is_no_obstacle(
    tmp_path: Path, tracings: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    _store(tmp_path / "a.h5", tracings)
    file = h5py.File

    def unlockable(path: Path, mode: str, locking: bool | None = None) -> h5py.File:
        if locking is not False:
            raise OSError("Unable to synchronously open file (unable to lock file, errno = 37)")
        return file(path, mode, locking=locking)

    monkeypatch.setattr(h5py, "File", unlockable)
    assert np.array_equal(hdf5.read(tmp_path, "a.h5", "tracings", _ANY, 0, 8)[0], tracings[:8])


def test_after_close_a_file_can_be_written(tmp_path: Path, tracings: np.ndarray) -> None:
    _store(tmp_path / "a.h5", tracings)
    hdf5.layout(tmp_path, "a.h5", "tracings", _ANY)
    hdf5.close()
    _store(tmp_path / "a.h5", 3 * tracings)
    assert np.array_equal(hdf5.read(tmp_path, "a.h5", "tracings", _ANY, 0, 8)[0], 3 * tracings[:8])


def _not_hdf5(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 an archive that was not unpacked")


def _cut(path: Path) -> None:
    _store(path, np.zeros((50, 6, 3)))
    path.write_bytes(path.read_bytes()[:3000])


def _other_name(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["signal"] = np.zeros((5, 6, 3))


def _group(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_group("tracings")


def _link(path: Path) -> None:
    _store(path.parent.parent / "secret.h5", np.zeros((5, 6, 3)))
    with h5py.File(path, "w") as file:
        file["tracings"] = h5py.ExternalLink("../secret.h5", "tracings")


def _soft_link(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["elsewhere"] = h5py.ExternalLink("../secret.h5", "/")
        file["tracings"] = h5py.SoftLink("/elsewhere/tracings")


def _virtual(path: Path) -> None:
    _store(path.parent.parent / "secret.h5", np.zeros((5, 6, 3)))
    layout = h5py.VirtualLayout((5, 6, 3), "f4")
    layout[:] = h5py.VirtualSource("../secret.h5", "tracings", shape=(5, 6, 3))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("tracings", layout)


def _raw(path: Path) -> None:
    (path.parent.parent / "secret.raw").write_bytes(bytes(5 * 6 * 3 * 4))
    with h5py.File(path, "w") as file:
        file.create_dataset("tracings", (5, 6, 3), "f4", external="../secret.raw")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: None, "no such file"),
        (_not_hdf5, r"cannot be opened as HDF5 \(file signature not found\)"),
        (_cut, r"cannot be opened as HDF5 \(truncated file.*copy it again"),
        (_other_name, 'has no dataset "tracings"; it has signal'),
        (_group, "holds no numbers"),
        (lambda path: _store(path, np.array([b"a", b"b"])), "holds no numbers"),
        (lambda path: _store(path, np.zeros((5, 3, 6))), r"has shape \[5, 3, 6\]; expected \[any, 6, 3\]"),
        (lambda path: _store(path, np.zeros((5, 6))), r"has shape \[5, 6\]; expected"),
        (_link, "is a link to elsewhere"),
        (_soft_link, "is a link to elsewhere"),
        (_virtual, r"is stored in \.\./secret\.h5, outside"),
        (_raw, r"is stored in \.\./secret\.raw, outside"),
    ],
)
def test_broken_files_are_one_sentence(tmp_path: Path, spoil: Callable[[Path], None], said: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    spoil(root / "a.h5")
    for ask in (hdf5.layout, hdf5.whole, lambda *what: hdf5.read(*what, 0, 2)):
        with pytest.raises(Hdf5Error, match=said) as error:
            ask(root, "a.h5", "tracings", _ANY)
        assert "\n" not in str(error.value)
        assert str(root / "a.h5") in str(error.value)


def test_a_virtual_dataset_of_files_below_the_root_is_read(tmp_path: Path, tracings: np.ndarray) -> None:
    _store(tmp_path / "part.h5", tracings)
    layout = h5py.VirtualLayout((23, 6, 3), "f4")
    layout[:] = h5py.VirtualSource("part.h5", "tracings", shape=(23, 6, 3))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("tracings", layout)
    assert np.array_equal(hdf5.read(tmp_path, "a.h5", "tracings", _ANY, 3, 9)[0], tracings[3:9])


@pytest.mark.parametrize("name", ["../secret.h5", "/etc/secret.h5", "link.h5"])
def test_nothing_outside_the_root_is_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / "root").mkdir()
    _store(tmp_path / "secret.h5", np.zeros((5, 6, 3)))
    (tmp_path / "root" / "link.h5").symlink_to(tmp_path / "secret.h5")
    with pytest.raises(Hdf5Error, match="lies outside"):
        hdf5.layout(tmp_path / "root", name, "tracings", _ANY)


def test_a_damaged_chunk_spoils_its_rows_only(tmp_path: Path, tracings: np.ndarray) -> None:
    _store(tmp_path / "a.h5", tracings, chunks=(2, 6, 3), compression="gzip")
    with h5py.File(tmp_path / "a.h5") as file:
        place = file["tracings"].id.get_chunk_info_by_coord((4, 0, 0))
    raw = bytearray((tmp_path / "a.h5").read_bytes())
    raw[place.byte_offset : place.byte_offset + place.size] = bytes(place.size)
    (tmp_path / "a.h5").write_bytes(raw)
    block, damaged = hdf5.read(tmp_path, "a.h5", "tracings", _ANY, 2, 10)
    assert list(damaged) == [2, 3]
    assert "tracings[4] of" in damaged[2]
    assert "damaged" in damaged[2]
    good = [0, 1, 4, 5, 6, 7]
    assert np.array_equal(block[good], tracings[2:10][good])
    signals = list(hdf5.unpadded(tmp_path, "a.h5", "tracings", _ANY, 2, 10))
    assert [i for i, signal in enumerate(signals) if isinstance(signal, str)] == [2, 3]


def test_padding_is_taken_off_as_by_a_plain_loop(tmp_path: Path, rng: np.random.Generator) -> None:
    data = rng.normal(size=(40, 30, 3)).astype(np.float32)
    for i in range(40):
        data[i, : rng.integers(0, 10)] = 0
        data[i, 30 - rng.integers(0, 10) :] = 0
    data[0] = 0
    data[1, 12:15] = 0  # zeros inside are no padding
    data[2, 0], data[2, -1] = [0, 0, np.nan], [0, 5, 0]  # nor is a sample of which one lead is not 0
    _store(tmp_path / "a.h5", data)
    found = list(hdf5.unpadded(tmp_path, "a.h5", "tracings", (None, 30, 3), 0, 40, scale=0.5))
    assert found[0] == hdf5.EMPTY
    for row, signal in zip(data[1:], found[1:], strict=True):
        begin, end = 0, 30
        while (row[begin] == 0).all():
            begin += 1
        while (row[end - 1] == 0).all():
            end -= 1
        assert np.array_equal(signal, row[begin:end].T / 2, equal_nan=True)
    assert found[2].shape == (3, 30)


def test_h5py_is_imported_only_where_a_file_is_opened() -> None:
    modules = "ecgscale.data.hdf5, ecgscale.datasets.code15, ecgscale.datasets.code, ecgscale.datasets.sph"
    subprocess.run([sys.executable, "-c", f"import sys, {modules}; sys.exit('h5py' in sys.modules)"], check=True)
