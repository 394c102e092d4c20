"""Every way of describing arrays reads the same records; every broken description or file is one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ecgscale.data.corpus import Form, ingest
from ecgscale.data.record import Record, Rejected
from ecgscale.data.split import shared_patients, shared_signals
from ecgscale.datasets import DatasetError
from ecgscale.datasets.arrays import Arrays
from ecgscale.datasets.ptbxl import PtbXl
from ecgscale.spec import SpecError


@pytest.fixture
def described(tmp_path: Path) -> tuple[dict[str, Any], Path]:
    spec = Arrays.sample(tmp_path)
    return {key: value for key, value in spec.dump().items() if key not in ("name", "revision")}, tmp_path


def _read(table: dict[str, Any], root: Path) -> list[Record | Rejected]:
    return list(Arrays.parse(table).records(root))


def _records(table: dict[str, Any], root: Path) -> list[Record]:
    return [item for item in _read(table, root) if isinstance(item, Record)]


def test_a_record_is_what_the_files_say(described: tuple[dict[str, Any], Path]) -> None:
    table, root = described
    records = _records(table, root)
    rows, signal = pd.read_csv(root / "table.csv"), np.load(root / "signal.npy")
    record, row = records[5], rows.iloc[5]
    assert len(records) == 96
    assert np.array_equal(record.signal, signal[5].T)
    assert (record.record, record.patient) == ("6", f"sample:{int(row['patient'])}")
    assert (record.age, record.sex, record.fold) == (row["age"], row["sex"], row["fold"])
    assert record.labels == {name: row[name] for name in ("fast", "slow", "wide", "tall", "inverted")}
    assert np.isnan(records[3].labels["fast"])


@pytest.mark.parametrize("axes", ["record time lead", "time lead record", "lead record time"])
@pytest.mark.parametrize("packed", [False, True])
def test_axes_and_containers_do_not_matter(described: tuple[dict[str, Any], Path], axes: str, packed: bool) -> None:
    table, root = described
    expected = _records(table, root)
    usual = ["record", "time", "lead"]
    turned = np.load(root / "signal.npy").transpose([usual.index(word) for word in axes.split()])
    if packed:
        np.savez_compressed(root / "all.npz", x=turned, names=np.load(root / "ids.npy"))
        table |= {"signal": "all.npz:x", "ids": "names", "axes": axes}
    else:
        np.save(root / "turned.npy", turned)
        table |= {"signal": "turned.npy", "axes": axes}
    found = _records(table, root)
    assert all(np.array_equal(a.signal, b.signal) for a, b in zip(found, expected, strict=True))
    assert [r.record for r in found] == [r.record for r in expected]


def test_an_array_may_be_named_in_short(described: tuple[dict[str, Any], Path]) -> None:
    table, root = described
    np.savez(root / "all.npz", x=np.load(root / "signal.npy"), ids=np.load(root / "ids.npy"))
    for signal in ("x", "all.npz", "all.npz:x"):
        assert len(_records({**table, "signal": signal, "ids": "all.npz:ids"}, root)) == 96


def test_ids_join_the_table_whatever_its_order(described: tuple[dict[str, Any], Path]) -> None:
    table, root = described
    expected = {r.record: r.patient for r in _records(table, root)}
    rows = pd.read_csv(root / "table.csv").sample(frac=1, random_state=0).iloc[1:]
    rows.astype({"id": float}).to_parquet(root / "shuffled.parquet")
    items = _read({**table, "table": "shuffled.parquet"}, root)
    rejected = [item for item in items if isinstance(item, Rejected)]
    assert len(rejected) == 1
    assert "has no row with id" in rejected[0].reason
    assert all(expected[r.record] == r.patient for r in items if isinstance(r, Record))


def test_bad_rows_are_rejected_one_by_one(described: tuple[dict[str, Any], Path]) -> None:
    table, root = described
    rows = pd.read_csv(root / "table.csv").astype(object)
    rows.loc[0, "patient"], rows.loc[1, "sex"], rows.loc[2, "age"], rows.loc[3, "fold"] = None, "1", "old", 2.5
    rows.to_csv(root / "table.csv", index=False)
    reasons = [item.reason for item in _read(table, root) if isinstance(item, Rejected)]
    assert len(reasons) == 4
    for reason, word in zip(reasons, ("patient id is empty", "sex_codes", '"old"', "2.5"), strict=True):
        assert word in reason


def test_sex_codes_are_declared_never_guessed(described: tuple[dict[str, Any], Path]) -> None:
    table, root = described
    expected = [r.sex for r in _records(table, root)]
    rows = pd.read_csv(root / "table.csv")
    rows["sex"] = rows["sex"].map({"M": 0, "F": 1})
    rows.to_csv(root / "table.csv", index=False)
    assert len(_records(table, root)) == 0
    assert [r.sex for r in _records({**table, "sex_codes": {"0": "M", "1": "F"}}, root)] == expected


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_truncated_files_are_one_sentence(described: tuple[dict[str, Any], Path]) -> None:
    table, root = described
    np.savez(root / "all.npz", x=np.load(root / "signal.npy"))
    for name in ("signal.npy", "all.npz"):
        _cut(root / name)
        with pytest.raises(DatasetError, match=rf"{name}.*cut short") as error:
            _read({**table, "signal": name}, root)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"signal": "absent.npy"}, "absent.npy does not exist"),
        ({"table": "absent.csv"}, "absent.csv does not exist"),
        ({"patient": "pateint"}, 'has no column "pateint"; did you mean "patient"'),
        ({"axes": "record lead time"}, r"shape \[96, 1000, 12\]"),
        ({"leads": ["I", "II"]}, "with 2 along lead"),
        ({"ids": "signal.npy"}, r"expected \[96\]"),
        ({"labels": {"x": ["sex"]}}, "column sex holds .* expected 0, 1 or empty"),
    ],
)
def test_wrong_descriptions_are_one_sentence(
    described: tuple[dict[str, Any], Path], change: dict[str, Any], sentence: str
) -> None:
    table, root = described
    with pytest.raises(DatasetError, match=sentence):
        _read({**table, **change}, root)


def test_a_double_id_is_refused(described: tuple[dict[str, Any], Path]) -> None:
    table, root = described
    rows = pd.read_csv(root / "table.csv")
    pd.concat([rows, rows.iloc[:1]]).to_csv(root / "table.csv", index=False)
    with pytest.raises(DatasetError, match="the id 1 stands in column id more than once"):
        _read(table, root)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"axes": "record time"}, "record, lead and time"),
        ({"leads": ["I", "VX"]}, "VX"),
        ({"unit": "mv"}, "unit"),
        ({"rate": 100.0}, 'unknown key `rate`; did you mean "rate_hz"'),
        ({"rate_hz": 0.0}, "positive"),
        ({"sex_codes": {"0": "male"}}, '"F" or "M"'),
    ],
)
def test_misspelt_descriptors_are_refused(
    described: tuple[dict[str, Any], Path], change: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SpecError, match=sentence):
        Arrays.parse({**described[0], **change})


def test_pickled_objects_are_never_loaded(described: tuple[dict[str, Any], Path]) -> None:
    table, root = described
    np.save(root / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(root / "objects.npz", x=np.array([{}], dtype=object))
    for name in ("objects.npy", "objects.npz:x"):
        with pytest.raises(DatasetError):
            _read({**table, "signal": name}, root)


def ptbxl1819(folder: Path) -> Arrays:
    """The descriptor of the filtered PTB-XL records beside the checkout."""
    groups: dict[str, list[str]] = {}
    for name in pd.read_csv(folder / "labels.csv", nrows=0).columns[4:]:
        groups.setdefault(name.split("_")[0], []).append(name)
    table = {
        "dataset": "ptbxl1819",
        "signal": "ptbxl1819_100hz_int16.npz:x",
        "ids": "ecg_id",
        "rate_hz": 100.0,
        "unit": "z_record_lead",
        "scale": 1e-3,
        "band_hz": [0.5, 40.0],
        "table": "labels.csv",
        "id": "ecg_id",
        "patient": "patient_id",
        "population": "ptbxl",
        "fold": "strat_fold",
        "labels": groups,
    }
    return Arrays.parse(table)


def test_both_folders_of_ptbxl_are_one_population(shared_data: Path, tmp_path: Path) -> None:
    form = Form(band_hz=(0.5, 40.0), normalise="record_lead_z")
    filtered = ingest(ptbxl1819(shared_data / "ptbxl1819"), shared_data / "ptbxl1819", form, tmp_path / "a")
    raw = ingest(PtbXl(rate_hz=500), shared_data / "ptb-xl-500", form, tmp_path / "b")
    assert (len(filtered), len(raw)) == (1818, 500)
    assert filtered.quarantine["reason"].str.contains("lead V6 holds one value for 1.4 s").tolist() == [True]
    assert raw.quarantine.empty
    assert len(shared_patients(filtered, raw)) == 37
    pairs = shared_signals(filtered, raw)
    assert len(pairs) == 34
    assert all(a == b for a, b in pairs)

    one, other = filtered.index.set_index("record"), raw.index.set_index("record")
    common = [a for a, _ in pairs]
    labels = [f"label.{name}" for name in filtered.labels]
    assert set(filtered.labels) == {name for name in raw.labels if not name.startswith("diag_")}
    assert one.loc[common, labels].equals(other.loc[common, labels])
    assert one.loc[common, "fold"].equals(other.loc[common, "fold"])
    a = filtered.signals([one.index.get_loc(name) for name in common])
    b = raw.signals([other.index.get_loc(name) for name in common])
    assert np.sqrt(((a - b) ** 2).mean(axis=(1, 2))).max() < 0.005
    assert {tuple(sorted(p)) for p in shared_signals(raw, raw) if p[0] != p[1]} == {
        ("137", "138"), ("143", "144"), ("145", "463"), ("456", "457"), ("459", "460"),
    }  # fmt: skip
