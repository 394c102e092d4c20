"""ZZU pECG is read as its files say: days, quoted cells, gains per lead, two lead layouts; wfdb agrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ecgscale.data.corpus import Form, ingest
from ecgscale.data.record import Record, Rejected
from ecgscale.datasets import DatasetError
from ecgscale.datasets.zzu_pecg import ZzuPecg
from ecgscale.units import LEADS

TABLE = "AttributesDictionary.csv"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    ZzuPecg.sample(tmp_path)
    return tmp_path


def _items(root: Path, **fields: Any) -> list[Record | Rejected]:
    return list(ZzuPecg.parse(fields).records(root))


def _records(root: Path, **fields: Any) -> list[Record]:
    return [item for item in _items(root, **fields) if isinstance(item, Record)]


def test_a_record_is_what_the_files_say(root: Path) -> None:
    import wfdb

    table = pd.read_csv(root / TABLE).set_index("ECG_ID")
    for record in _records(root, leads="any", shortest_s=0.0)[:12]:
        row = table.loc[record.record]
        oracle = wfdb.rdrecord(str(root / "Child_ecg" / row["Filename"]))
        assert np.abs(record.signal - oracle.p_signal.T).max() < 1e-5
        assert (record.unit, record.rate_hz, record.fold) == ("mV", oracle.fs, None)
        assert record.patient == f"zzu_pecg:{row['Patient_ID']}"
        assert record.age == pytest.approx(int(row["Age"].rstrip("d")) / 365.25)
        assert record.sex == {"'Male'": "M", "'Female'": "F"}[row["Gender"]]


def test_only_long_twelve_lead_records_by_default(root: Path) -> None:
    table = pd.read_csv(root / TABLE).set_index("ECG_ID")
    chosen = table.index[(table["Lead"] == 12) & (table["Sampling_point"] >= 5000)]
    assert {(table["Lead"] == 9).sum() > 0, (table["Sampling_point"] < 5000).sum() > 0} == {True}
    assert [r.record for r in _records(root)] == list(chosen)
    assert len(_records(root, leads="any", shortest_s=5.0)) == len(table)


def test_nine_leads_keep_their_names_and_the_others_are_marked_absent(root: Path) -> None:
    dataset = ZzuPecg(leads="any", shortest_s=5.0)
    nine = next(r for r in dataset.records(root) if isinstance(r, Record) and len(r.leads) == 9)
    assert nine.leads == ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V3", "V5")
    corpus = ingest(dataset, root, Form(), root.parent / f"{root.name}-corpus")
    row = corpus.index.index[corpus.index["record"] == nine.record][0]
    stored = corpus.signals([row])[0]
    assert [lead for lead, values in zip(LEADS, stored, strict=True) if not values.any()] == ["V2", "V4", "V6"]


def test_bare_codes_count_or_all_statements(root: Path) -> None:
    table = pd.read_csv(root / TABLE).set_index("ECG_ID")
    bare, every = _records(root), _records(root, findings="all")
    assert "ecg_left_ventricular_high_voltage" not in bare[0].labels
    assert "ecg_t_wave_abnormality" not in bare[0].labels
    for one, other in zip(bare, every, strict=True):
        said = str(table.loc[one.record, "AHA_code"])
        assert one.labels["ecg_sinus_tachycardia"] == other.labels["ecg_sinus_tachycardia"] == ("'C21'" in said)
        assert other.labels["ecg_t_wave_abnormality"] == ("'L147+Modifier369'" in said)
        assert other.labels["ecg_left_ventricular_high_voltage"] == ("'Left ventricular high voltage'" in said)


def test_rare_findings_are_no_labels(root: Path) -> None:
    table = pd.read_csv(root / TABLE)
    twelve = table[table["Lead"] == 12]
    count = int(twelve["AHA_code"].str.contains("'C22'").sum())
    assert "ecg_sinus_bradycardia" in _records(root, minimum_records=count)[0].labels
    assert "ecg_sinus_bradycardia" not in _records(root, minimum_records=count + 1)[0].labels


def test_diseases_come_from_the_stay_and_are_unknown_without_codes(root: Path) -> None:
    table = pd.read_csv(root / TABLE, keep_default_na=False).set_index("ECG_ID")
    unknown = 0
    for record in _records(root):
        said = table.loc[record.record, "ICD-10 code"]
        heart, myocarditis = (record.labels[f"disease_{n}"] for n in ("congenital_heart_disease", "myocarditis"))
        if said == "Null":
            unknown += 1
            assert np.isnan(heart) and np.isnan(myocarditis)
        else:
            assert (heart, myocarditis) == ("'Q21.0'" in said, "'(F) I40.0'" in said)
    assert unknown > 2
    assert not any("other" in name for name in _records(root)[0].labels)


def test_bad_rows_are_rejected_one_by_one(root: Path) -> None:
    table = pd.read_csv(root / TABLE).astype(object)
    twelve = table.index[(table["Lead"] == 12) & (table["Sampling_point"] == 5000)][:4]
    table.loc[twelve[0], "Age"], table.loc[twelve[1], "Patient_ID"] = "2 years", None
    table.loc[twelve[2], "Filename"] = "../../../etc/passwd"
    nine = table.index[table["Lead"] == 9][0]
    table.loc[nine, "Lead"] = 12
    table.to_csv(root / TABLE, index=False)
    reasons = {item.record: item.reason for item in _items(root) if isinstance(item, Rejected)}
    names = table["ECG_ID"]
    assert len(reasons) == 4
    assert "expected days such as 572d" in reasons[names[twelve[0]]]
    assert "patient id is empty" in reasons[names[twelve[1]]]
    assert "outside" in reasons[names[twelve[2]]]
    assert "the header names 9 leads; the table says 12" in reasons[names[nine]]


@pytest.mark.parametrize("name", [TABLE, "ECGCode.csv", "DiseaseCode.csv"])
def test_an_incomplete_download_is_one_sentence(root: Path, name: str) -> None:
    (root / name).unlink()
    with pytest.raises(DatasetError, match=f"{name} does not exist"):
        _items(root)
