"""WFDB records: wfdb agrees, damage is told, and nothing outside the data set is ever opened."""

from __future__ import annotations

import builtins
import io
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecgscale.data import wfdb16
from ecgscale.data.record import Record, check
from ecgscale.data.wfdb16 import WfdbError

SAMPLES = 250
CANARY = 23_456  # a value that stands only in files outside the root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set with a record in each format, two files and two segments; beside it a file that must not be read."""
    import wfdb

    root = tmp_path / "root"
    root.mkdir()
    draw = np.random.default_rng(0)
    counts = draw.integers(-900, 900, (SAMPLES, 2))
    mv, leads = counts.T / 1000, ("I", "V1")
    wfdb16.write(root / "dat", mv, leads, 250.0)
    wfdb16.write(root / "mat", mv, leads, 250.0, suffixes=(".mat", ".mat"))
    wfdb16.write(root / "two", mv, leads, 250.0, suffixes=(".dat", ".xyz"))
    for fmt in ("80", "212", "24", "32", "516"):
        values = counts // 8 if fmt == "80" else counts
        wfdb.wrsamp(
            f"f{fmt}", 250, ["mV"] * 2, list(leads), d_signal=values, fmt=[fmt] * 2, adc_gain=[1000] * 2,
            baseline=[0] * 2, write_dir=str(root),
        )  # fmt: skip
    wfdb16.write(root / "part1", mv[:, :100], leads, 250.0)
    wfdb16.write(root / "part2", mv[:, 100:], leads, 250.0)
    (root / "parts.hea").write_text("parts/2 2 250 250\npart1 100\npart2 150\n")
    (tmp_path / "canary.dat").write_bytes(np.full(2 * SAMPLES, CANARY, "<i2").tobytes())
    wfdb16.write(tmp_path / "outside", np.full((2, SAMPLES), CANARY / 1000), leads, 250.0)
    return root


NAMES = ["dat", "mat", "two", "f80", "f212", "f24", "f32", "f516", "parts"]


@pytest.mark.parametrize("name", NAMES)
def test_every_format_is_read_as_wfdb_reads_it(root: Path, name: str) -> None:
    import wfdb

    found, oracle = wfdb16.read(root, name), wfdb.rdrecord(str(root / name))
    assert np.abs(found.physical - oracle.p_signal.T).max() < 1e-6
    assert (found.leads, found.rate_hz, found.units) == (tuple(oracle.sig_name), oracle.fs, tuple(oracle.units))
    assert found.unit == "mV" and found.counts.dtype == np.float32


def test_the_challenge_files_are_read_as_wfdb_reads_them(shared_data: Path) -> None:
    import wfdb

    root = shared_data / "cinc2021-samples"
    names = sorted(path.stem for path in root.glob("*.hea"))
    assert len(names) == 50
    for name in names:
        found, oracle = wfdb16.read(root, name), wfdb.rdrecord(str(root / name))
        assert np.abs(found.physical - oracle.p_signal.T).max() < 1e-6
        assert (found.leads, found.rate_hz, found.comments) == (
            tuple(oracle.sig_name), oracle.fs, tuple(oracle.comments),
        )  # fmt: skip
        assert found.unit == "mV"  # ten headers write mv


def test_the_challenge_files_need_no_wfdb(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wfdb16, "_any", lambda header: pytest.fail("wfdb was called"))
    assert wfdb16.read(shared_data, "cinc2021-samples/E07500").counts.shape == (12, 5000)


def test_checksums_hold_in_real_headers(shared_data: Path) -> None:
    for header in [*shared_data.glob("ptb-xl-500/records500/*/*.hea"), *shared_data.glob("ludb/data/*.hea")][::10]:
        wfdb16.read(shared_data, header.relative_to(shared_data).with_suffix("").as_posix())


@pytest.mark.parametrize("name", ["dat", "mat", "two"])
def test_one_flipped_bit_is_told(root: Path, name: str) -> None:
    path = next(p for p in root.glob(f"{name}.*") if p.suffix != ".hea")
    data = bytearray(path.read_bytes())
    data[24 + 77] ^= 4
    path.write_bytes(data)
    with pytest.raises(WfdbError, match=r"the samples of lead .* add up to .*copy it again"):
        wfdb16.read(root, name)
    assert wfdb16.read(root, name, checksums=False).counts.shape == (2, SAMPLES)


