"""PTB-XL is read as published: labels, folds, ages, sexes; wfdb agrees; damaged files are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgscale.data import wfdb16
from ecgscale.data.corpus import Form, ingest
from ecgscale.data.record import Record, Rejected
from ecgscale.datasets import DatasetError
from ecgscale.datasets.ptbxl import PtbXl
from ecgscale.units import LEADS


def test_the_500_records_are_as_published(shared_data: Path) -> None:
    root = shared_data / "ptb-xl-500"
    records = [item for item in PtbXl().records(root) if isinstance(item, Record)]
    assert len(records) == 500
    assert len({r.patient for r in records}) == 466
    counts = {c: sum(r.labels[f"super_{c}"] for r in records) for c in ("NORM", "STTC", "CD", "MI", "HYP")}
    assert counts == {"NORM": 297, "STTC": 96, "CD": 78, "MI": 73, "HYP": 40}
    groups = [name.partition("_")[0] for name in records[0].labels]
    assert {group: groups.count(group) for group in set(groups)} == {
        "super": 5, "sub": 23, "diag": 44, "form": 19, "rhythm": 12,
    }  # fmt: skip
    first = records[0]
    assert (first.record, first.patient, first.age, first.sex, first.fold) == ("1", "ptbxl:15709", 56.0, "F", 3)
    assert {name for name, value in first.labels.items() if value} == {
        "super_NORM", "sub_NORM", "diag_NORM", "form_LVOLT", "rhythm_SR",
    }  # fmt: skip
    assert first.signal.shape == (12, 1000)
    assert first.leads == LEADS


def test_the_fast_reader_agrees_with_wfdb(shared_data: Path) -> None:
    import wfdb

    for name in ("ptb-xl-500/records100/00000/00317_lr", "ptb-xl-500/records500/00000/00001_hr", "ludb/data/7"):
        found, oracle = wfdb16.read(shared_data, name), wfdb.rdrecord(str(shared_data / name))
        assert np.abs(found.physical - oracle.p_signal.T).max() < 1e-6
        assert (found.leads, found.rate_hz, found.units) == (tuple(oracle.sig_name), oracle.fs, tuple(oracle.units))
        assert np.allclose(found.gain, oracle.adc_gain)


def test_other_formats_are_read_by_wfdb(shared_data: Path) -> None:
    found = wfdb16.read(shared_data, "cinc2021-samples/JS20000")
    assert found.physical.shape == (12, 5000)
    assert 0.3 < np.abs(found.physical).max() < 10
    assert any("Dx" in line for line in found.comments)


def test_damaged_records_are_quarantined_and_the_rest_is_read(tmp_path: Path) -> None:
    dataset = PtbXl.sample(tmp_path / "source")
    folder = tmp_path / "source" / "records100" / "00000"
    cut = folder / "00002_lr.dat"
    cut.write_bytes(cut.read_bytes()[:20_000])
    (folder / "00003_lr.dat").unlink()
    (folder / "00004_lr.hea").write_text("not a header")
    table = pd.read_csv(tmp_path / "source" / "ptbxl_database.csv").astype(object)
    table.loc[4, "scp_codes"], table.loc[5, "scp_codes"], table.loc[6, "patient_id"] = "{", "{'XYZ': 0.0}", None
    table.loc[7, "scp_codes"] = "7"
    table.to_csv(tmp_path / "source" / "ptbxl_database.csv", index=False)
    corpus = ingest(dataset, tmp_path / "source", Form(), tmp_path / "corpus")
    reasons = dict(corpus.quarantine.itertuples(index=False))
    assert len(corpus) == 89
    assert "has 20000 bytes; its header promises 12 leads × 1000 samples = 24000 bytes" in reasons["2"]
    assert "no such file" in reasons["3"]
    assert "00004_lr.hea" in reasons["4"]
    assert "scp_codes" in reasons["5"]
    assert "XYZ is not in scp_statements.csv" in reasons["6"]
    assert "patient id is empty" in reasons["7"]
    assert "expected a dictionary" in reasons["8"]
    assert all("\n" not in reason for reason in reasons.values())


def test_ages_above_89_become_90(tmp_path: Path) -> None:
    first = next(iter(PtbXl.sample(tmp_path).records(tmp_path)))
    assert isinstance(first, Record)
    assert first.age == 90


def test_missing_files_of_the_other_rate_are_rejected(tmp_path: Path) -> None:
    PtbXl.sample(tmp_path)
    assert all(isinstance(item, Rejected) for item in PtbXl(rate_hz=500).records(tmp_path))


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"ptbxl_database.csv does not exist"):
        next(PtbXl().records(tmp_path))


def test_invalid_samples_are_nan_and_headers_without_baseline_use_the_adc_zero(tmp_path: Path) -> None:
    counts = np.array([[100, -32768], [300, 400]], "<i2")
    (tmp_path / "a.dat").write_bytes(counts.tobytes())
    (tmp_path / "a.hea").write_text(
        "a 2 250 2\na.dat 16 200/mV 16 50 0 0 0 II\na.dat 16 200(10)/mV 16 50 0 0 0 V1\n# x\n"
    )
    read = wfdb16.read(tmp_path, "a")
    assert np.allclose(read.physical, [[0.25, 1.25], [np.nan, 1.95]], equal_nan=True)
    assert (read.rate_hz, read.comments) == (250.0, ("x",))


def test_a_statement_counts_as_what_it_is_whatever_its_likelihood(shared_data: Path) -> None:
    root = shared_data / "ptb-xl-500"
    said = pd.read_csv(root / "ptbxl_database.csv", index_col="ecg_id")["scp_codes"].map(lambda text: set(eval(text)))
    for item in PtbXl().records(root):
        assert isinstance(item, Record)
        codes = said[int(item.record)]
        assert item.labels["diag_1AVB"] == ("1AVB" in codes)
        assert item.labels["diag_NST"] == item.labels["form_NST"] == ("NST_" in codes)
        assert item.labels["sub_AVB"] == bool({"1AVB", "2AVB", "3AVB"} & codes)
