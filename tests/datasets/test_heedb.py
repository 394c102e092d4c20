"""HEEDB is read from both institutions, its statements are joined whatever way a table writes names, and streamed."""

from __future__ import annotations

import math
import pickle
import shutil
import tracemalloc
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgscale.data.record import Record, Rejected
from ecgscale.datasets import PORTION, DatasetError
from ecgscale.datasets.heedb import Heedb
from ecgscale.spec import SpecError

METADATA = "metadata/metadata.csv"
ACQUISITION = "12SL_diagnoses/diagnoses_acquisition.csv"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Heedb, Path]:
    """The sample and where it lies; not to be changed."""
    root = tmp_path_factory.mktemp("heedb")
    return Heedb.sample(root), root


@pytest.fixture
def sample(written: tuple[Heedb, Path], tmp_path: Path) -> tuple[Heedb, Path]:
    """A copy of the sample."""
    return written[0], Path(shutil.copytree(written[1], tmp_path / "heedb"))


def _records(dataset: Heedb, root: Path) -> list[Record]:
    return [item for item in dataset.records(root) if isinstance(item, Record)]


def _table(root: Path, name: str, **columns: Sequence[object]) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_csv(root / name, index=False)


def test_signals_of_both_institutions_agree_with_wfdb(written: tuple[Heedb, Path]) -> None:
    import wfdb

    dataset, root = written
    records = _records(dataset, root)
    assert len(records) == 84 and {r.rate_hz for r in records} == {250.0, 500.0}
    for i, suffix in ((0, "mat"), (1, "mat"), (48, "dat"), (49, "dat")):
        institution, _, file = records[i].record.partition("/")
        path = root / institution / "WFDB" / file
        oracle = wfdb.rdrecord(str(path))
        assert oracle.file_name[0].endswith(suffix) and oracle.fs == records[i].rate_hz
        assert tuple(oracle.sig_name) == records[i].leads and records[i].signal.shape[1] == 10 * oracle.fs
        assert np.abs(records[i].signal - oracle.p_signal.T).max() < 1e-6
        assert (np.ptp(oracle.p_signal, axis=0) > 0.1).all()


def test_the_matlab_files_are_matlab_files(written: tuple[Heedb, Path]) -> None:
    from scipy.io import loadmat

    dataset, root = written
    record = _records(dataset, root)[0]
    path = root / "I0001" / "WFDB" / record.record.removeprefix("I0001/")
    assert np.allclose(loadmat(f"{path}.mat")["val"] / 1000, record.signal)


def test_metadata_of_both_institutions(written: tuple[Heedb, Path]) -> None:
    dataset, root = written
    records = {r.record: r for r in _records(dataset, root)}
    for institution, sex in (("I0001", "SexDSC"), ("I0006", "Sex")):
        table = pd.read_csv(root / institution / METADATA)
        for _, row in table.iterrows():
            record = records[f"{institution}/{row['FileName'].removeprefix('/').removeprefix('WFDB/')}"]
            assert record.patient == f"bdsp:{int(row['BDSPPatientID'])}"
            if isinstance(row[sex], str):
                assert record.sex == row[sex][0] and record.labels["female"] == (row[sex] == "Female")
                assert record.age == pytest.approx(row["AgeAtAcquisition"] / 365.2425)
            else:
                assert record.sex is None and record.age is None and math.isnan(record.labels["female"])
    assert len(records) == 84 and len({r.patient for r in records.values()}) >= 48


@pytest.mark.parametrize("read_by", ["physician", "acquisition", "v24"])
def test_statements_find_their_records(written: tuple[Heedb, Path], read_by: str) -> None:
    dataset, root = written
    file, column = {
        "physician": ("acquisition", "codes_physician"), "acquisition": ("acquisition", "codes_software"),
        "v24": ("v24", "codes"),
    }[read_by]  # fmt: skip
    said: dict[str, set[int]] = {}
    for institution in dataset.institutions:
        table = pd.read_csv(root / institution / "12SL_diagnoses" / f"diagnoses_{file}.csv").dropna(subset=column)
        for _, row in table.iterrows():
            said[Path(row["FileName"].strip()).name.removesuffix(".hea")] = {int(c) for c in row[column].split(",")}
    unknown = 0
    for record in _records(Heedb(codes=(*dataset.codes, 831, 9999), read_by=read_by), root):  # type: ignore[arg-type]
        found = {int(n.removeprefix("12sl_")): v for n, v in record.labels.items() if n != "female"}
        name = Path(record.record).name
        unknown += name not in said
        expected = {code: float(code in said[name]) if name in said else math.nan for code in found}
        np.testing.assert_equal(found, expected)
        assert len(found) == 7 and (name not in said or (found[831], found[9999]) == (1, 0))
    assert unknown == (4 if read_by == "physician" else 2)


