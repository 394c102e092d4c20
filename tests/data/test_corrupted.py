"""More than a thousand damaged files of four formats go through a whole ingest: each is read, or refused with a reason.

Whatever stands in a file: no crash, nothing implausible in the corpus, no record lost without a word, and nothing
opened that lies outside the folder of the data set.
"""

from __future__ import annotations

import builtins
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ecgscale.data import hdf5, hospital, quality
from ecgscale.data.corpus import Form, ingest
from ecgscale.datasets import DatasetSpec
from ecgscale.datasets.arrays import Arrays
from ecgscale.datasets.code15 import Code15
from ecgscale.datasets.hospital_folder import HospitalFolder
from ecgscale.datasets.wfdb_folder import WfdbFolder
from ecgscale.spec import Explained

Draw = np.random.Generator
Damage = Callable[[Path, Draw], None]
Said = tuple[set[str], dict[str, str]]  # the records of the corpus, and those of the quarantine with their reasons

CANARY = 23_456  # counts of the files outside the root
SPARED = 8  # every eighth file stays whole and must be read


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder for a data set, with files beside it that must stay closed."""
    folder = tmp_path / "data" / "root"
    folder.mkdir(parents=True)
    (folder.parent / "canary.dat").write_bytes(np.full(13 * 2000, CANARY, "<i2").tobytes())
    for name in ("canary.xml", "canary.csv", "canary.hdf5"):
        (folder.parent / name).write_text(str(CANARY))
    return folder


@pytest.fixture
def opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The files opened since; at the end none of them may be one that the damage names."""
    seen: set[str] = set()
    for module, name in ((builtins, "open"), (io, "open"), (h5py, "File")):
        monkeypatch.setattr(module, name, _watched(getattr(module, name), seen))
    yield seen
    hdf5.close()
    assert seen
    outside = [path for path in map(Path, seen) if path.parts[:2] == ("/", "etc") or path.name.startswith("canary")]
    assert not outside


def _watched(real: Callable[..., Any], seen: set[str]) -> Callable[..., Any]:
    def watched(file: Any, *args: Any, **keywords: Any) -> Any:
        seen.add(str(file))
        return real(file, *args, **keywords)

    return watched


def _ingested(dataset: DatasetSpec, root: Path, out: Path) -> Said | None:
    """Return what an ingest made of the folder, None if it refused the whole; anything but a sentence fails."""
    try:
        corpus = ingest(dataset, root, Form(), out)
    except Explained as error:
        _is_sentence(str(error))
        return None
    signal = corpus.signals(np.arange(len(corpus)))
    assert np.isfinite(signal).all()
    assert (np.abs(signal) > quality.HIGH_MV).mean() < 0.001
    assert corpus.index["record"].is_unique and not (np.abs(signal) == CANARY / 1000).any()
    assert (signal.any(axis=-1) == corpus.lead_ok(np.arange(len(corpus)))).all()
    reasons = dict(zip(corpus.quarantine["record"], corpus.quarantine["reason"], strict=True))
    for reason in reasons.values():
        _is_sentence(reason)
    return set(corpus.index["record"]), reasons


def _is_sentence(text: str) -> None:
    assert text.strip() and "\n" not in text and "Traceback" not in text, text


