"""Hospital formats: each is read as an independent encoder wrote it, and what is damaged or unclear is told."""

from __future__ import annotations

import base64
import re
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ecgscale.data import hospital, synthetic
from ecgscale.data.hospital import Ecg, HospitalError, aecg, dicom, edf, leads, muse, philips, reader, samples, scp
from ecgscale.units import LEADS

for extra in ("ecgdatakit", "pydicom", "edfio"):
    pytest.importorskip(extra, reason=hospital.INSTALL)

ECG = Ecg(
    signal=synthetic.population(1, 1, 500.0, 4).signal[0],
    leads=LEADS,
    rate_hz=500.0,
    patient="H001",
    age=61.0,
    sex="F",
    statements=("Sinus rhythm", "Left axis <-30°> & low voltage"),
)

# file name: (writer, half of its count in mV)
WRITERS: dict[str, tuple[Callable[[Path, Ecg], None], float]] = {
    "muse.xml": (muse.write, muse.UV_PER_BIT / 2000),
    "philips.xml": (philips.write, philips.UV_PER_BIT / 2000),
    "utf16.xml": (lambda path, ecg: philips.write(path, ecg, "utf-16"), philips.UV_PER_BIT / 2000),
    "aecg.xml": (aecg.write, aecg.UV_PER_DIGIT / 2000),
    "uv.dcm": (dicom.write, dicom.SENSITIVITY * dicom.CORRECTION / 2000),
    "mv.dcm": (lambda path, ecg: dicom.write(path, ecg, "mV"), dicom.SENSITIVITY * dicom.CORRECTION / 2000),
    "uv.edf": (edf.write, 0.5 / 2000),
    "mv.edf": (lambda path, ecg: edf.write(path, ecg, "mV"), 0.5 / 2000),
    "plain.scp": (scp.write, scp.NV_PER_COUNT / 2e6),
    "huffman.scp": (lambda path, ecg: scp.write(path, ecg, huffman=True), scp.NV_PER_COUNT / 2e6),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_was_written_is_read(name: str, tmp_path: Path) -> None:
    write, half = WRITERS[name]
    write(tmp_path / name, ECG)
    found = reader.read(tmp_path, name)
    assert found.leads == LEADS
    stored = [i for i, lead in enumerate(LEADS) if name != "muse.xml" or lead in muse.STORED]
    assert np.abs(found.signal - ECG.signal)[stored].max() <= half + 1e-5
    assert np.abs(found.signal - ECG.signal).max() <= 2 * half + 1e-5
    assert (found.rate_hz, found.patient, found.age, found.sex) == (500.0, "H001", 61.0, "F")
    assert found.statements == (() if name.endswith("edf") else ECG.statements)
    assert found.signal.dtype == np.float32


def test_nothing_but_id_age_sex_and_statements_is_taken(tmp_path: Path) -> None:
    for name, (write, _) in WRITERS.items():
        write(tmp_path / name, replace(ECG, age=None, sex=None, statements=()))
        found = reader.read(tmp_path, name)
        assert b"Doe" in (tmp_path / name).read_bytes().replace(b"\0", b"")
        assert not re.search("Doe|Jane|2023", repr(replace(found, signal=np.zeros((12, 1), np.float32))))
        assert (found.age, found.sex, found.statements) == (None, None, ())


def test_a_real_dicom_ecg_is_read_as_pydicom_reads_it() -> None:
    """`waveform_ecg.dcm` ships with pydicom: a rhythm and a median beat of twelve leads at 1,000 Hz."""
    import pydicom
    from pydicom.data import get_testdata_file

    path = Path(str(get_testdata_file("waveform_ecg.dcm", download=False)))
    found = reader.read(path.parent, path.name)
    data = pydicom.dcmread(path)
    assert found.leads == LEADS
    assert np.abs(found.signal - data.waveform_array(0).T / 1000).max() < 1e-6
    assert np.abs(found.signal[0] + found.signal[2] - found.signal[1]).max() < 0.01
    assert (found.rate_hz, found.patient, found.age, found.sex) == (1000.0, "642341", 42.0, "F")
    assert found.statements == ("RITMO SINUSALE", "ECG NORMALE")


def test_the_written_files_are_what_other_readers_expect(tmp_path: Path) -> None:
    import edfio
    import pydicom

    dicom.write(tmp_path / "a.dcm", ECG)
    array = pydicom.dcmread(tmp_path / "a.dcm").waveform_array(0).T / 1000
    assert np.abs(array - ECG.signal).max() < 0.0013
    edf.write(tmp_path / "a.edf", ECG)
    read = edfio.read_edf(tmp_path / "a.edf")
    assert [s.label for s in read.signals] == [*(f"ECG {lead}" for lead in LEADS), "Resp"]
    assert np.abs(read.signals[7].data / 1000 - ECG.signal[7]).max() < 0.0003
    muse.write(tmp_path / "a.xml", ECG)
    rhythm = ElementTree.parse(tmp_path / "a.xml").getroot().findall("Waveform")[1]
    lead = rhythm.findall("LeadData")[2]
    counts = np.frombuffer(base64.b64decode(str(lead.findtext("WaveFormData"))), "<i2")
    assert (lead.findtext("LeadID"), rhythm.findtext("SampleBase")) == ("V1", "500")
    assert np.abs(counts * 4.88e-3 - ECG.signal[6]).max() < 0.0025


def test_compressed_philips_files_are_read(tmp_path: Path) -> None:
    counts = np.rint(ECG.signal * 1000 / philips.UV_PER_BIT).astype(np.int64)
    philips.waveforms(tmp_path / "x.xml", ECG, base64.b64encode(_xli(counts)).decode(), compression="XLI")
    found = reader.read(tmp_path, "x.xml")
    assert np.abs(found.signal - counts * philips.UV_PER_BIT / 1000).max() < 1e-5
    assert (tmp_path / "x.xml").stat().st_size < 140_000  # 160,000 without compression


def test_median_beats_are_not_the_rhythm(tmp_path: Path) -> None:
    muse.write(tmp_path / "a.xml", ECG)
    text = (tmp_path / "a.xml").read_text(encoding="iso-8859-1")
    assert text.index("Median") < text.index("Rhythm")
    assert reader.read(tmp_path, "a.xml").signal.shape == (12, 5000)
    crc = re.findall(r"<LeadDataCRC32>(\d+)", text)
    (tmp_path / "a.xml").write_text(text.replace(crc[0], "1", 1), encoding="iso-8859-1")
    assert reader.read(tmp_path, "a.xml").signal.shape == (12, 5000)  # of the median: nobody reads it


def test_the_limb_leads_follow_from_two() -> None:
    one, two, v1 = np.array([[1.0, -2.0], [4.0, 0.5], [7.0, 7.0]], np.float32)
    signal, names = leads.complete(np.stack([v1, two, one]), ("V1", "II", "I"))
    assert names == ("I", "II", "III", "aVR", "aVL", "aVF", "V1")
    by_hand = np.array([[1, -2], [4, 0.5], [3, 2.5], [-2.5, 0.75], [-1, -2.25], [3.5, 1.5], [7, 7]])
    assert np.allclose(signal, by_hand)
    assert leads.complete(np.stack([v1, two]), ("V1", "II"))[1] == ("II", "V1")


@pytest.mark.parametrize(
    ("label", "name"),
    [("ECG I", "I"), ("EKG_avr", "aVR"), ("Lead II", "II"), ("ecg lead V6", "V6"), ("MDC", None), ("Resp", None),
     ("V7", None), ("-aVR", None), ("ECG -aVR", None), ("ECG-II", "II"), ("ECG", None)],
)  # fmt: skip
def test_labels_mean_leads(label: str, name: str | None) -> None:
    assert leads.standard(label) == name


def test_signals_that_are_no_leads_are_left_out_and_twins_are_told() -> None:
    assert leads.by_name(["V7", "ECG II", "SpO2", "I"]) == {"II": 1, "I": 3}
    for labels in (["II", "II_2"], ["ECG II", "EKG II"]):
        with pytest.raises(HospitalError, match="lead II stands in the file twice"):
            leads.by_name(labels)


def test_rates_that_are_no_whole_numbers_stay_exact(tmp_path: Path) -> None:
    import edfio

    aecg.write(tmp_path / "a.xml", ECG)
    _change(tmp_path / "a.xml", 'increment value="0.002"', 'increment value="0.0024"')
    assert reader.read(tmp_path, "a.xml").rate_hz == pytest.approx(1 / 0.0024, rel=1e-9)
    dicom.write(tmp_path / "a.dcm", replace(ECG, rate_hz=499.5))
    assert reader.read(tmp_path, "a.dcm").rate_hz == 499.5
    rows = [edfio.EdfSignal(row, 250.5, label=f"ECG {n}", physical_dimension="uV", physical_range=(-2e4, 2e4))
            for n, row in zip(LEADS, 1000.0 * ECG.signal[:, :4008], strict=True)]  # fmt: skip
    edfio.Edf(rows, data_record_duration=2).write(tmp_path / "a.edf")
    found = reader.read(tmp_path, "a.edf")
    assert (found.rate_hz, found.signal.shape) == (250.5, (12, 4008))


def test_plain_edf_has_no_place_for_an_id(tmp_path: Path) -> None:
    import edfio

    rows = [edfio.EdfSignal(row, 500, label=n, physical_dimension="uV", physical_range=(-2e4, 2e4))
            for n, row in zip(LEADS, 1000.0 * ECG.signal, strict=True)]  # fmt: skip
    edfio.Edf(rows).write(tmp_path / "a.edf")
    data = bytearray((tmp_path / "a.edf").read_bytes())
    data[8:88] = b"Doe Jane 15-JUN-1962".ljust(80)
    data[192:236] = b" " * 44
    (tmp_path / "a.edf").write_bytes(data)
    assert reader.read(tmp_path, "a.edf").patient == ""


def _change(path: Path, old: str, new: str, count: int = 1) -> None:
    text = path.read_bytes().decode("iso-8859-1")
    assert old in text
    path.write_bytes(text.replace(old, new, count).encode("iso-8859-1"))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20_000])


