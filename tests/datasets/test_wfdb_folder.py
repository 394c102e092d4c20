"""Folders of WFDB records are read as described: by pattern or list, with a table or from the headers' comments."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ecgscale.data import wfdb16
from ecgscale.data.record import Record, Rejected
from ecgscale.datasets import DatasetError
from ecgscale.datasets.ludb import Ludb
from ecgscale.datasets.wfdb_folder import WfdbFolder
from ecgscale.spec import SpecError
from ecgscale.units import LEADS


@pytest.fixture
def described(tmp_path: Path) -> tuple[dict[str, Any], Path]:
    spec = WfdbFolder.sample(tmp_path)
    return {key: value for key, value in spec.dump().items() if key not in ("name", "revision")}, tmp_path


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Three records without a table: two leads, 2 s, comments."""
    signal = np.sin(np.arange(500) / 20)[None].repeat(2, 0).astype(np.float32)
    said = {
        "a": ("Age: 74", "Sex: Female", "Dx: 426783006,164889003"),
        "b": ("<age>: >89", "<sex>: M", "Dx: 426783006"),
        "deep/c": ("Age: NaN", "Sex: Unknown"),
    }
    (tmp_path / "deep").mkdir()
    for name, comments in said.items():
        wfdb16.write(tmp_path / name, signal, ("I", "II"), 250.0, comments=comments)
    return tmp_path


def _items(table: dict[str, Any], root: Path) -> list[Record | Rejected]:
    return list(WfdbFolder.parse(table).records(root))


def _records(table: dict[str, Any], root: Path) -> list[Record]:
    return [item for item in _items(table, root) if isinstance(item, Record)]


def _reasons(table: dict[str, Any], root: Path) -> dict[str, str]:
    return {item.record: item.reason for item in _items(table, root) if isinstance(item, Rejected)}


def test_a_record_is_what_the_files_say(described: tuple[dict[str, Any], Path]) -> None:
    import wfdb

    table, root = described
    rows = pd.read_csv(root / "table.csv").set_index("record")
    records = _records(table, root)
    assert [r.record for r in records] == sorted(rows.index)
    for record in records[:10]:
        row, oracle = rows.loc[record.record], wfdb.rdrecord(str(root / record.record))
        assert np.abs(record.signal - oracle.p_signal.T[:12]).max() < 1e-6
        assert (record.leads, record.unit, record.rate_hz) == (LEADS, "mV", 200.0)
        assert record.patient == f"sample:{int(record.record[1:4])}"
        assert (record.age, record.sex, record.fold) == (row["age"], "MF"[int(row["sex"])], row["fold"])
        known = {name: value for name, value in record.labels.items() if not np.isnan(value)}
        assert known == {name: row[name] for name in record.labels if not np.isnan(row[name])}
    assert sum(np.isnan(r.labels["fast"]) for r in records) == 1
    assert WfdbFolder.parse(table).facts()["label_groups"]["rhythm"] == ["fast", "slow"]


def test_leads_nobody_explained_reject_the_record(described: tuple[dict[str, Any], Path]) -> None:
    table, root = described
    reasons = _reasons({**table, "other_leads": "reject"}, root)
    assert len(reasons) == 96 and all('"VX"' in r and 'other_leads = "drop"' in r for r in reasons.values())
    records = _records({**table, "lead_names": {}}, root)
    assert all("II" not in r.leads and len(r.leads) == 11 for r in records)


def test_ids_may_be_paths_or_file_names_and_missing_rows_are_rejected(described: tuple[dict[str, Any], Path]) -> None:
    table, root = described
    expected = {r.record: r.age for r in _records(table, root)}
    rows = pd.read_csv(root / "table.csv")
    rows["record"] = rows["record"].str.rpartition("/")[2]
    rows.iloc[1:].to_csv(root / "names.csv", index=False)
    items = _items({**table, "table": "names.csv"}, root)
    assert {i.record: i.age for i in items if isinstance(i, Record)}.items() < expected.items()
    rejected = [item for item in items if isinstance(item, Rejected)]
    assert len(rejected) == 1 and "names.csv has no row with record = " in rejected[0].reason


def test_a_patient_column_goes_before_the_path(described: tuple[dict[str, Any], Path]) -> None:
    table, root = described
    rows = pd.read_csv(root / "table.csv").astype({"record": str})
    rows["who"] = np.arange(len(rows)) // 2
    rows.to_csv(root / "table.csv", index=False)
    who = dict(zip(rows["record"], rows["who"], strict=True))
    for record in _records({**table, "patient": "who"}, root):
        assert record.patient == f"sample:{who[record.record]}"


def test_without_a_table_the_comments_speak(bare: Path) -> None:
    records = _records({"population": "mine"}, bare)
    assert [(r.record, r.patient, r.age, r.sex) for r in records] == [
        ("a", "mine:a", 74.0, "F"),
        ("b", "mine:b", None, "M"),
        ("deep/c", "mine:deep/c", None, None),
    ]
    assert [r.labels for r in records[:2]] == [
        {"dx_164889003": 1, "dx_426783006": 1},
        {"dx_164889003": 0, "dx_426783006": 1},
    ]
    assert np.isnan(list(records[2].labels.values())).all() and len(records[2].labels) == 2
    chosen = {"population": "mine", "labels": {"dx": ["164889003"]}}
    assert [r.labels.get("dx_164889003") for r in _records(chosen, bare)[:2]] == [1, 0]
    assert WfdbFolder.parse(chosen).facts() == {"label_groups": {"dx": ["dx_164889003"]}}


