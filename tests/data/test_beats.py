"""The beat finder on ECGs with known beats and on bad input; beats and intervals against LUDB's cardiologists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import resample_poly

from ecgscale.data.beats import FINDERS, agreement, find_beats, padded
from ecgscale.data.intervals import measure
from ecgscale.data.simulation.worlds import WorldName
from ecgscale.datasets.simulated import Simulated, latents

wfdb = pytest.importorskip("wfdb")
LUDB_LEADS = ("i", "ii", "iii", "avr", "avl", "avf", "v1", "v2", "v3", "v4", "v5", "v6")
_SYMBOLS = {1: "N", 24: "p", 27: "t", 39: "(", 40: ")"}


def synthetic(
    r_s: np.ndarray, rate_hz: float = 100.0, length_s: float = 10.0, t_mv: float = 0.3, qrs_mv: float = 1.0,
    noise_mv: float = 0.02, qrs_s: float = 0.02, seed: int = 0,
) -> np.ndarray:  # fmt: skip
    """ECG [1, 12, time] with a P wave, a QRS and a T wave at every R time, each lead with its own gains."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(length_s * rate_hz)) / rate_hz
    rr = np.diff(r_s, append=r_s[-1] + np.median(np.diff(r_s)) if len(r_s) > 1 else r_s[-1] + 1)

    def wave(at: np.ndarray, width: np.ndarray | float) -> np.ndarray:
        return np.exp(-0.5 * ((t - at[:, None]) / np.broadcast_to(width, at.shape)[:, None]) ** 2).sum(axis=0)

    gain = rng.uniform(0.5, 1.5, (12, 3)) * rng.choice([-1, 1], (12, 3))
    qt = 0.3 * np.cbrt(rr)
    waves = 0.1 * wave(r_s - 0.16 * np.sqrt(rr), 0.03), qrs_mv * wave(r_s, qrs_s), t_mv * wave(r_s + qt, 0.2 * qt)
    return (gain @ np.stack(waves) + noise_mv * rng.standard_normal((12, len(t))))[None].astype(np.float32)


def assert_found(found: np.ndarray, r_s: np.ndarray, rate_hz: float = 100.0, within_s: float = 0.03) -> None:
    assert len(found) == len(r_s)
    assert np.abs(found / rate_hz - r_s).max() <= within_s


@pytest.mark.parametrize("rate_hz", [100.0, 250.0, 500.0])
@pytest.mark.parametrize("per_min", [30, 60, 100, 150, 220])
def test_every_heart_rate_at_every_sampling_rate(per_min: int, rate_hz: float) -> None:
    r_s = np.arange(0.3, 9.8, 60 / per_min)
    assert_found(find_beats(synthetic(r_s, rate_hz), rate_hz)[0], r_s, rate_hz)


def test_irregular_rhythm() -> None:
    r_s = 0.3 + np.cumsum(np.random.default_rng(3).uniform(0.35, 1.4, 9))
    assert_found(find_beats(synthetic(r_s), 100)[0], r_s)


def test_tall_t_waves_are_not_counted() -> None:
    r_s = np.arange(0.4, 9.6, 0.9)
    assert_found(find_beats(synthetic(r_s, t_mv=1.2), 100)[0], r_s)


def test_low_amplitude() -> None:
    r_s = np.arange(0.4, 9.6, 0.8)
    assert_found(find_beats(0.05 * synthetic(r_s, noise_mv=0.1), 100)[0], r_s)


def test_wide_premature_beats_among_normal_ones() -> None:
    normal, early = np.array([0.5, 1.4, 2.3, 4.1, 5.0, 6.8, 7.7, 8.6]), np.array([2.85, 5.5])
    signal = synthetic(normal) + synthetic(early, qrs_mv=2.0, t_mv=0.8, qrs_s=0.045, noise_mv=0.0, seed=1)
    assert_found(find_beats(signal, 100)[0], np.sort(np.concatenate([normal, early])), within_s=0.05)


def test_z_scores_and_any_gain_give_the_same_beats() -> None:
    signal = synthetic(np.arange(0.4, 9.6, 0.7))
    z = (signal - signal.mean(axis=-1, keepdims=True)) / signal.std(axis=-1, keepdims=True)
    expected = find_beats(signal, 100)[0]
    assert np.array_equal(find_beats(z, 100)[0], expected)
    assert np.array_equal(find_beats(1000 * signal, 100)[0], expected)


