"""The true state of simulated patients and ECGs: traits, intervals, beats and labels, a fixed chunk of patients at a
time.

The six CODE labels are exclusive where physiology says so: RBBB or LBBB; sinus bradycardia, sinus tachycardia and
first-degree block only in sinus rhythm. Each obeys its definition exactly, in the waveform's own intervals: PR > 200
ms; QRS >= 120 ms; rate < 60; no P and irregular RR; rate > 100.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from ecgscale import rng
from ecgscale.data.simulation import findings
from ecgscale.data.simulation.worlds import (
    AGE_RISK,
    AGE_SHIFT,
    FEMALE_SHIFT,
    LABELS,
    LATENTS,
    STRUCTURAL_SHIFT,
    WORLDS,
    WorldName,
    prevalence,
)

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Int = npt.NDArray[np.int64]

PATIENTS = 128  # per chunk; part of a record's identity, so never changed without a new revision of the data set
LENGTH_S = 10.0
TRAITS = 16  # independent normals of a patient's body; six of them bear on findings, none on other labels
_BEATS = 36  # enough for 150 per minute
_VISITS = (0.55, 0.30, 0.15)  # fraction of the patients with one, two and three ECGs
_STABLE = 0.7  # variance of the six scores that an ECG shares with the patient's others


@dataclass(frozen=True, slots=True)
class Latents:
    """One chunk of patients; every array has one row per ECG, ECGs of a patient side by side.

    Attributes:
        patient: Patient number.
        visit: 0, 1, 2: which of the patient's ECGs.
        age: Years.
        labels: [ecg, label] the truth, columns as `LABELS`, then `FINDINGS` where the world has them.
        reader: [ecg, label] uniforms that decide where the reader errs.
        scores: [ecg, latent] columns as `LATENTS`; unit normals around the shifts of age, sex and structural.
        age_mean: [ecg, latent] the part of `scores` that age explains.
        pr_s: Seconds from P onset to QRS onset; NaN in fibrillation.
        qrs_s: Seconds.
        qt_s: Seconds from QRS onset to the end of T.
        rate: Beats per minute between the first and the last R peak of the ten seconds.
        beats_s: [ecg, beat] R-peak times from two beats before the window to past its end.
        incomplete: An rSr' in V1 with a QRS below 120 ms: no label, a look-alike of RBBB.
        traits: [ecg, trait] the patient's body.
        respiration: [ecg, 2] frequency in Hz and phase.
    """

    patient: Int
    visit: Int
    age: Float
    labels: Bool
    reader: Float
    scores: Float
    age_mean: Float
    pr_s: Float
    qrs_s: Float
    qt_s: Float
    rate: Float
    beats_s: Float
    incomplete: Bool
    traits: Float
    respiration: Float

    def truth(self, label: str) -> Bool:
        """Return the true label of every ECG."""
        return self.labels[:, LABELS.index(label)]

    def score(self, latent: str) -> Float:
        """Return one score of every ECG."""
        return self.scores[:, LATENTS.index(latent)]


def _patients(random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Which patient of the chunk each of its ECGs is of."""
    return np.repeat(np.arange(PATIENTS), 1 + random.choice(3, PATIENTS, p=_VISITS))


def ecgs(world: WorldName, seed: int, chunk: int) -> int:
    """Return how many ECGs the patients of a chunk have."""
    return len(_patients(rng.generator(seed, "simulated", world, "latents", chunk)))


def draw(world: WorldName, seed: int, chunk: int, enrich: float) -> Latents:
    """Draw patients `chunk * PATIENTS` and following: a function of these arguments only."""
    row, random = WORLDS[world], rng.generator(seed, "simulated", world, "latents", chunk)
    at = _patients(random)
    count = len(at)
    visit = np.arange(count) - np.searchsorted(at, at)
    u_age, u_sex, u_structural, u_af, u_block, u_bundle, u_ectopic, u_incomplete = random.random((8, PATIENTS))[:, at]
    stable = random.standard_normal((PATIENTS, len(LATENTS) + 1))[at]
    normal = np.sqrt(_STABLE) * stable + np.sqrt(1 - _STABLE) * random.standard_normal((count, len(LATENTS) + 1))

    age = _cut_normal(u_age, *row.age, 18.0, 95.0)
    fraction, risk = prevalence(world, enrich), AGE_RISK[0] + (AGE_RISK[1] - AGE_RISK[0]) * u_age
    af, sinus = u_af < fraction["AF"] * risk, 1 - fraction["AF"] * risk
    block = ~af & (u_block < fraction["1dAVb"] * risk / sinus)
    rbbb, lbbb = u_bundle < fraction["RBBB"] * risk, u_bundle > 1 - fraction["LBBB"] * risk
    structural, female = u_structural < row.prevalence["structural"], u_sex < row.female
    rate, slow, fast = _rate(normal[:, -1], af, fraction["SB"] / sinus, fraction["ST"] / sinus, row.sinus_rate)

    age_mean = np.outer((age - 55.0) / 18.0, AGE_SHIFT)
    scores = normal[:, :-1] + age_mean + np.outer(structural, STRUCTURAL_SHIFT) + np.outer(female, FEMALE_SHIFT)
    incomplete = ~(rbbb | lbbb) & (u_incomplete < 0.05)
    pr, qrs, qt = _intervals(scores, rate, af, block, rbbb | lbbb, incomplete)
    respiration = np.stack([random.uniform(0.18, 0.33, count), random.uniform(0, 2 * np.pi, count)], 1)
    beats = _beats(rate, af, (u_ectopic < 0.08) & (rate < 95), age, respiration, random)
    drawn = Latents(
        patient=chunk * PATIENTS + at,
        visit=visit,
        age=age,
        labels=np.stack([block, rbbb, lbbb, slow, af, fast, structural, female], 1),
        reader=random.random((count, len(LABELS))),
        scores=scores,
        age_mean=age_mean,
        pr_s=pr,
        qrs_s=qrs,
        qt_s=qt,
        rate=rate,
        beats_s=beats,
        incomplete=incomplete,
        traits=random.standard_normal((PATIENTS, TRAITS))[at],
        respiration=respiration,
    )
    return _with_findings(drawn, world, seed, chunk) if row.findings else drawn