def test_patients_are_found_in_paths(bare: Path) -> None:
    found = _items({"population": "mine", "patient_pattern": "^(deep)/"}, bare)
    assert [getattr(item, "patient", None) for item in found] == [None, None, "mine:deep"]
    assert all("finds no patient in the path" in item.reason for item in found if isinstance(item, Rejected))


def test_real_folders_agree_with_their_own_readers(shared_data: Path) -> None:
    spec = {"population": "ludb", "headers": "RECORDS", "table": "ludb.csv", "id": "ID", "patient": "ID"}
    mine = {r.patient: r for r in _records(spec, shared_data / "ludb")}
    theirs = [r for r in Ludb().records(shared_data / "ludb") if isinstance(r, Record)]
    assert mine.keys() == {r.patient for r in theirs} and len(mine) == 200
    for record in theirs[:20]:
        found = mine[record.patient]
        assert found.leads == record.leads and found.record == f"data/{record.record}"
        for one, other in zip(found.signal, record.signal, strict=True):
            assert np.corrcoef(one, other)[0, 1] > 0.999999


def test_challenge_headers_are_understood(shared_data: Path) -> None:
    records = _records({"population": "challenge"}, shared_data / "cinc2021-samples")
    assert len(records) == 50
    record = next(r for r in records if r.record == "JS20000")
    assert (record.age, record.sex, record.signal.shape) == (84.0, "F", (12, 5000))
    assert {name for name, value in record.labels.items() if value == 1} == {
        "dx_284470004", "dx_427084000", "dx_698252002", "dx_55930002",
    }  # fmt: skip


def test_lists_name_records_and_folders_with_lists(bare: Path) -> None:
    (bare / "RECORDS").write_text("b\ndeep/\n\na.hea\n")
    (bare / "deep" / "RECORDS").write_text("c\n")
    spec = {"population": "mine", "headers": "RECORDS"}
    assert [r.record for r in _records(spec, bare)] == ["b", "deep/c", "a"]
    (bare / "RECORDS").write_text("b\nabsent\n../outside\n")
    reasons = _reasons(spec, bare)
    assert set(reasons) == {"absent", "../outside"} and "outside" in reasons["../outside"]
    for text in ("./\n", "deep/../\n", "../\n"):
        (bare / "RECORDS").write_text(text)
        with pytest.raises(DatasetError, match=r"lies outside .* or names itself"):
            _items(spec, bare)


@pytest.mark.parametrize("suffix", [".hea", ".dat"])
def test_links_out_of_the_root_are_refused(bare: Path, tmp_path_factory: pytest.TempPathFactory, suffix: str) -> None:
    outside = tmp_path_factory.mktemp("outside")
    for end in (".hea", ".dat"):
        shutil.copy(bare / f"a{end}", outside / f"a{end}")
    (bare / f"a{suffix}").unlink()
    (bare / f"a{suffix}").symlink_to(outside / f"a{suffix}")
    reasons = _reasons({"population": "mine"}, bare)
    assert set(reasons) == {"a"} and "out of the data set" in reasons["a"]


def test_a_linked_folder_out_of_the_root_is_never_entered(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    for end in (".hea", ".dat"):
        shutil.copy(bare / f"a{end}", outside / f"a{end}")
    (bare / "linked").symlink_to(outside)
    for headers in ("**/*.hea", "*/*.hea"):
        assert "linked/a" not in {r.record for r in _records({"population": "mine", "headers": headers}, bare)}


def test_units_may_differ_between_leads(tmp_path: Path) -> None:
    import wfdb

    signal = np.stack([np.sin(np.arange(600) / 20), 1000 * np.cos(np.arange(600) / 20)], axis=1)
    wfdb.wrsamp("r", 200, ["mV", "uV"], ["I", "II"], signal, fmt=["212", "212"], write_dir=str(tmp_path))
    record = _records({"population": "mine"}, tmp_path)[0]
    assert np.abs(record.signal - [signal[:, 0], signal[:, 1] / 1000]).max() < 2e-3


def test_damaged_records_do_not_stop_the_others(bare: Path) -> None:
    (bare / "a.dat").write_bytes(b"short")
    (bare / "b.hea").write_text("nonsense")
    assert set(_reasons({"population": "mine"}, bare)) == {"a", "b"}
    assert [r.record for r in _records({"population": "mine"}, bare)] == ["deep/c"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"headers": "/etc/*.hea"}, "below the root"),
        ({"headers": "../*.hea"}, "below the root"),
        ({"table": "../table.csv", "id": "record"}, "below the root"),
        ({"table": "table.csv"}, "go together"),
        ({"age": "age"}, "columns of a table"),
        ({"patient_pattern": "("}, "regular expression"),
        ({"lead_names": {"MLII": "X"}}, "standard leads"),
        ({"lead_name": {}}, 'did you mean "lead_names"'),
    ],
)
def test_misspelt_descriptors_are_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        WfdbFolder.parse({"population": "mine", **change})


def test_a_double_id_is_refused(described: tuple[dict[str, Any], Path]) -> None:
    table, root = described
    rows = pd.read_csv(root / "table.csv")
    pd.concat([rows, rows.iloc[:1]]).to_csv(root / "table.csv", index=False)
    with pytest.raises(DatasetError, match="stands in column record more than once"):
        _items(table, root)
