"""Faults put into good ECGs are named, what only looks like a fault passes, and real faults are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wfdb

from ecgscale.data import artefacts, wfdb16
from ecgscale.units import LEADS

V2, V5, V6 = (LEADS.index(lead) for lead in ("V2", "V5", "V6"))
# I, II and V1 to V6 from a dipole, Dower et al. 1980; the other limb leads follow
DOWER = np.array(
    [
        [0.632, -0.235, 0.059],
        [0.235, 1.066, -0.132],
        [-0.515, 0.157, -0.917],
        [0.044, 0.164, -1.387],
        [0.882, 0.098, -1.277],
        [1.213, 0.127, -0.601],
        [1.125, 0.127, -0.086],
        [0.831, 0.076, 0.230],
    ]
)


@pytest.fixture
def ecg(make: Callable[..., list]) -> np.ndarray:
    return np.stack([r.signal for r in make(6, rate_hz=500.0)])


@pytest.fixture(scope="module")
def real(shared_data: Path) -> dict[str, tuple[np.ndarray, float]]:
    """PTB-XL at both rates and LUDB: signals in mV and samples per second."""
    root = shared_data / "ptb-xl-500"
    table = pd.read_csv(root / "ptbxl_database.csv")
    sets = {
        f"ptb-xl at {rate_hz:g} Hz": (np.stack([wfdb16.read(root, name).physical for name in table[column]]), rate_hz)
        for rate_hz, column in ((100.0, "filename_lr"), (500.0, "filename_hr"))
    }
    ludb = [wfdb16.read(shared_data / "ludb", f"data/{i}").counts for i in range(1, 201)]
    return {**sets, "ludb": (np.stack(ludb) * np.float32(1e-3), 500.0)}


SETS = ("ptb-xl at 100 Hz", "ptb-xl at 500 Hz", "ludb")


def gaps(signal: np.ndarray, rate_hz: float) -> dict[int, str]:
    return artefacts.gaps(signal, np.ptp(signal, axis=-1) > 1e-3, LEADS, rate_hz)


def clipped(signal: np.ndarray, rate_hz: float) -> dict[int, str]:
    live, halves = np.ptp(signal, axis=-1) > 1e-3, np.array_split(signal, 2, axis=-1)
    high, low = (part(halves[0], -1) == part(halves[1], -1) for part in (np.max, np.min))
    return artefacts.clipped(signal, high & live, low & live, LEADS, rate_hz)


def spikes(signal: np.ndarray, rate_hz: float) -> dict[int, str]:
    return artefacts.spikes(signal, signal.argmax(axis=-1), signal.argmin(axis=-1), LEADS, rate_hz)


def _rounded(signal: np.ndarray, step_mv: float) -> np.ndarray:
    return (np.round(signal / step_mv) * step_mv).astype(np.float32)


def test_a_gap_is_named_with_its_place(ecg: np.ndarray) -> None:
    ecg[1, V5, 1750:2500] = 0.0
    ecg[2, V2, 4400:] = ecg[2, V2, 4400]
    ecg[3, :, :600] = 0.0
    ecg[4, V5, 1000:1450] = 0.0  # 0.9 s
    assert gaps(ecg, 500.0) == {
        1: "lead V5 holds one value for 1.5 s from 3.5 s on",
        2: "lead V2 holds one value for 1.2 s from 8.8 s on",
        3: "lead I holds one value for 1.2 s from 0.0 s on",
    }


@pytest.mark.parametrize("start", range(1000, 1130, 13))
def test_a_second_is_found_wherever_it_lies(ecg: np.ndarray, start: int) -> None:
    ecg[0, V5, start : start + 500] = 0.1
    assert list(gaps(ecg, 500.0)) == [0]


def test_a_wholly_flat_lead_is_no_gap(ecg: np.ndarray) -> None:
    ecg[0, V5] = 0.0
    assert gaps(ecg, 500.0) == {}


def test_a_clipped_lead_is_named_with_its_bound(ecg: np.ndarray) -> None:
    assert clipped(ecg, 500.0) == {}
    ecg[1, V5] = np.minimum(ecg[1, V5], 0.5)
    ecg[2, V2] = np.maximum(ecg[2, V2], -0.125)
    found = clipped(ecg, 500.0)
    assert list(found) == [1, 2]
    assert found[1].startswith("lead V5 is clipped: it stands exactly on its highest value, 0.5, ")
    assert found[2].startswith("lead V2 is clipped: it stands exactly on its lowest value, -0.125, ")


def test_what_only_looks_clipped_passes(ecg: np.ndarray) -> None:
    ecg[0, V5, -60:] = 3.0  # PTB-XL repeats the last sample
    ecg[1, V5, 2000:2040] = 3.0  # once
    time = np.arange(5000) / 500
    ecg[2, V5] = np.round(np.sin(2 * np.pi * time), 2)  # round tops, coarse digits
    assert clipped(ecg, 500.0) == {}


@pytest.mark.parametrize("step_mv", [0.001, 0.005, 0.02, 0.04])
@pytest.mark.parametrize("name", SETS)
def test_coarse_digits_are_no_fault(real: dict[str, tuple[np.ndarray, float]], name: str, step_mv: float) -> None:
    signal, rate_hz = real[name]
    coarse = _rounded(signal, step_mv)
    assert clipped(coarse, rate_hz) == {}
    assert spikes(coarse, rate_hz) == {}
    assert len(gaps(coarse, rate_hz)) <= (2 if step_mv == 0.04 else 0)  # 40 µV hide a weak lead for a second


@pytest.mark.parametrize("times", [2, 5])
def test_repeated_samples_are_no_fault(real: dict[str, tuple[np.ndarray, float]], times: int) -> None:
    signal = real["ptb-xl at 100 Hz"][0] if times == 5 else real["ptb-xl at 500 Hz"][0][..., ::2]
    held = np.repeat(signal[:250], times, axis=-1)
    assert clipped(held, 500.0) == {}
    assert gaps(held, 500.0) == {}
    if times == 2:
        assert spikes(held, 500.0) == {}


@pytest.mark.parametrize(("name", "least"), [(SETS[0], 0.9), (SETS[1], 0.95), (SETS[2], 0.95)])
def test_ecgs_clipped_at_one_millivolt_are_found(
    real: dict[str, tuple[np.ndarray, float]], name: str, least: float
) -> None:
    signal, rate_hz = real[name]
    had = np.flatnonzero((np.abs(signal) > 1.1).sum(axis=(1, 2)) >= 0.03 * rate_hz)
    found = clipped(np.clip(signal[had], -1, 1), rate_hz)
    assert len(had) > 0.9 * len(signal)
    assert len(found) > least * len(had)


@pytest.mark.parametrize(("count", "height_mv", "least"), [(20, 1.0, 0.9), (20, 2.0, 0.98), (50, 1.0, 0.95)])
def test_spikes_in_one_lead_are_found(
    real: dict[str, tuple[np.ndarray, float]],
    rng: np.random.Generator,
    count: int,
    height_mv: float,
    least: float,
) -> None:
    signal = real["ludb"][0].copy()
    for record in signal:
        at = 1 + rng.choice(4998, count, replace=False)
        record[rng.integers(6, 12), at] += rng.choice([-height_mv, height_mv], count)
    found = spikes(signal, 500.0)
    assert len(found) > least * len(signal)
    assert "more than a heart and a pacemaker make" in found[next(iter(found))]


@pytest.mark.parametrize("height_mv", [0.5, 1.0, 3.0])
def test_a_pacemaker_is_no_fault(
    real: dict[str, tuple[np.ndarray, float]], rng: np.random.Generator, height_mv: float
) -> None:
    """Two chambers paced at 120/min, from any direction."""
    signal = real["ludb"][0].copy()
    for record in signal:
        size = DOWER @ rng.standard_normal(3)
        size *= height_mv / np.abs(size).max()
        one, two = size[:2]
        limbs = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
        for start in (rng.integers(5, 100), rng.integers(105, 200)):
            record[:, start:4990:250] += np.array([*limbs, *size[2:]], np.float32)[:, None]
    assert spikes(signal, 500.0) == {}


def test_qrs_complexes_are_no_spikes_at_any_rate(make: Callable[..., list]) -> None:
    for rate_hz in (100.0, 128.0, 250.0, 360.0, 500.0, 1000.0):
        steep = np.stack([r.signal for r in make(12, rate_hz=rate_hz)]) * 2.5
        assert spikes(steep, rate_hz) == {}


@pytest.mark.parametrize("name", SETS)
def test_no_real_ecg_of_good_sets_is_at_fault(real: dict[str, tuple[np.ndarray, float]], name: str) -> None:
    signal, rate_hz = real[name]
    assert (gaps(signal, rate_hz), clipped(signal, rate_hz), spikes(signal, rate_hz)) == ({}, {}, {})


def test_real_faults_are_found(shared_data: Path) -> None:
    """Chapman-Ningbo: interference in V6 of JS20007, a loose V2 in JS20011; PTB-XL 19299: V6 falls off after 3.5 s."""
    files = sorted((shared_data / "cinc2021-samples").glob("*.hea"))
    signal = np.stack([wfdb.rdrecord(str(f.with_suffix(""))).p_signal.T.astype(np.float32) for f in files])
    found = {files[row].stem: said.split(" has")[0] for row, said in spikes(signal, 500.0).items()}
    assert found == {"JS20007": "lead V6", "JS20011": "lead V2"}
    assert clipped(signal, 500.0) == gaps(signal, 500.0) == {}

    with np.load(shared_data / "ptbxl1819" / "ptbxl1819_100hz_int16.npz") as held:
        filtered, numbers = held["x"].transpose(0, 2, 1).astype(np.float32), held["ecg_id"]
    said = gaps(filtered, 100.0)
    assert {int(numbers[row]): sentence[:33] for row, sentence in said.items()} == {
        19299: "lead V6 holds one value for 1.4 s"
    }
