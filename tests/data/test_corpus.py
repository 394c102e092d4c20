"""A corpus is whole or not there, holds what went in, and its digest depends on content alone."""

from __future__ import annotations

import errno
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecgscale.data import portion, storage
from ecgscale.data.corpus import Corpus, CorpusError, Form, FormError, check_form, ingest
from ecgscale.data.record import Record, Rejected
from ecgscale.units import LEADS

Make = Callable[..., list[Record]]
Build = Callable[..., Corpus]


def test_what_goes_in_comes_out(make: Make, corpus_of: Build) -> None:
    records = make(20)
    corpus = corpus_of(records)
    assert len(corpus) == len(corpus.index) == 20
    assert list(corpus.index["record"]) == [r.record for r in records]
    assert list(corpus.index["patient"]) == [r.patient for r in records]
    assert np.abs(corpus.signals([7, 3]) - np.stack([records[7].signal, records[3].signal])).max() <= 0.5001e-3
    assert corpus.lead_ok([0, 19]).all()
    assert (corpus.unit, corpus.leads, corpus.samples, corpus.name) == ("mV", LEADS, 1000, "listed")
    assert corpus.index["label.wide"].tolist() == [r.labels["wide"] for r in records]
    assert corpus.labels == ["fast", "slow", "wide", "tall", "inverted"]
    assert str(corpus.index["fold"].dtype) == "Int64"
    assert corpus.signals([]).shape == (0, 12, 1000)
    corpus.verify()


def test_beats_are_padded_and_lie_where_the_index_says(make: Make, corpus_of: Build) -> None:
    corpus = corpus_of(make(12))
    beats = corpus.beats([5, 0, 11])
    for row, padded in zip([5, 0, 11], beats, strict=True):
        own = np.asarray(corpus.index["beats"][row])
        assert 7 <= len(own) <= 22
        assert np.array_equal(padded[padded >= 0], own)
        assert (padded[len(own) :] == -1).all()
    assert beats.dtype == np.int32


def test_unknown_ages_sexes_folds_and_labels_stay_unknown(make: Make, corpus_of: Build) -> None:
    known, unknown = make(2, age=40.0)
    unknown = replace(unknown, age=None, sex=None, fold=None, labels={"wide": float("nan"), "late": 1.0})
    index = corpus_of([known, unknown]).index
    assert np.isnan(index["age"][1])
    assert index["sex"].tolist() == ["F", None]
    assert index["fold"].isna().tolist() == [False, True]
    assert np.isnan(index["label.wide"][1])
    assert np.isnan(index["label.late"][0])
    assert index["label.late"][1] == 1


def test_bad_records_are_quarantined_with_their_reason_and_stop_nothing(make: Make, corpus_of: Build) -> None:
    records: list[Any] = make(8)
    records[1] = Rejected("r1", "the file is cut short")
    records[2].signal[3, 10] = np.nan
    records[4].signal[LEADS.index("V3")] = 0.1
    records[5] = replace(records[5], signal=records[5].signal * 1000)
    records[6] = replace(records[6], record="r0")
    records[7] = replace(records[7], signal=records[7].signal[:, :300])
    corpus = corpus_of(records)
    reasons = dict(corpus.quarantine.itertuples(index=False))
    assert list(corpus.index["record"]) == ["r0", "r3"]
    assert corpus.manifest["quarantined"] == 6
    assert reasons["r1"] == "the file is cut short"
    assert "NaN" in reasons["r2"]
    assert "lead V3 is flat" in reasons["r4"]
    assert "microvolts" in reasons["r5"]
    assert "same name" in reasons["r0"]
    assert "lasts 3.00 s" in reasons["r7"]


def test_flat_leads_may_be_kept_as_missing(make: Make, corpus_of: Build) -> None:
    records = make(3)
    records[1].signal[LEADS.index("V3")] = 0.1
    corpus = corpus_of(records, flat_leads="missing")
    assert len(corpus) == 3
    assert np.array_equal(np.flatnonzero(~corpus.lead_ok([1])[0]), [LEADS.index("V3")])
    assert not corpus.signals([1])[0, LEADS.index("V3")].any()