def test_a_code_is_a_whole_number_and_many_codes_are_kept_apart(tmp_path: Path) -> None:
    codes = tuple(range(1, 41))
    _table(tmp_path, f"I0006/{METADATA}", BDSPPatientID=[1.0] * 5, Sex=["F", "male", "FEMALE", "U", None],
           FileName=[f"WFDB/2010/m{i}" for i in range(5)], AgeAtAcquisition=[1] * 5)  # fmt: skip
    _table(tmp_path, f"I0006/{ACQUISITION}", FileName=[f"WFDB/2010/m{i}" for i in range(4)],
           codes_physician=["16,40", " 1, 161 ", "", "8,9,400"])  # fmt: skip
    dataset = Heedb(institutions=("I0006",), codes=codes)
    rows = next(dataset.portions(tmp_path))
    present = [{c for c, v in zip(codes, row["labels"][1:], strict=True) if v == 1} for row in rows]
    assert present == [{16, 40}, {1}, set(), {8, 9}, set()]
    assert [all(map(math.isnan, row["labels"][1:])) for row in rows] == [False, False, True, False, True]
    np.testing.assert_equal([row["labels"][0] for row in rows], [1.0, 0.0, 1.0, math.nan, math.nan])


def test_without_codes_no_statements_are_opened(sample: tuple[Heedb, Path]) -> None:
    dataset, root = sample
    shutil.rmtree(root / "I0001" / "12SL_diagnoses")
    assert set(_records(Heedb(institutions=("I0001",)), root)[0].labels) == {"female"}
    with pytest.raises(DatasetError, match=r"diagnoses_acquisition.csv does not exist"):
        next(dataset.portions(root))


def test_bad_rows_are_rejected_in_their_places(sample: tuple[Heedb, Path]) -> None:
    dataset, root = sample
    table = pd.read_csv(root / "I0006" / METADATA, dtype=str)
    table.loc[2, "BDSPPatientID"], table.loc[3, "FileName"], table.loc[4, "AgeAtAcquisition"] = None, None, "old"
    table.loc[5, "FileName"], table.loc[6, "FileName"] = "WFDB/../../../x", "WFDB/2010/absent"
    table.to_csv(root / "I0006" / METADATA, index=False)
    cut = root / "I0006" / f"{table.loc[7, 'FileName']}.dat"
    cut.write_bytes(cut.read_bytes()[:100])
    items = list(Heedb(institutions=("I0006",), codes=dataset.codes).records(root))
    assert len(items) == 36
    reasons = {i: item.reason for i, item in enumerate(items) if isinstance(item, Rejected)}
    assert list(reasons) == [2, 3, 4, 5, 6, 7]
    words = ("patient id is empty", "FileName is empty", "'old'", "outside", "no such file", "100 bytes")
    assert all(w in reason and "\n" not in reason for w, reason in zip(words, reasons.values(), strict=True))
    assert items[3].record == "I0006/without a name" and items[6].record == "I0006/2010/absent"


def test_other_tables_and_folders_are_one_sentence(sample: tuple[Heedb, Path]) -> None:
    dataset, root = sample
    _table(root, f"I0006/{METADATA}", BDSPPatientID=[1], FileName=["x"], SexDSC=["Female"], AgeAtAcquisition=[1])
    with pytest.raises(DatasetError, match=r"metadata.csv cannot be read: .*'Sex'"):
        list(dataset.portions(root))
    with pytest.raises(DatasetError, match=r"I0001.metadata.metadata.csv does not exist"):
        next(dataset.portions(root / "I0001"))
    with pytest.raises(SpecError, match="codes"):
        Heedb.parse({"codes": [-1]})


def test_the_stamp_knows_the_tables_and_not_the_signals(sample: tuple[Heedb, Path]) -> None:
    dataset, root = sample
    stamp, plain = dataset.stamp(root), Heedb().stamp(root)
    next(root.rglob("*.dat")).write_bytes(b"")
    assert (dataset.stamp(root), Heedb().stamp(root)) == (stamp, plain)
    (root / "I0006" / ACQUISITION).write_text("other")
    assert dataset.stamp(root) != stamp and Heedb().stamp(root) == plain
    (root / "I0006" / METADATA).write_text("other")
    assert Heedb().stamp(root) != plain and dataset.stamp(root / "nothing") == dataset.stamp(None)


def test_120_000_rows_stream_in_little_memory(tmp_path: Path) -> None:
    def file(i: int) -> str:
        return f"/S0001/1988/{i % 12 + 1:02d}/de_{i // 6}_19880413{i:06d}_1988"

    for name in (METADATA, ACQUISITION):
        (tmp_path / "I0001" / name).parent.mkdir(parents=True)
    with (tmp_path / "I0001" / METADATA).open("w") as out:
        out.write("BDSPPatientID,FileName,PatientRace,SexDSC,AgeAtAcquisition\n")
        out.writelines(f"{i // 6},{file(i)},not read,Male,20000.0\n" for i in range(120_000))
    with (tmp_path / "I0001" / ACQUISITION).open("w") as out:
        out.write("FileName,codes_software,codes_physician,jaccard_index\n")
        out.writelines(f'{file(i)},22,"22, 161, 1699",0.1\n' for i in range(99_999, -1, -1))
    portions = Heedb(institutions=("I0001",)).portions(tmp_path)
    tracemalloc.start()
    sizes = [len(portion) for portion in islice(portions, 400)]  # were they kept, these rows would weigh 40 MB
    streamed = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    first = next(Heedb(institutions=("I0001",), codes=(161, 440)).portions(tmp_path))
    joined = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(sizes) == PORTION and sum(sizes) > 50_000
    assert pickle.loads(pickle.dumps(first)) == first and first[0]["labels"] == [0.0, 1.0, 0.0]
    assert streamed < 20e6 and joined < 30e6
    assert joined - streamed < 100_000 * 40  # bytes for each ECG with statements