def _files(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def _restore(files: dict[Path, bytes]) -> None:
    for path, data in files.items():
        path.unlink(missing_ok=True)  # it may still be open
        path.write_bytes(data)


def _cut(path: Path, draw: Draw) -> None:
    path.write_bytes(path.read_bytes()[: int(draw.integers(path.stat().st_size))])


def _empty(path: Path, draw: Draw) -> None:
    path.write_bytes(b"")


def _flip(path: Path, draw: Draw) -> None:
    data = bytearray(path.read_bytes())
    for place in draw.integers(min(len(data), int(draw.choice([300, len(data)]))), size=3):  # often in the header
        data[int(place)] ^= 1 << int(draw.integers(8))
    path.write_bytes(data)


def _noise(path: Path, draw: Draw) -> None:
    data = bytearray(path.read_bytes())
    start = int(draw.integers(len(data)))
    data[start : start + 64] = draw.bytes(min(64, len(data) - start))
    path.write_bytes(data)


BYTES: list[Damage] = [_cut, _empty, _flip, _noise]


def _word(line: int, word: int, values: list[str]) -> Damage:
    """Replace one word of one line of a WFDB header."""

    def damage(path: Path, draw: Draw) -> None:
        lines = path.read_text().splitlines()
        words = lines[line].split()
        words[word] = str(draw.choice(values))
        path.write_text("\n".join([*lines[:line], " ".join(words), *lines[line + 1 :]]))

    return damage


HEADER: list[Damage] = [
    *BYTES,
    _word(0, 1, ["0", "1", "14", "99999999"]),
    _word(0, 2, ["0", "-1", "nan", "inf", "1e300"]),
    _word(0, 3, ["0", "1", "10", "1000000000000"]),
    _word(1, 0, ["../canary.dat", "/etc/passwd", "..", "~/canary.dat", "nowhere.dat"]),
    _word(3, 1, ["8", "212", "61", "160", "16x99", "99"]),
    _word(2, 2, ["0", "nan", "-1000", "1e300", "1", "1000000(0)/uV", "1000(0)/bar", "1(0)/V"]),
    _word(2, 8, ["i", "V1", "nonsense", "\x07", "é"]),
    _word(5, 8, ["MLII", "iii"]),
]


def test_wfdb(root: Path, opened: set[str], tmp_path: Path) -> None:
    draw, dataset, damaged, kept = np.random.default_rng(1), WfdbFolder.sample(root), 0, 0
    files = _files(root)
    headers = [path for path in files if path.suffix == ".hea"]
    names = {path.relative_to(root).with_suffix("").as_posix() for path in headers}
    for turn in range(7):
        _restore(files)
        spared = set(headers[turn::SPARED])
        for header in set(headers) - spared:
            signal = bool(draw.random() < 0.3)
            damages = BYTES if signal else HEADER
            damages[int(draw.integers(len(damages)))](header.with_suffix(".dat") if signal else header, draw)
            damaged += 1
        found = _ingested(dataset, root, tmp_path / "corpus")
        assert found is not None
        good, reasons = found
        assert good | set(reasons) == names and not good & set(reasons)
        assert {path.relative_to(root).with_suffix("").as_posix() for path in spared} <= good
        kept += len(good)
    assert damaged >= 580 and 7 * len(names) // SPARED + 9 < kept < damaged  # most damage shows in the checksums


def _values(change: Callable[[Any, Draw], None]) -> Damage:
    """Change the tracings of a few records of an HDF5 file."""

    def damage(path: Path, draw: Draw) -> None:
        with h5py.File(path, "r+") as file:
            for row in draw.integers(len(file["tracings"]) - 1, size=4):
                tracing = file["tracings"][row]
                change(tracing, draw)
                file["tracings"][row] = tracing

    return damage


def _structure(change: Callable[[Any, Draw], None]) -> Damage:
    """Change what a file holds."""

    def damage(path: Path, draw: Draw) -> None:
        with h5py.File(path, "r+") as file:
            change(file, draw)

    return damage


def _instead(make: Callable[[Any, Any], None]) -> Damage:
    """Put something else in the place of the tracings."""

    def change(file: Any, draw: Draw) -> None:
        old = file["tracings"][:2]
        del file["tracings"]
        make(file, old)

    return _structure(change)


def _set(place: Any, value: float) -> Damage:
    def change(tracing: Any, draw: Draw) -> None:
        tracing[place] = value

    return _values(change)


def _times(factor: float) -> Damage:
    def change(tracing: Any, draw: Draw) -> None:
        tracing *= factor

    return _values(change)


def _shuffle(tracing: Any, draw: Draw) -> None:
    tracing[:] = tracing[:, draw.permutation(12)]


def _link(file: Any, old: Any) -> None:
    file["tracings"] = h5py.ExternalLink("../canary.hdf5", "tracings")


def _external(file: Any, old: Any) -> None:
    file.create_dataset("tracings", old.shape, "f4", external=[("../canary.dat", 0, 10**6)])


def _text(file: Any, old: Any) -> None:
    file["tracings"] = ["no", "numbers"]


def _shape(file: Any, old: Any) -> None:
    file["tracings"] = old[:, :, :8]


def _ids(file: Any, draw: Draw) -> None:
    file["exam_id"][:] = draw.permutation(file["exam_id"][:])[::-1] * int(draw.choice([0, -1, 1]))


TRACINGS: list[Damage] = [
    *BYTES,
    _set(np.s_[2000, 3], np.nan),
    _set(np.s_[:, 5], np.inf),
    _set(np.s_[:, 2], 0.0),
    _set(np.s_[1800:2400], 0.4),
    _times(1000.0),
    _times(0.001),
    _times(-1e30),
    _values(_shuffle),
    _instead(_link),
    _instead(_external),
    _instead(_text),
    _instead(_shape),
    _structure(_ids),
]


def test_hdf5(root: Path, opened: set[str], tmp_path: Path) -> None:
    draw, dataset, kept, rounds = np.random.default_rng(2), Code15.sample(root), 0, 34
    files = _files(root)
    listed = {line.split(b",")[0].decode() for line in files[root / "exams.csv"].splitlines()[1:]}
    there = {name for name in listed if int(name) >= 1000}  # the others are in a part that is not there
    for turn in range(rounds):
        hdf5.close()
        _restore(files)
        if turn % 17 == 16:
            _table(root / "exams.csv", draw, "exams_part0.hdf5", ["../canary.hdf5", "/etc/passwd", "", "exams.csv"])
        else:
            part = root / f"exams_part{int(draw.integers(2))}.hdf5"
            TRACINGS[turn % len(TRACINGS)](part, draw)
        found = _ingested(dataset, root, tmp_path / "corpus")
        if found is not None:
            good, reasons = found
            assert good <= there
            if turn % 17 != 16:  # a table may put an exam into another file than holds it
                assert there <= good | set(reasons) and not good & set(reasons)
            kept += len(good)
    assert 0.3 < kept / (rounds * len(there)) < 0.95


def _table(path: Path, draw: Draw, old: str, new: list[str]) -> None:
    """Put another word in the place of a word of a table, or damage the table's bytes."""
    if draw.random() < 0.5:
        path.write_bytes(path.read_bytes().replace(old.encode(), str(draw.choice(new)).encode(), 9))
    else:
        BYTES[int(draw.integers(len(BYTES)))](path, draw)


class _Reader:
    """An object whose unpickling would be seen."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("unpickled",)


def _stored(change: Callable[[Any, Draw], Any]) -> Damage:
    """Change the array of an NPY or NPZ file."""

    def damage(path: Path, draw: Draw) -> None:
        if path.suffix == ".npy":
            np.save(path, change(np.load(path), draw), allow_pickle=True)
        else:
            with np.load(path) as file:
                arrays = {name: file[name] for name in file.files}
            arrays["signal"] = change(arrays["signal"], draw)
            np.savez(path, allow_pickle=True, **arrays)

    return damage


def _with(row: Any, place: Any, value: float) -> Callable[[Any, Draw], Any]:
    def change(array: Any, draw: Draw) -> Any:
        array = array.astype(np.float32)
        if array.ndim == 3:
            array[row][place] = value
        return array

    return change


ARRAYS: list[Damage] = [
    *BYTES,
    _flip,
    _stored(_with(3, np.s_[500, 4], np.nan)),
    _stored(_with(5, np.s_[:, 2], np.inf)),
    _stored(_with(7, np.s_[:, 6], 0.0)),
    _stored(_with(9, np.s_[100:600], 250.0)),
    _stored(lambda array, draw: array.astype(np.float32) * np.float32(draw.choice([1000, 1e-4, 1e35]))),
    _stored(lambda array, draw: array[..., :8]),
    _stored(lambda array, draw: array[:90]),
    _stored(lambda array, draw: array.ravel()),
    _stored(lambda array, draw: np.array([_Reader()])),
    _stored(lambda array, draw: array[..., draw.permutation(array.shape[-1])]),
    _stored(lambda array, draw: array.astype(complex)),
]


@pytest.mark.parametrize("container", ["npy", "npz"])
def test_arrays(
    container: str, root: Path, opened: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw, dataset, kept, rounds = np.random.default_rng(3), Arrays.sample(root), 0, 34
    if container == "npz":
        np.savez(root / "both.npz", signal=np.load(root / "signal.npy"), id=np.load(root / "ids.npy"))
        dataset = dataset.model_copy(update={"signal": "both.npz:signal", "ids": "both.npz:id"})
    files = _files(root)
    signal, ids = (root / name for name in (("signal.npy", "ids.npy") if container == "npy" else ("both.npz",) * 2))
    for turn in range(rounds):
        _restore(files)
        if turn % 6 == 5:
            _table(root / "table.csv", draw, "\n3,", ["\n4,", "\n,", "\nx,", "\n\x00", "\n1e999,"])
        else:
            ARRAYS[turn % len(ARRAYS)](signal if draw.random() < 0.8 else ids, draw)
        found = _ingested(dataset, root, tmp_path / "corpus")
        if found is not None:
            good, reasons = found
            assert not good & set(reasons) and len(good) + len(reasons) <= 96
            kept += len(good)
    assert 0.2 < kept / (rounds * 96) < 0.95
    assert "unpickled" not in capsys.readouterr().out


def _replaced(old: bytes, new: list[bytes]) -> Damage:
    def damage(path: Path, draw: Draw) -> None:
        data = path.read_bytes()
        (path.write_bytes(data.replace(old, new[int(draw.integers(len(new)))]))) if old in data else _flip(path, draw)

    return damage


FILES: list[Damage] = [
    *BYTES,
    _flip,
    _noise,
    _replaced(
        b"?>", [b'?><!DOCTYPE x [<!ENTITY c SYSTEM "../../canary.xml">]>', b"?>&c;", b'?><x href="/etc/passwd"/>']
    ),
    _replaced(b">4.88<", [b">nan<", b">0<", b">4880<", b">x<", b">-1<", b">1e300<"]),
    _replaced(b"500", [b"0", b"-1", b"nan", b"5e9", b""]),
    _replaced(b"V1", [b"V2", b"XX", b""]),
    _replaced(b"uV", [b"mV", b"kg"]),
]


def test_hospital_files(root: Path, opened: set[str], tmp_path: Path) -> None:
    for extra in ("ecgdatakit", "pydicom", "edfio"):
        pytest.importorskip(extra, reason=hospital.INSTALL)
    draw, dataset, damaged, kept = np.random.default_rng(4), HospitalFolder.sample(root), 0, 0
    files = _files(root)
    ecgs = [path for path in files if path.name != "labels.csv"]
    names = {path.relative_to(root).as_posix() for path in ecgs}
    for turn in range(6):
        _restore(files)
        spared = set(ecgs[turn::SPARED])
        for path in set(ecgs) - spared:
            FILES[int(draw.integers(len(FILES)))](path, draw)
            damaged += 1
        found = _ingested(dataset, root, tmp_path / "corpus")
        assert found is not None
        good, reasons = found
        assert good | set(reasons) == names and not good & set(reasons)
        assert {path.relative_to(root).as_posix() for path in spared} <= good
        kept += len(good)
    assert damaged >= 350 and 0.2 < kept / (6 * len(names)) < 0.95
