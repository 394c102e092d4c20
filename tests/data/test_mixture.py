"""A mixture holds its sources in proportion, what they share once, and no patient on two sides."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgscale.data.corpus import Corpus, CorpusError, Form, FormError
from ecgscale.data.mixture import Mixture, interleaved, mix
from ecgscale.data.record import Record
from ecgscale.data.split import PARTS, SplitRule, corpus_parts

Make = Callable[..., list[Record]]
Build = Callable[..., Corpus]
BY_PATIENTS = SplitRule(by="patients")


@pytest.fixture
def pair(make: Make, corpus_of: Build) -> dict[str, Corpus]:
    """Two corpora of 40 and 24 records; five of the second are copies out of the first, scaled and renamed."""
    first = make(64)
    copies = [
        replace(r, signal=r.signal * 1.1, record=f"copy{r.record}", patient=f"other:{i}")
        for i, r in enumerate(first[3:8])
    ]
    second = [replace(r, patient=f"second:{r.patient[5:]}", labels={"late": 1.0}) for r in first[45:]]
    return {"a": corpus_of(first[:40], name="a"), "b": corpus_of([*second, *copies], name="b")}


def test_what_two_sources_share_is_counted_once(pair: dict[str, Corpus], tmp_path: Path) -> None:
    mixture = mix(pair, {"a": 1, "b": 1}, tmp_path / "mix")
    assert len(mixture) == len(mixture.index) == 40 + 19
    assert mixture.manifest["patients"] == mixture.index["patient"].nunique()
    assert not mixture.index["record"].str.contains("copy").any()
    assert mixture.manifest["labels"]["late"] == {"positive": 19, "known": 19, "prevalence": 1.0}


def test_its_rows_are_those_of_its_sources(pair: dict[str, Corpus], tmp_path: Path) -> None:
    mixture = mix(pair, {"a": 1, "b": 1}, tmp_path / "mix")
    rows = np.array([58, 0, 41, 39, 40, 0])
    own = [(pair["b"], 18), (pair["a"], 0), (pair["b"], 1), (pair["a"], 39), (pair["b"], 0), (pair["a"], 0)]
    assert np.array_equal(mixture.signals(rows), np.concatenate([c.signals([r]) for c, r in own]))
    names = [f"{'a' if c is pair['a'] else 'b'}/{c.index['record'][r]}" for c, r in own]
    assert mixture.index["record"][rows].tolist() == names
    for row, beats, (corpus, inside) in zip(rows, mixture.beats(rows), own, strict=True):
        assert np.array_equal(beats[beats >= 0], corpus.index["beats"][inside]), row
    assert np.array_equal(mixture.patients(rows), np.concatenate([c.patients([r]) for c, r in own]))
    assert mixture.lead_ok(rows).all()
    assert mixture.known(rows, ["wide", "late"]).tolist() == [
        [int(c.index["label.wide"][r]) if c is pair["a"] else -1, 1 if c is pair["b"] else -1] for c, r in own
    ]


def test_it_is_opened_like_a_corpus_and_travels(pair: dict[str, Corpus], tmp_path: Path) -> None:
    mixture = mix(pair, {"a": 1, "b": 3}, tmp_path / "mix")
    again = Corpus.open(tmp_path / "mix")
    assert isinstance(again, Mixture)
    assert again.digest == mixture.digest == pickle.loads(pickle.dumps(mixture)).digest
    assert again.weights == (1, 3)
    assert mix(pair, {"a": 3, "b": 1}, tmp_path / "other").digest != mixture.digest
    again.verify()


def test_parts_are_interleaved_by_weight_and_nested(make: Make, corpus_of: Build, tmp_path: Path) -> None:
    sources = {
        "a": corpus_of(make(200), name="a"),
        "b": corpus_of([replace(r, patient=f"b{r.patient}") for r in make(400)[200:]], name="b"),
    }
    mixture = mix(sources, {"a": 1, "b": 3}, tmp_path / "mix")
    parts = corpus_parts(mixture, BY_PATIENTS, 0)
    assert sorted(np.concatenate([parts[name] for name in PARTS])) == list(range(len(mixture)))
    train = mixture.source_of(parts["train"])
    for D in (8, 40, 100):
        assert abs(int(train[:D].sum()) - 0.75 * D) <= 1
    own = corpus_parts(sources["a"], BY_PATIENTS, 0)["train"]
    assert np.array_equal(parts["train"][train == 0], own)
    patients = [set(mixture.index["patient"].iloc[parts[name]]) for name in PARTS]
    assert not (patients[0] & patients[1] or patients[0] & patients[2] or patients[1] & patients[2])


@given(sizes=st.lists(st.integers(1, 60), min_size=2, max_size=4), seed=st.integers(0, 9))
def test_the_beginning_does_not_depend_on_how_long_the_orders_are(sizes: list[int], seed: int) -> None:
    weights = [1.0 + i for i in range(len(sizes))]
    orders = [np.arange(100) + 1000 * i for i in range(len(sizes))]
    whole = interleaved(orders, weights, seed)
    cut = interleaved([o[:n] for o, n in zip(orders, sizes, strict=True)], weights, seed)
    lasting = min(n / w for n, w in zip(sizes, weights, strict=True))
    same = int(lasting * sum(weights)) - len(sizes)
    assert np.array_equal(whole[: max(0, same)], cut[: max(0, same)])
    assert sorted(cut) == sorted(np.concatenate([o[:n] for o, n in zip(orders, sizes, strict=True)]))


def test_unlike_corpora_are_not_mixed(make: Make, corpus_of: Build, tmp_path: Path) -> None:
    z = corpus_of(make(12), Form(normalise="record_lead_z"), "z")
    with pytest.raises(FormError, match=r"a \(mV\) and z \(z_record_lead\) cannot be mixed"):
        mix({"a": corpus_of(make(12), name="a"), "z": z}, {"a": 1, "z": 1}, tmp_path / "mix")
    with pytest.raises(CorpusError, match="two sources or more"):
        mix({"z": z}, {"z": 1}, tmp_path / "mix")
    with pytest.raises(CorpusError, match="positive weight"):
        mix({"z": z, "y": z}, {"z": 1}, tmp_path / "mix")


def test_a_source_that_changed_is_refused(
    pair: dict[str, Corpus], make: Make, corpus_of: Build, tmp_path: Path
) -> None:
    mix(pair, {"a": 1, "b": 1}, tmp_path / "mix")
    corpus_of(make(10), name="a")
    with pytest.raises(CorpusError, match="mix again"):
        Corpus.open(tmp_path / "mix")
