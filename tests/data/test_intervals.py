"""Intervals against the planted truth, amplitudes, missing leads and bad input; those of LUDB are in test_beats.py."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ecgscale.data.beats import find_beats, padded
from ecgscale.data.intervals import columns, measure
from ecgscale.datasets.simulated import Simulated, latents


def measured(signal: np.ndarray, rate_hz: float, lead_ok: np.ndarray | None = None) -> pd.DataFrame:
    return measure(signal, padded(find_beats(signal, rate_hz, lead_ok)), rate_hz, lead_ok)


@pytest.fixture(scope="module")
def simulated() -> tuple[np.ndarray, pd.DataFrame, pd.DataFrame]:
    spec = Simulated(world="hospital", count=240, enrich=2.5)
    signals = np.stack([record.signal for record in spec.records()])
    return signals, latents(spec, np.arange(240)), measured(signals, spec.rate_hz)


def test_simulated_intervals_follow_the_planted_ones(simulated: tuple[np.ndarray, pd.DataFrame, pd.DataFrame]) -> None:
    _, truth, table = simulated
    for name, least in (("qrs", 0.9), ("pr", 0.75), ("qt", 0.75)):
        both = table[f"{name}_ms"].notna().to_numpy() & truth[f"{name}_ms"].notna().to_numpy()
        assert both.sum() >= 150
        a, b = table[f"{name}_ms"].to_numpy()[both], truth[f"{name}_ms"].to_numpy()[both]
        assert np.corrcoef(a, b)[0, 1] >= least, name
        assert np.median(np.abs(a - b)) <= 16, name
    assert np.median(np.abs(table["heart_rate_bpm"].to_numpy() - truth["rate"].to_numpy())) <= 1


@pytest.mark.parametrize(
    ("label", "feature", "sign"),
    [
        ("1dAVb", "pr_ms", 1),
        ("RBBB", "r_prime_V1", 1),
        ("RBBB", "qrs_ms", 1),
        ("LBBB", "r_width_V6_ms", 1),
        ("AF", "rr_irregularity", 1),
        ("AF", "p_coherence", -1),
        ("AF", "fibrillatory_ratio", 1),
        ("SB", "heart_rate_bpm", -1),
        ("ST", "heart_rate_bpm", 1),
    ],
)
def test_features_separate_the_labels_they_define(
    simulated: tuple[np.ndarray, pd.DataFrame, pd.DataFrame], label: str, feature: str, sign: int
) -> None:
    _, truth, table = simulated
    known = table[feature].notna().to_numpy()
    has, value = truth[f"true.{label}"].to_numpy()[known], sign * table[feature].to_numpy()[known]
    assert has.sum() >= 5
    assert (value[has][:, None] > value[~has]).mean() >= 0.85  # AUROC


def test_a_lead_measures_the_same_whatever_its_gain() -> None:
    signals = np.stack([record.signal for record in Simulated(count=20).records()])
    one, ten = measured(signals, 100), measured(10 * signals, 100)
    same = [name for name in columns() if name.endswith(("_ms", "_bpm", "_deg")) and name != "r_width_V6_ms"]
    np.testing.assert_allclose(one[same], ten[same], rtol=1e-3, atol=0.1)
    np.testing.assert_allclose(10 * one["r_V5"], ten["r_V5"], rtol=1e-3)


def test_limb_lead_axis_and_voltages() -> None:
    signals = np.stack([record.signal for record in Simulated(count=20).records()])
    table = measured(signals, 100)
    net = {lead: table[f"r_{lead}"] - table[f"s_{lead}"] for lead in ("I", "aVF")}
    clear = (net["I"].abs() > 0.2) & (net["aVF"].abs() > 0.2)
    assert clear.sum() >= 8
    quadrant = np.degrees(np.arctan2(net["aVF"], net["I"]))[clear]
    turn = (table["axis_deg"][clear] - quadrant + 180) % 360 - 180
    assert turn.abs().median() < 25
    np.testing.assert_allclose(table["cornell"], table["r_aVL"] + table["s_V3"], atol=0.15)


def test_missing_leads_are_nan_and_the_rest_stays() -> None:
    signals = np.stack([record.signal for record in Simulated(count=10).records()])
    ok = np.ones((10, 12), bool)
    ok[:, 6:] = False
    signals[:, 6:] = 0
    table = measured(signals, 100, ok)
    assert table[["r_V1", "t_V6", "sokolow_lyon", "cornell", "r_prime_V1", "fibrillatory_V1"]].isna().all(axis=None)
    assert table[["qrs_ms", "qt_ms", "axis_deg", "r_II"]].notna().all(axis=None)
    assert measured(signals, 100, np.zeros((10, 12), bool)).drop(columns="beats").isna().all(axis=None)


def test_rows_are_independent_and_flat_records_are_nan() -> None:
    signals = np.stack([record.signal for record in Simulated(count=6).records()])
    signals[3] = 0
    beats = padded(find_beats(signals, 100))
    table = measure(signals, beats, 100)
    assert tuple(table.columns) == columns()
    assert table["beats"].iloc[3] == 0
    assert table.drop(columns="beats").iloc[3].isna().all()
    for row in range(6):
        alone = measure(signals[row : row + 1], beats[row : row + 1], 100)
        pd.testing.assert_frame_equal(table.iloc[[row]].reset_index(drop=True), alone, rtol=1e-4)
    assert len(measure(signals[:0], beats[:0], 100)) == 0


def test_bad_shapes_are_named() -> None:
    signals, beats = np.zeros((2, 12, 1000), np.float32), np.full((2, 4), -1, np.int32)
    with pytest.raises(ValueError, match="12 leads"):
        measure(signals[:, :8], beats, 100)
    with pytest.raises(ValueError, match="beats has 1 rows"):
        measure(signals, beats[:1], 100)
