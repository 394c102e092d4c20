"""A few plain ECG-like records for the `sample` of data sets: steady beats on a dipole, labels that the signal really
shows.

This is no simulator (that is `datasets/simulated.py`); it only fills a source's file format with plausible content.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecgscale.rng import generator

# amplitude mV, centre s after the R wave, width s
_WAVES = {
    "P": (0.12, -0.16, 0.022),
    "Q": (-0.08, -0.028, 0.009),
    "R": (1.0, 0.0, 0.012),
    "S": (-0.2, 0.03, 0.010),
    "T": (0.28, 0.26, 0.05),
}
_REACH = 9.0  # widths from its centre at which a wave is less than a rounding error
_VARIATION = 0.05  # of an RR interval: metronomes with equal rates would look like one recording
_PRECORDIAL = np.array([-0.55, -0.3, 0.3, 0.9, 1.1, 0.9])  # R in V1 … V6 relative to a unit dipole


@dataclass(frozen=True, slots=True)
class Population:
    """Records side by side: signal [record, lead, time] in mV, and what is true of them."""

    signal: npt.NDArray[np.float32]
    patient: npt.NDArray[np.int64]
    age: npt.NDArray[np.float64]
    female: npt.NDArray[np.bool_]
    labels: dict[str, npt.NDArray[np.float64]]


def population(patients: int, records: int, rate_hz: float, seed: int) -> Population:
    """Return `records` ECGs of 10 s of `patients` patients; five labels, each present in about a quarter."""
    draw = generator(seed, "synthetic")
    patient = np.concatenate([np.arange(patients), draw.integers(0, patients, records - patients)]) + 1
    labels = {
        name: (draw.random(records) < 0.25).astype(float) for name in ("fast", "slow", "wide", "tall", "inverted")
    }
    labels["slow"] *= 1 - labels["fast"]
    age, female = draw.integers(18, 90, patients + 1).astype(float), draw.random(patients + 1) < 0.5
    signal = np.stack([_ecg(rate_hz, {k: v[i] > 0 for k, v in labels.items()}, draw) for i in range(records)])
    return Population(signal, patient, age[patient], female[patient], labels)


def _ecg(rate_hz: float, has: dict[str, bool], draw: np.random.Generator) -> npt.NDArray[np.float32]:
    interval = (0.5 if has["fast"] else 1.2 if has["slow"] else 0.85) * draw.uniform(0.95, 1.05)
    time = np.arange(round(10 * rate_hz)) / rate_hz
    every = interval * np.clip(draw.normal(1, _VARIATION, int(12 / interval) + 3), 0.8, 1.2)
    beats = np.cumsum(every) - every[0] - interval * draw.random()
    base = np.zeros_like(time)
    for name, (size, centre, width) in _WAVES.items():
        size *= -1 if name == "T" and has["inverted"] else 1
        width *= 2 if name in "QRS" and has["wide"] else 1
        for peak in beats + centre:
            near = slice(*np.searchsorted(time, (peak - _REACH * width, peak + _REACH * width)))
            base[near] += size * np.exp(-0.5 * ((time[near] - peak) / width) ** 2)
    base *= draw.uniform(0.8, 1.2) * (2.0 if has["tall"] else 1.0)
    axis = np.deg2rad(draw.uniform(20, 70))
    one, two = base * np.cos(axis), base * np.cos(axis - np.pi / 3)
    noise = draw.normal(0, 0.008, (8, len(time)))
    one, two = one + noise[0], two + noise[1]
    limb = np.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2])
    chest = _PRECORDIAL[:, None] * base + noise[2:]
    return np.concatenate([limb, chest]).astype(np.float32)
