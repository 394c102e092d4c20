"""EchoNext's arrays and table are joined row by row; what was not measured may be unknown; broken copies are told."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgscale.data.record import Record, Rejected
from ecgscale.datasets import DatasetError
from ecgscale.datasets.echonext import EchoNext
from ecgscale.units import LEADS

TABLE = "echonext_metadata_100k.csv"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("echonext")
    EchoNext.sample(folder)
    return folder


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """A folder whose arrays are the sample's and whose table may be changed."""
    for path in root.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def _records(root: Path, **fields: str) -> list[Record]:
    return [item for item in EchoNext.parse(dict(fields)).records(root) if isinstance(item, Record)]


@pytest.mark.parametrize(("split", "fold"), [("train", 1), ("val", 9), ("test", 10)])
def test_row_i_of_a_split_is_row_i_of_its_array(root: Path, split: str, fold: int) -> None:
    table = pd.read_csv(root / TABLE)
    rows = table[table["split"] == split]
    stored = np.load(root / f"EchoNext_{split}_waveforms.npy")
    assert stored.shape[1:] == (1, 2500, 12) and stored.dtype == np.float64
    found = [r for r in _records(root) if r.fold == fold]
    assert len(found) == len(rows) == len(stored) > 5
    for record, (_, row), values in zip(found, rows.iterrows(), stored, strict=True):
        assert (record.record, record.patient) == (row["ecg_key"], f"echonext:{row['patient_key']}")
        assert (record.age, record.sex) == (row["age_at_ecg"], {"female": "F", "male": "M"}[row["sex"]])
        assert np.array_equal(record.signal, values[0].T.astype(np.float32))
        assert (record.unit, record.rate_hz, record.leads, record.band_hz) == ("z_global", 250.0, LEADS, None)


def test_earlier_ecgs_of_val_and_test_patients_stay_out_or_have_no_fold(root: Path) -> None:
    table = pd.read_csv(root / TABLE)
    earlier = set(table["ecg_key"][table["split"] == "no_split"])
    assert len(earlier) > 5
    assert not earlier & {r.record for r in _records(root)}
    kept = _records(root, no_split="keep")
    assert {r.record for r in kept if r.fold is None} == earlier
    assert len(kept) == len(table)


def test_a_missing_measurement_is_negative_as_published_or_unknown(root: Path) -> None:
    table = pd.read_csv(root / TABLE).set_index("ecg_key")
    published, honest = _records(root), _records(root, unmeasured="unknown")
    unknown = 0
    for one, other in zip(published, honest, strict=True):
        row = table.loc[one.record]
        assert one.labels == {name: row[name] for name in one.labels}
        for name, value in other.labels.items():
            if name == "lvef_lte_45_flag" and pd.isna(row["lvef_value"]):
                assert np.isnan(value) and row[name] == 0
                unknown += 1
            elif name in ("lvef_lte_45_flag", "shd_moderate_or_greater_flag"):
                assert value == row[name]
    assert unknown > 5


def test_both_spellings_of_the_table_are_read(copy: Path) -> None:
    expected = [r.record for r in _records(copy)]
    (copy / TABLE).rename(copy / "EchoNext_metadata_100k.csv")
    assert [r.record for r in _records(copy)] == expected


def test_portions_are_small_and_can_be_pickled(root: Path) -> None:
    for portion in EchoNext().portions(root):
        again = pickle.loads(pickle.dumps(portion))
        names = [item.record for item in EchoNext().read(root, again)]
        assert names == [row["ecg_key"] for row in portion.rows] and 0 < len(names) <= 128


def test_a_table_of_another_version_is_one_sentence(copy: Path) -> None:
    table = pd.read_csv(copy / TABLE, index_col=0)
    table.iloc[1:].to_csv(copy / TABLE)
    with pytest.raises(DatasetError, match=r"EchoNext_train_waveforms.npy has shape .*; the table promises"):
        list(EchoNext().records(copy))
    table["split"] = table["split"].replace("val", "valid")
    table.to_csv(copy / TABLE)
    with pytest.raises(DatasetError, match="the split is 'valid'; expected one of train, val, test"):
        list(EchoNext().records(copy))


def test_a_cut_array_is_one_sentence(copy: Path) -> None:
    array = copy / "EchoNext_val_waveforms.npy"
    array.write_bytes(array.read_bytes()[:-1000])
    with pytest.raises(DatasetError, match=r"EchoNext_val_waveforms.npy.*cut short") as error:
        list(EchoNext().records(copy))
    assert "\n" not in str(error.value)


def test_a_record_without_a_patient_is_rejected(copy: Path) -> None:
    table = pd.read_csv(copy / TABLE, index_col=0)
    table.loc[0, "patient_key"] = None
    table.to_csv(copy / TABLE)
    rejected = [item for item in EchoNext().records(copy) if isinstance(item, Rejected)]
    assert [(item.record, item.reason) for item in rejected] == [(table.loc[0, "ecg_key"], "the patient id is empty")]
