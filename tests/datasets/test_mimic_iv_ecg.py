"""MIMIC-IV-ECG is read by lead names, joined with its sisters' tables by MDS-ED's rules, and streamed."""

from __future__ import annotations

import math
import pickle
import shutil
import tracemalloc
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ecgscale.data.corpus import Form, ingest
from ecgscale.data.record import Record, Rejected
from ecgscale.data.split import SplitRule, parts
from ecgscale.datasets import PORTION, DatasetError
from ecgscale.datasets.mimic_iv_ecg import MimicIvEcg
from ecgscale.spec import SpecError

NAN = math.nan
DAYS = (1, 7, 28, 90, 180, 365)
TABLES = {
    "patients": "hosp/patients.csv.gz",
    "diagnoses": "records_w_diag_icd10.csv",
    "ed_stays": "edstays.csv",
    "icu_stays": "icustays.csv",
    "admissions": "admissions.csv",
}
Frames = dict[str, pd.DataFrame]


def _frames(**changes: Any) -> Frames:
    """One woman who arrives on 2180-03-01 at 10:00, has her ECG at 10:30, leaves at 16:00 and is admitted."""
    one: dict[str, Any] = {
        "subject_id": 10000032, "study_id": 40000001, "hadm_id": 7, "path": "files/a",
        "ecg_time": "2180-03-01 10:30:00", "intime": "2180-03-01 10:00:00", "outtime": "2180-03-01 16:00:00",
        "dischtime": "2180-03-06 12:00:00", "icu": None, "dod": None, "gender": "F", "anchor_age": 60,
        "anchor_year": 2178, "age": 62, "all_diag_all": "['I4891', 'W19XXXA']", "strat_fold": 3, "fold": 5,
    } | changes  # fmt: skip
    row = pd.DataFrame([one])
    return {
        "record_list": row[["subject_id", "study_id", "ecg_time", "path"]],
        "patients": row[["subject_id", "gender", "anchor_age", "anchor_year", "dod"]],
        "diagnoses": row[["study_id", "gender", "age", "dod", "all_diag_all", "fold", "strat_fold"]],
        "ed_stays": row[["subject_id", "hadm_id", "intime", "outtime"]],
        "icu_stays": row[["hadm_id", "icu"]].rename(columns={"icu": "intime"}).dropna(),
        "admissions": row[["hadm_id", "dischtime"]],
    }


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """A function that writes frames and returns the rows of the portions, with labels by name."""

    def read(frames: Frames, without: tuple[str, ...] = (), **fields: Any) -> list[dict[str, Any]]:
        for name, frame in frames.items():
            path = tmp_path / TABLES.get(name, f"{name}.csv")
            path.parent.mkdir(exist_ok=True)
            frame.to_csv(path, index=False)
        dataset = MimicIvEcg(**{k: v for k, v in TABLES.items() if k not in without}, **fields)
        names = dataset.label_names(dataset.codes(tmp_path))
        found = [row for portion in dataset.portions(tmp_path) for row in portion]
        return [row | {"labels": dict(zip(names, row["labels"], strict=True))} for row in found]

    return read


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[MimicIvEcg, Path]:
    """The sample and where it lies; not to be changed."""
    root = tmp_path_factory.mktemp("mimic")
    return MimicIvEcg.sample(root), root


@pytest.fixture
def sample(written: tuple[MimicIvEcg, Path], tmp_path: Path) -> tuple[MimicIvEcg, Path]:
    """A copy of the sample."""
    return written[0], Path(shutil.copytree(written[1], tmp_path / "mimic"))


def _same(found: dict[str, float], expected: dict[str, float]) -> None:
    np.testing.assert_equal({name: found[name] for name in expected}, expected)


