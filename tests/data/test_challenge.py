"""Headers of the PhysioNet/CinC collections: ages, sexes, codes and labels as they really stand there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgscale.data import challenge, snomed, wfdb16
from ecgscale.data.record import Record, Rejected
from ecgscale.units import LEADS

_GEORGIA = challenge.Collection("georgia", "Georgia", r"E(\d{5})", "E00001")


@pytest.mark.parametrize(
    ("comments", "age", "sex", "codes"),
    [
        (("Age: 74", "Sex: Male", "Dx: 164889003,59118001"), 74.0, "M", ("164889003", "59118001")),
        (("age:74", "SEX:female", "DX:  284470004 , 284470004,"), 74.0, "F", ("284470004",)),
        (("Age: NaN", "Sex: Unknown", "Dx: Unknown"), None, None, None),
        (("Age: 55.5", "Sex: M", "Dx: 1,,2", "Dx: 3"), 55.5, "M", ("1", "2")),
        ((), None, None, None),
    ],
)
def test_comments_are_understood(
    comments: tuple[str, ...], age: float | None, sex: str | None, codes: tuple[str, ...] | None
) -> None:
    said = challenge.facts(comments)
    assert (challenge.age(said), challenge.sex(said), challenge.codes(said)) == (age, sex, codes)


@pytest.mark.parametrize("comment", ["Age: old", "Sex: X", "Dx: RBBB", "Dx: 12;13", "Dx: ٣"])
def test_what_is_not_understood_is_said(comment: str) -> None:
    said = challenge.facts([comment])
    with pytest.raises(ValueError, match=r"the (age|sex|diagnosis) "):
        _ = challenge.age(said), challenge.sex(said), challenge.codes(said)


def test_codes_have_the_names_of_the_challenge() -> None:
    names = {"164889003": "AF", "270492004": "IAVB", "59118001": "RBBB", "164884008": "VEB", "74390002": "WPW"}
    assert {code: snomed.label_name(code) for code in names} == names
    assert snomed.label_name("251238007") == "snomed_251238007"  # occurs in Chapman, stands in neither table
    assert len(snomed._BY_CODE) == len(set(snomed._BY_CODE.values())) == 133


def test_a_folder_with_several_sources_yields_only_the_own_records(shared_data: Path) -> None:
    root = shared_data / "cinc2021-samples"
    assert challenge.find(root, _GEORGIA, KeyError) == [f"E{n:05d}" for n in range(7500, 7520)]
    none = challenge.Collection("x", "X", r"JS(\d{5})", "JS00001", 1, 10_646)
    with pytest.raises(KeyError, match=r"holds no record of X; expected headers such as JS00001\.hea"):
        challenge.find(root, none, KeyError)
    with pytest.raises(KeyError, match="bind it with --data x=PATH"):
        challenge.find(None, none, KeyError)


def test_labels_are_the_codes_that_occur(shared_data: Path) -> None:
    root = shared_data / "cinc2021-samples"
    found = challenge.label_names(root, challenge.find(root, _GEORGIA, KeyError))
    text = "".join(path.read_text() for path in root.glob("E*.hea"))
    codes = {code for line in re.findall(r"# Dx: (.*)", text) for code in line.split(",")}
    assert found == tuple(sorted(snomed.label_name(code) for code in codes))
    assert {"NSR", "SB", "STach", "LAE", "LVH", "TAb", "LQT"} <= set(found)
    labels = challenge.labels({"dx": "426177001,67741000119109"}, found)
    assert {name for name, value in labels.items() if value} == {"SB", "LAE"}
    assert np.isnan(list(challenge.labels({}, found).values())).all()


def test_a_record_is_read_with_all_it_says(shared_data: Path) -> None:
    import scipy.io

    root = shared_data / "cinc2021-samples"
    record = challenge.read(
        root, "JS20008", "ningbo:JS20008", lambda said: {"SA": float("427393009" in said["dx"])}, True
    )
    assert isinstance(record, Record)
    assert (record.age, record.sex, record.labels, record.unit, record.leads) == (5.0, "M", {"SA": 1.0}, "mV", LEADS)
    raw = scipy.io.loadmat(root / "JS20008.mat")["val"]
    assert np.array_equal(record.signal, (raw / 1000).astype(np.float32))


def test_bad_records_are_rejected_by_name_and_in_order(tmp_path: Path) -> None:
    names = [f"g1/E{i:05d}" for i in range(1, 6)]
    challenge.write_sample(tmp_path, names, dict.fromkeys(("", *_KINDS), "426783006"), (5,), 0)
    (tmp_path / "g1" / "E00002.mat").unlink()
    header = tmp_path / "g1" / "E00003.hea"
    header.write_text(header.read_text().replace("Dx: 426783006", "Dx: SR"))
    (tmp_path / "g1" / "E00004.hea").unlink()
    (tmp_path / "g1" / "E00004.hea").symlink_to("/etc/hostname")
    found = challenge.find(tmp_path, _GEORGIA, KeyError)
    portion = challenge.Portion(tuple(found), challenge.label_names(tmp_path, found))
    items = list(challenge.read_all(tmp_path, portion, True, lambda name: f"georgia:{name}"))
    assert [item.record for item in items] == ["E00001", "E00002", "E00003", "E00004", "E00005"]
    reasons = {item.record: item.reason for item in items if isinstance(item, Rejected)}
    assert set(reasons) == {"E00002", "E00003", "E00004"}
    assert "no such file" in reasons["E00002"] and "SNOMED" in reasons["E00003"] and "link" in reasons["E00004"]


_KINDS = ("fast", "slow", "wide", "tall", "inverted")


def test_samples_are_matlab_files_that_scipy_reads(tmp_path: Path) -> None:
    import scipy.io

    challenge.write_sample(tmp_path, ["E00001"], dict.fromkeys(("", *_KINDS), "426783006"), (12,), 0)
    raw = scipy.io.loadmat(tmp_path / "E00001.mat")["val"]
    assert raw.shape == (12, 6000) and raw.dtype == np.int16
    assert np.array_equal(wfdb16.read(tmp_path, "E00001").counts, raw)
    assert (tmp_path / "E00001.mat").stat().st_size == 24 + 2 * raw.size


def test_people_of_shaoxing_and_ningbo_have_one_name_in_every_source() -> None:
    names = ("JS00001", "JS10646", "JS10647", "JS45551", "S23074")
    patients = [challenge.shaoxing_ningbo_patient(name) for name in names]
    assert patients == ["chapman:JS00001", "chapman:JS10646", "ningbo:JS10647", "ningbo:JS45551", "ningbo:JS23074"]


def test_published_lists_become_folds(tmp_path: Path) -> None:
    for part, names in {"train": ["A0001", "A0002"], "val": ["A0003"], "test": ["x/y/A0004.mat"]}.items():
        pd.DataFrame({"filename": names}).to_csv(tmp_path / f"icbeb_{part}.csv", index=False)
    found = challenge.published_folds(tmp_path, "icbeb", "filename", KeyError)
    assert found == {"A0001": 1, "A0002": 1, "A0003": 9, "A0004": 10}
    pd.DataFrame({"filename": ["A0001"]}).to_csv(tmp_path / "icbeb_val.csv", index=False)
    with pytest.raises(KeyError, match="A0001, which stands in another part"):
        challenge.published_folds(tmp_path, "icbeb", "filename", KeyError)
    (tmp_path / "icbeb_test.csv").unlink()
    (tmp_path / "icbeb_val.csv").unlink()
    with pytest.raises(KeyError, match=r"icbeb_val\.csv does not exist"):
        challenge.published_folds(tmp_path, "icbeb", "filename", KeyError)
