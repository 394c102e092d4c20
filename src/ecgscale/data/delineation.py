"""The median beat of a record and where its waves begin and end.

The record is interpolated to 500 Hz by its spectrum, beats are aligned by their spatial velocity, premature beats are
set aside and the rest is reduced to one median beat per lead. QRS lies where the spatial velocity
v(t) = sqrt(sum over leads of x'(t)^2) stands above its surroundings; P and T are projected on the direction in lead
space in which they are greatest, and end where the tangent at their steepest flank meets the baseline.

Source: spatial velocity: Rubel et al., CSE working party, Eur Heart J 1985;6:815; tangent: Lepeschkin and Surawicz
1952, Circulation 6:378.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.ndimage import uniform_filter1d

Float = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]

FINE_HZ = 500.0
BEFORE_S, AFTER_S = 0.45, 0.65  # of the median beat around its centre: a PR of 350 ms, a QT of 600 ms
CENTRE = round(BEFORE_S * FINE_HZ)  # index of the centre of QRS in a median beat

_HIGHPASS_HZ = 0.4
_ALIGN_S = 0.03
_PREMATURE = 0.85  # of the median RR
_QRS_REACH_S = 0.13  # half of the widest QRS
_QRS_LEVEL = 0.06  # of the way from the stillest tenth to the fastest part of QRS
_NOISE = 4.0  # times the lower quartile less the twentieth of the velocity: what noise alone reaches
_STILL = 8  # samples below that level end QRS
_T_TAIL = 1.35  # a Gaussian wave's tangent ends at 2 sigma, where readers see it end at 2.35
_P_TAIL = 1.15  # less than T's: its two atria make it steeper at its ends than one Gaussian
_P_GAP = 10  # samples between the T wave before and where P is looked for
_FOOT = 50  # samples in which T reaches its baseline once it is below 0.3 of its peak
_BEATS = 11  # at most, spread over the record
_P_COHERENCE = 0.6  # below it the power before QRS is no more than noise or fibrillation leaves in a median
_ABSOLUTE_TO_SQUARE = np.pi / 2  # mean square over squared mean of absolute normal deviates


@dataclass(frozen=True, slots=True)
class MedianBeat:
    """One record's median beat at 500 Hz.

    Attributes:
        lead: [lead, time] median over the beats kept, baseline 0 just before QRS.
        spread: [lead, time] mean absolute difference of the beats from it.
        rr_s: Median RR interval of the record, NaN with fewer than two beats.
        beats: How many beats it is the median of.
    """

    lead: Float
    spread: Float
    rr_s: float
    beats: int


@dataclass(frozen=True, slots=True)
class Waves:
    """Boundaries in a median beat, in samples of 500 Hz from its start; NaN where there is no such wave.

    Attributes:
        qrs_on, qrs_off, p_on, p_off, t_peak, t_off: Positions.
        p_size: Height of P in its own direction over all leads, in the signal's unit.
        p_coherence: Fraction of the median's power before QRS that the scatter of the beats does not explain: near 1
            with P waves, near 0 without; NaN for a single beat.
    """

    qrs_on: float
    qrs_off: float
    p_on: float
    p_off: float
    t_peak: float
    t_off: float
    p_size: float
    p_coherence: float


def interpolate(signal: Float, rate_hz: float) -> Float:
    """Return one record [lead, time] at 500 Hz without its mean, its trend and what lies below 0.4 Hz."""
    samples = signal.shape[-1]
    edge = max(1, round(0.2 * rate_hz))
    first, last = signal[:, :edge].mean(axis=1), signal[:, -edge:].mean(axis=1)
    level = signal - first[:, None] - (last - first)[:, None] * np.linspace(0, 1, samples, dtype=np.float32)
    padded = next_fast_len(samples + round(rate_hz), real=True)
    fine = round(padded * FINE_HZ / rate_hz)
    spectrum = rfft(level, n=padded, axis=-1)[:, : fine // 2 + 1]
    spectrum *= _gain(padded, rate_hz)[: fine // 2 + 1]
    whole: Float = irfft(spectrum, n=fine, axis=-1)
    return whole[:, : round(samples * FINE_HZ / rate_hz)]


@lru_cache(maxsize=8)
def _gain(samples: int, rate_hz: float) -> Float:
    """Gain of the high-pass filter at the frequencies of a real transform, times the ratio of the two rates."""
    frequency = rfftfreq(samples, 1 / rate_hz)
    gain: Float = (1 - np.exp(-0.5 * (frequency / _HIGHPASS_HZ) ** 2)).astype(np.float32)
    gain *= round(samples * FINE_HZ / rate_hz) / samples
    return gain


def median_beat(fine: Float, beats: Index) -> MedianBeat | None:
    """Return the median beat of a record.

    Args:
        fine: [lead, time] at 500 Hz, from `interpolate`, present leads only.
        beats: [beat] sample indices at 500 Hz.

    Returns:
        The median beat, or None where no beat lies far enough inside the record.
    """
    before, after = CENTRE, round(AFTER_S * FINE_HZ)
    if fine.shape[-1] < before + after or len(beats) == 0:
        return None
    velocity = _speed(fine)
    usable = _usable(beats, before, fine.shape[-1] - after)
    if len(usable) == 0:
        return None
    at = _aligned(velocity, usable)
    at = at[(at >= before) & (at <= fine.shape[-1] - after)]
    if len(at) == 0:
        return None
    at = at[np.unique(np.linspace(0, len(at) - 1, _BEATS).round().astype(np.int64))]
    stack = np.stack([fine[:, centre - before : centre + after] for centre in at])
    stack -= stack[:, :, before - 45 : before - 30].mean(axis=-1, keepdims=True)
    middle, stack = _dominant(_median(stack), stack)
    spread = np.abs(stack - middle).mean(axis=0)
    return MedianBeat(middle, spread, median(np.diff(beats)) / FINE_HZ, len(stack))


def median(values: npt.NDArray[Any]) -> float:
    """Return the median of a few values, NaN of none: np.median takes 30 times as long to start."""
    line = sorted(values.tolist())
    return float((line[(len(line) - 1) // 2] + line[len(line) // 2]) / 2) if line else float("nan")


def _speed(signal: Float) -> Float:
    """Return the spatial velocity [time] of [lead, time]: the length over the leads of the change in 8 ms."""
    change = signal[:, 4:] - signal[:, :-4]
    speed = np.zeros(signal.shape[-1], np.float32)
    np.sqrt(np.einsum("lt,lt->t", change, change), out=speed[2:-2])
    return speed


def _usable(beats: Index, least: int, most: int) -> Index:
    """Beats wholly inside the record that do not come early; all of those inside if that leaves none."""
    inside = (beats >= least) & (beats <= most)
    if len(beats) > 3:
        rr = np.diff(beats, prepend=2 * beats[0] - beats[1])
        regular = rr >= _PREMATURE * median(rr[1:])
        if (inside & regular).sum() >= 3:
            return beats[inside & regular]
    return beats[inside]


def _aligned(velocity: Float, beats: Index) -> Index:
    """Shift every beat by up to 30 ms to where its velocity correlates best with that of the average beat."""
    reach, half = round(_ALIGN_S * FINE_HZ), round(0.08 * FINE_HZ)
    around = np.clip(beats[:, None] + np.arange(-half - reach, half + reach + 1), 0, len(velocity) - 1)
    pieces = velocity[around]
    at = np.zeros(len(beats), np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(pieces, 2 * half + 1, axis=1)
    for _ in range(2):
        template = windows[np.arange(len(beats)), reach + at].mean(axis=0)
        at = (windows @ template).argmax(axis=1) - reach
    return np.add(beats, at)


def _dominant(middle: Float, stack: Float) -> tuple[Float, Float]:
    """Leave out beats whose QRS does not look like the median's, if most do, and take the median again."""
    span = slice(CENTRE - 50, CENTRE + 50)
    shape, beats = middle[:, span].reshape(-1), stack[:, :, span].reshape(len(stack), -1)
    size = np.sqrt((shape @ shape) * np.square(beats).sum(axis=1))
    alike = beats @ shape > 0.85 * size
    if alike.all() or alike.sum() < max(2, 0.5 * len(stack)):
        return middle, stack
    stack = stack[alike]
    return _median(stack), stack