def test_leads_go_by_name_because_the_files_hold_avf_before_avl(written: tuple[MimicIvEcg, Path]) -> None:
    import wfdb

    dataset, root = written
    portion = next(dataset.portions(root))[3:4]
    oracle = wfdb.rdrecord(str(root / dataset.folder / portion[0]["path"]))
    assert oracle.sig_name[3:6] == ["aVR", "aVF", "aVL"] and oracle.adc_gain == [200.0] * 12
    record = next(dataset.read(root, portion))
    assert isinstance(record, Record)
    signal = dict(zip(record.leads, record.signal, strict=True))
    for name, column in zip(oracle.sig_name, oracle.p_signal.T, strict=True):
        assert np.allclose(signal[name], column, atol=1e-6)
    assert np.abs(signal["aVL"] - (signal["I"] - signal["II"] / 2)).max() < 0.02  # Goldberger; aVF misses by far more
    assert np.abs(signal["aVF"] - (signal["I"] - signal["II"] / 2)).max() > 0.2


def test_the_corpus_has_avl_before_avf(written: tuple[MimicIvEcg, Path], tmp_path: Path) -> None:
    corpus = ingest(*written, Form(), tmp_path / "corpus")
    one, two, avl, avf = (corpus.signals([0])[0][corpus.leads.index(lead)] for lead in ("I", "II", "aVL", "aVF"))
    assert np.abs(avl - (one - two / 2)).max() < 0.03
    assert np.abs(avf - (two - one / 2)).max() < 0.03


def test_the_sample_has_every_outcome_in_both_classes_and_unknown(written: tuple[MimicIvEcg, Path]) -> None:
    dataset, root = written
    records = [item for item in dataset.records(root) if isinstance(item, Record)]
    assert len(records) == 96
    for name in dataset.label_names(dataset.codes(root)):
        values = [record.labels[name] for record in records]
        assert {0.0, 1.0} <= set(values) and any(math.isnan(v) for v in values), name
    assert {record.sex for record in records} == {"F", "M", None}
    assert max(record.age for record in records if record.age is not None) == 90
    assert {record.fold for record in records} == {*range(1, 11), None}


@pytest.mark.parametrize(
    ("icu", "expected"),
    [
        (None, (0, 0)),
        ("2180-03-01 09:00:00", (NAN, NAN)),
        ("2180-03-01 11:29:59", (NAN, NAN)),
        ("2180-03-01 11:30:00", (1, 1)),
        ("2180-03-02 10:00:00", (1, 1)),
        ("2180-03-02 10:00:01", (0, 1)),
    ],
)
def test_intensive_care_by_hours_after_arrival(
    rows: Callable[..., list[dict[str, Any]]], icu: str | None, expected: tuple[float, float]
) -> None:
    _same(rows(_frames(icu=icu))[0]["labels"], dict(zip(("icu_24h", "icu_stay"), expected, strict=True)))


@pytest.mark.parametrize(
    ("dod", "expected"),
    [
        (None, (0, 0, 0, 0, 0, 0)),
        ("2180-03-01", (NAN,) * 6),  # a date is its midnight, before arrival
        ("2180-03-01 11:29:00", (NAN,) * 6),
        ("2180-03-01 11:30:00", (1, 1, 1, 1, 1, 1)),
        ("2180-03-03", (1, 1, 1, 1, 1, 1)),  # 38 hours, one whole day
        ("2180-03-04", (0, 1, 1, 1, 1, 1)),
        ("2180-03-09 09:00:00", (0, 1, 1, 1, 1, 1)),
        ("2180-03-09 10:00:00", (0, 0, 1, 1, 1, 1)),
        ("2181-03-02 09:59:00", (0, 0, 0, 0, 0, 1)),
        ("2181-03-02 10:00:00", (0, 0, 0, 0, 0, 0)),
    ],
)
def test_death_by_whole_days_after_arrival(
    rows: Callable[..., list[dict[str, Any]]], dod: str | None, expected: tuple[float, ...]
) -> None:
    wanted = {f"mortality_{days}d": value for days, value in zip(DAYS, expected, strict=True)}
    _same(rows(_frames(dod=dod))[0]["labels"], wanted)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"dod": "2180-03-06"}, 1),
        ({"dod": "2180-03-07"}, 0),
        ({"dod": "2180-03-06", "hadm_id": None}, 0),
        ({"dod": "2180-03-01 15:00:00", "hadm_id": None}, 1),
        ({"dod": None}, 0),
        ({"dod": "2180-03-01 11:00:00"}, NAN),
    ],
)
def test_death_during_the_stay(
    rows: Callable[..., list[dict[str, Any]]], changes: dict[str, Any], expected: float
) -> None:
    _same(rows(_frames(**changes))[0]["labels"], {"mortality_stay": expected})


