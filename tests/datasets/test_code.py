"""CODE and CODE-test: three layouts of the same exams say the same; what is amiss is one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from ecgscale.data.corpus import Form, ingest
from ecgscale.data.record import Record, Rejected
from ecgscale.datasets import DatasetError
from ecgscale.datasets.code import LABELS, Code
from ecgscale.units import LEADS


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample, not to be changed."""
    root = tmp_path_factory.mktemp("code")
    Code.sample(root)
    return root


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    """A copy of the sample."""
    return shutil.copytree(whole, tmp_path / "source")


def _records(root: Path, **fields: Any) -> list[Record]:
    return [item for item in Code(**fields).records(root) if isinstance(item, Record)]


def _reasons(root: Path, **fields: Any) -> dict[str, str]:
    return {item.record: item.reason for item in Code(**fields).records(root) if isinstance(item, Rejected)}


def test_the_wfdb_records_are_what_wfdb_reads_and_the_other_leads_follow_from_i_and_ii(whole: Path) -> None:
    import wfdb

    for i, record in enumerate(_records(whole)[:3]):
        oracle = wfdb.rdrecord(str(whole / "S0000000" / f"TNMG{i + 1}_N1"))
        assert oracle.sig_name[:3] == ["DI", "DII", "V1"]
        lead = dict(zip(record.leads, record.signal, strict=True))
        assert sorted(lead) == sorted(LEADS)
        for name, column in zip(oracle.sig_name, oracle.p_signal.T, strict=True):
            assert np.abs(lead[name.removeprefix("D")] - column).max() < 1e-6
        assert np.abs(lead["I"] + lead["III"] - lead["II"]).max() < 1e-6  # Einthoven
        assert np.abs(lead["aVR"] + lead["aVL"] + lead["aVF"]).max() < 1e-6
        assert np.abs(lead["aVL"] - (lead["I"] - lead["III"]) / 2).max() < 1e-6  # Goldberger
        assert np.abs(lead["aVF"] - (lead["II"] + lead["III"]) / 2).max() < 1e-6
        assert (record.unit, record.rate_hz, record.record) == ("mV", 400.0, f"TNMG{i + 1}_N1")


def test_all_layouts_say_the_same_of_an_exam(whole: Path) -> None:
    wfdb, rows, in_order, test = (
        _records(whole, **fields)
        for fields in ({}, {"layout": "hdf5"}, {"layout": "hdf5", "ids": ""}, {"layout": "test"})
    )
    table = pd.read_csv(whole / "annotations.csv")
    by_exam = {record.record: record for record in rows}
    assert len(wfdb) == len(rows) == len(in_order) == len(test) == 64
    for i, row in table.iterrows():
        name, one = str(row["id_exam"]), wfdb[i]
        stored, beside = by_exam[name], test[i]
        order = [one.leads.index(lead) for lead in LEADS]
        assert stored.leads == beside.leads == LEADS
        assert np.abs(one.signal[order] - stored.signal).max() < 0.0012  # rounded to 1 µV
        assert np.array_equal(stored.signal, beside.signal)
        expected = {label: float(row[label]) for label in LABELS}
        assert one.labels == stored.labels == beside.labels == expected
        assert (one.age, one.sex) == (stored.age, stored.sex) == (beside.age, beside.sex) == (row["age"], row["sex"])
        assert one.patient == stored.patient == f"code:{row['id_patient']}"
        assert beside.patient == f"code:test-{i + 1}"
    assert [record.record for record in rows] == [str(i) for i in range(64, 0, -1)]  # the order of the file
    assert [record.record for record in in_order] == [str(i) for i in range(1, 65)]  # that of the table


def test_the_first_recording_of_each_exam_or_all(whole: Path) -> None:
    assert all(record.record.endswith("_N1") for record in _records(whole))
    every = _records(whole, recordings="all")
    assert len(every) == 64 + 22
    assert (every[0].patient, every[0].record) == (every[1].patient, "TNMG1_N1")
    assert every[1].record == "TNMG1_N2"


@pytest.mark.parametrize("values_per_mv", [1, 2, 10])
def test_the_scale_can_be_chosen(whole: Path, values_per_mv: Any) -> None:
    with h5py.File(whole / "ecg_tracings.hdf5") as file:
        stored = file["tracings"][0, 48:4048].T
    found = _records(whole, layout="test", values_per_mv=values_per_mv)[0].signal
    assert np.allclose(found, stored / values_per_mv, atol=1e-6)


