"""No patient stands in two parts, subsets are nested, and overlaps between corpora are found by name and by signal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgscale.data.corpus import Corpus, Form
from ecgscale.data.record import Record
from ecgscale.data.resampling import resample
from ecgscale.data.signal import bandpass
from ecgscale.data.split import (
    PARTS,
    SplitError,
    SplitRule,
    corpus_parts,
    crossval,
    parts,
    patient_order,
    shared_patients,
    shared_signals,
    stratified_folds,
)
from ecgscale.spec import SpecError


def _index(records: int, patients: int, seed: int = 0) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    patient = draw.integers(0, patients, records)
    folds = pd.array(patient % 10 + 1, dtype="Int64")
    return pd.DataFrame({"patient": [f"made:{p}" for p in patient], "fold": folds})


@settings(max_examples=25, deadline=None)
@given(records=st.integers(30, 400), patients=st.integers(15, 200), seed=st.integers(0, 2**31))
def test_parts_share_no_patient_and_records_follow_their_patient(records: int, patients: int, seed: int) -> None:
    index = _index(records, patients, seed)
    order = patient_order(index, seed)
    assert sorted(order) == list(range(records))
    runs = index["patient"][order]
    assert (runs != runs.shift()).sum() == runs.nunique()
    try:
        split = parts(index, SplitRule(by="patients", fractions=(0.5, 0.2, 0.3)), seed)
    except SplitError:
        return  # so few patients that a part is empty
    people = [set(index["patient"][rows]) for rows in split.values()]
    assert not (people[0] & people[1] or people[0] & people[2] or people[1] & people[2])
    assert sum(map(len, split.values())) == records


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), keep=st.floats(0.1, 0.9))
def test_the_order_of_a_subset_is_the_subset_of_the_order(seed: int, keep: float) -> None:
    index = _index(200, 80)
    chosen = index[np.random.default_rng(seed).random(200) < keep]
    whole = patient_order(index, seed)
    assert np.array_equal(patient_order(chosen, seed), whole[np.isin(whole, chosen.index)])


def test_a_thousand_is_a_prefix_of_ten_thousand() -> None:
    small, large = _index(12_000, 9_000), _index(12_000, 9_000)
    train = parts(large, SplitRule(), 5)["train"]
    again = parts(small, SplitRule(), 5)["train"]
    assert np.array_equal(train[:1000], again[:1000])
    assert len(set(train[:10_000])) == min(10_000, len(train))
    first, second = set(large["patient"][train[:1000]]), set(large["patient"][train[1000:]])
    assert len(first & second) <= 1  # the cut may fall inside the last patient
    assert not np.array_equal(train[:1000], parts(large, SplitRule(), 6)["train"][:1000])


def test_folds_are_taken_as_they_are() -> None:
    index = _index(500, 300)
    index.loc[0, "fold"] = pd.NA
    split = parts(index, SplitRule(train=(1, 2, 3), validation=(4,), test=(10,)), 0)
    assert set(index["fold"][split["train"]]) == {1, 2, 3}
    assert set(index["fold"][split["test"]]) == {10}
    assert 0 not in np.concatenate(list(split.values()))


def test_fractions_are_of_patients() -> None:
    index = _index(6000, 5000)
    split = parts(index, SplitRule(by="patients"), 1)
    people = index["patient"].nunique()
    for rows, fraction in zip(split.values(), (0.7, 0.1, 0.2), strict=True):
        assert index["patient"][rows].nunique() / people == pytest.approx(fraction, abs=0.02)


def test_folds_that_share_a_patient_are_refused() -> None:
    index = _index(300, 100)
    rows = index.index[index["patient"] == index["patient"][0]]
    index.loc[rows[0], "fold"] = 1
    index = pd.concat([index, index.loc[[rows[0]]].assign(fold=pd.array([10], dtype="Int64"))], ignore_index=True)
    with pytest.raises(SplitError, match=r"patient made:\d+ has records in train and test"):
        parts(index, SplitRule(), 0)


def test_missing_folds_and_empty_parts_are_refused() -> None:
    index = _index(300, 100)
    with pytest.raises(SplitError, match=r"test part \(folds \[11\]\) holds no record"):
        parts(index, SplitRule(test=(11,)), 0)
    with pytest.raises(SplitError, match="no official folds"):
        parts(index.assign(fold=pd.array([pd.NA] * 300, dtype="Int64")), SplitRule(), 0)


@pytest.mark.parametrize("table", [{"train": [1], "validation": [1]}, {"fractions": [0.5, 0.1, 0.1]}, {"by": "fold"}])
def test_rules_that_make_no_sense_are_refused(table: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        SplitRule.parse(table)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), folds=st.integers(2, 5))
def test_stratified_folds_spread_labels_and_respect_patients(seed: int, folds: int) -> None:
    index = _index(260, 200, seed)
    y = (np.random.default_rng(seed).random((260, 3)) < [0.1, 0.3, 0.5]).astype(float)
    y[3, 1] = np.nan
    dealt = stratified_folds(index, y, folds, 3, seed)
    assert dealt.shape == (3, 260)
    assert np.array_equal(dealt[:2], stratified_folds(index, y, folds, 2, seed))
    assert not np.array_equal(dealt[0], dealt[1])
    has = pd.DataFrame(np.nan_to_num(y) > 0).groupby(index["patient"]).any()
    for fold in dealt:
        per_patient = pd.Series(fold).groupby(index["patient"])
        assert (per_patient.nunique() == 1).all()
        counts = has.groupby(per_patient.first()).sum()
        assert ((counts.max() - counts.min()) <= 4).all()
        sizes = per_patient.first().value_counts()
        assert sizes.max() - sizes.min() <= 10


def test_one_label_is_spread_exactly() -> None:
    index = _index(200, 10_000)
    y = np.arange(200) < 31
    for fold in stratified_folds(index, y, 2, 5, 0):
        people = pd.DataFrame({"fold": fold, "y": y, "p": index["patient"]}).groupby("p").max()
        counts = people.groupby("fold")["y"].sum()
        assert abs(counts[0] - counts[1]) <= 1


def test_crossval_is_five_times_two() -> None:
    index = _index(100, 90)
    pairs = crossval(index, np.arange(100) % 3 == 0)
    assert len(pairs) == 10
    for train, test in pairs:
        assert sorted([*train, *test]) == list(range(100))
        assert not set(index["patient"][train]) & set(index["patient"][test])
    assert np.array_equal(pairs[0][0], pairs[1][1])
    with pytest.raises(SplitError, match="cannot be dealt"):
        crossval(index.iloc[:1], [1.0])


def test_overlaps_are_found_by_patient_and_by_signal(
    make: Callable[..., list[Record]], corpus_of: Callable[..., Corpus]
) -> None:
    records = make(20, rate_hz=500.0)
    first = corpus_of(records[:12], name="first")
    elsewhere = [
        replace(
            r,
            record=f"other{i}",
            patient=f"elsewhere:{i}",
            signal=resample(bandpass(r.signal, 500.0, (0.5, 40.0)), 500.0, 250.0)[::-1] * 1000,
            leads=r.leads[::-1],
            rate_hz=250.0,
            unit="uV",
        )
        for i, r in enumerate(records[8:])
    ]
    second = corpus_of(elsewhere, Form(normalise="record_lead_z"), name="second")
    assert shared_patients(first, second) == []
    assert shared_signals(first, second) == sorted((f"r{8 + i}", f"other{i}") for i in range(4))
    third = corpus_of(records[10:], name="third")
    assert shared_patients(first, third) == sorted(
        {r.patient for r in records[:12]} & {r.patient for r in records[10:]}
    )
    assert shared_patients(first, third, rows_a=[0], rows_b=range(3)) == []


def test_the_parts_of_a_corpus_are_computed_once_and_kept_beside_it(
    make: Callable[..., list[Record]], corpus_of: Callable[..., Corpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, rule = corpus_of(make(60)), SplitRule(by="patients", fractions=(0.6, 0.4, 0.0))
    first = corpus_parts(corpus, rule, 3)
    monkeypatch.setattr(Corpus, "index", property(lambda self: pytest.fail("the index was read")))
    again = corpus_parts(Corpus.open(corpus.path), rule, 3)
    assert all(np.array_equal(first[name], again[name]) for name in PARTS)
    assert len(again["test"]) == 0
    assert isinstance(again["train"].base, np.memmap)
    monkeypatch.undo()
    expected = parts(corpus.index, rule, 3)
    assert all(np.array_equal(expected[name], again[name]) for name in PARTS)
    assert not np.array_equal(corpus_parts(corpus, rule, 4)["train"], again["train"])