def _median(stack: Float) -> Float:
    """Return the (lower) median over the first axis by comparing whole beats: five times np.median's speed."""
    beats: list[Float] = list(stack)
    for i in range((len(beats) + 1) // 2):
        for j in range(i + 1, len(beats)):
            beats[i], beats[j] = np.minimum(beats[i], beats[j]), np.maximum(beats[i], beats[j])
    return beats[(len(beats) - 1) // 2]


def delineate(beat: MedianBeat) -> Waves:
    """Return where the waves of a median beat begin and end.

    Source: see the module's head; the levels were set on the even-numbered records of LUDB.
    """
    speed = _speed(uniform_filter1d(beat.lead, 5, axis=-1))
    qrs_on, qrs_off = _qrs(speed)
    rr = beat.rr_s * FINE_HZ if np.isfinite(beat.rr_s) else beat.lead.shape[-1]
    t_peak, t_off = _t_wave(beat.lead, qrs_on, qrs_off, rr)
    p_on, p_off, size, coherence = _p_wave(beat, qrs_on, t_off - rr)
    return Waves(qrs_on, qrs_off, p_on, p_off, t_peak, t_off, size, coherence)


def _qrs(speed: Float) -> tuple[int, int]:
    """Walk out from the fastest part of QRS until the spatial velocity stays below a fraction of its peak."""
    reach = round(_QRS_REACH_S * FINE_HZ)
    top = CENTRE - 30 + int(speed[CENTRE - 30 : CENTRE + 31].argmax())
    left, right = max(0, CENTRE - reach - 20), min(len(speed), CENTRE + reach + 40)
    lowest = np.partition(speed, (len(speed) // 20, len(speed) // 4))
    noise = _NOISE * float(lowest[len(speed) // 4] - lowest[len(speed) // 20])
    on = _still(speed[left : top + 1][::-1], noise)
    off = _still(speed[top:right], noise)
    return top - on, top + off


def _still(speed: Float, noise: float) -> int:
    """Return how many samples from the first one on the speed needs to fall and stay below the QRS level."""
    quiet = float(np.partition(speed, len(speed) // 10)[len(speed) // 10])
    level = quiet + max(noise, _QRS_LEVEL * (float(speed[0]) - quiet))
    below = np.concatenate([[0], np.cumsum(speed <= level)])
    runs = np.flatnonzero(below[_STILL:] - below[:-_STILL] == _STILL)
    return int(runs[0]) if len(runs) else len(speed) - 1


def _direction(piece: Float) -> Float:
    """Project [lead, time] on its principal direction over the leads, its greatest deviation upwards."""
    vectors = np.linalg.eigh((piece @ piece.T).astype(np.float64))[1]
    line = (vectors[:, -1].astype(np.float32) @ piece).astype(np.float32)
    return line if line.max() >= -line.min() else -line


def _t_wave(lead: Float, qrs_on: int, qrs_off: int, rr: float) -> tuple[float, float]:
    """Peak and end of T: the tangent at the steepest descent of the projected wave meets the level after it."""
    start = qrs_off + 30
    stop = int(min(lead.shape[-1], qrs_on + max(0.75 * rr, 150)))
    if stop - start < 40:
        return float("nan"), float("nan")
    line = uniform_filter1d(_direction(lead[:, start:stop]), 9)
    peak = int(line.argmax())
    if peak > len(line) - 15:
        return float("nan"), float("nan")
    fall = np.diff(line[peak:])
    low = np.flatnonzero(line[peak + 1 :] < 0.3 * line[peak])
    foot = int(low[0]) + 1 if len(low) else len(fall)  # what falls later is the next P
    steep = int(fall[:foot].argmin())
    if fall[steep] >= 0:
        return float("nan"), float("nan")
    base = float(line[peak + steep : peak + foot + _FOOT].min())
    base = max(base, 0.0) if base > 0 else 0.5 * base
    end = steep + _T_TAIL * (base - line[peak + steep]) / fall[steep]
    return float(start + peak), float(start + peak + min(end, len(line) - peak))


def _p_wave(beat: MedianBeat, qrs_on: int, t_before: float) -> tuple[float, float, float, float]:
    """Onset, end, height and coherence of P, between the T wave before it and QRS."""
    nan = float("nan")
    stop = qrs_on - 8
    start = int(max(0, qrs_on - 165, t_before + _P_GAP if np.isfinite(t_before) else 0))
    if stop - start < 40:
        return nan, nan, nan, nan
    piece = beat.lead[:, start:stop]
    ramp = np.linspace(0, 1, stop - start, dtype=np.float32)
    first, last = piece[:, :8].mean(axis=1, keepdims=True), piece[:, -5:].mean(axis=1, keepdims=True)
    piece = piece - first - (last - first) * ramp
    line = uniform_filter1d(_direction(piece), 9)
    peak = int(line.argmax())
    size = float(line[peak])
    shared = float(np.square(piece).mean())
    noise = float(np.square(beat.spread[:, start:stop]).mean()) * _ABSOLUTE_TO_SQUARE / beat.beats
    coherence = max(0.0, 1 - noise / shared) if shared > 0 and beat.beats > 1 else nan
    if peak < 8 or peak > len(line) - 4 or not coherence >= _P_COHERENCE:
        return nan, nan, size, coherence
    rise = np.diff(line[: peak + 1])
    steep = int(rise.argmax())
    onset = steep - _P_TAIL * line[steep] / rise[steep] if rise[steep] > 0 else nan
    fall = np.diff(line[peak:])
    down = int(fall.argmin())
    end = peak + down - _P_TAIL * line[peak + down] / fall[down] if fall[down] < 0 else nan
    return start + max(onset, 0.0), start + min(end, len(line) - 1.0), size, coherence