def test_bad_records_are_quarantined_and_the_rest_is_read(root: Path, tmp_path: Path) -> None:
    folder = root / "S0000000"
    (folder / "TNMG2_N1.mat").write_bytes((folder / "TNMG2_N1.mat").read_bytes()[:900])
    (folder / "TNMG3_N1.hea").unlink()
    header = (folder / "TNMG4_N1.hea").read_text()
    (folder / "TNMG4_N1.hea").write_text(header.replace("DII", "D9"))
    header = (folder / "TNMG5_N1.hea").read_text().splitlines()
    (folder / "TNMG5_N1.hea").write_text("\n".join([*header[:-1], header[-1].replace("/mV", "/uV")]) + "\n")
    with (root / "RECORDS.txt").open("a") as listing:
        listing.write("\nS0000000/other\n../secret/TNMG9_N1\n")
    table = pd.read_csv(root / "annotations.csv").astype(object).set_index("id_exam")
    table = table.drop(index=6)
    table.loc[7, "id_patient"], table.loc[8, "AF"], table.loc[10, "age"] = None, 2, "old"
    table.loc[11, "SB"], table.loc[12, "sex"], table.loc[13, "age"] = None, "U", None
    pd.concat([table, table.loc[[14]]]).reset_index().to_csv(root / "annotations.csv", index=False)
    corpus = ingest(Code(), root, Form(), tmp_path / "corpus")
    reasons = corpus.quarantine
    said = {(row.record, row.reason[-40:]): row.reason for row in reasons.itertuples()}
    assert len(said) == len(reasons) == 11
    by_name = dict(reasons.itertuples(index=False))
    for name, words in {
        "TNMG2_N1": "TNMG2_N1",
        "TNMG3_N1": "no such file",
        "TNMG4_N1": '"9" is not one of the twelve standard leads',
        "TNMG5_N1": "different units: mV, uV",
        "TNMG6_N1": "annotations.csv has no exam 6: its patient is unknown",
        "TNMG7_N1": "patient id is empty",
        "TNMG8_N1": 'AF is "2"; expected 0, 1, True, False or nothing',
        "TNMG9_N1": "lies outside",
        "TNMG10_N1": 'age is "old"',
        "TNMG14_N1": "lists exam 14 more than once",
        "other": "its name says no exam",
    }.items():
        assert words in by_name[name], name
        assert "\n" not in by_name[name]
    kept = {record.record: record for record in _records(root)}
    assert np.isnan(kept["TNMG11_N1"].labels["SB"])
    assert (kept["TNMG12_N1"].sex, kept["TNMG13_N1"].age) == (None, None)


def test_bad_rows_of_a_file_are_quarantined(root: Path) -> None:
    with h5py.File(root / "tracings.hdf5", "r+") as file:
        file["tracings"][3] = 0
        file["exam_id"][5] = 1234
    assert _reasons(root, layout="hdf5") == {
        "61": "the tracing is empty: every sample of every lead is 0",
        "1234": "annotations.csv has no exam 1234: its patient is unknown",
    }


def test_a_file_that_breaks_between_listing_and_reading_is_rejected(root: Path) -> None:
    spec = Code(layout="hdf5")
    portions = list(spec.portions(root))
    (root / "tracings.hdf5").unlink()
    items = [item for portion in portions for item in spec.read(root, portion)]
    assert len(items) == 64
    assert all(isinstance(item, Rejected) and "no such file" in item.reason for item in items)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"layout": "hdf5", "tracings": "other.hdf5"}, "other.hdf5 cannot be read: no such file"),
        ({"layout": "hdf5", "tracings": "../tracings.hdf5"}, "lies outside"),
        ({"layout": "hdf5", "ids": "id_exam"}, 'has no dataset "id_exam"; it has exam_id, tracings'),
        ({"annotations": "../annotations.csv"}, "lies outside"),
        ({"listing": "../RECORDS.txt"}, "lies outside"),
        ({"listing": "LIST.txt"}, "LIST.txt does not exist"),
    ],
)
def test_what_is_not_there_is_one_sentence(whole: Path, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(DatasetError, match=said) as error:
        next(Code(**fields).portions(whole))
    assert "\n" not in str(error.value)


def test_tables_of_another_length_are_refused(root: Path) -> None:
    pd.read_csv(root / "attributes.csv")[:-1].to_csv(root / "attributes.csv", index=False)
    with pytest.raises(DatasetError, match=r"attributes.csv has 63 rows.*64.*64 tracings"):
        next(Code(layout="test").portions(root))
    pd.read_csv(root / "annotations.csv")[:-1].to_csv(root / "annotations.csv", index=False)
    with pytest.raises(DatasetError, match=r"annotations.csv has 63 rows and tracings.hdf5 64 tracings"):
        next(Code(layout="hdf5", ids="").portions(root))
    pd.read_csv(root / "annotations.csv").assign(id_exam="x").to_csv(root / "annotations.csv", index=False)
    with pytest.raises(DatasetError, match=r"id_exam of .* whole numbers"):
        next(Code().portions(root))


def test_a_table_without_rows_is_refused(root: Path) -> None:
    pd.read_csv(root / "annotations.csv")[:0].to_csv(root / "annotations.csv", index=False)
    with pytest.raises(DatasetError, match=r"id_exam of .* is empty"):
        next(Code().portions(root))


def test_a_sample_can_be_written_over_one_that_was_read(root: Path) -> None:
    before = _records(root, layout="test")[0].signal.copy()
    Code.sample(root, seed=1)
    assert not np.array_equal(_records(root, layout="test")[0].signal, before)