def test_headers_without_checksums_are_believed(root: Path) -> None:
    header = root / "dat.hea"
    lines = [line.split() for line in header.read_text().splitlines()]
    header.write_text("\n".join(" ".join([*w[:6], "0", *w[7:]]) if len(w) == 9 else " ".join(w) for w in lines))
    assert wfdb16.read(root, "dat").counts.shape == (2, SAMPLES)


@pytest.mark.parametrize("name", ["dat", "mat", "two", "f80", "f212", "f24", "f32", "part1"])
def test_a_file_of_another_length_is_told(root: Path, name: str) -> None:
    for path in (p for p in root.glob(f"{name}.*") if p.suffix != ".hea"):
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(WfdbError, match=r"bytes.*its header promises.*the file is damaged"):
        wfdb16.read(root, "parts" if name == "part1" else name)


def test_headers_may_be_written_in_many_ways(root: Path) -> None:
    expected = wfdb16.read(root, "dat").physical
    for i, (old, new) in enumerate(
        [("\n", "\r\n"), (" ", "\t"), ("/mV", ""), ("(0)/mV", ""), ("/mV", "/mv"), (" I\n", " i\n"), (" 16 ", " 16x1 ")]
    ):
        text = (root / "dat.hea").read_text().replace(old, new) + "# Größe\n# second\n"
        (root / f"v{i}.hea").write_bytes(text.encode("latin-1"))
        found = wfdb16.read(root, f"v{i}")
        assert np.array_equal(found.physical, expected) and found.unit == "mV"
        assert found.comments == wfdb16.comments(root, f"v{i}") == ("Größe", "second")


SENTENCES: dict[str, tuple[Callable[[str], str], str]] = {
    "no lead name": (lambda t: t.replace(" V1", ""), "the lead has no name"),
    "gain 0": (lambda t: t.replace("1000(0)", "0(0)"), "with a gain of 0 its amplitude is not calibrated"),
    "negative gain": (lambda t: t.replace("1000(0)", "-200(0)"), "gain of -200"),
    "gain nan": (lambda t: t.replace("1000(0)", "nan(0)"), "gain of nan"),
    "huge gain": (lambda t: t.replace("1000(0)", "1e300(0)"), "gain of 1e300"),
    "tiny gain": (lambda t: t.replace("1000(0)", "1e-300(0)"), "gain of 1e-300"),
    "no header": (lambda t: "\x00\x01", "is no WFDB header"),
    "empty": (lambda t: "", "is no WFDB header"),
    "lost line break": (lambda t: t.replace("250\n", "250 ", 1), "promises 2 signals and describes 1"),
    "no rate": (lambda t: t.replace("dat 2 250 250", "dat 2"), "is no WFDB header"),
    "infinite rate": (lambda t: t.replace("2 250 250", "2 inf 250"), "says what cannot be"),
    "too many samples": (lambda t: t.replace("250 250", "250 1000000000000"), "promises 2 leads × 1000000000000"),
    "unknown format": (lambda t: t.replace(" 16 ", " 17 "), "17, which WFDB does not have"),
    "no samples per frame": (lambda t: t.replace(" 16 ", " 16x0 "), "at least one sample per frame"),
    "two formats": (lambda t: t.replace(" 16 ", " 212 ", 1), "several formats"),
    "skewed": (lambda t: t.replace(" 16 ", " 16:999999999 "), "skews a lead"),
}  # fmt: skip


@pytest.mark.parametrize("case", SENTENCES)
def test_bad_headers_are_one_sentence_that_names_the_file(root: Path, case: str) -> None:
    change, expected = SENTENCES[case]
    header = root / "dat.hea"
    header.write_text(change(header.read_text()))
    with pytest.raises(WfdbError) as error:
        wfdb16.read(root, "dat")
    assert expected in str(error.value) and "dat" in str(error.value) and "\n" not in str(error.value)


