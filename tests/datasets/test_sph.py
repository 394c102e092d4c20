"""The SPH database: half-precision millivolts as h5py reads them, and the primary statements of the AHA codes."""

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
from ecgscale.datasets.sph import STATEMENTS, Sph
from ecgscale.units import LEADS


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample, not to be changed."""
    root = tmp_path_factory.mktemp("sph")
    Sph.sample(root)
    return root


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    """A copy of the sample."""
    return shutil.copytree(whole, tmp_path / "source")


def _items(root: Path) -> dict[str, Record | Rejected]:
    return {item.record: item for item in Sph().records(root)}


def _change(root: Path, **columns: Any) -> None:
    """Write other values into the first rows of metadata.csv."""
    table = pd.read_csv(root / "metadata.csv").astype(object)
    for column, values in columns.items():
        table.loc[: len(values) - 1, column] = values
    table.to_csv(root / "metadata.csv", index=False)


def test_a_record_is_what_the_files_say(whole: Path) -> None:
    items = _items(whole)
    assert len(items) == 72
    for _, row in pd.read_csv(whole / "metadata.csv").iterrows():
        record = items[row["ECG_ID"]]
        assert isinstance(record, Record)
        with h5py.File(whole / "records" / f"{row['ECG_ID']}.h5") as file:
            stored = file["ecg"][()]
        assert stored.dtype == np.float16
        assert record.signal.dtype == np.float32
        assert np.array_equal(record.signal, stored)
        assert (record.unit, record.rate_hz, record.leads) == ("mV", 500.0, LEADS)
        assert (record.age, record.sex, record.patient) == (row["Age"], row["Sex"], f"sph:{row['Patient_ID']}")
        assert record.signal.shape == (12, row["N"])
    assert {item.signal.shape[1] for item in items.values() if isinstance(item, Record)} == {5000, 6000}


@pytest.mark.parametrize(
    ("codes", "labels"),
    [
        ("1", {"normal_ecg"}),
        ("1;1", {"normal_ecg"}),
        ("50+347;82", {"atrial_fibrillation", "prolonged_pr_interval"}),
        ("332+160;145+362+321; 30+308", {"anterior_mi", "st_deviation", "atrial_premature_complexes"}),
    ],
)
def test_labels_are_the_primary_statements(root: Path, codes: str, labels: set[str]) -> None:
    _change(root, AHA_Code=[codes])
    record = _items(root)["A00001"]
    assert isinstance(record, Record)
    assert {name for name, value in record.labels.items() if value == 1} == labels
    assert list(record.labels) == list(STATEMENTS.values())
    assert set(record.labels.values()) <= {0.0, 1.0}


def test_there_are_44_statements_with_names_of_their_own() -> None:
    assert len(STATEMENTS) == len(set(STATEMENTS.values())) == 44


def test_bad_records_are_quarantined_and_the_rest_is_read(root: Path, tmp_path: Path) -> None:
    _change(
        root,
        AHA_Code=["999", "50+51", "347", None, "1"],
        N=[6000, 5000, 5000, 5000, 5000, 4999, 5000, 5000, 6000, "many"],
        Patient_ID=["S1", "S2", "S3", "S4", None],
        Age=[50] * 6 + ["unknown", None],
        Sex=["M"] * 7 + ["X"],
    )
    records = root / "records"
    (records / "A00011.h5").write_bytes((records / "A00011.h5").read_bytes()[:5000])
    (records / "A00012.h5").unlink()
    for name, change in (("A00013", np.transpose), ("A00014", lambda ecg: ecg[:8])):
        with h5py.File(records / f"{name}.h5", "r+") as file:
            ecg = file["ecg"][()]
            del file["ecg"]
            file["ecg"] = change(ecg)
    corpus = ingest(Sph(), root, Form(), tmp_path / "corpus")
    reasons = dict(corpus.quarantine.itertuples(index=False))
    assert reasons.keys() == {f"A{i:05d}" for i in (1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14)}
    for name, said in {
        "A00001": 'AHA_Code is "999"; expected one known primary statement',
        "A00002": 'in "50+51"',
        "A00003": 'in "347"',
        "A00004": 'in "nan"',
        "A00005": "patient id is empty",
        "A00006": "has 5000 samples, but metadata.csv says 4999",
        "A00007": 'the age is "unknown"',
        "A00010": 'the N is "many"',
        "A00011": "truncated file",
        "A00012": "no such file",
        "A00013": "has shape [5000, 12]; expected [12, any]",
        "A00014": "has shape [8, 5000]",
    }.items():
        assert said in reasons[name], name
        assert "\n" not in reasons[name]
    assert len(corpus) == 60
    last = _items(root)["A00008"]
    assert isinstance(last, Record)
    assert (last.age, last.sex) == (None, None)


@pytest.mark.parametrize("name", ["../../secret", "link"])
def test_no_file_outside_the_folder_is_opened(root: Path, name: str) -> None:
    (root / "records" / "A00001.h5").rename(root.parent / "secret.h5")
    (root / "records" / "link.h5").symlink_to(root.parent / "secret.h5")
    _change(root, ECG_ID=[name])
    item = _items(root)[name]
    assert isinstance(item, Rejected)
    assert "lies outside" in item.reason


def test_records_that_were_not_unpacked_are_one_sentence(root: Path) -> None:
    (root / "records").rename(root / "elsewhere")
    with pytest.raises(DatasetError, match=r"has no folder records; unpack records.tar.gz there"):
        next(Sph().portions(root))
