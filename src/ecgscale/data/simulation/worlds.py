"""The worlds a simulated ECG can come from: one row each of population, prevalence, device and noise.

`code` is the in-distribution world, with the prevalences of the CODE labels; `hospital`, `screening` and `emergency`
are out of distribution. `registry` is `code` with other patients, whose ECGs also carry 72 findings (`findings.py`).

Source: prevalences of `code`: Ribeiro et al. 2020, Nature Communications 11:1760; all else is this project's choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

WorldName = Literal["code", "hospital", "screening", "emergency", "registry"]

CODE_LABELS: tuple[str, ...] = ("1dAVb", "RBBB", "LBBB", "SB", "AF", "ST")
LABELS: tuple[str, ...] = (*CODE_LABELS, "structural", "female")

LATENTS: tuple[str, ...] = ("pr", "qrs", "qt", "r_amplitude", "t_amplitude", "axis")  # standard normal scores of an ECG

# Shifts of the six scores, in their standard deviations. Neither condition touches the waveform in any other way.
STRUCTURAL_SHIFT: tuple[float, ...] = (0.45, 0.50, 0.60, 0.50, -0.70, -0.40)
FEMALE_SHIFT: tuple[float, ...] = (-0.30, -0.70, 0.60, -0.60, -0.50, 0.10)
AGE_SHIFT: tuple[float, ...] = (0.30, 0.10, 0.15, 0.00, -0.25, -0.40)  # per 18 years above 55

AGE_RISK: tuple[float, float] = (0.4, 1.6)  # relative risk of AF and of the three blocks, youngest and oldest; mean 1


@dataclass(frozen=True, slots=True)
class World:
    """Where ECGs are recorded.

    Attributes:
        female: Fraction of the patients.
        age: Mean and standard deviation in years of a normal cut to 18-95.
        sinus_rate: Mean and standard deviation per minute of a normal cut to 61-99, for neither SB nor ST.
        prevalence: Fraction with each of the six CODE labels (before enrichment) and `structural`.
        band_hz: Half-power frequencies of the recorder, second-order roll-off, zero phase.
        resolution_uv: Least significant bit, microvolts.
        gain_sd: Standard deviation of each lead's gain around 1.
        baseline_uv: Baseline wander (mostly below 0.5 Hz) before the band, RMS of the median ECG, microvolts.
        emg_uv: Muscle noise (mostly above 10 Hz) before the band, RMS of the median ECG, microvolts.
        mains_hz: Mains frequency; at a low sampling rate it aliases, as if decimated without a filter.
        mains_uv: Its amplitude before the band, median ECG, microvolts.
        noise_spread: Standard deviation of the logarithm of an ECG's noise levels.
        electrode_sd: Standard deviation of the chest leads' coefficients (limb leads: a quarter): misplaced electrodes.
        findings: Whether its ECGs carry the 72 findings beside the other labels.
    """

    female: float
    age: tuple[float, float]
    sinus_rate: tuple[float, float]
    prevalence: Mapping[str, float]
    band_hz: tuple[float, float]
    resolution_uv: float
    gain_sd: float
    baseline_uv: float
    emg_uv: float
    mains_hz: float
    mains_uv: float
    noise_spread: float
    electrode_sd: float
    findings: bool = False


def _prevalence(*fractions: float) -> dict[str, float]:
    return dict(zip((*CODE_LABELS, "structural"), fractions, strict=True))


WORLDS: dict[WorldName, World] = {
    "code": World(
        female=0.60,
        age=(53.0, 18.0),
        sinus_rate=(75.0, 11.0),
        prevalence=_prevalence(0.015, 0.027, 0.017, 0.016, 0.018, 0.021, 0.18),
        band_hz=(0.3, 40.0),
        resolution_uv=5.0,
        gain_sd=0.03,
        baseline_uv=80.0,
        emg_uv=22.0,
        mains_hz=60.0,
        mains_uv=20.0,
        noise_spread=0.5,
        electrode_sd=0.10,
    ),
    "hospital": World(
        female=0.46,
        age=(66.0, 15.0),
        sinus_rate=(78.0, 12.0),
        prevalence=_prevalence(0.045, 0.060, 0.040, 0.060, 0.070, 0.050, 0.25),
        band_hz=(0.05, 47.0),
        resolution_uv=2.5,
        gain_sd=0.02,
        baseline_uv=110.0,
        emg_uv=16.0,
        mains_hz=50.0,
        mains_uv=15.0,
        noise_spread=0.5,
        electrode_sd=0.07,
    ),
    "screening": World(
        female=0.52,
        age=(38.0, 12.0),
        sinus_rate=(70.0, 10.0),
        prevalence=_prevalence(0.008, 0.016, 0.006, 0.050, 0.006, 0.012, 0.12),
        band_hz=(0.67, 25.0),
        resolution_uv=20.0,
        gain_sd=0.08,
        baseline_uv=150.0,
        emg_uv=35.0,
        mains_hz=50.0,
        mains_uv=40.0,
        noise_spread=0.6,
        electrode_sd=0.18,
    ),
    "emergency": World(
        female=0.50,
        age=(59.0, 20.0),
        sinus_rate=(84.0, 12.0),
        prevalence=_prevalence(0.025, 0.035, 0.025, 0.020, 0.045, 0.090, 0.20),
        band_hz=(0.15, 40.0),
        resolution_uv=5.0,
        gain_sd=0.05,
        baseline_uv=200.0,
        emg_uv=50.0,
        mains_hz=60.0,
        mains_uv=60.0,
        noise_spread=0.5,
        electrode_sd=0.15,
    ),
}
WORLDS["registry"] = replace(WORLDS["code"], findings=True)


def most_enriched(world: WorldName) -> float:
    """Return the largest factor on the CODE prevalences that leaves some of every age without each disease."""
    row, oldest = WORLDS[world].prevalence, AGE_RISK[1]
    sinus = 0.95 * oldest * row["AF"]  # what fibrillation takes from the other rhythms
    shares = (oldest * (row["RBBB"] + row["LBBB"]), row["SB"] + row["ST"] + sinus, oldest * row["1dAVb"] + sinus)
    return 0.95 / max(shares)


def prevalence(world: WorldName, enrich: float) -> dict[str, float]:
    """Return the true fraction of ECGs with each label: the six CODE labels times `enrich`, the others untouched.

    Raises:
        ValueError: `enrich` is more than `most_enriched`.
    """
    row, most = WORLDS[world], most_enriched(world)
    if enrich > most:
        raise ValueError(f"enrich must leave healthy patients in the world {world}, so at most {most:.2f}")
    raised = {name: enrich * row.prevalence[name] for name in CODE_LABELS}
    return {**raised, "structural": row.prevalence["structural"], "female": row.female}