def test_the_order_of_leads_does_not_matter(make: Make, corpus_of: Build) -> None:
    turned = [replace(r, signal=r.signal[::-1], leads=LEADS[::-1]) for r in make(6)]
    assert corpus_of(make(6), name="a").digest == corpus_of(turned, name="b").digest


def test_units_do_not_matter_where_they_are_declared(make: Make, corpus_of: Build) -> None:
    micro = [replace(r, signal=np.rint(r.signal * 1000), unit="uV") for r in make(6)]
    found, expected = corpus_of(micro, name="a"), corpus_of(make(6), name="b")
    assert np.abs(found.signals(range(6)) - expected.signals(range(6))).max() <= 1.001e-3


def test_the_digest_ignores_place_chunks_and_shards(
    make: Make, corpus_of: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = Form(rate_hz=50.0, band_hz=(0.5, 20.0), normalise="record_lead_z")
    first = corpus_of(make(20), form, "first")
    monkeypatch.setattr(portion, "CHUNK", 3)
    monkeypatch.setattr(storage, "SHARD_BYTES", 7 * 12 * 500 * 2)
    second = corpus_of(make(20), form, "elsewhere")
    assert first.manifest["shards"] == ["signals-00000.npy"]
    assert len(second.manifest["shards"]) == 3
    assert first.digest == second.digest
    assert np.array_equal(first.signals([19, 0, 6, 7]), second.signals([19, 0, 6, 7]))
    second.verify()


def test_the_digest_sees_content_and_form(make: Make, corpus_of: Build) -> None:
    records = make(6)
    changed = make(6)
    changed[3].signal[0, 500] += 0.002
    relabelled = [replace(r, labels={**r.labels, "wide": 1 - r.labels["wide"]}) for r in make(6)]
    digests = [
        corpus_of(records, name="a").digest,
        corpus_of(changed, name="b").digest,
        corpus_of(relabelled, name="c").digest,
        corpus_of(records, Form(beats="xqrs"), name="d").digest,
        corpus_of(records[::-1], name="e").digest,
    ]
    assert len(set(digests)) == 5


def test_opening_reads_no_signals(make: Make, corpus_of: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    path = corpus_of(make(4)).path

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("signals were read")

    monkeypatch.setattr(np, "load", refuse)
    corpus = Corpus.open(path)
    assert len(corpus.index) == 4
    with pytest.raises(AssertionError):
        corpus.signals([0])


def test_a_torn_corpus_is_refused_in_one_sentence(make: Make, corpus_of: Build, tmp_path: Path) -> None:
    path = corpus_of(make(4)).path
    shard = path / "signals-00000.npy"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-10])
    with pytest.raises(CorpusError, match=r"torn: signals-00000.npy has \d+ bytes, expected \d+; ingest .* again"):
        Corpus.open(path)
    shard.unlink()
    with pytest.raises(CorpusError, match=r"signals-00000\.npy is missing"):
        Corpus.open(path)
    (path / "manifest.json").write_text("{")
    with pytest.raises(CorpusError, match="cannot be read"):
        Corpus.open(path)
    with pytest.raises(CorpusError, match="no corpus"):
        Corpus.open(tmp_path)


def test_verify_sees_a_changed_sample(make: Make, corpus_of: Build) -> None:
    corpus = corpus_of(make(4))
    shard = corpus.path / "signals-00000.npy"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(CorpusError, match="was changed"):
        Corpus.open(corpus.path).verify()


def test_verify_sees_arrays_that_do_not_fit_the_index(make: Make, corpus_of: Build) -> None:
    corpus = corpus_of(make(4))
    labels = np.load(corpus.path / "labels.npy")
    labels[2, 1] = 1 - labels[2, 1]
    np.save(corpus.path / "labels.npy", labels)
    with pytest.raises(CorpusError, match=r"labels\.npy is not what its index says"):
        corpus.verify()