@pytest.mark.parametrize(
    ("ecg_time", "outtime", "known"),
    [
        ("2180-03-01 09:59:59", "2180-03-01 16:00:00", False),
        ("2180-03-01 10:00:00", "2180-03-01 16:00:00", True),
        ("2180-03-01 11:30:00", "2180-03-01 16:00:00", True),
        ("2180-03-01 11:30:01", "2180-03-01 16:00:00", False),
        ("2180-03-01 11:00:00", "2180-03-01 10:59:00", False),
        ("2180-03-01 11:00:00", None, True),
    ],
)
def test_outcomes_are_known_in_the_first_90_minutes(
    rows: Callable[..., list[dict[str, Any]]], ecg_time: str, outtime: str | None, known: bool
) -> None:
    labels = rows(_frames(ecg_time=ecg_time, outtime=outtime))[0]["labels"]
    outcomes = {name: value for name, value in labels.items() if name != "female"}
    assert len(outcomes) == 9 and labels["female"] == 1
    assert set(map(math.isnan, outcomes.values())) == {not known}


def test_another_patient_has_no_stay_and_an_unknown_one_no_death(rows: Callable[..., list[dict[str, Any]]]) -> None:
    frames = _frames(dod="2180-03-04")
    frames["ed_stays"] = frames["ed_stays"].assign(subject_id=10000031)
    assert all(math.isnan(v) for k, v in rows(frames)[0]["labels"].items() if k != "female")
    frames = _frames(gender="missing", dod=None)
    labels = rows(frames)[0]["labels"]
    assert labels["icu_stay"] == 0 and math.isnan(labels["mortality_365d"]) and math.isnan(labels["female"])


def test_the_latest_arrival_and_the_earliest_intensive_care_count(
    rows: Callable[..., list[dict[str, Any]]],
) -> None:
    frames = _frames(icu="2180-03-02 09:00:00")
    earlier = frames["ed_stays"].assign(intime="2180-03-01 09:15:00", hadm_id=6)
    frames["ed_stays"] = pd.concat([frames["ed_stays"], earlier])
    later = [frames["icu_stays"].assign(intime=t) for t in ("2180-03-05 09:00:00", "2180-03-02 08:00:00")]
    frames["icu_stays"] = pd.concat([later[0], frames["icu_stays"], later[1]])
    _same(rows(frames)[0]["labels"], {"icu_24h": 1, "icu_stay": 1})


@pytest.mark.parametrize(
    ("changes", "without", "expected"),
    [
        ({}, (), (62, 1)),
        ({"age": 11}, (), (62, 1)),  # MIMIC-IV itself comes first
        ({"age": 63, "gender": "M"}, ("patients",), (63, 0)),
        ({"anchor_age": 91}, (), (90, 1)),
        ({"anchor_age": 88}, (), (90, 1)),
        ({"anchor_age": 87}, (), (89, 1)),
        ({"anchor_year": 2182}, ("diagnoses",), (58, 1)),
        ({"anchor_age": None, "age": None, "gender": "missing"}, (), (None, None)),
    ],
)
def test_age_and_sex(
    rows: Callable[..., list[dict[str, Any]]],
    changes: dict[str, Any],
    without: tuple[str, ...],
    expected: tuple[float | None, float | None],
) -> None:
    row = rows(_frames(**changes), without)[0]
    assert (row["age"], row["female"]) == expected


