"""A hospital's folder: patients and labels from files or table, statements as labels, and every doubt told."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgscale import spec
from ecgscale.data import hospital, synthetic
from ecgscale.data.corpus import Form, ingest
from ecgscale.data.hospital import Ecg, dicom, edf, muse, philips
from ecgscale.data.record import Record, Rejected
from ecgscale.datasets import DatasetError
from ecgscale.datasets.hospital_folder import HospitalFolder
from ecgscale.spec import SpecError
from ecgscale.units import LEADS

for extra in ("ecgdatakit", "pydicom", "edfio"):
    pytest.importorskip(extra, reason=hospital.INSTALL)

ECG = Ecg(synthetic.population(1, 1, 250.0, 4).signal[0], LEADS, 250.0, "77", 61.0, "F", ("Sinus rhythm",))


def _records(dataset: HospitalFolder, root: Path) -> dict[str, Record]:
    return {item.record: item for item in dataset.records(root) if isinstance(item, Record)}


def _reasons(dataset: HospitalFolder, root: Path) -> dict[str, str]:
    return {item.record: item.reason for item in dataset.records(root) if isinstance(item, Rejected)}


def test_the_sample_is_read_as_it_was_made(tmp_path: Path) -> None:
    dataset = HospitalFolder.sample(tmp_path, seed=2)
    found = _records(dataset, tmp_path)
    truth = synthetic.population(patients=60, records=72, rate_hz=500.0, seed=2)
    assert len(found) == 72
    assert {name.split("/")[0] for name in found} == {"muse", "philips", "aecg", "dicom", "scp", "edf"}
    for name, record in found.items():
        i = int(Path(name).stem) - 1
        assert record.patient == f"sample:H{truth.patient[i]:03d}"
        assert (record.age, record.sex) == (truth.age[i], "F" if truth.female[i] else "M")
        assert {k: v for k, v in record.labels.items() if k != "said_block"} == {
            k: v[i] for k, v in truth.labels.items()
        }
        said = record.labels["said_block"]
        assert math.isnan(said) if name.startswith("edf") else said == truth.labels["wide"][i]
        assert record.leads == LEADS
        step = round(500 / record.rate_hz)
        assert np.abs(record.signal - truth.signal[i][:, ::step]).max() < 0.006
    assert {r.rate_hz for r in found.values()} == {250.0, 500.0}


def test_nothing_else_of_the_patient_enters_a_record(tmp_path: Path) -> None:
    for record in _records(HospitalFolder.sample(tmp_path), tmp_path).values():
        text = repr(replace(record, signal=np.zeros((12, 1), np.float32)))
        assert not any(word in text for word in ("Doe", "Jane", "2023", "inus", "branch"))


def test_statements_become_labels_and_negation_is_the_readers_business(tmp_path: Path) -> None:
    said = {"a": ("Atrial Fibrillation", "Old infarct"), "b": ("No atrial fibrillation",), "c": ()}
    for name, statements in said.items():
        muse.write(tmp_path / f"{name}.xml", replace(ECG, statements=statements))
    dataset = HospitalFolder(
        statements={"naive": "atrial fibrillation", "careful": "(?<!no )atrial fibrillation", "two": "lation.*infarct"}
    )
    found = {name: dict(record.labels) for name, record in _records(dataset, tmp_path).items()}
    assert found["a.xml"] == {"naive": 1.0, "careful": 1.0, "two": 0.0}  # each statement by itself
    assert found["b.xml"] == {"naive": 1.0, "careful": 0.0, "two": 0.0}
    assert all(math.isnan(value) for value in found["c.xml"].values())
    assert dataset.facts() == {"label_groups": {"statements": ["naive", "careful", "two"]}}
    assert all(not record.labels for record in _records(HospitalFolder(), tmp_path).values())


def test_the_table_rules_where_its_columns_are_named(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    muse.write(tmp_path / "deep" / "1.XML", ECG)
    dicom.write(tmp_path / "2.dcm", ECG)
    pd.DataFrame(
        {"path": ["deep/1.XML", "2.dcm"], "mrn": [5.0, 6.0], "years": [40, None], "sex": ["male", None],
         "split": [1, 2], "lvef": [1.0, None]}
    ).to_csv(tmp_path / "t.csv", index=False)  # fmt: skip
    dataset = HospitalFolder(
        population="ours", table="t.csv", id="path", patient="mrn", age="years", sex="sex", fold="split",
        labels={"echo": ("lvef",)},
    )  # fmt: skip
    found = _records(dataset, tmp_path)
    one, two = found["deep/1.XML"], found["2.dcm"]
    assert (one.patient, one.age, one.sex, one.fold, one.labels) == ("ours:5", 40.0, "M", 1, {"lvef": 1.0})
    assert (two.patient, two.age, two.sex, two.fold) == ("ours:6", None, None, 2)
    assert math.isnan(two.labels["lvef"])
    bare = _records(HospitalFolder(table="t.csv", id="path"), tmp_path)["2.dcm"]
    assert (bare.patient, bare.age, bare.sex, bare.fold, bare.labels) == ("hospital:77", 61.0, "F", None, {})


def test_files_and_rows_without_each_other_are_told(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    muse.write(tmp_path / "outside.xml", ECG)
    for name in ("a.xml", "b.xml", "c.xml"):
        muse.write(root / name, ECG)
    pd.DataFrame({"file": ["a.xml", "c.xml", "gone.xml", "../outside.xml"], "id": ["1", None, "3", "4"]}).to_csv(
        root / "t.csv", index=False
    )
    dataset = HospitalFolder(table="t.csv", patient="id")
    assert set(_records(dataset, root)) == {"a.xml"}
    reasons = _reasons(dataset, root)
    assert "t.csv has no row with file = b.xml" in reasons["b.xml"]
    assert "t.csv names no patient for c.xml; fill in column id" in reasons["c.xml"]
    assert "cannot be read" in reasons["gone.xml"]
    assert "lies outside" in reasons["../outside.xml"]


def test_a_file_without_an_id_is_refused_with_advice(tmp_path: Path) -> None:
    muse.write(tmp_path / "a.xml", replace(ECG, patient=""))
    edf.write(tmp_path / "b.edf", replace(ECG, patient=""))
    philips.write(tmp_path / "c.xml", replace(ECG, patient="---"))
    reasons = _reasons(HospitalFolder(), tmp_path)
    assert set(reasons) == {"a.xml", "b.edf", "c.xml"}
    assert all("holds no patient id; give a table with columns" in reason for reason in reasons.values())


def test_missing_leads_are_refused_unless_one_asks_for_them(tmp_path: Path) -> None:
    rows = [LEADS.index(lead) for lead in ("I", "II", "V1", "V2", "V4", "V5", "V6")]
    muse.write(tmp_path / "no_v3.xml", replace(ECG, signal=ECG.signal[rows], leads=tuple(LEADS[i] for i in rows)))
    edf.write(tmp_path / "two.edf", replace(ECG, signal=ECG.signal[1:3], leads=("II", "III")))
    reasons = _reasons(HospitalFolder(), tmp_path)
    assert "no_v3.xml lacks V3; expected I, II and V1 to V6 at least" in reasons["no_v3.xml"]
    assert "two.edf lacks I, aVR, aVL, aVF, V1" in reasons["two.edf"]
    found = _records(HospitalFolder(missing_leads="missing"), tmp_path)
    assert found["no_v3.xml"].leads == tuple(lead for lead in LEADS if lead != "V3")
    assert found["two.edf"].leads == ("II", "III")


def test_damaged_files_are_quarantined_and_the_rest_is_read(tmp_path: Path) -> None:
    root = tmp_path / "source"
    dataset = HospitalFolder.sample(root)
    for folder in ("muse", "philips", "aecg", "dicom", "scp", "edf"):
        cut = sorted((root / folder).iterdir())[3]
        cut.write_bytes(cut.read_bytes()[:-15_000])
    corpus = ingest(dataset, root, Form(), tmp_path / "corpus")
    reasons = dict(zip(corpus.quarantine["record"], corpus.quarantine["reason"], strict=True))
    assert len(corpus) == 66
    assert {name.split("/")[0] for name in reasons} == {"muse", "philips", "aecg", "dicom", "scp", "edf"}
    assert all(name in reason and "\n" not in reason for name, reason in reasons.items())


def test_other_files_of_the_folder_are_passed_over(tmp_path: Path) -> None:
    for name in ("A.XML", "._A.xml", "notes.txt", "IM0001"):
        muse.write(tmp_path / name, ECG)
    assert set(_records(HospitalFolder(), tmp_path)) == {"A.XML"}
    assert set(_records(HospitalFolder(patterns=("im*",)), tmp_path)) == {"IM0001"}
    with pytest.raises(DatasetError, match=r"holds no file \*.hl7; set `patterns`"):
        next(HospitalFolder(patterns=("*.hl7",)).records(tmp_path))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"statements": {"x": "("}}, "the pattern of x is no regular expression"),
        ({"patient": "mrn", "labels": {"a": ["b"]}}, "patient, labels name columns, but no `table` is given"),
        ({"table": "t.csv", "labels": {"a": ["x"]}, "statements": {"x": "y"}}, "x is a label of `statements` and of"),
        ({"patern": ["*"]}, "did you mean"),
    ],
)
def test_a_wrong_description_is_one_sentence(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        spec.part("datasets", {"name": "hospital_folder", **fields})


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("")
    with pytest.raises(DatasetError, match=r"a\.xml is no folder"):
        next(HospitalFolder().records(tmp_path / "a.xml"))


def test_without_the_extra_the_folder_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for attempt in (lambda: next(HospitalFolder().records(tmp_path)), lambda: HospitalFolder.sample(tmp_path)):
        with pytest.raises(DatasetError, match=r'pip install "ecgscale\[hospital\]"'):
            attempt()