def test_what_training_reads_is_what_the_index_says(make: Make, corpus_of: Build) -> None:
    records = make(30)
    records[3] = replace(records[3], labels={"wide": float("nan"), "late": 1.0})
    corpus = corpus_of(records)
    rows = np.array([29, 3, 0, 3])
    index = corpus.index.iloc[rows]
    known = corpus.known(rows, ("late", "wide"))
    expected = index[["label.late", "label.wide"]].fillna(-1).to_numpy()
    assert np.array_equal(known, expected)
    keys = corpus.patients(range(30))
    same = corpus.index["patient"].to_numpy()[:, None] == corpus.index["patient"].to_numpy()[None]
    assert np.array_equal(keys[:, None] == keys[None], same)
    with pytest.raises(ValueError, match="has no label nothing"):
        corpus.known(rows, ("nothing",))


def test_another_format_is_refused(make: Make, corpus_of: Build) -> None:
    path = corpus_of(make(2)).path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(CorpusError, match="format 99, expected 2"):
        Corpus.open(path.parent)


def test_a_failed_ingest_leaves_nothing(make: Make, listed: Callable[..., Any], tmp_path: Path) -> None:
    class BrokenError(Exception):
        pass

    def breaking(_: int) -> None:
        raise BrokenError

    with pytest.raises(BrokenError):
        ingest(listed(make(4)), None, Form(), tmp_path / "corpus", breaking)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence(
    make: Make, listed: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage.Shards, "append", full)
    with pytest.raises(CorpusError, match=r"cannot write the corpus to .*: no space left on device"):
        ingest(listed(make(4)), None, Form(), tmp_path / "corpus")
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_is_one_sentence(make: Make, listed: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CorpusError, match="cannot write the corpus to"):
        ingest(listed(make(4)), None, Form(), tmp_path / "file" / "corpus")
    with pytest.raises(CorpusError, match="is no corpus"):
        ingest(listed(make(4)), None, Form(), tmp_path / "file")


def test_an_earlier_corpus_is_replaced_and_other_folders_are_not(make: Make, corpus_of: Build, tmp_path: Path) -> None:
    assert len(corpus_of(make(4))) == 4
    assert len(corpus_of(make(6))) == 6
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_text("")
    with pytest.raises(CorpusError, match="is no corpus"):
        corpus_of(make(4), name="thesis")
    assert (tmp_path / "thesis" / "chapter").exists()


def test_nothing_usable_says_why(make: Make, corpus_of: Build) -> None:
    with pytest.raises(CorpusError, match=r"all 3 are rejected, the first .*microvolts"):
        corpus_of([replace(r, signal=r.signal * 1000) for r in make(3)])
    with pytest.raises(CorpusError, match="holds no record"):
        corpus_of([])


def test_an_impossible_form_is_refused(make: Make, listed: Callable[..., Any], tmp_path: Path) -> None:
    z = [replace(r, unit="z_record_lead", band_hz=(0.5, 40.0)) for r in make(2)]
    with pytest.raises(FormError, match=r"listed holds per-record, per-lead z-scores"):
        check_form(listed(z), None, Form())
    assert check_form(listed(z), None, Form(band_hz=(0.5, 40.0), normalise="record_lead_z")) == "z_record_lead"
    with pytest.raises(FormError):
        ingest(listed(z), None, Form(), tmp_path / "corpus")


def test_signals_beyond_int16_are_quarantined(make: Make, corpus_of: Build) -> None:
    records = make(3)
    records[1].signal[:] += 40.0
    corpus = corpus_of(records)
    assert "more than a corpus can hold" in corpus.quarantine["reason"][0]
    assert len(corpus_of(records, Form(band_hz=(0.5, 40.0)), name="filtered")) == 3