def test_diagnoses_begin_with_a_code(rows: Callable[..., list[dict[str, Any]]]) -> None:
    codes = ("I48", "W19", "I4891", "I489", "I4", "E11", "W19XXXB", "I5", "I491", "W1", "A41")
    linked = rows(_frames(), icd10=codes)[0]["labels"]
    assert [c for c in codes if linked[f"icd10_{c}"] == 1] == ["I48", "W19", "I4891", "I489", "I4", "W1"]
    assert [c for c in codes if linked[f"icd10_{c}"] == 0] == ["E11", "W19XXXB", "I5", "I491", "A41"]
    for nothing in ("[]", None):
        unlinked = rows(_frames(all_diag_all=nothing), icd10=codes)[0]["labels"]
        assert all(math.isnan(unlinked[f"icd10_{c}"]) for c in codes)


def test_a_rule_gives_the_labels_that_a_list_of_the_same_codes_gives(
    written: tuple[MimicIvEcg, Path], tmp_path: Path
) -> None:
    listed, root = written
    picked = MimicIvEcg.parse(listed.model_dump(mode="json") | {"icd10": {"minimum_records": 20, "most": 4}})
    codes = picked.codes(root)
    assert len(codes) == 4 and all(len(code) <= 5 for code in codes) and codes == tuple(sorted(codes))
    same = listed.model_copy(update={"icd10": codes})
    for one, other in zip(picked.records(root), same.records(root), strict=True):
        assert isinstance(one, Record) and isinstance(other, Record)
        np.testing.assert_equal(one.labels, other.labels)
        assert {f"icd10_{code}" for code in codes} < set(one.labels)


@pytest.mark.parametrize("folds", ["strat_fold", "fold"])
def test_a_default_split_is_the_published_one(rows: Callable[..., list[dict[str, Any]]], folds: str) -> None:
    twenty = [_frames(subject_id=k, study_id=100 + k, strat_fold=k, fold=19 - k) for k in range(20)]
    frames = {name: pd.concat([f[name] for f in twenty]) for name in twenty[0]}
    found = rows(frames, folds=folds)
    index = pd.DataFrame({"patient": [f"m:{r['subject_id']}" for r in found], "fold": [r["fold"] for r in found]})
    divided = parts(index, SplitRule(), 0)
    published = np.arange(20) if folds == "strat_fold" else 19 - np.arange(20)
    assert sorted(published[divided["train"]]) == list(range(18))
    assert published[divided["validation"]].tolist() == [18] and published[divided["test"]].tolist() == [19]


def test_without_tables_there_is_nothing_but_signals(rows: Callable[..., list[dict[str, Any]]]) -> None:
    row = rows({"record_list": _frames()["record_list"]}, tuple(TABLES))[0]
    assert (row["labels"], row["age"], row["female"], row["fold"]) == ({}, None, None, None)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"icd10": ["I48"]}, "icd10 needs the table `diagnoses`"),
        ({"icd10": ["I48.0"], "diagnoses": "d.csv"}, "icd10"),
        ({"icd10": {"minimum_records": 10}}, "icd10 needs the table `diagnoses`"),
        ({"icu_stays": "i.csv"}, "need the table `ed_stays`"),
        ({"ed_stays": "e.csv", "admissions": "a.csv"}, "`patients` or `diagnoses`"),
    ],
)
def test_tables_that_need_others_are_refused(fields: dict[str, Any], match: str) -> None:
    with pytest.raises(SpecError, match=match):
        MimicIvEcg.parse(fields)


