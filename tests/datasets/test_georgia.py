"""Georgia is read from the real collection: own records only, labels by code, damage told."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ecgscale.data import challenge
from ecgscale.data.corpus import Form, ingest
from ecgscale.data.record import Record, Rejected
from ecgscale.datasets.georgia import Georgia

_KINDS = ("fast", "slow", "wide", "tall", "inverted")


def test_the_twenty_records_are_as_their_headers_say(shared_data: Path) -> None:
    records = [r for r in Georgia().records(shared_data / "cinc2021-samples") if isinstance(r, Record)]
    assert [r.record for r in records] == [f"E{n:05d}" for n in range(7500, 7520)]
    first = records[0]
    assert (first.patient, first.age, first.sex, first.rate_hz) == ("georgia:E07500", 78.0, "M", 500.0)
    assert {name for name, value in first.labels.items() if value} == {"LAE", "SB"}
    assert sum(r.labels["NSR"] for r in records) == 5 and sum(r.labels["STach"] for r in records) == 6
    assert len({tuple(r.labels) for r in records}) == 1
    assert first.signal.shape == (12, 5000) and 0.3 < np.abs(first.signal).max() < 10


def test_the_real_records_make_a_corpus(shared_data: Path, tmp_path: Path) -> None:
    corpus = ingest(Georgia(), shared_data / "cinc2021-samples", Form(), tmp_path / "corpus")
    assert len(corpus) + len(corpus.quarantine) == 20
    assert len(corpus) >= 15


def test_records_of_five_seconds_enter_and_shorter_ones_do_not(tmp_path: Path) -> None:
    root = tmp_path / "source"
    dataset = Georgia.sample(root)
    challenge.write_sample(root, ["g2/E00061"], dict.fromkeys(("", *_KINDS), "426783006"), (4.5,), 1)
    corpus = ingest(dataset, root, Form(length_s=10.0), tmp_path / "corpus")
    assert sorted(corpus.index["seconds"].unique()) == [5.0, 8.5, 10.0]
    assert corpus.quarantine["record"].tolist() == ["E00061"]


def test_unknown_ages_sexes_and_codes_are_kept_as_such(tmp_path: Path) -> None:
    records = [r for r in Georgia.sample(tmp_path).records(tmp_path) if isinstance(r, Record)]
    assert records[0].age is None and records[1].sex is None and records[2].age is not None
    assert {"LVH", "snomed_251238007"} <= set(records[0].labels)
    assert all(r.labels["LVH"] == r.labels["snomed_251238007"] for r in records)


def test_a_flipped_bit_is_told_unless_checksums_are_ignored(tmp_path: Path) -> None:
    Georgia.sample(tmp_path)
    path = tmp_path / "g1" / "E00001.mat"
    data = bytearray(path.read_bytes())
    data[1000] ^= 2
    path.write_bytes(data)
    first = next(iter(Georgia().records(tmp_path)))
    assert isinstance(first, Rejected) and "copy it again" in first.reason
    assert isinstance(next(iter(Georgia(checksums="ignore").records(tmp_path))), Record)