def test_one_lead_of_artefact_does_not_add_beats() -> None:
    r_s = np.arange(0.4, 9.6, 0.9)
    signal = synthetic(r_s)
    signal[0, 6, 500:540] += np.random.default_rng(0).normal(0, 5, 40)
    assert_found(find_beats(signal, 100)[0], r_s)


def test_missing_leads_are_not_looked_at() -> None:
    r_s = np.arange(0.4, 9.6, 0.9)
    signal, ok = synthetic(r_s), np.zeros((1, 12), bool)
    ok[0, 1] = True
    signal[0, ~ok[0]] = synthetic(np.arange(0.2, 9.8, 0.37), seed=5)[0, ~ok[0]]
    assert_found(find_beats(signal, 100, ok)[0], r_s)
    assert len(find_beats(signal, 100, np.zeros((1, 12), bool))[0]) == 0


@pytest.mark.parametrize("finder", FINDERS)
def test_flat_records_are_empty(finder: str) -> None:
    flat = np.stack([np.zeros((12, 1000)), np.full((12, 1000), 1.5)]).astype(np.float32)
    assert [len(beats) for beats in find_beats(flat, 100, finder=finder)] == [0, 0]  # type: ignore[arg-type]


def test_noise_alone_has_no_beats() -> None:
    noise = np.random.default_rng(0).standard_normal((50, 12, 1000)).astype(np.float32)
    assert sum(len(beats) for beats in find_beats(noise, 100)) == 0


def test_a_short_record_padded_with_zeros_has_no_beat_at_its_end() -> None:
    r_s = np.arange(0.4, 3.9, 0.8)
    signal = synthetic(r_s) + np.float32(2)
    signal[:, :, 420:] = 0
    assert_found(find_beats(signal, 100)[0], r_s)


@pytest.mark.parametrize("world", ["code", "emergency"])
def test_zero_padding_of_the_last_three_seconds_hides_no_beat_and_has_none(world: WorldName) -> None:
    spec = Simulated(world=world, count=60)
    signals = np.stack([record.signal for record in spec.records()])
    signals[:, :, 700:] = 0
    true_s = [peaks[(peaks > 0.15) & (peaks < 6.85)] for peaks in latents(spec, np.arange(60))["r_peaks_s"]]
    found_s = [beats / 100 for beats in find_beats(signals, 100)]
    assert max(found.max() for found in found_s) < 7
    assert min(agreement(found_s, true_s, 0.050)) >= 0.98


def test_agreement_matches_every_beat_once_inside_the_annotated_span() -> None:
    true_s, found_s = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.1, 1.04, 1.06, 2.03, 3.2, 8.0])
    assert agreement([found_s], [true_s], 0.05) == (2 / 4, 2 / 4)
    assert np.array_equal(padded([np.array([3]), np.array([], int), np.array([1, 2])]), [[3, -1], [-1, -1], [1, 2]])


def test_records_do_not_touch_each_other() -> None:
    records = np.concatenate([synthetic(np.arange(0.4, 9.6, 0.5 + 0.02 * k), seed=k) for k in range(40)])
    together = find_beats(records, 100)
    assert all(np.array_equal(together[k], find_beats(records[k : k + 1], 100)[0]) for k in range(40))
    assert find_beats(records[:0], 100) == []


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 1200), st.sampled_from([60.0, 100.0, 128.0, 500.0]))
def test_indices_rise_within_the_record(seed: int, samples: int, rate_hz: float) -> None:
    signal = np.cumsum(np.random.default_rng(seed).standard_t(1.5, (2, 3, samples)), axis=-1).astype(np.float32)
    for beats in find_beats(signal, rate_hz):
        assert beats.dtype == np.int32
        assert (np.diff(beats) > 0).all()
        assert ((beats >= 0) & (beats < samples)).all()