def test_the_manifest_tells_what_is_inside(make: Make, corpus_of: Build) -> None:
    records = make(12)
    manifest = corpus_of(records).manifest
    assert manifest["records"] == 12
    assert manifest["patients"] == len({r.patient for r in records})
    assert manifest["populations"] == {"made": manifest["patients"]}
    assert manifest["labels"]["wide"]["positive"] == sum(r.labels["wide"] for r in records)
    assert manifest["sex"] == {"F": 12}
    assert manifest["age"]["mean"] == 50
    assert manifest["licence"] == "none"
    assert manifest["simulated"] is False
    assert manifest["beats"]["finder"] == "energy"
    assert 5 < manifest["beats"]["per_record"] < 25


def test_a_corpus_travels_to_another_process(make: Make, corpus_of: Build) -> None:
    corpus = corpus_of(make(4))
    corpus.signals([0])
    packed = pickle.dumps(corpus)
    assert len(packed) < 1000
    assert np.array_equal(pickle.loads(packed).signals([2]), corpus.signals([2]))


def test_mixed_rates_and_lengths_share_one_corpus(make: Make, corpus_of: Build) -> None:
    slow, fast = make(3), [replace(r, record=f"fast{r.record}") for r in make(3, rate_hz=500.0)]
    fast[1] = replace(fast[1], signal=fast[1].signal[:, :3500])
    corpus = corpus_of([slow[0], fast[0], slow[1], fast[1], fast[2], slow[2]])
    assert list(corpus.index["record"]) == ["r0", "fastr0", "r1", "fastr1", "fastr2", "r2"]
    assert corpus.index["seconds"].tolist() == [10, 10, 10, 7, 10, 10]
    assert not corpus.signals([3])[..., 700:].any()
    assert np.abs(corpus.signals([5])[0] - slow[2].signal).max() <= 0.5001e-3


def test_all_windows_of_long_records_are_rows_with_their_own_beats(make: Make, corpus_of: Build) -> None:
    long = [replace(r, signal=np.tile(r.signal, (1, 3))[:, :2700]) for r in make(4)]
    corpus = corpus_of(long, Form(windows="all"))
    assert corpus.index["record"].tolist()[:4] == ["r0:0", "r0:1", "r0:2", "r1:0"]
    assert corpus.index["seconds"].tolist()[:3] == [10, 10, 7]
    assert corpus.index["source_s"].tolist() == [27.0] * 12
    assert np.abs(corpus.signals([1])[0] - long[0].signal[:, 1000:2000]).max() <= 0.5001e-3
    assert all(len(b) >= 7 for b in corpus.index["beats"])
    assert corpus_of(long, name="first").index["record"].tolist() == [r.record for r in long]


def test_derived_leads_are_said_to_be_derived(make: Make, corpus_of: Build) -> None:
    eight = tuple(lead for lead in LEADS if lead not in ("III", "aVR", "aVL", "aVF"))
    few = [replace(r, signal=r.signal[[LEADS.index(lead) for lead in eight]], leads=eight) for r in make(5)]
    explicit = corpus_of(few, name="explicit")
    assert explicit.lead_ok([0]).sum() == 8
    derived = corpus_of(few, Form(derive_limb_leads=True), name="derived")
    assert derived.lead_ok([0]).all()
    assert derived.index["lead_derived"].tolist() == [0b111100] * 5
    assert np.abs(derived.signals(range(5)) - np.stack([r.signal for r in make(5)])).max() < 2e-3
    assert explicit.digest != derived.digest


def test_a_single_lead_source_makes_a_corpus_of_one_lead(make: Make, corpus_of: Build) -> None:
    one = [replace(r, signal=r.signal[:1], leads=("I",)) for r in make(6)]
    corpus = corpus_of(one, Form(leads=("I",)))
    assert corpus.signals([0]).shape == (1, 1, 1000)
    assert all(len(b) >= 7 for b in corpus.index["beats"])
    wide = corpus_of(one, name="wide")
    assert wide.lead_ok([0]).tolist() == [[True] + [False] * 11]