def test_leads_in_different_units_have_no_common_one(root: Path) -> None:
    header = root / "dat.hea"
    header.write_text(header.read_text().replace("/mV", "/uV", 1))
    with pytest.raises(ValueError, match="different units, mV and uV"):
        _ = wfdb16.read(root, "dat").unit
    header.write_text(header.read_text().replace("/mV", "/mmHg"))
    with pytest.raises(ValueError, match="mmHg"):
        _ = wfdb16.read(root, "dat").unit


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that Python has opened since."""
    seen: list[str] = []
    real = builtins.open

    def watched(file: Any, *args: Any, **keywords: Any) -> Any:
        seen.append(str(file))
        return real(file, *args, **keywords)

    monkeypatch.setattr(builtins, "open", watched)
    monkeypatch.setattr(io, "open", watched)
    return seen


def test_the_watch_sees_what_is_read(root: Path, opened: list[str]) -> None:
    for name in ("dat", "f212", "parts"):
        wfdb16.read(root, name)
    assert {str(root / f) for f in ("dat.dat", "dat.hea", "f212.dat", "part1.dat", "part2.hea")} <= set(opened)


def _traversals(root: Path) -> Iterator[tuple[str, str]]:
    """Yield (name, header) of records that lead out of the root."""
    outside = root.parent / "canary.dat"
    (root / "link.dat").symlink_to(outside)
    (root / "away").symlink_to(root.parent, target_is_directory=True)
    for i, file in enumerate(
        ["../canary.dat", str(outside), "away/canary.dat", "link.dat", "..", "-", "~", "x\\..\\canary.dat", "file::a"]
    ):
        for form in ("16", "212", "16x2", "80"):
            lines = [f"{file} {form} 1000(0)/mV 16 0 0 0 0 {lead}" for lead in ("I", "V1")]
            yield f"t{i}_{form}", "\n".join([f"t{i} 2 250 {SAMPLES}", *lines])
    for i, part in enumerate(["../outside", str(root.parent / "outside"), "away/outside", "http://x/y", "linked"]):
        yield f"s{i}", f"s{i}/1 2 250 {SAMPLES}\n{part} {SAMPLES}\n"
    (root / "linked.hea").symlink_to(root.parent / "outside.hea")


def test_no_header_and_no_link_leads_out_of_the_root(root: Path, opened: list[str]) -> None:
    cases = list(_traversals(root))
    for name, text in cases:
        (root / f"{name}.hea").write_text(text)
        with pytest.raises(WfdbError):
            wfdb16.read(root, name)
    for name in ("../outside", str(root.parent / "outside"), "away/outside", "linked", "..", "", "a\0b"):
        with pytest.raises(WfdbError):
            wfdb16.read(root, name)
        with pytest.raises(WfdbError):
            wfdb16.comments(root, name)
    assert len(cases) == 41
    assert {Path(file).name for file in opened} == {f"{name}.hea" for name, _ in cases}


def test_links_within_the_root_are_followed(root: Path) -> None:
    (root / "store").mkdir()
    (root / "dat.dat").rename(root / "store" / "a1b2")
    (root / "dat.dat").symlink_to(root / "store" / "a1b2")
    assert wfdb16.read(root, "dat").counts.shape == (2, SAMPLES)


def test_what_is_no_plain_file_is_refused(root: Path) -> None:
    (root / "dat.dat").unlink()
    (root / "dat.dat").mkdir()
    with pytest.raises(WfdbError, match="is not a plain file"):
        wfdb16.read(root, "dat")
    (root / "f212.dat").unlink()
    with pytest.raises(WfdbError, match="no such file"):
        wfdb16.read(root, "f212")


BOMBS = {
    "dat": "dat 2 250 1000000000000",
    "f212": "f212 2 250 1000000000000",
    "f516": "f516 2 250 1000000000000",
    "parts": "parts/2 2 250 1000000000000",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_header_cannot_ask_for_more_memory_than_there_are_samples(root: Path, name: str) -> None:
    lines = (root / f"{name}.hea").read_text().splitlines()
    (root / f"{name}.hea").write_text("\n".join([BOMBS[name], *lines[1:]]))
    tracemalloc.start()
    with pytest.raises(WfdbError):
        wfdb16.read(root, name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6  # the import of wfdb is most of it


def test_a_thousand_damaged_records_are_read_or_refused(root: Path, opened: list[str]) -> None:
    draw = np.random.default_rng(20)
    whole = {path.name: path.read_bytes() for path in root.iterdir()}
    read = 0
    for case in range(1000):
        name = NAMES[case % len(NAMES)]
        for file, data in whole.items():
            if file.split(".")[0] in (name, "part1", "part2"):
                (root / file).write_bytes(data)
        change = CHANGES[int(draw.integers(len(CHANGES)))]
        stem = name if name != "parts" else str(draw.choice(["parts", "part1", "part2"]))
        change(root, stem, draw)
        try:
            found = wfdb16.read(root, name)
        except WfdbError as error:
            assert str(error) and "\n" not in str(error), (case, change)
            continue
        read += 1
        assert found.counts.shape[0] == len(found.leads) == len(found.units) == len(found.gain), (case, change)
        assert found.counts.dtype == np.float32 and (found.gain > 0).all() and 0 < found.rate_hz < np.inf
        assert not (found.counts == CANARY).any()
        record = Record(found.physical, "mV", found.rate_hz, found.leads, name, "test:1")
        assert check(record) is None or "\n" not in str(check(record))
    assert 100 < read < 900
    assert not [f for f in opened if f.startswith(str(root.parent)) and not f.startswith(str(root))]


def _header(edit: Callable[[list[str], np.random.Generator], None]) -> Callable[..., None]:
    def change(root: Path, stem: str, draw: np.random.Generator) -> None:
        lines = (root / f"{stem}.hea").read_text().splitlines()
        edit(lines, draw)
        (root / f"{stem}.hea").write_text("\n".join(lines), encoding="utf-8", errors="replace")

    return change


def _word(line: int, word: int, values: list[str]) -> Callable[..., None]:
    def edit(lines: list[str], draw: np.random.Generator) -> None:
        words = lines[line].split()
        if len(words) > word:
            words[word] = str(draw.choice(values))
        lines[line] = " ".join(words)

    return _header(edit)


def _bytes(root: Path, stem: str, draw: np.random.Generator, what: str) -> None:
    files = [p for p in root.glob(f"{stem}.*") if (p.suffix == ".hea") == (what == "noise")]
    for path in files:
        data = bytearray(path.read_bytes())
        if what == "cut":
            data = data[: int(draw.integers(len(data)))]
        elif what == "flip":
            data[int(draw.integers(len(data)))] ^= 1 << int(draw.integers(8))
        else:
            for place in draw.integers(len(data), size=3):
                data[int(place)] = int(draw.integers(256))
        path.write_bytes(data)


CHANGES: list[Callable[..., None]] = [
    lambda root, stem, draw: _bytes(root, stem, draw, "cut"),
    lambda root, stem, draw: _bytes(root, stem, draw, "flip"),
    lambda root, stem, draw: _bytes(root, stem, draw, "noise"),
    lambda root, stem, draw: (root / f"{stem}.hea").write_bytes(draw.bytes(int(draw.integers(300)))),
    lambda root, stem, draw: (root / f"{stem}.hea").write_bytes(
        (root / f"{stem}.hea").read_bytes()[: draw.integers(90)]
    ),
    _word(0, 0, ["x/3", "x/0", "/", "x/x", "x/999999999999999"]),
    _word(0, 1, ["0", "-1", "1", "3", "999999999999", "²", "1e9"]),
    _word(0, 2, ["0", "-1", "nan", "inf", "1e400", "250/0", "1e-320", "٣"]),
    _word(0, 3, ["0", "-1", "1", "249", "1000000000000", "9" * 40, "x"]),
    _word(1, 0, ["../canary.dat", "/etc/passwd", "~", "-", "..", "dat.dat", "nowhere.dat", "a\x00b"]),
    _word(1, 1, ["16", "212", "8", "311", "160", "61", "0", "16x999999", "16:500", "16+1", "516", "24+3", "99", "٣"]),
    _word(1, 2, ["0", "-200", "nan", "inf", "1e300", "1e-12", "abc", "1000(9999999999)", "1000()", "()/mV", "1/NU"]),
    _word(1, 4, ["99999999999", "x", "-32768", "nan"]),
    _word(1, 6, ["0", "1", "-99999", "x"]),
    _word(1, 8, ["V1", "II", "lead I", "é", "9" * 200]),
    _word(2, 8, ["I", "V1", "\x07", "avr"]),
    _header(lambda lines, draw: lines.extend(["# " + "x" * 5000, "# \x00"])),
    _header(lambda lines, draw: lines.pop(int(draw.integers(len(lines))))),
    _header(lambda lines, draw: lines.insert(int(draw.integers(len(lines))), lines[-1])),
]
