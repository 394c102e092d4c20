"""Swapped electrodes are suspected where they were swapped, and hardly anywhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ecgscale.data import wfdb16
from ecgscale.data.beats import find_beats
from ecgscale.data.electrodes import suspected
from ecgscale.units import LEADS

LIMBS = [LEADS.index(lead) for lead in ("I", "II", "III", "aVR", "aVL", "aVF")]
CHEST = slice(6, 12)


def arms(signal: np.ndarray) -> np.ndarray:
    """Right arm for left arm: Wilson's terminal does not change."""
    one, two, three, right, left, foot = (signal[:, lead] for lead in LIMBS)
    return np.concatenate([np.stack([-one, three, two, left, right, foot], axis=1), signal[:, CHEST]], axis=1)


def right_arm_and_leg(signal: np.ndarray, left_over: float = 0.05) -> np.ndarray:
    """Right arm for right leg, whose potential is nearly the left leg's; Wilson's terminal moves by a third of II."""
    two, three = signal[:, 1], signal[:, 2]
    new_two = left_over * two
    new_one = new_two - three
    limbs = [new_one, new_two, three, -(new_one + new_two) / 2, new_one - new_two / 2, new_two - new_one / 2]
    return np.concatenate([np.stack(limbs, axis=1), signal[:, CHEST] - ((two - new_two) / 3)[:, None]], axis=1)


@pytest.fixture
def ecg(make: Callable[..., list]) -> np.ndarray:
    """Eight with a lead III: an axis of 30° leaves nothing there, and a swap can make that lead II."""
    signal = np.stack([r.signal for r in make(60)])
    return signal[np.ptp(signal[:, 2], axis=-1) > 0.4 * np.ptp(signal[:, 1], axis=-1)][:8]


@pytest.fixture(scope="module")
def real(shared_data: Path) -> dict[str, np.ndarray]:
    """mV, 100 samples a second."""
    names = (shared_data / "ptb-xl-500" / "ptbxl_database.csv").read_text().split("\n")
    places = [row.rsplit(",", 2)[1] for row in names[1:] if row]
    ludb = [wfdb16.read(shared_data / "ludb", f"data/{i}").counts[:, ::5] for i in range(1, 201)]
    return {
        "ptb-xl": np.stack([wfdb16.read(shared_data / "ptb-xl-500", place).physical for place in places]),
        "ludb": np.stack(ludb) * np.float32(1e-3),
    }


def test_each_swap_is_named(ecg: np.ndarray) -> None:
    assert suspected(ecg, LEADS, 100.0, voltage=True) == [None] * 8
    said = suspected(arms(ecg), LEADS, 100.0, voltage=True)
    assert all("inverse of that of V6, P wave and QRS included: the arms may be swapped" in (s or "") for s in said)
    said = suspected(right_arm_and_leg(ecg), LEADS, 100.0, voltage=True)
    assert all("right arm and right leg may be swapped" in (s or "") for s in said)
    mixed = ecg.copy()
    mixed[2], mixed[5] = arms(ecg)[2], right_arm_and_leg(ecg)[5]
    assert [i for i, s in enumerate(suspected(mixed, LEADS, 100.0, voltage=True)) if s] == [2, 5]


def test_swapping_back_clears_the_suspicion(ecg: np.ndarray) -> None:
    assert np.array_equal(arms(arms(ecg)), ecg)
    assert suspected(arms(arms(ecg)), LEADS, 100.0, voltage=True) == [None] * 8


def test_a_heart_on_the_right_side_is_no_swap(ecg: np.ndarray) -> None:
    mirrored = arms(ecg)
    mirrored[:, CHEST] = -ecg[:, CHEST]
    assert not any("arms" in (s or "") for s in suspected(mirrored, LEADS, 100.0, voltage=True))


def test_a_right_axis_with_upright_p_is_no_swap(ecg: np.ndarray) -> None:
    """Only the QRS of lead I points down."""
    turned = ecg.copy()
    for record, beats in zip(turned, find_beats(ecg, 100.0), strict=True):
        for beat in beats:
            record[0, max(0, beat - 6) : beat + 7] *= -1
    assert suspected(turned, LEADS, 100.0, voltage=True) == [None] * 8


@pytest.mark.parametrize("rate_hz", [100.0, 128.0, 250.0, 500.0])
def test_the_rate_does_not_matter(make: Callable[..., list], rate_hz: float) -> None:
    signal = np.stack([r.signal for r in make(8, rate_hz=rate_hz)])
    assert suspected(signal, LEADS, rate_hz, voltage=True) == [None] * 8
    assert all(suspected(arms(signal), LEADS, rate_hz, voltage=True))


def test_z_scores_show_inverted_leads_but_no_faint_ones(ecg: np.ndarray) -> None:
    z = [x / x.std(axis=-1, keepdims=True) for x in (arms(ecg), right_arm_and_leg(ecg, 0.2))]
    assert all(suspected(z[0], LEADS, 100.0, voltage=False))
    assert not any("leg" in (s or "") for s in suspected(z[1], LEADS, 100.0, voltage=False))


@pytest.mark.parametrize("leads", [("I",), ("II", "V6"), ("V1", "V6"), ("II",)])
def test_what_cannot_be_judged_is_not(ecg: np.ndarray, leads: tuple[str, ...]) -> None:
    part = arms(ecg)[:, [LEADS.index(lead) for lead in leads]]
    assert suspected(part, leads, 100.0, voltage=True) == [None] * 8


def test_eight_leads_are_enough_and_noise_has_no_beats(ecg: np.ndarray, rng: np.random.Generator) -> None:
    eight = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
    assert all(suspected(arms(ecg)[:, [LEADS.index(lead) for lead in eight]], eight, 100.0, voltage=True))
    assert all(suspected(arms(ecg)[:, [0, 1, 10]], ("I", "II", "V5"), 100.0, voltage=True))
    noise = rng.standard_normal((4, 12, 1000)).astype(np.float32)
    noise[:, 0] = -noise[:, 11]
    assert suspected(noise, LEADS, 100.0, voltage=True) == [None] * 4
    assert suspected(arms(ecg)[..., :100], LEADS, 100.0, voltage=True) == [None] * 8
    assert suspected(arms(ecg), LEADS, 40.0, voltage=True) == [None] * 8


@pytest.mark.parametrize("name", ["ptb-xl", "ludb"])
def test_swaps_of_real_ecgs_are_found_and_no_other(real: dict[str, np.ndarray], name: str) -> None:
    signal = real[name]
    assert [i for i, s in enumerate(suspected(signal, LEADS, 100.0, voltage=True)) if s] == []
    assert np.mean([bool(s) for s in suspected(arms(signal), LEADS, 100.0, voltage=True)]) > 0.8
    assert np.mean([bool(s) for s in suspected(right_arm_and_leg(signal), LEADS, 100.0, voltage=True)]) > 0.9


def test_no_filtered_ecg_of_ptbxl_is_suspected(shared_data: Path) -> None:
    with np.load(shared_data / "ptbxl1819" / "ptbxl1819_100hz_int16.npz") as held:
        signal = held["x"].transpose(0, 2, 1).astype(np.float32) * np.float32(1e-3)
    assert suspected(signal, LEADS, 100.0, voltage=False) == [None] * 1819