def _with_findings(drawn: Latents, world: WorldName, seed: int, chunk: int) -> Latents:
    ages = _cut_normal(findings.quantiles(), *WORLDS[world].age, 18.0, 95.0)
    there = findings.present(world, drawn.scores, drawn.traits, ages)
    reader = rng.generator(seed, "simulated", world, "findings", chunk).random(there.shape)
    return replace(drawn, labels=np.hstack([drawn.labels, there]), reader=np.hstack([drawn.reader, reader]))


def _cut_normal(quantile: Float, mean: float, sd: float, low: float, high: float) -> Float:
    """Quantiles of a normal cut to [low, high]."""
    below, above = ndtr((np.array([low, high]) - mean) / sd)
    return np.asarray(mean + sd * ndtri(below + quantile * (above - below)))


def _rate(score: Float, af: Bool, slow: Float, fast: Float, sinus: tuple[float, float]) -> tuple[Float, Bool, Bool]:
    """Heart rate per minute and whether it is sinus bradycardia or tachycardia: one monotone map of one score."""
    u = ndtr(score)
    is_slow, is_fast = ~af & (u < slow), ~af & (u > 1 - fast)
    inner = np.clip((u - slow) / (1 - slow - fast), 0.0, 1.0)
    rate = _cut_normal(inner, *sinus, 61.0, 99.0)
    rate = np.where(is_slow, _cut_normal(u / slow, 55.0, 7.0, 38.0, 59.0), rate)
    rate = np.where(is_fast, _cut_normal((u - 1 + fast) / fast, 104.0, 16.0, 101.0, 150.0), rate)
    return np.where(af, _cut_normal(u, 88.0, 22.0, 50.0, 150.0), rate), is_slow, is_fast


def _intervals(
    scores: Float, rate: Float, af: Bool, block: Bool, bundle: Bool, incomplete: Bool
) -> tuple[Float, Float, Float]:
    """PR, QRS and QT in seconds: monotone maps of their scores on either side of each definition's limit.

    QT follows rate by the cube root of RR (Fridericia 1920) and grows with a wide QRS.
    """
    z_pr, z_qrs, z_qt = scores[:, 0], scores[:, 1], scores[:, 2]
    pr = np.where(block, 205.0 + 35.0 * np.logaddexp(0, z_pr + 0.3), 155.0 + 40.0 * np.tanh(z_pr * 0.5))
    narrow = 92.0 + 16.0 * np.tanh(z_qrs * 0.56) + np.where(incomplete, 8.0, 0.0)
    qrs = np.where(bundle, 124.0 + 14.0 * np.logaddexp(0, z_qrs + 1.0), narrow)
    qt = (405.0 + 20.0 * z_qt) * np.cbrt(60.0 / rate) + 0.7 * (qrs - 92.0)
    return np.where(af, np.nan, pr) / 1e3, qrs / 1e3, np.maximum(qt, qrs + 120.0) / 1e3


def _beats(rate: Float, af: Bool, ectopic: Bool, age: Float, respiration: Float, random: np.random.Generator) -> Float:
    """R-peak times [ecg, beat] in seconds; from the first to the last peak in the window the mean rate is `rate`."""
    mean, index = 60.0 / rate[:, None], np.arange(_BEATS)
    normal, uniform = random.standard_normal((len(rate), _BEATS)), random.random((len(rate), _BEATS + 1))
    arrhythmia = (0.06 * np.exp((20.0 - age) / 40.0))[:, None]
    breath = np.sin(2 * np.pi * respiration[:, :1] * index * mean + respiration[:, 1:])
    factor = 1 + arrhythmia * breath + 0.012 * normal
    early = ectopic[:, None] & (uniform[:, 1:] < 0.12)
    early[:, 1:] &= ~early[:, :-1]
    factor = factor - 0.28 * early + 0.28 * np.roll(early, 1, 1)
    factor = np.where(af[:, None], np.clip(np.exp(0.22 * normal), 0.55, 1.9), factor)
    first = uniform[:, :1] * mean
    inside = np.floor((LENGTH_S - first) / mean)  # intervals between the window's first and last peak
    factor /= (factor * (index < inside)).sum(1, keepdims=True) / inside
    factor = np.where(index == inside, np.maximum(factor, 1.0), factor)  # the next peak falls outside
    before = first - mean * np.array([2.0, 1.0])
    return np.concatenate([before, first, first + mean * np.cumsum(factor, 1)], 1)
