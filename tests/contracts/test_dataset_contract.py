"""What every data set promises, tested on the sample it writes in its own format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecgscale import spec
from ecgscale.data.beats import find_beats
from ecgscale.data.corpus import Corpus, Form, ingest
from ecgscale.data.record import Record, check
from ecgscale.datasets import DatasetError, DatasetSpec
from ecgscale.units import MILLIVOLTS

Sample = tuple[DatasetSpec, Path, list[Record]]


@pytest.fixture(scope="module", params=spec.names("datasets"))
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    cls = spec.part_class("datasets", request.param)
    assert issubclass(cls, DatasetSpec)
    root = tmp_path_factory.mktemp(request.param)
    try:
        dataset = cls.sample(root)
    except DatasetError as error:
        if "pip install" in str(error):  # formats that an extra reads
            pytest.skip(str(error))
        raise
    return dataset, root, [item for item in dataset.records(root) if isinstance(item, Record)]


@pytest.fixture(scope="module")
def corpus(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return ingest(sample[0], sample[1], Form(), tmp_path_factory.mktemp("corpora") / sample[0].part_name())


def test_it_says_where_it_comes_from(sample: Sample) -> None:
    for fact in ("title", "licence", "access", "version"):
        assert getattr(sample[0], fact)


def test_the_spec_survives_its_dump(sample: Sample) -> None:
    assert spec.part("datasets", sample[0].dump()) == sample[0]


def test_every_record_is_sound(sample: Sample) -> None:
    assert [reason for record in sample[2] if (reason := check(record))] == []


def test_there_are_patients_and_labels_enough(sample: Sample) -> None:
    records = sample[2]
    assert len({r.patient for r in records}) >= 48
    names = {name for r in records for name in r.labels}
    both = [n for n in names if {0.0, 1.0} <= {float(r.labels.get(n, np.nan)) for r in records}]
    assert len(both) >= 5


def test_names_are_unique_and_patients_have_a_population(sample: Sample) -> None:
    records = sample[2]
    assert len({r.record for r in records}) == len(records)
    for record in records:
        population, _, patient = record.patient.partition(":")
        assert population and patient


def test_amplitudes_are_plausible_and_limb_leads_add_up(sample: Sample) -> None:
    for record in sample[2]:
        if record.unit.startswith("z_"):
            continue
        signal = record.signal * MILLIVOLTS[record.unit]
        spread = np.ptp(signal, axis=1)
        assert 0.1 < np.median(spread) < 10
        if sample[0].limb_leads == "check":
            lead = dict(zip(record.leads, signal, strict=True))
            assert np.std(lead["I"] + lead["III"] - lead["II"]) < 0.02 * spread.max()


def test_the_declared_rate_gives_human_heart_rates(sample: Sample) -> None:
    for record in sample[2][:20]:
        beats = find_beats(record.signal[None], record.rate_hz)[0]
        assert 25 < 60 * record.rate_hz / np.median(np.diff(beats)) < 250


def test_reading_twice_gives_the_same(sample: Sample) -> None:
    dataset, root, records = sample
    again = [item for item in dataset.records(root) if isinstance(item, Record)]
    assert [(r.record, r.patient, r.labels.keys()) for r in again] == [
        (r.record, r.patient, r.labels.keys()) for r in records
    ]
    assert all(np.array_equal(a.signal, b.signal) for a, b in zip(again, records, strict=True))


def test_its_sample_makes_a_corpus_without_quarantine(sample: Sample, corpus: Corpus) -> None:
    assert corpus.quarantine.empty
    assert len(corpus) == len(sample[2])
    assert corpus.manifest["simulated"] == sample[0].simulated
    corpus.verify()


def test_the_wrong_folder_is_one_sentence(sample: Sample, tmp_path: Path) -> None:
    if not sample[0].needs_root:
        pytest.skip("this data set needs no folder")
    for root in (tmp_path, None):
        with pytest.raises(DatasetError) as error:
            next(iter(sample[0].records(root)))
        assert "\n" not in str(error.value)