def test_unreadable_tables_are_one_sentence(sample: tuple[MimicIvEcg, Path]) -> None:
    dataset, root = sample
    stays = root / str(dataset.ed_stays)
    whole = stays.read_bytes()
    for broken, match in ((whole[:200], "cannot be read"), (b"a,b\n1,2\n", "cannot be read")):
        stays.write_bytes(broken)
        with pytest.raises(DatasetError, match=match) as error:
            next(dataset.portions(root))
        assert "edstays.csv.gz" in str(error.value) and "\n" not in str(error.value)
    stays.unlink()
    with pytest.raises(DatasetError, match=r"edstays.csv.gz does not exist"):
        next(dataset.portions(root))
    stays.write_bytes(whole)
    listed = root / dataset.folder / "record_list.csv"
    pd.read_csv(listed).drop(columns="ecg_time").to_csv(listed, index=False)
    with pytest.raises(DatasetError, match=r"record_list.csv cannot be read: .*ecg_time"):
        next(dataset.portions(root))


def test_nothing_outside_the_root_is_opened(written: tuple[MimicIvEcg, Path]) -> None:
    dataset, root = written
    with pytest.raises(DatasetError, match="lies outside"):
        next(MimicIvEcg(folder=f"../{dataset.folder}").portions(root / "mimiciv"))
    with pytest.raises(DatasetError, match="lies outside"):
        next(MimicIvEcg(patients=f"../../{dataset.patients}").portions(root / dataset.folder))


def test_bad_rows_are_rejected_in_their_places(sample: tuple[MimicIvEcg, Path]) -> None:
    dataset, root = sample
    folder = root / dataset.folder
    table = pd.read_csv(folder / "record_list.csv", dtype=str)
    table.loc[1, "path"], table.loc[2, "subject_id"], table.loc[3, "ecg_time"] = "../../../x", None, "yesterday"
    table.loc[4, "study_id"], table.loc[5, "path"] = None, None
    table.to_csv(folder / "record_list.csv", index=False)
    cut = folder / (table.loc[6, "path"] + ".dat")
    cut.write_bytes(cut.read_bytes()[:1000])
    items = list(dataset.records(root))
    assert len(items) == 96
    reasons = {i: item.reason for i, item in enumerate(items) if isinstance(item, Rejected)}
    assert list(reasons) == [1, 2, 3, 4, 5, 6]
    for i, words in enumerate(("outside", "patient id is empty", "'yesterday'", "study_id", "path", "1000 bytes"), 1):
        assert words in reasons[i] and "\n" not in reasons[i]
    assert items[1].record == "40000001" and items[4].record == table.loc[4, "path"]


def test_the_stamp_knows_the_tables_and_not_the_signals(sample: tuple[MimicIvEcg, Path]) -> None:
    dataset, root = sample
    stamp = dataset.stamp(root)
    next((root / dataset.folder).rglob("*.dat")).write_bytes(b"")
    assert dataset.stamp(root) == stamp
    assert MimicIvEcg(folder=dataset.folder).stamp(root) != stamp
    (root / str(dataset.icu_stays)).write_bytes(b"other")
    assert dataset.stamp(root) != stamp
    assert dataset.stamp(root / "nothing") == dataset.stamp(None)


def test_120_000_rows_stream_in_little_memory(tmp_path: Path) -> None:
    with (tmp_path / "record_list.csv").open("w") as file:
        file.write("subject_id,study_id,file_name,ecg_time,path\n")
        for subject, study in ((10_000_000 + i // 5, 40_000_000 + i) for i in range(120_000)):
            path = f"files/p{subject // 10_000}/p{subject}/s{study}/{study}"
            file.write(f"{subject},{study},{study},2180-07-23 08:44:00,{path}\n")
    people = pd.DataFrame({"subject_id": range(10_000_000, 10_024_000), "gender": "F", "anchor_age": 60})
    people.assign(anchor_year=2178, dod=None).to_csv(tmp_path / "patients.csv", index=False)
    portions = MimicIvEcg(patients="patients.csv").portions(tmp_path)
    tracemalloc.start()
    first = next(portions)
    np.testing.assert_equal(pickle.loads(pickle.dumps(first)), first)
    assert first[-1]["labels"].tolist() == [1.0]
    sizes = [len(portion) for portion in islice(portions, 399)]  # were they kept, these rows would weigh 40 MB
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(sizes) == PORTION and sum(sizes) > 50_000
    assert peak < 20e6
