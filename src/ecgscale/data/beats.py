"""Where the heart beats: the sample index of every QRS complex, found once per record from all its leads.

`energy`, in the manner of Pan and Tompkins (1985, doi:10.1109/TBME.1985.325532), squares a band-pass difference
d[t] = 2 x[t] - x[t - 40 ms] - x[t + 40 ms] of every lead, divides it by the lead's own usual peak, so that millivolts
and z-scores are alike, and adds the leads weighted by how far their peaks stand above their mean. Peaks of that energy
are thinned by a refractory period, a threshold and a T-wave rule; long pauses are searched again with half the
threshold. `xqrs` is the published finder, wfdb's XQRS on lead I.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter1d, uniform_filter1d

from ecgscale.data import padding

Float = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]
Index = npt.NDArray[np.int32]
Position = npt.NDArray[np.intp]
Seconds = npt.NDArray[np.float64]
Finder = Literal["energy", "xqrs"]

REVISION = 1  # raise it whenever a beat may move: it is part of a corpus's digest
FINDERS: tuple[Finder, ...] = ("energy", "xqrs")

MIN_RATE_HZ = 50.0  # below it the QRS slope is not sampled
_SHORTEST_S = 0.5  # below it nothing tells a beat from noise
_CHUNK = 32  # records at a time: one chunk of 12 leads stays in the cache
_GLANCE = 50  # samples apart: few leads are zero at all of these and not everywhere
_WORK_RATE_HZ = 100.0  # finer signals are averaged down to between this and twice this
_STEP_S = 0.04  # of the difference: its gain is greatest at 12.5 Hz, where the QRS is, and zero at 0, 25 and 50 Hz
_ENERGY_S = 0.10  # a QRS complex
_BLOCK_S = 2.0  # one beat at least at 30/min
_REFRACTORY_S = 0.22  # 220/min has a beat every 0.273 s
_T_WAVE_S = 0.38  # the steepest part of T comes no later than this after R
_THRESHOLD = 0.36  # of the way from the floor to the usual peak of the root energy
_SEARCH_BACK = 0.5  # of the threshold, in a pause
_PAUSE = 1.6  # usual RR intervals
_CENTRE_S = 0.06  # half of a wide QRS
_T_RATIO = 0.7  # a T wave's height against that of its QRS
_RISE = 1.6  # the usual peak against the floor, 60 ms energy: at most 1.6 in noise of 12 leads, 2.3 of 3, 4.0 of one
_RISE_ONE_LEAD = 2.4


def find_beats(signal: Float, rate_hz: float, lead_ok: Bool | None = None, finder: Finder = "energy") -> list[Index]:
    """Find the QRS complexes of every record.

    Args:
        signal: ECG [record, lead, time], any unit, even a different one per lead.
        rate_hz: Samples per second, at least 50.
        lead_ok: [record, lead], False where a lead is missing; None if none is.
        finder: "energy" (all leads) or "xqrs" (the first lead that is present, lead I in the standard order).

    Returns:
        One rising array of sample indices per record; empty where no beat was found, as in a flat record
        or one shorter than half a second.

    Raises:
        ValueError: wrong shapes, NaN or infinite samples, a rate below 50 Hz or an unknown finder.

    Source: Pan and Tompkins (1985) for the energy; wfdb.processing.xqrs_detect for "xqrs".
    """
    signal = np.asarray(signal, np.float32)
    present = np.ones(signal.shape[:2], bool) if lead_ok is None else np.asarray(lead_ok, bool)
    _check(signal, rate_hz, present)
    if finder not in FINDERS:
        raise ValueError(f'"{finder}" is not a beat finder; expected one of {", ".join(FINDERS)}')
    if signal.shape[-1] < _SHORTEST_S * rate_hz:
        return [np.empty(0, np.int32) for _ in signal]
    if finder == "xqrs":
        return [_xqrs(record, rate_hz, ok) for record, ok in zip(signal, present, strict=True)]
    beats: list[Index] = []
    for start in range(0, len(signal), _CHUNK):
        beats += _by_energy(signal[start : start + _CHUNK], rate_hz, present[start : start + _CHUNK])
    return beats


def padded(beats: Sequence[npt.NDArray[np.integer]]) -> Index:
    """Return beats as one array [record, beat], the shorter rows ending in -1."""
    out = np.full((len(beats), max(map(len, beats), default=0)), -1, np.int32)
    for row, found in zip(out, beats, strict=True):
        row[: len(found)] = found
    return out


def agreement(found_s: Sequence[Seconds], true_s: Sequence[Seconds], within_s: float) -> tuple[float, float]:
    """Return the sensitivity and the precision of found beats against true ones.

    Every true beat is matched with the nearest free found one; found beats outside the span of a record's true beats
    do not count, because nothing is known there.

    Args:
        found_s, true_s: Rising times of the beats of every record, s; a record has at least one true beat.
        within_s: The farthest that a match may be off, s.
    """
    hits = wanted = given = 0
    for found, true in zip(found_s, true_s, strict=True):
        found = found[(found >= true[0] - within_s) & (found <= true[-1] + within_s)]
        free = np.ones(len(found), bool)
        for beat in true:
            gaps = np.where(free, np.abs(found - beat), np.inf)
            if len(gaps) and gaps.min() <= within_s:
                free[gaps.argmin()] = False
        hits, wanted, given = hits + int((~free).sum()), wanted + len(true), given + len(found)
    return hits / wanted, hits / given


def _by_energy(signal: Float, rate_hz: float, present: Bool) -> list[Index]:
    coarse, factor = _coarse(_held(signal), rate_hz)
    rate_hz /= factor
    root, place = _root_energy(coarse, rate_hz, present)
    usual, floor = _usual_peak(root, rate_hz), _floor(root)
    leads = np.maximum((present & _heard(coarse)).sum(axis=1), 1)
    peaked = _usual_peak(place, rate_hz) > (_RISE + _RISE_ONE_LEAD / leads) * _floor(place)
    row, top = np.nonzero(_tops(root, rate_hz) & peaked[:, None])
    height = np.minimum((root[row, top] - floor[row]) / (usual - floor)[row], 3)
    ends = np.searchsorted(row, np.arange(len(root) + 1))
    kept = np.zeros(len(row), bool)
    for start, end in pairwise(ends.tolist()):
        kept[start:end][_choose(top[start:end].tolist(), height[start:end].tolist(), rate_hz)] = True
    centre = _centre(row[kept], top[kept], place, rate_hz) * factor + (factor - 1) / 2
    return np.split(np.rint(centre).astype(np.int32), np.searchsorted(row[kept], np.arange(1, len(root))))


def _check(signal: Float, rate_hz: float, present: Bool) -> None:
    if signal.ndim != 3:
        raise ValueError(f"signal has {signal.ndim} axes, expected three: record, lead, time")
    if present.shape != signal.shape[:2]:
        raise ValueError(
            f"lead_ok has shape {present.shape}, expected {signal.shape[:2]}, as signal has records and leads"
        )
    if not rate_hz >= MIN_RATE_HZ:
        raise ValueError(
            f"rate_hz is {rate_hz:g}, expected at least {MIN_RATE_HZ:g} to find beats; resample the signal"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # NaN and infinity are what is being looked for
        if np.isfinite(signal.sum()):
            return
    sums = signal.sum(axis=(1, 2), dtype=np.float64)
    if not np.isfinite(sums).all():
        row = int(np.flatnonzero(~np.isfinite(sums))[0])
        raise ValueError(f"record at row {row} has NaN or infinite samples, expected numbers; leave it out or mend it")


def _samples(seconds: float, rate_hz: float, least: int = 1) -> int:
    return max(least, round(seconds * rate_hz))


def _held(signal: Float) -> Float:
    """Replace the zeros that pad a short record by its last sample, which makes no false beat where it ends."""
    ends = padding.ends(signal)
    padded = np.flatnonzero((ends > 0) & (ends < signal.shape[-1]))
    if len(padded) == 0:
        return signal
    held = signal.copy()
    for row, end in zip(padded.tolist(), ends[padded].tolist(), strict=True):
        held[row, :, end:] = held[row, :, end - 1 : end]
    return held


def _heard(signal: Float) -> Bool:
    """Return [record, lead]: is any sample not zero?"""
    heard: Bool = np.asarray(signal[..., ::_GLANCE].any(axis=-1))
    heard[~heard] = signal[~heard].any(axis=-1)
    return heard


def _coarse(signal: Float, rate_hz: float) -> tuple[Float, int]:
    """Average blocks of samples so that 100 to 200 remain per second; return the signal and the block length."""
    factor = max(1, int(rate_hz // _WORK_RATE_HZ))
    if factor == 1:
        return signal, 1
    whole = signal.shape[-1] // factor * factor
    return signal[..., :whole].reshape(*signal.shape[:-1], -1, factor).mean(axis=-1, dtype=np.float32), factor


def _curvature(signal: Float, rate_hz: float) -> Float:
    """Return the second difference over 80 ms of the lightly smoothed signal, same shape, zero at both ends."""
    step = _samples(_STEP_S, rate_hz)
    curvature = np.zeros_like(signal)
    if signal.shape[-1] <= 2 * step + 2:
        return curvature
    smooth = signal[..., 1:-1] * np.float32(2)
    smooth += signal[..., :-2]
    smooth += signal[..., 2:]
    inner = curvature[..., step + 1 : -step - 1]
    np.multiply(smooth[..., step:-step], 2, out=inner)
    inner -= smooth[..., : -2 * step]
    inner -= smooth[..., 2 * step :]
    return curvature


def _root_energy(signal: Float, rate_hz: float, present: Bool) -> tuple[Float, Float]:
    """Return the root of the QRS energy of all leads, averaged over 100 ms and over 60 ms: twice [record, time]."""
    power = _curvature(signal, rate_hz)
    np.square(power, out=power)
    peak = _usual_peak(power, rate_hz)
    np.minimum(power, peak[..., None], out=power)  # an artefact of one lead does not outweigh the others
    mean = power.mean(axis=-1)
    gain = np.where(present & (mean > 0), 1 / np.where(mean > 0, mean, 1), 0).astype(np.float32)  # weight / peak
    energy = np.matmul(gain[:, None], power)[:, 0]
    wide = uniform_filter1d(energy, _samples(_ENERGY_S, rate_hz) | 1, axis=-1, mode="constant")
    narrow = uniform_filter1d(energy, _samples(_CENTRE_S, rate_hz) | 1, axis=-1, mode="constant")
    return np.sqrt(np.maximum(wide, 0)), np.sqrt(np.maximum(narrow, 0))


def _tops(root: Float, rate_hz: float) -> Bool:
    """Return where the root energy is the greatest within half a refractory period on either side: [record, time]."""
    reach = 2 * _samples(_REFRACTORY_S / 2, rate_hz) + 1
    greatest = maximum_filter1d(root, reach, axis=-1, mode="constant")
    top: Bool = (root == greatest) & (root > 0)
    top[:, 1:] &= ~top[:, :-1]  # one sample of a plateau
    return top


def _usual_peak(power: Float, rate_hz: float) -> Float:
    """Return the median, over blocks of two seconds with any power, of the greatest value: all axes but time."""
    block = min(_samples(_BLOCK_S, rate_hz), power.shape[-1])
    whole = power.shape[-1] // block * block
    peaks = np.sort(power[..., :whole].reshape(*power.shape[:-1], -1, block).max(axis=-1), axis=-1)
    heard = (peaks > 0).sum(axis=-1, keepdims=True)
    middle = peaks.shape[-1] - 1 - heard // 2
    return np.take_along_axis(peaks, np.minimum(middle, peaks.shape[-1] - 1), axis=-1)[..., 0]


def _floor(root: Float) -> Float:
    """Return the lower quartile [record]: what lies between the waves, even at 220/min."""
    quarter = root.shape[-1] // 4
    return np.partition(root, quarter, axis=-1)[:, quarter]


def _choose(tops: list[int], height: list[float], rate_hz: float) -> list[int]:
    """Return which peaks of one record are beats; `height` is 0 at the record's floor and 1 at its usual peak."""
    chosen = _thin(tops, height, rate_hz)
    if len(chosen) > 2:
        chosen += _search_back(chosen, tops, height, rate_hz)
    return chosen