def _bomb(path: Path) -> None:
    """Billion laughs: nested entities that a naive parser would expand to gigabytes."""
    laughs = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    text = path.read_bytes().decode("iso-8859-1")
    text = re.sub(r"<!DOCTYPE[^>]*>", "", text)
    root = re.search(r"<(RestingECG|restingecgdata|AnnotatedECG)", text)
    assert root
    bomb = f'<!DOCTYPE {root[1]} [<!ENTITY l0 "lol">{laughs}]>\n'
    at = text.index(">", root.start()) + 1
    path.write_bytes((text[: root.start()] + bomb + text[root.start() : at] + "&l9;" + text[at:]).encode("iso-8859-1"))


def _spy(path: Path) -> None:
    """An external entity that would read a file of the machine into the document."""
    text = path.read_bytes().decode("iso-8859-1")
    text = text.replace(
        '<!DOCTYPE RestingECG SYSTEM "restecg.dtd">', '<!DOCTYPE RestingECG [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    ).replace("H001", "&x;")
    path.write_bytes(text.encode("iso-8859-1"))


def _dicom(**values: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        import pydicom

        data = pydicom.dcmread(path)
        group = data.WaveformSequence[0]
        for key, value in values.items():
            setattr(group, key, value)
        data.save_as(path)

    return change


def _dicom_channel(**values: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        import pydicom

        data = pydicom.dcmread(path)
        for key, value in values.items():
            setattr(data.WaveformSequence[0].ChannelDefinitionSequence[6], key, value)
        data.save_as(path)

    return change


def _dicom_unit(unit: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        import pydicom

        data = pydicom.dcmread(path)
        code = data.WaveformSequence[0].ChannelDefinitionSequence[6].ChannelSensitivityUnitsSequence[0]
        with pydicom.config.disable_value_validation():
            code.CodeValue, code.CodeMeaning = unit, "pressure"
            data.save_as(path)

    return change


def _dicom_image(path: Path) -> None:
    import pydicom

    data = pydicom.dcmread(path)
    del data.WaveformSequence
    data.save_as(path)


def _bytes(at: int, value: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[at : at + len(value)] = value
        path.write_bytes(data)

    return change


def _scp(section: int, at: int, value: bytes) -> Callable[[Path], None]:
    """Change bytes of a section's body and put the checksums right."""

    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        _, size, begin = struct.unpack_from("<HII", data, 22 + 10 * section)
        first = begin - 1
        data[first + 16 + at : first + 16 + at + len(value)] = value
        data[first : first + 2] = struct.pack("<H", scp._crc(bytes(data[first + 2 : first + size])))
        data[:2] = struct.pack("<H", scp._crc(bytes(data[2:])))
        path.write_bytes(data)

    return change


def _text(*changes: tuple[str, str], count: int = 1) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        for old, new in changes:
            _change(path, old, new, count)

    return change


def _bytes_of(data: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_bytes(data)

    return change


def _change_crc(path: Path) -> None:
    text = path.read_text(encoding="iso-8859-1")
    at = text.index("Rhythm")
    path.write_text(text[:at] + re.sub(r"<LeadDataCRC32>\d+", "<LeadDataCRC32>1", text[at:], count=1), "iso-8859-1")


def _shorter_lead(path: Path) -> None:
    """Take the last sample of V6 away, counts and checksum with it."""
    text = path.read_text(encoding="iso-8859-1")
    at = text.rindex("<LeadData>")
    head, lead = text[:at], text[at:]
    data = base64.b64decode("".join(re.findall(r"<WaveFormData>(.*?)<", lead, re.DOTALL)[0].split()))[:-2]
    lead = lead.replace(">10000<", ">9998<").replace(">5000<", ">4999<")
    lead = re.sub(r"<LeadDataCRC32>\d+</LeadDataCRC32>", "", lead)
    lead = re.sub(r"(<WaveFormData>).*?(<)", rf"\g<1>{base64.b64encode(data).decode()}\2", lead, flags=re.DOTALL)
    path.write_text(head + lead, encoding="iso-8859-1")


DAMAGES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "cut muse": ("muse.xml", _cut, "Malformed XML"),
    "cut philips": ("philips.xml", _cut, "Malformed XML"),
    "cut aecg": ("aecg.xml", _cut, "Malformed XML"),
    "cut dicom": ("uv.dcm", _cut, "Failed to read DICOM|Waveform Data has"),
    "cut scp": ("plain.scp", _cut, "declares .* bytes but the file has"),
    "cut edf": ("uv.edf", _cut, "only 8 are complete|truncated"),
    "short philips": ("philips.xml", _text(('durationperchannel="10000"', 'durationperchannel="10002"')), "expected"),
    "short muse": ("muse.xml", _text(("<LeadSampleCountTotal>5000", "<LeadSampleCountTotal>5001")), "5001"),
    "short dicom": ("uv.dcm", _dicom(NumberOfWaveformSamples=5001), "expected"),
    "muse base64": ("muse.xml", _text(("<WaveFormData>\n", "<WaveFormData>\n!"), count=20), "Base64"),
    "philips base64": ("philips.xml", _text(('channel="10000">', 'channel="10000">%%')), "Base64"),
    "muse checksum": ("muse.xml", _change_crc, "doubtful: CRC32 mismatch in lead I .rhythm"),
    "scp checksum": ("plain.scp", _bytes(5000, b"\1\2"), "doubtful: SCP-ECG CRC mismatch"),
    "muse bomb": ("muse.xml", _bomb, "entity declarations are not allowed"),
    "philips bomb": ("philips.xml", _bomb, "entity declarations are not allowed"),
    "aecg bomb": ("aecg.xml", _bomb, "entity declarations are not allowed"),
    "muse external entity": ("muse.xml", _spy, "entity declarations are not allowed"),
    "muse unit": ("muse.xml", _text(("MICROVOLTS", "FURLONGS"), count=99), 'lead I cannot be put into mV.*"FURLONGS"'),
    "muse scale": ("muse.xml", _text(("UnitsPerBit>4.88", "UnitsPerBit>0"), count=99), "lead I cannot be put into mV"),
    "aecg unit": ("aecg.xml", _text(('scale value="2.5" unit="uV"', 'scale value="2.5" unit="Pa"')), 'lead I.*"Pa"'),
    "philips unit": ("philips.xml", _text(('resolution="5" ', ""), ("resolution>", "a>"), count=2), "lead I cannot be"),
    "dicom unit": ("uv.dcm", _dicom_unit("mm[Hg]"), 'lead V1.*"mm.Hg.*"'),
    "edf unit": ("uv.edf", _text(("uV      ", "mmHg    ")), 'lead I cannot be put into mV.*"mmHg"'),
    "scp unit": ("plain.scp", _scp(6, 0, b"\0\0"), "lead I cannot be put into mV"),
    "muse rate": ("muse.xml", _text(("<SampleBase>500", "<SampleBase>0"), count=99), "SampleBase"),
    "philips rate": ("philips.xml", _text(("ingrate>500", "ingrate>0"), ('second="500"', 'second="0"')), "rate"),
    "aecg rate": ("aecg.xml", _text(('increment value="0.002"', 'increment value="0"')), "time increment"),
    "dicom rate": ("uv.dcm", _dicom(SamplingFrequency="0"), "Sampling Frequency"),
    "scp rate": ("plain.scp", _scp(6, 2, b"\0\0"), "sample interval is 0"),
    "edf rate": ("uv.edf", _bytes(244, b"0       "), "duration is 0"),
    "muse lead twice": ("muse.xml", _text(("<LeadID>V2<", "<LeadID>V1<"), count=99), "lead V1 stands in .* twice"),
    "no lead": ("uv.edf", _text(("ECG ", "EEG "), count=12), "holds none of the twelve standard leads; it has EEG I"),
    "no rhythm": ("muse.xml", _text(("<WaveformType>Rhythm", "<WaveformType>Other")), "No rhythm waveform"),
    "muse samples": ("muse.xml", _shorter_lead, "not recorded at the same time: 4999 and 5000"),
    "scp start": ("plain.scp", _scp(3, 2, struct.pack("<II", 2, 5001)), "beginning at sample 1 and 2"),
    "dicom scale": ("uv.dcm", _dicom_channel(ChannelSensitivity="1e+300"), "infinite; the scale in the file"),
    "dicom words": ("uv.dcm", _dicom_unit("u\nV\0" * 99), r'unit is "u V u V .{72,76}…"'),
    "dicom image": ("uv.dcm", _dicom_image, "no usable Waveform Sequence"),
    "empty": ("muse.xml", _bytes_of(b""), "is none of GE MUSE XML, Philips XML"),
    "another xml": ("muse.xml", _bytes_of(b"<html><body/></html>"), "is none of GE MUSE XML"),
    "another format": ("muse.xml", _bytes_of(b"ISHNE1.0" + b"\0" * 900), "is ISHNE"),
    "missing": ("muse.xml", Path.unlink, "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGES)
def test_what_is_damaged_or_unclear_is_one_sentence(what: str, tmp_path: Path) -> None:
    name, damage, pattern = DAMAGES[what]
    WRITERS[name][0](tmp_path / name, ECG)
    assert reader.read(tmp_path, name).signal.shape == (12, 5000)
    damage(tmp_path / name)
    with pytest.raises(HospitalError, match=pattern) as error:
        reader.read(tmp_path, name)
    assert "\n" not in str(error.value)
    assert str(tmp_path) not in str(error.value)


def test_several_rates_are_one_sentence(tmp_path: Path) -> None:
    import edfio

    rows = [edfio.EdfSignal(np.sin(np.arange(rate * 10.0)), rate, label=f"ECG {n}", physical_dimension="mV")
            for n, rate in (("I", 500), ("II", 250))]  # fmt: skip
    edfio.Edf(rows).write(tmp_path / "a.edf")
    with pytest.raises(HospitalError, match="several rates, 250 and 500 Hz; expected one"):
        reader.read(tmp_path, "a.edf")


def test_nothing_outside_the_folder_is_opened(tmp_path: Path) -> None:
    muse.write(tmp_path / "secret.xml", ECG)
    root = tmp_path / "root"
    root.mkdir()
    (root / "link.xml").symlink_to(tmp_path / "secret.xml")
    for name in ("../secret.xml", str(tmp_path / "secret.xml"), "link.xml"):
        with pytest.raises(HospitalError, match="outside"):
            reader.read(root, name)


def test_form_errors_of_dicom_values_do_not_cost_the_record(tmp_path: Path) -> None:
    import pydicom

    dicom.write(tmp_path / "a.dcm", ECG)
    data = pydicom.dcmread(tmp_path / "a.dcm")
    with pydicom.config.disable_value_validation():
        data.StationName = "a name of more than sixteen characters"
        data.save_as(tmp_path / "a.dcm")
    assert reader.read(tmp_path, "a.dcm").patient == "H001"


def test_a_sample_has_every_format_and_variant(tmp_path: Path) -> None:
    names = [samples.write(tmp_path, i, ECG) for i in range(12)]
    assert [name.split("/")[0] for name in names] == 2 * list(samples.FOLDERS)
    found = [reader.read(tmp_path, name) for name in names]
    assert {ecg.rate_hz for ecg in found} == {250.0, 500.0}
    assert all(ecg.leads == LEADS for ecg in found)


def test_without_the_extra_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hospital.require()
    muse.write(tmp_path / "a.xml", ECG)
    monkeypatch.setitem(sys.modules, "ecgdatakit", None)
    with pytest.raises(HospitalError, match=r'pip install "ecgscale\[hospital\]"'):
        reader.read(tmp_path, "a.xml")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(HospitalError, match=r'ecgdatakit, pydicom, edfio: pip install "ecgscale\[hospital\]"'):
        hospital.require()


def test_the_extra_is_imported_only_when_a_file_is_read() -> None:
    code = (
        "import sys, ecgscale.datasets.hospital_folder\n"
        "print([name for name in ('ecgdatakit', 'pydicom', 'edfio', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _xli(counts: npt.NDArray[np.int64]) -> bytes:
    """Compress leads as Philips does: limb leads as residuals, second differences, high bytes first, LZW of 10 bits.

    Source: the wiki of https://github.com/sixlettervariables/sierra-ecg-tools.
    """
    one, two, three, avr, avl, avf = counts[:6]
    stored = counts.copy()
    stored[2] = two - one - three
    stored[3] = -avr - (one + two) // 2
    stored[4] = (one - three) // 2 - avl
    stored[5] = (two + three) // 2 - avf
    return b"".join(_chunk(row.tolist()) for row in stored)


def _chunk(row: list[int]) -> bytes:
    """One lead: x[n] = 2 x[n-1] - x[n-2] - c[n-1] + 64, with the first c in the header and the others in the stream."""
    first = 2 * row[1] - row[0] - row[2]
    codes = row[:2] + [2 * row[i] - row[i - 1] - row[i + 1] + 64 for i in range(2, len(row) - 1)] + [64]
    words = np.array(codes, dtype=">i2").view(np.uint8).reshape(-1, 2)
    data = _lzw(words[:, 0].tobytes() + words[:, 1].tobytes())
    return struct.pack("<IHh", len(data), 0, first) + data


def _lzw(data: bytes, bits: int = 10) -> bytes:
    table = {bytes([i]): i for i in range(256)}
    text, word = "", b""
    for byte in data:
        longer = word + bytes([byte])
        if longer in table:
            word = longer
            continue
        text += f"{table[word]:0{bits}b}"
        if len(table) < (1 << bits) - 1:
            table[longer] = len(table)
        word = bytes([byte])
    text += f"{table[word]:0{bits}b}" + "1" * bits
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")
