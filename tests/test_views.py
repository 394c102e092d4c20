"""Beats as tokens, halves of windows, and masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ecgscale import masks, views

PEAK_SETS = ["one_early", "one_mid", "one_late", "far_apart", "edges", "close", "even_gap_96", "gap_97_98", "many"]


@pytest.mark.parametrize("name", PEAK_SETS)
def test_tokens_are_the_published_ones_sample_by_sample(name: str, shared_golden: Path, make_batch: Any) -> None:
    golden = np.load(shared_golden / "heartlang" / "tokenizer_given_peaks.npz")
    signal = torch.from_numpy(golden["signal"]).float()[None]
    batch = make_batch(signal=signal, peaks=[golden[f"{name}/peaks"].tolist()])
    beats = views.cut_beats(batch, 256)
    want = golden[f"{name}/tokens"]
    np.testing.assert_array_equal(beats.values[0, : len(want)].numpy(), want)
    assert not beats.values[0, len(want) :].any()
    np.testing.assert_array_equal(beats.lead[0].numpy(), golden[f"{name}/lead_index"])
    np.testing.assert_array_equal(beats.second[0].numpy(), golden[f"{name}/time_index"])


def test_a_record_without_beats_has_no_valid_token(shared_golden: Path, make_batch: Any) -> None:
    golden = np.load(shared_golden / "heartlang" / "tokenizer_given_peaks.npz")
    signal = torch.from_numpy(golden["signal"]).float()[None]
    beats = views.cut_beats(make_batch(signal=signal, peaks=[[]]), 256)
    np.testing.assert_array_equal(beats.values[0, :1].numpy(), golden["none/tokens"])
    np.testing.assert_array_equal(beats.lead[0].numpy(), golden["none/lead_index"])
    assert not beats.valid.any() and not beats.values.any()


def test_tokens_of_real_records_are_the_published_ones(shared_golden: Path, shared_data: Path, make_batch: Any) -> None:
    wfdb = pytest.importorskip("wfdb")
    golden = np.load(shared_golden / "heartlang" / "tokenizer_8_records.npz")
    names = ["00001_lr", "00004_lr", "00005_lr", "00011_lr", "00034_lr", "00069_lr", "00377_lr", "00477_lr"]
    folder = shared_data / "ptb-xl-500" / "records100" / "00000"
    signal = torch.stack([torch.from_numpy(wfdb.rdrecord(str(folder / name)).p_signal.T).float() for name in names])
    peaks = [[int(p) for p in row if p >= 0] for row in golden["r_peaks"]]
    beats = views.cut_beats(make_batch(signal=signal, peaks=peaks), 256)
    np.testing.assert_allclose(beats.values.numpy(), golden["tokens"], atol=1e-6)
    np.testing.assert_array_equal(beats.lead.numpy(), golden["lead_index"])
    np.testing.assert_array_equal(beats.second.numpy(), golden["time_index"])


def test_sequences_are_trimmed_to_the_longest_record(make_batch: Any) -> None:
    batch = make_batch(records=3, beats=(5, 9, 7))
    beats = views.cut_beats(batch)
    assert beats.values.shape == (3, 12 * 9, 96)
    assert beats.valid.sum(1).tolist() == [60, 108, 84]
    for row, n in enumerate((5, 9, 7)):
        t = torch.arange(12 * n)
        assert torch.equal(beats.lead[row, : 12 * n], t // n + 1)
        assert torch.equal(beats.beat[row, : 12 * n], t % n)
    alone = views.cut_beats(make_batch(records=1, signal=batch.signal[:1], peaks=[batch.beats[0, :5].tolist()]))
    assert torch.equal(alone.values[0], beats.values[0, :60])


def test_too_many_beats_are_dropped_evenly_in_all_leads(make_batch: Any) -> None:
    beats = views.cut_beats(make_batch(records=1, beats=(74,)))
    assert beats.valid.sum() == 12 * 37
    assert torch.equal(beats.beat[0].view(12, 37), torch.arange(0, 74, 2).expand(12, 37))
    assert views.most_beats(1000) == 37 and views.most_beats(500) == 19


def test_a_missing_lead_keeps_its_places_but_is_invalid(make_batch: Any) -> None:
    batch = make_batch(records=2, beats=(4, 6))
    batch.lead_ok[0, 2] = False
    beats = views.cut_beats(batch)
    assert not beats.valid[0, 8:12].any() and beats.valid[0, :8].all() and beats.valid[0, 12:48].all()
    assert beats.valid[1].all()


def test_another_rate_is_refused(make_batch: Any) -> None:
    with pytest.raises(ValueError, match="at 250 Hz"):
        views.cut_beats(replace(make_batch(), rate_hz=250.0))


def test_crops_begin_where_each_record_says(make_batch: Any) -> None:
    batch = make_batch(records=2, samples=1000, peaks=[[10, 499, 500, 990], [700]], codes=5)
    cut = views.crops(batch, torch.tensor([490, 0]), 300)
    assert torch.equal(cut.signal[0], batch.signal[0, :, 490:790]) and torch.equal(
        cut.signal[1], batch.signal[1, :, :300]
    )
    assert cut.beats.tolist() == [[9, 10, -1, -1, -1], [-1] * 5] and cut.codes is None
    same = views.crops(batch, torch.tensor([100, 100]), 500), views.window(batch, 100, 600)
    assert torch.equal(same[0].signal, same[1].signal) and torch.equal(same[0].beats, same[1].beats)


def test_halves_shift_and_drop_beats(make_batch: Any) -> None:
    batch = make_batch(records=2, samples=1001, peaks=[[10, 499, 500, 990], [700]], codes=5)
    first, second = views.halves(batch)
    assert torch.equal(first.signal, batch.signal[..., :500]) and torch.equal(
        second.signal, batch.signal[..., 500:1000]
    )
    assert first.beats.tolist() == [[10, 499, -1, -1, -1], [-1] * 5]
    assert second.beats.tolist() == [[0, 490, -1, -1, -1], [200, -1, -1, -1, -1]]
    assert first.codes is None and second.codes is None
    both = views.stack(first, second)
    assert len(both) == 4 and torch.equal(both.signal[2:], second.signal) and both.patient.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("ratio", [0.0, 0.15, 0.5, 1.0])
def test_masks_take_an_exact_share_of_valid_tokens_only(ratio: float) -> None:
    g = torch.Generator().manual_seed(1)
    valid = torch.arange(40) < torch.tensor([[40], [31], [7], [1], [0]])
    chosen = masks.choose(valid, ratio, torch.rand(valid.shape, generator=g))
    assert not (chosen.mask & ~valid).any()
    assert chosen.mask.sum(1).tolist() == [int(n * ratio + 0.5) for n in (40, 31, 7, 1, 0)]
    assert torch.equal(chosen.mask.sum(1), masks.share(valid, ratio))
    assert torch.equal(chosen.kept.sum(1), chosen.mask.sum(1))
    if ratio:
        for row in range(5):
            places = chosen.index[row][chosen.kept[row]]
            assert sorted(places.tolist()) == chosen.mask[row].nonzero().flatten().tolist()


def test_masks_choose_every_token_equally_often() -> None:
    valid = torch.ones(4000, 10, dtype=torch.bool)
    chosen = masks.choose(valid, 0.3, torch.rand(valid.shape, generator=torch.Generator().manual_seed(2)))
    assert (chosen.mask.float().mean(0) - 0.3).abs().max() < 4 * (0.3 * 0.7 / 4000) ** 0.5