def _thin(tops: list[int], height: list[float], rate_hz: float) -> list[int]:
    """Return the positions in `tops` that are high enough, far enough apart and no T wave of the one before."""
    refractory, t_wave = _REFRACTORY_S * rate_hz, _T_WAVE_S * rate_hz
    chosen: list[int] = []
    last, last_high = -t_wave, 0.0
    for i, (top, high) in enumerate(zip(tops, height, strict=True)):
        if high < _THRESHOLD:
            continue
        gap = top - last
        if gap < refractory:
            if high <= last_high:
                continue
            chosen[-1] = i
        elif gap >= t_wave or high >= _T_RATIO * last_high:
            chosen.append(i)
        else:
            continue
        last, last_high = top, high
    return chosen


def _search_back(chosen: list[int], tops: list[int], height: list[float], rate_hz: float) -> list[int]:
    """Return the highest peak of every pause longer than 1.6 usual RR intervals, if it reaches the lower threshold."""
    intervals = [tops[right] - tops[left] for left, right in pairwise(chosen)]
    usual = sorted(intervals)[len(intervals) // 2]
    if max(intervals) <= _PAUSE * usual:
        return []
    guard = max(_T_WAVE_S * rate_hz, 0.5 * usual)
    found: list[int] = []
    for (left, right), interval in zip(pairwise(chosen), intervals, strict=True):
        if interval > _PAUSE * usual:
            inside = [i for i in range(left + 1, right) if tops[left] + guard < tops[i] < tops[right] - guard]
            best = max(inside, key=lambda i: height[i], default=left)
            if best != left and height[best] >= _SEARCH_BACK * _THRESHOLD:
                found.append(best)
    return found


def _centre(row: Position, top: Position, place: Float, rate_hz: float) -> npt.NDArray[np.float64]:
    """Return the centre of mass of the squared energy within 60 ms of every beat, in samples."""
    reach = _samples(_CENTRE_S, rate_hz)
    around = top[:, None] + np.arange(-reach, reach + 1)
    inside = (around >= 0) & (around < place.shape[-1])
    weight = np.where(inside, place[row[:, None], np.clip(around, 0, place.shape[-1] - 1)], 0).astype(np.float64) ** 2
    centre: npt.NDArray[np.float64] = (weight * around).sum(axis=1) / weight.sum(axis=1)
    return centre


def _xqrs(record: Float, rate_hz: float, present: Bool) -> Index:
    """Return wfdb's XQRS on the first lead that is present; a flat lead has no beats."""
    from wfdb.processing import xqrs_detect

    leads = np.flatnonzero(present)
    if len(leads) == 0 or np.ptp(record[leads[0]]) == 0:
        return np.empty(0, np.int32)
    found = xqrs_detect(record[leads[0]].astype(np.float64), fs=rate_hz, verbose=False)
    return np.asarray(found, np.int32).reshape(-1)
