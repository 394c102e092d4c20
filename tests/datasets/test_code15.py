"""CODE-15 %: what is in the HDF5 files, per exam; what is amiss goes to quarantine and the rest is read."""

from __future__ import annotations

import pickle
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
from ecgscale.datasets.code15 import Code15
from ecgscale.units import LEADS


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample, not to be changed."""
    root = tmp_path_factory.mktemp("code15")
    Code15.sample(root)
    return root


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    """A copy of the sample."""
    return shutil.copytree(whole, tmp_path / "source")


def _records(root: Path, **fields: Any) -> dict[str, Record]:
    return {item.record: item for item in Code15(**fields).records(root) if isinstance(item, Record)}


def _reasons(root: Path) -> dict[str, str]:
    return {item.record: item.reason for item in Code15().records(root) if isinstance(item, Rejected)}


def _table(root: Path) -> pd.DataFrame:
    return pd.read_csv(root / "exams.csv")


def test_a_record_is_half_of_what_the_file_holds_without_its_padding(whole: Path) -> None:
    records = _records(whole)
    assert len(records) == 64
    for part in ("exams_part0.hdf5", "exams_part1.hdf5"):
        with h5py.File(whole / part) as file:
            for i, exam in enumerate(file["exam_id"][:-1]):
                stored = file["tracings"][i]
                begin = 648 if not stored[48].any() else 48
                record = records[str(exam)]
                assert np.array_equal(record.signal, stored[begin : 4096 - begin].T / 2)
                assert (record.unit, record.rate_hz, record.leads) == ("mV", 400.0, LEADS)
    assert {record.signal.shape[1] for record in records.values()} == {2800, 4000}


def test_age_sex_patient_and_labels_are_the_tables(whole: Path) -> None:
    records = _records(whole)
    rows = _table(whole).set_index("exam_id")
    assert {record.sex for record in records.values()} == {"F", "M"}
    for name, record in records.items():
        row = rows.loc[int(name)]
        assert (record.age, record.sex) == (row["age"], "M" if row["is_male"] else "F")
        assert record.patient == f"code:{row['patient_id']}"
        assert record.labels == {
            label: float(row[label]) for label in ("1dAVb", "RBBB", "LBBB", "SB", "ST", "AF", "normal_ecg")
        }


@pytest.mark.parametrize("values_per_mv", [1, 2, 10])
def test_the_scale_can_be_chosen(whole: Path, values_per_mv: Any) -> None:
    with h5py.File(whole / "exams_part0.hdf5") as file:
        exam, stored = str(file["exam_id"][0]), file["tracings"][0, 48:4048].T
    assert np.allclose(_records(whole, values_per_mv=values_per_mv)[exam].signal, stored / values_per_mv, atol=1e-6)


def test_parts_that_were_not_downloaded_hold_no_records(root: Path) -> None:
    assert (_table(root)["trace_file"] == "exams_part2.hdf5").sum() == 3
    assert _reasons(root) == {}
    (root / "exams_part1.hdf5").rename(root / "exams_part2.hdf5")
    assert len(_records(root)) == 64  # an exam is found wherever it lies
    assert all("exams_part2.hdf5, which does not hold it" in reason for reason in _reasons(root).values())
    assert len(_reasons(root)) == 3


def test_an_exam_that_lies_in_another_part_than_the_table_says_is_a_record_and_nothing_else(
    root: Path, tmp_path: Path
) -> None:
    table = _table(root)
    first, second = ((table["trace_file"] == f"exams_part{part}.hdf5").idxmax() for part in (0, 1))
    table.loc[[first, second], "trace_file"] = ["exams_part1.hdf5", "exams_part0.hdf5"]
    table.to_csv(root / "exams.csv", index=False)
    corpus = ingest(Code15(), root, Form(), tmp_path / "corpus")
    assert len(corpus) == 64 and len(corpus.quarantine) == 0


def test_no_part_at_all_is_one_sentence(root: Path) -> None:
    for part in root.glob("*.hdf5"):
        part.unlink()
    with pytest.raises(DatasetError, match=r"none of the files that exams.csv names.*exams_part0.hdf5"):
        next(Code15().portions(root))


def test_portions_lie_in_one_file_and_can_be_pickled(tmp_path: Path) -> None:
    ids = np.arange(1, 301)
    for part, chunk_rows in ((2, 3), (10, 200)):
        with h5py.File(tmp_path / f"exams_part{part}.hdf5", "w") as file:
            file["exam_id"] = ids + 1000 * part
            file.create_dataset("tracings", (300, 4096, 12), "f4", chunks=(chunk_rows, 64, 1))
    rows = [{"exam_id": i + 1000 * p, "trace_file": f"exams_part{p}.hdf5"} for p in (10, 2) for i in ids]
    others = ["age", "is_male", "1dAVb", "RBBB", "LBBB", "SB", "ST", "AF", "normal_ecg", "patient_id"]
    pd.DataFrame(rows).assign(**dict.fromkeys(others, 1)).to_csv(tmp_path / "exams.csv", index=False)
    portions = list(Code15().portions(tmp_path))
    assert [exam.name for portion in portions for exam in portion.exams] == [
        str(i + 1000 * p) for p in (2, 10) for i in ids
    ]
    assert [(p.part, p.start, len(p.exams)) for p in portions] == [
        ("exams_part2.hdf5", 0, 126),
        ("exams_part2.hdf5", 126, 126),
        ("exams_part2.hdf5", 252, 48),
        ("exams_part10.hdf5", 0, 128),
        ("exams_part10.hdf5", 128, 72),
        ("exams_part10.hdf5", 200, 100),
    ]
    assert pickle.loads(pickle.dumps(portions)) == portions
    assert {item.reason for item in Code15().read(tmp_path, portions[2]) if isinstance(item, Rejected)} == {
        "the tracing is empty: every sample of every lead is 0"
    }


def test_bad_exams_are_quarantined_and_the_rest_is_read(root: Path, tmp_path: Path) -> None:
    with h5py.File(root / "exams_part0.hdf5", "r+") as file:
        ids = [int(exam) for exam in file["exam_id"][:9]]
        file["tracings"][0] = 0
        file["exam_id"][1] = 777
        file["tracings"][40, 5] = 1  # of the row without an exam
    table = _table(root).astype(object).set_index("exam_id")
    table.loc[ids[2], "patient_id"] = None
    table.loc[ids[3], "SB"] = "perhaps"
    table.loc[ids[4], "AF"] = None
    table.loc[ids[5], "age"] = "old"
    table.loc[ids[7], "age"] = None
    table.loc[ids[7], "is_male"] = None
    table = pd.concat([table, table.loc[[ids[6]]]])
    table.reset_index().to_csv(root / "exams.csv", index=False)
    corpus = ingest(Code15(), root, Form(), tmp_path / "corpus")
    reasons = dict(corpus.quarantine.itertuples(index=False))
    assert reasons == {
        str(ids[0]): "the tracing is empty: every sample of every lead is 0",
        "777": "exams.csv has no exam 777",
        str(ids[1]): "exams.csv puts it into exams_part0.hdf5, which does not hold it",
        str(ids[2]): "the patient id is empty",
        str(ids[3]): 'SB is "perhaps"; expected 0, 1, True, False or nothing',
        str(ids[5]): 'the age is "old"; expected a number',
        str(ids[6]): f"exams.csv lists exam {ids[6]} more than once",
        "exams_part0.hdf5[40]": "its exam_id is 0, which is no exam, but its tracing is not empty",
    }
    assert len(corpus) == 58
    records = _records(root)
    assert np.isnan(records[str(ids[4])].labels["AF"])
    assert (records[str(ids[7])].age, records[str(ids[7])].sex) == (None, None)


def test_a_part_that_was_cut_short_costs_its_own_exams_only(root: Path) -> None:
    cut = root / "exams_part0.hdf5"
    cut.write_bytes(cut.read_bytes()[:1_000_000])
    reasons = _reasons(root)
    assert len(reasons) == 40
    assert all("exams_part0.hdf5 cannot be opened as HDF5 (truncated file" in reason for reason in reasons.values())
    assert len(_records(root)) == 24


def test_a_part_that_breaks_between_listing_and_reading_is_rejected(root: Path) -> None:
    portions = list(Code15().portions(root))
    (root / "exams_part0.hdf5").unlink()
    items = [item for portion in portions for item in Code15().read(root, portion)]
    assert [type(item) for item in items] == [Rejected] * 41 + [Record] * 24  # with the row that is no exam


def test_ids_and_tracings_must_agree(root: Path) -> None:
    with h5py.File(root / "exams_part0.hdf5", "r+") as file:
        ids = file["exam_id"][:]
        del file["exam_id"]
        file["exam_id"] = ids[:-2]
    assert any('"exam_id" of' in reason and "expected [41]" in reason for reason in _reasons(root).values())


def test_no_file_outside_the_folder_is_opened(root: Path) -> None:
    (root / "exams_part0.hdf5").rename(root.parent / "secret.hdf5")
    table = _table(root)
    table["trace_file"] = table["trace_file"].replace("exams_part0.hdf5", "../secret.hdf5")
    table.to_csv(root / "exams.csv", index=False)
    reasons = _reasons(root)
    assert len(reasons) == 40
    assert all("lies outside" in reason for reason in reasons.values())


def test_the_corpus_does_not_depend_on_the_number_of_workers(root: Path, tmp_path: Path) -> None:
    with h5py.File(root / "exams_part0.hdf5") as old, h5py.File(root / "new", "w") as new:
        new["exam_id"] = old["exam_id"][:]
        new.create_dataset("tracings", data=old["tracings"][:], chunks=(9, 1024, 2), compression="lzf")
    (root / "new").replace(root / "exams_part0.hdf5")
    one, two = (ingest(Code15(), root, Form(), tmp_path / str(n), workers=n) for n in (1, 2))
    assert one.digest == two.digest


def test_ids_that_are_no_numbers_are_one_sentence(root: Path) -> None:
    _table(root).astype({"exam_id": str}).assign(exam_id="x1").to_csv(root / "exams.csv", index=False)
    with pytest.raises(DatasetError, match=r"exam_id of .* whole numbers"):
        next(Code15().portions(root))
