"""Faults of a recorder that the samples show: gaps, clipping and spikes, each found in two steps.

A glance at every record costs a fraction of a pass over its samples and leaves few suspects; only these are looked at
sample by sample. Every function returns the sentence of each row at fault. The thresholds were set on PTB-XL, LUDB and
samples of Georgia and Chapman-Ningbo, and on the same records with faults put in (benchmarks/quality.py).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]
Place = npt.NDArray[np.intp]
Said = dict[int, str]

GAP_S = 1.0  # LUDB, whose dead-band compression holds a value for up to 0.58 s, must pass
_PROBES = 4  # a second

_TIMES, _STUCK_S, _STUCK = 4, 0.03, 12  # visits of the extreme value; seconds and samples there in all
_BELOW, _STEPS = 0.05, 2.5  # how near the extreme: share of the way to the median, or usual steps of a coarse ADC
_PILE = 2.0  # samples on the extreme over those near it; a round peak, however coarse, has fewer

SPIKE_MV = 0.3  # above both neighbours at 500 Hz; 99 % of leads stay below it, most of the others are paced
ALONE, SHARED = 1.0, 6.0  # spikes a second in one lead only, or in any; a two-chamber pacemaker at 120/min makes 4
_ECHO = 0.15  # of a spike in another lead: what a source in the body leaves
_WIDE_S, _WIDE_MV = 0.008, 3.0  # worth counting, too: an excursion that is over in 16 ms
_APART_S = 0.01  # between two spikes; a filtered one has neighbours


def gaps(signal: Float, live: Bool, leads: tuple[str, ...], rate_hz: float) -> Said:
    """Find leads that hold one value for a second or more.

    Args:
        signal: [record, lead, time].
        live: [record, lead], False where the whole lead is constant, which is another matter.
        leads: Standard names.
        rate_hz: Samples per second.
    """
    probes = signal[..., :: max(1, int(rate_hz / _PROBES))]
    held = probes[..., 1:] == probes[..., :-1]
    held = held[..., 2:] & held[..., 1:-1] & held[..., :-2]
    said: Said = {}
    for row, lead in np.argwhere(held.any(axis=-1) & live).tolist():
        start, samples = _longest(signal[row, lead])
        if samples >= GAP_S * rate_hz and row not in said:
            said[row] = (
                f"lead {leads[lead]} holds one value for {samples / rate_hz:.1f} s from {start / rate_hz:.1f} s on"
            )
    return said


def clipped(signal: Float, twice_high: Bool, twice_low: Bool, leads: tuple[str, ...], rate_hz: float) -> Said:
    """Find leads that meet their highest or lowest value again and again and stay on it.

    The peaks of a wave differ, so its extreme is met once; where coarse digits or repeated samples make peaks alike,
    more samples lie just below than on it. Only what a recorder cannot write piles up in one value.

    Args:
        signal: [record, lead, time].
        twice_high, twice_low: [record, lead], does the extreme stand in both halves of the record? Others are not
            looked at.
        leads, rate_hz: As for `gaps`.
    """
    said: Said = {}
    for twice, sign, name in ((twice_high, 1, "highest"), (twice_low, -1, "lowest")):
        for row, lead in np.argwhere(twice).tolist():
            samples, times = _piled(sign * signal[row, lead], rate_hz)
            if times and row not in said:
                level = sign * (sign * signal[row, lead]).max()
                said[row] = (
                    f"lead {leads[lead]} is clipped: it stands exactly on its {name} value, {level:.4g}, "
                    f"{times} times and for {samples / rate_hz:.2f} s in all"
                )
    return said


def spikes(signal: Float, top: Place, bottom: Place, leads: tuple[str, ...], rate_hz: float) -> Said:
    """Find records with many samples that stand out from both neighbours.

    A QRS is 20 ms wide at least, so its peak stands out by less the higher the rate, as the square. A pacemaker's spike
    is as narrow as a fault but reaches several leads, and there are few of them.

    Args:
        signal: [record, lead, time], mV.
        top, bottom: [record, lead], places of the greatest and the least sample. A record in which neither is narrow
            in any lead is passed over: spikes that never exceed the QRS of their lead are not found.
        leads, rate_hz: As for `gaps`.
    """
    limit = SPIKE_MV * max(1.0, (500.0 / rate_hz) ** 2)
    wide = max(1, round(_WIDE_S * rate_hz))
    suspect = np.zeros(len(signal), np.bool_)
    for place in (top, bottom):
        near, far = _stands_out(signal, place, (1, wide))
        suspect |= ((near > limit) | (far > max(limit, _WIDE_MV))).any(axis=1)
    said: Said = {}
    for row in np.flatnonzero(suspect).tolist():
        lead, alone, total, height = _count(signal[row], limit, rate_hz)
        seconds = signal.shape[-1] / rate_hz
        if total >= SHARED * seconds or (alone >= ALONE * seconds and len(leads) > 2):
            said[row] = (
                f"lead {leads[lead]} has samples that stand up to {height:.2g} mV apart from both neighbours, "
                f"{total} in the record: more than a heart and a pacemaker make"
            )
    return said


def _longest(row: Float) -> tuple[int, int]:
    """Return start and length of the longest stretch of equal samples."""
    edges = np.concatenate([[0], np.flatnonzero(row[1:] != row[:-1]) + 1, [len(row)]])
    lengths = np.diff(edges)
    longest = int(lengths.argmax())
    return int(edges[longest]), int(lengths[longest])


def _piled(row: Float, rate_hz: float) -> tuple[int, int]:
    """Return how many samples stand on the greatest value, and in how many stretches; 0, 0 if that is natural.

    A stretch that touches an end does not count: some recorders repeat the last sample.
    """
    enough = max(_STUCK, _STUCK_S * rate_hz)
    at = np.flatnonzero(row == row.max())
    if len(at) < enough:
        return 0, 0
    stretch = np.concatenate([[0], np.cumsum(np.diff(at) > 1)])
    ends = [stretch[i] for i, edge in ((0, 0), (-1, len(row) - 1)) if at[i] == edge]
    inner = ~np.isin(stretch, ends)
    samples, times = int(inner.sum()), len(np.unique(stretch[inner]))
    if times < _TIMES or samples < enough:
        return 0, 0
    steps = np.abs(np.diff(row))
    reach = max(_BELOW * float(row.max() - np.median(row)), _STEPS * float(np.median(steps[steps > 0])))
    near = int(((row < row.max()) & (row > row.max() - reach)).sum())
    return (samples, times) if samples >= _PILE * near else (0, 0)


def _stands_out(signal: Float, place: Place, reaches: tuple[int, ...]) -> list[Float]:
    """Return by each reach how far a lead's extreme sample is from the nearer of those so far before and after."""
    samples, widest = signal.shape[-1], max(reaches)
    row, first = signal.reshape(-1), np.arange(place.size).reshape(place.shape) * samples
    at = first + np.minimum(np.maximum(place, widest), samples - 1 - widest)
    here = row[at]
    return [np.minimum(np.abs(here - row[at - reach]), np.abs(here - row[at + reach])) for reach in reaches]


