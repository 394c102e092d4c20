"""Batches made on a device, or ahead of their use, are those of a loader bit for bit; here the device is a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ecgscale import residency
from ecgscale.batch import Batch
from ecgscale.data.corpus import Corpus, Form, ingest
from ecgscale.data.mixture import mix
from ecgscale.data.split import SplitRule
from ecgscale.datasets.simulated import Simulated
from ecgscale.lab import read_curve
from ecgscale.loader import Loader
from ecgscale.residency import Ahead, Memory, Resident, fits
from ecgscale.runs import Recipe, RunSpec
from ecgscale.training.pretrain import pretrain

LABELS = ("AF", "1dAVb")
CPU = torch.device("cpu")
AMPLE = Memory(total=10**9, free=10**9, taken=0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("mixed")
    sources = {
        name: ingest(Simulated(world=name, count=80, enrich=4.0), None, Form(), folder / name)
        for name in ("code", "hospital")
    }
    return mix(sources, {"code": 2.0, "hospital": 1.0}, folder / "mixture")


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Memory]]:
    """The memory the CPU is said to have, as a GPU would; what it holds is forgotten at the end."""
    has = [AMPLE]
    monkeypatch.setattr(residency, "memory_of", lambda device: has[0])
    monkeypatch.setattr(residency, "_held", [])
    monkeypatch.setattr(residency, "_side_by_side", 1)
    yield has


def equal(a: Batch, b: Batch) -> bool:
    pairs = [(getattr(a, f.name), getattr(b, f.name)) for f in fields(Batch) if f.name != "rate_hz"]
    return a.rate_hz == b.rate_hz and all(
        (x is y is None) or (x.dtype == y.dtype and torch.equal(x, y)) for x, y in pairs
    )


def codes_of(corpus: Corpus) -> np.ndarray:
    beats = corpus.beats(np.arange(len(corpus)))
    ids = np.random.default_rng(0).integers(16, size=(len(corpus), 12, beats.shape[1]))
    return np.where(beats[:, None] >= 0, ids, -1).astype(np.int16)


@pytest.mark.parametrize(("free", "kind"), [(10**9, Resident), (10**5, Ahead)])
@pytest.mark.parametrize("labels", [LABELS, ()])
def test_every_field_of_a_batch_is_that_of_a_loader(
    corpus: Corpus, memory: list[Memory], free: int, kind: type, labels: tuple[str, ...]
) -> None:
    memory[0] = Memory(10**9, free, 0)
    rows = np.random.default_rng(1).permutation(len(corpus))[:100]
    codes = codes_of(corpus) if labels else None
    found = residency.loaders(corpus, {"all": rows, "none": rows[:0]}, labels, codes, "cpu")["all"]
    plain = Loader(corpus, rows, labels, codes)
    assert type(found) is kind and len(found) == len(plain)
    order = [*range(12), 5, 6, 30, 2]  # a run that is resumed, or asks for a step twice
    assert all(equal(found.step(7, s, 9), plain.step(7, s, 9)) for s in order)
    assert equal(found.step(8, 3, 9), plain.step(8, 3, 9)) and equal(found.step(8, 4, 5), plain.step(8, 4, 5))
    swept = list(found.sweep(32))
    assert len(swept) == 4 and all(map(equal, swept, plain.sweep(32)))
    assert equal(found.take(rows[:0]), plain.take(rows[:0]))
    longest = rows[np.argsort((corpus.beats(rows) >= 0).sum(1))]  # last: the others are padded for it
    assert equal(found.take(longest, slice(2, 5)), plain.take(longest, slice(2, 5)))


def test_on_a_cpu_a_loader_it_is(corpus: Corpus) -> None:
    assert type(residency.loaders(corpus, {"all": np.arange(3)})["all"]) is Loader


@pytest.mark.parametrize("total", [10**9, 10**5])
def test_a_label_the_corpus_lacks_is_refused_before_the_first_step(
    corpus: Corpus, memory: list[Memory], total: int
) -> None:
    memory[0] = Memory(total, total, 0)
    with pytest.raises(ValueError, match="has no label XYZ"):
        residency.loaders(corpus, {"all": np.arange(3)}, ("XYZ",), None, "cpu")


def test_what_the_thread_meets_is_raised_where_the_batch_is_asked_for(
    corpus: Corpus, memory: list[Memory], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory[0] = Memory(10**5, 10**5, 0)
    loader = residency.loaders(corpus, {"all": np.arange(40)}, (), None, "cpu")["all"]
    signals = corpus.__class__.signals

    def torn(self: Corpus, rows: np.ndarray) -> np.ndarray:
        if 25 in rows:
            raise OSError("the disk is gone")
        return signals(self, rows)

    monkeypatch.setattr(corpus.__class__, "signals", torn)
    sweep = loader.sweep(10)
    assert [len(next(sweep)), len(next(sweep))] == [10, 10]
    with pytest.raises(OSError, match="the disk is gone"):
        next(sweep)


def test_a_run_on_batches_made_elsewhere_is_the_same_run(
    corpus: Corpus, memory: list[Memory], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    run = RunSpec(
        role="grid", backbone={"name": "beat_transformer", "dial": 12.0}, leads=12, samples=corpus.samples,
        objective={"name": "masked_beats", "codes": 16, "codebook": "none"}, corpus=corpus.digest,
        split=SplitRule(by="patients", fractions=(0.6, 0.2, 0.2)), D=64, seed=3,
        recipe=Recipe(steps=5, batch=8, lr=1e-3, warmup=2, validations=2, validation_records=16),
    )  # fmt: skip
    left = []
    for name, has in (("host", None), ("resident", AMPLE), ("ahead", Memory(10**5, 10**5, 0))):
        monkeypatch.setattr(residency, "memory_of", lambda device, has=has: has)
        folder = tmp_path / name
        folder.mkdir()
        result = pretrain(run, folder, corpus, codes_of(corpus)).model_copy(
            update={"seconds": 0.0, "training_seconds": 0.0}
        )
        left.append((result, read_curve(folder / "curve.jsonl"), load_file(folder / "checkpoints" / "5.safetensors")))
    for result, curve, weights in left[1:]:
        assert (result, curve) == left[0][:2]
        assert all(torch.equal(weights[name], value) for name, value in left[0][2].items())


def test_half_of_a_process_s_part_of_a_device_is_left_for_training() -> None:
    card = Memory(total=80, free=80, taken=0)
    assert fits(40, card, 1) and not fits(41, card, 1)
    assert fits(10, card, 4) and not fits(11, card, 4)  # whatever the other three have taken yet
    assert not fits(10, Memory(total=80, free=29, taken=0), 2)  # a stranger is on the card
    assert fits(9, Memory(total=80, free=29, taken=0), 2)
    assert fits(30, Memory(total=80, free=70, taken=10), 1) and not fits(31, Memory(total=80, free=70, taken=10), 1)


def test_rows_come_once_and_what_was_used_longest_ago_gives_way(
    corpus: Corpus, memory: list[Memory], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = residency.Held.bytes(corpus, np.arange(80)) / 80
    total = round(2 * 70.5 * record)  # half of it holds 70 records

    def left(device: torch.device) -> Memory:
        taken = sum(residency.Held.bytes(h.corpus, h.rows) for h in residency._held)
        return Memory(total, total - taken, taken)

    def held(of: Corpus, rows: np.ndarray) -> residency.Held | None:
        loader = residency.loaders(of, {"all": rows}, (), None, "cpu")["all"]
        return loader.held if isinstance(loader, Resident) else None

    monkeypatch.setattr(residency, "memory_of", left)
    other = Corpus.open(corpus.path.parent / "code")
    first, beside = held(corpus, np.arange(20)), held(other, np.arange(10))
    assert first is not None and held(corpus, np.array([7, 3])) is first
    more = held(corpus, np.arange(10, 50))
    assert more is not None and more.rows.tolist() == list(range(50))  # what runs of other D brought is kept
    assert residency._held == [beside, more]
    assert held(other, np.arange(40)) is not None and len(residency._held) == 1
    assert held(corpus, np.arange(71)) is None
    residency.share_among(2)
    assert held(corpus, np.arange(36)) is None and held(corpus, np.arange(35)) is not None