@pytest.mark.parametrize("world", ["code", "hospital", "screening", "emergency"])
def test_simulated_worlds(world: WorldName) -> None:
    spec = Simulated(world=world, count=200, enrich=3.0 if world == "code" else 1.0)
    signals = np.stack([record.signal for record in spec.records()])
    inside = [peaks[(peaks > 0.15) & (peaks < 9.85)] for peaks in latents(spec, np.arange(200))["r_peaks_s"]]
    found_s = [beats / 100 for beats in find_beats(signals, 100)]
    assert min(agreement(found_s, inside, 0.150)) >= 0.99
    assert min(agreement(found_s, inside, 0.050)) >= 0.98


def test_bad_input_is_named() -> None:
    signal = synthetic(np.array([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="expected three"):
        find_beats(signal[0], 100)
    with pytest.raises(ValueError, match="lead_ok has shape"):
        find_beats(signal, 100, np.ones((1, 3), bool))
    with pytest.raises(ValueError, match="expected at least 50"):
        find_beats(signal, 25)
    with pytest.raises(ValueError, match="not a beat finder"):
        find_beats(signal, 100, finder="pan")  # type: ignore[arg-type]
    signal[0, 2, 5] = np.nan
    with pytest.raises(ValueError, match="row 0 has NaN"):
        find_beats(signal, 100)


def read_marks(path: Path) -> list[tuple[str, int]]:
    """Symbols and samples of a WFDB annotation file: wfdb.rdann takes 40 ms, 2,400 of them a minute and a half."""
    words = np.fromfile(path, "<u2").tolist()
    marks, sample, k = [], 0, 0
    while k < len(words) and words[k] != 0:
        kind, value = words[k] >> 10, words[k] & 1023
        k += 1
        if kind == 59:  # skip: a long interval in two words, the high one first
            sample += (words[k] << 16) + words[k + 1]
            k += 2
        elif kind == 63:  # auxiliary text
            k += (value + 1) // 2
        elif kind < 50:
            sample += value
            marks.append((_SYMBOLS[kind], sample))
    return marks


@dataclass(frozen=True)
class Ludb:
    """`signals` [record, lead, time] mV at 500 Hz; `marks[record][lead]`, symbols and samples."""

    signals: np.ndarray
    marks: list[list[list[tuple[str, int]]]]


def reference(marks: list[list[tuple[str, int]]]) -> np.ndarray:
    """QRS times of one LUDB record, s: the median over leads of the annotated peaks, where half the leads agree."""
    every = np.sort([sample for lead in marks for symbol, sample in lead if symbol == "N"])
    beats = np.split(every, np.flatnonzero(np.diff(every) > 60) + 1)
    return np.array([np.median(beat) for beat in beats if len(beat) >= 6]) / 500


@pytest.fixture(scope="module")
def marked(shared_data: Path) -> Ludb:
    records = [shared_data / "ludb" / "data" / str(k) for k in range(1, 201)]
    signals = np.stack([wfdb.rdrecord(str(record)).p_signal.T for record in records])
    marks = [[read_marks(record.with_suffix(f".{lead}")) for lead in LUDB_LEADS] for record in records]
    note = wfdb.rdann(str(records[7]), "v3")
    assert marks[7][8] == list(zip(note.symbol, note.sample.tolist(), strict=True))
    return Ludb(signals, marks)


@pytest.fixture(scope="module")
def ludb(marked: Ludb) -> tuple[np.ndarray, list[np.ndarray]]:
    return marked.signals, [reference(marks) for marks in marked.marks]


@pytest.mark.parametrize("z_scored", [False, True])
@pytest.mark.parametrize("rate_hz", [100, 500])
def test_ludb(ludb: tuple[np.ndarray, list[np.ndarray]], rate_hz: int, z_scored: bool) -> None:
    signals, true_s = ludb
    x = resample_poly(signals, rate_hz, 500, axis=-1) if rate_hz != 500 else signals
    if z_scored:
        x = (x - x.mean(axis=-1, keepdims=True)) / x.std(axis=-1, keepdims=True)
    found_s = [beats / rate_hz for beats in find_beats(x.astype(np.float32), rate_hz)]
    assert min(agreement(found_s, true_s, 0.150)) >= 0.995
    assert min(agreement(found_s, true_s, 0.050)) >= 0.98


def test_xqrs_is_the_published_finder(ludb: tuple[np.ndarray, list[np.ndarray]]) -> None:
    signals, true_s = ludb
    x = resample_poly(signals[:40], 1, 5, axis=-1).astype(np.float32)
    found = find_beats(x, 100, finder="xqrs")
    direct = wfdb.processing.xqrs_detect(x[0, 0].astype(np.float64), fs=100, verbose=False)
    assert np.array_equal(found[0], direct)
    sensitivity, precision = agreement([beats / 100 for beats in found], true_s[:40], 0.150)
    ours = agreement([beats / 100 for beats in find_beats(x, 100)], true_s[:40], 0.150)
    assert sensitivity > 0.9
    assert precision < ours[1]


def annotated(record: list[list[tuple[str, int]]]) -> dict[str, float]:
    """Intervals of one LUDB record, ms: medians over leads of each beat's boundaries, then over beats."""
    rows = []
    for marks in record:
        waves = [
            (symbol, sample, marks[k - 1][1], marks[k + 1][1])
            for k, (symbol, sample) in enumerate(marks[1:-1], start=1)
            if symbol in "pNt" and marks[k - 1][0] == "(" and marks[k + 1][0] == ")"
        ]
        for k, (kind, peak, on, off) in enumerate(waves):
            if kind != "N":
                continue
            p = [w[2] for w in waves[max(0, k - 1) : k] if w[0] == "p" and on - w[2] < 250]
            t = [w[3] for w in waves[k + 1 : k + 2] if w[0] == "t"]
            rows.append((peak, on, off, p[0] if p else np.nan, t[0] if t else np.nan))
    marks = np.array(sorted(rows), float)
    beats = np.split(marks, np.flatnonzero(np.diff(marks[:, 0]) > 60) + 1)
    middle = np.array([_over_leads(beat) for beat in beats if len(beat) >= 6])
    _, on, off, p_on, t_off = middle.T
    return {name: 2 * _median(span) for name, span in (("qrs", off - on), ("pr", on - p_on), ("qt", t_off - on))}


def _over_leads(beat: np.ndarray) -> list[float]:
    return [_median(column) if np.isfinite(column).sum() >= 4 else np.nan for column in beat.T]


def _median(values: np.ndarray) -> float:
    return float(np.median(values[np.isfinite(values)])) if np.isfinite(values).any() else float("nan")


@pytest.fixture(scope="module")
def ludb_odd(marked: Ludb) -> tuple[np.ndarray, pd.DataFrame]:
    """The odd-numbered records at 100 Hz: the levels of the delineation were set on the even-numbered ones."""
    truth = pd.DataFrame([annotated(marks) for marks in marked.marks[::2]])
    return resample_poly(marked.signals[::2], 1, 5, axis=-1).astype(np.float32), truth


def measured(signal: np.ndarray) -> pd.DataFrame:
    return measure(signal, padded(find_beats(signal, 100)), 100)


@pytest.mark.parametrize("z_scored", [False, True])
def test_ludb_intervals(ludb_odd: tuple[np.ndarray, pd.DataFrame], z_scored: bool) -> None:
    x, truth = ludb_odd
    if z_scored:
        x = (x - x.mean(axis=-1, keepdims=True)) / x.std(axis=-1, keepdims=True)
    table = measured(x)
    error = pd.DataFrame({name: (table[f"{name}_ms"] - truth[name]).abs() for name in ("qrs", "pr", "qt")})
    print(f"\nLUDB, odd records, z-scored {z_scored}: median absolute error ms {error.median().round(1).to_dict()}")
    print(f"measured {error.notna().sum().to_dict()} of annotated {truth.notna().sum().to_dict()}")
    assert error["qrs"].median() <= 8
    assert error["pr"].median() <= 11
    assert error["qt"].median() <= 12
    assert (error.notna().sum() >= 0.93 * truth.notna().sum()).all()
    assert (error.quantile(0.9) <= [24, 30, 45]).all()


def test_no_pr_interval_without_p_waves(ludb_odd: tuple[np.ndarray, pd.DataFrame]) -> None:
    x, truth = ludb_odd
    table, without = measured(x), truth["pr"].isna().to_numpy()  # fibrillation, but also flutter and pacing
    assert without.sum() >= 5
    assert table["pr_ms"].isna()[without].mean() >= 0.4
    coherence = table["p_coherence"].fillna(0).to_numpy()
    assert (coherence[without][:, None] < coherence[~without]).mean() >= 0.9  # AUROC