def _count(record: Float, limit: float, rate_hz: float) -> tuple[int, int, int, float]:
    """Return the lead with most spikes, the number seen in one lead only, the number in any, and the tallest's mV."""
    rise = np.diff(record)
    lead, time = np.divmod(np.flatnonzero(np.abs(rise) > limit), rise.shape[1])
    height = np.where(time > 0, _apart(rise, lead, time), 0)
    tall = height > limit
    if not tall.any():
        return 0, 0, 0, 0.0
    times = np.unique(time[tall])
    times = times[np.concatenate([[True], np.diff(times) > _APART_S * rate_hz])]
    near = np.clip(times[:, None] + np.arange(-1, 2), 1, rise.shape[1] - 1)
    echo = np.sort(_apart(rise, np.arange(len(rise))[:, None, None], near).max(axis=-1), axis=0)
    alone = int((echo[-2] < _ECHO * echo[-1]).sum()) if len(echo) > 1 else 0
    return int(np.bincount(lead[tall]).argmax()), alone, len(times), float(height.max())


def _apart(rise: Float, lead: Place, time: Place) -> Float:
    """Return how far samples `time` stand out from both neighbours, 0 where they are between them."""
    before, after = rise[lead, time - 1], rise[lead, time]
    return np.where(before * after < 0, np.minimum(np.abs(before), np.abs(after)), np.float32(0))
