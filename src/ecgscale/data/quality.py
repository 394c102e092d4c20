"""What the samples of a record say against it: one sentence per bad record, many records judged at once.

Nothing is repaired here. A record with a reason goes to quarantine and is counted.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ecgscale.data import artefacts, electrodes
from ecgscale.data.source import Fault

Float = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]
Place = npt.NDArray[np.intp]
Reasons = list[str | None]

REVISION = 2  # of the rules; enters the digest of every corpus

FLAT_MV = 1e-3  # a lead whose range is below 1 µV carries nothing
HIGH_MV = 20.0  # no surface ECG deviates so far from its mean, however broad the QRS
LOW_MV = 0.01  # even low-voltage ECGs exceed this tenfold
SHORTEST = 0.5  # of the window
LIMB = 0.25  # of the largest limb lead; rounding and separate filters leave less than a few per cent

_BLOCK, _NEAR = 32, 4  # records judged at a time; records that stay in the cache
_COARSE_HZ, _COARSE = 100.0, 1000  # a second, or in all: enough for spread, polarity and a glance
_LARGER = {"mV": "uV", "V": "mV"}  # what a unit must be if the values are a thousand times too large
_SMALLER = {"mV": "V", "uV": "mV"}
_WORDS = {"uV": "microvolts", "mV": "millivolts", "V": "volts"}


def flaws(
    signal: Float,
    leads: tuple[str, ...],
    unit: str,
    flat_leads: Literal["quarantine", "missing"] = "quarantine",
    limb_leads: Literal["check", "trust"] = "check",
    rate_hz: float | None = None,
    keep: Collection[Fault] = (),
) -> tuple[Reasons, Bool]:
    """Judge records that agree in leads and length.

    Args:
        signal: [record, lead, time]; voltages in mV, whatever `unit` the source declared.
        leads: Standard name of each lead.
        unit: The source's declared unit; voltages are checked for amplitude, spikes and limb leads, z-scores for their
            spread.
        flat_leads: "quarantine" rejects a record with a flat lead; "missing" keeps it with that lead marked absent.
        limb_leads: "check" rejects a record whose I + III differs from II.
        rate_hz: Samples per second; without it nothing that needs time is judged, which is all that `keep` names.
        keep: Faults that reject no record: "gaps" (a second without change), "clipped" (stuck on the extreme value of
            the recorder), "spikes" (samples that stand alone), "swapped" (limb electrodes; a suspicion).

    Returns:
        A sentence or None per record, and [record, lead] True where the lead carries a signal.
    """
    rules = _Rules(leads, unit, flat_leads, limb_leads, rate_hz, keep)
    step = max(1, round(rate_hz / _COARSE_HZ) if rate_hz else signal.shape[-1] // _COARSE)
    reasons: Reasons = []
    live = np.ones(signal.shape[:2], np.bool_)
    for start in range(0, len(signal), _BLOCK):
        with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are what is being looked for
            seen = _Seen.of(signal[start : start + _BLOCK], leads, step)
            found, live[start : start + _BLOCK] = _judge(seen, rules)
        reasons += found
    return reasons, live


def too_short(samples: int, rate_hz: float, length_s: float) -> str | None:
    """Return a sentence if a record fills less than half of the window."""
    seconds = samples / rate_hz
    if seconds >= SHORTEST * length_s:
        return None
    return (
        f"the record lasts {seconds:.2f} s; at least {SHORTEST * length_s:g} s of the {length_s:g} s window are needed"
    )


@dataclass(frozen=True, slots=True)
class _Rules:
    """What `flaws` was asked for."""

    leads: tuple[str, ...]
    unit: str
    flat_leads: str
    limb_leads: str
    rate_hz: float | None
    keep: Collection[Fault]

    @property
    def voltage(self) -> bool:
        return not self.unit.startswith("z_")


@dataclass(frozen=True, slots=True)
class _Seen:
    """A few records and what one pass over them tells.

    Attributes:
        signal: [record, lead, time].
        high, low: [record, lead], the greatest and the least value, NaN if there is any.
        top, bottom: [record, lead], where they stand first.
        twice_high, twice_low: [record, lead], do they stand in both halves of the record?
        limbs: [record, lead, time], every `step`th sample of the leads named in `limb_leads`.
    """

    signal: Float
    high: Float
    low: Float
    top: Place
    bottom: Place
    twice_high: Bool
    twice_low: Bool
    limbs: Float
    limb_leads: tuple[str, ...]
    step: int

    @classmethod
    def of(cls, signal: Float, leads: tuple[str, ...], step: int) -> _Seen:
        """Fetch each record from memory once: whoever looks at it again finds it in the cache."""
        few = tuple(lead for lead in ("I", "II", "III", "V6" if "V6" in leads else "V5") if lead in leads)
        places = [leads.index(lead) for lead in few]
        limbs = np.empty(signal[:, places, ::step].shape, np.float32)
        half = signal.shape[-1] // 2
        tops, bottoms = (np.empty((*signal.shape[:2], 2), np.intp) for _ in range(2))
        for start in range(0, len(signal), _NEAR):
            rows = slice(start, start + _NEAR)
            halves = signal[rows, :, : 2 * half].reshape(-1, len(leads), 2, half)
            halves.argmax(axis=-1, out=tops[rows])
            halves.argmin(axis=-1, out=bottoms[rows])
            for i, place in enumerate(places):
                limbs[rows, i] = signal[rows, place, ::step]
        for at in (tops, bottoms):
            at[..., 1] += half
        high, low = (np.moveaxis(np.take_along_axis(signal, at, -1), -1, 0) for at in (tops, bottoms))
        last = signal[..., -1]  # of an odd number of samples
        return cls(
            signal=signal,
            high=np.maximum(np.maximum(*high), last),
            low=np.minimum(np.minimum(*low), last),
            top=np.where(high[1] > high[0], tops[..., 1], tops[..., 0]),
            bottom=np.where(low[1] < low[0], bottoms[..., 1], bottoms[..., 0]),
            twice_high=high[0] == high[1],
            twice_low=low[0] == low[1],
            limbs=limbs,
            limb_leads=few,
            step=step,
        )


def _judge(seen: _Seen, rules: _Rules) -> tuple[Reasons, Bool]:
    signal, leads, rate_hz = seen.signal, rules.leads, rules.rate_hz
    live = seen.high - seen.low > (FLAT_MV if rules.voltage else 1e-6)
    reasons = _plain(signal, seen.high, seen.low, live, rules)
    if rate_hz and "gaps" not in rules.keep:
        _add(reasons, artefacts.gaps(signal, live, leads, rate_hz), "gaps")
    if rate_hz and "clipped" not in rules.keep:
        twice = seen.twice_high & live, seen.twice_low & live
        _add(reasons, artefacts.clipped(signal, *twice, leads, rate_hz), "clipped")
    if rate_hz and "spikes" not in rules.keep and rules.voltage:
        _add(reasons, artefacts.spikes(signal, seen.top, seen.bottom, leads, rate_hz), "spikes")
    if rules.limb_leads == "check" and rules.voltage:
        _add(reasons, _limbs(seen.limbs, seen.limb_leads))
    if rate_hz and "swapped" not in rules.keep:
        good = [i for i, reason in enumerate(reasons) if reason is None]
        judged = seen.limbs if len(good) == len(signal) else seen.limbs[good]
        said = electrodes.suspected(judged, seen.limb_leads, rate_hz / seen.step, rules.voltage)
        _add(reasons, {i: sentence for i, sentence in zip(good, said, strict=True) if sentence}, "swapped")
    return reasons, live


def _plain(signal: Float, high: Float, low: Float, live: Bool, rules: _Rules) -> Reasons:
    """Judge what the extremes tell: numbers, unit, flat leads."""
    swing = (high - low).max(axis=1)
    doubtful = ~np.isfinite(swing) | (swing > HIGH_MV) | (swing < LOW_MV) | ~live.all(axis=1)
    reasons: Reasons = [None] * len(signal)
    for i in np.flatnonzero(doubtful) if rules.voltage else range(len(signal)):
        scale = _scale if rules.voltage else _z_scale
        reasons[i] = (
            _not_finite(signal[i], rules.leads)
            or scale(signal[i], live[i], rules.unit)
            or _flat(live[i], rules.leads, rules.flat_leads)
        )
    return reasons


def _add(reasons: Reasons, said: dict[int, str], fault: str | None = None) -> None:
    """Enter the sentences of records that have none yet, with what keeps such records."""
    for row, sentence in said.items():
        advice = f'; set keep = ["{fault}"] to keep such records' if fault else ""
        reasons[row] = reasons[row] or f"{sentence}{advice}"


def _not_finite(signal: Float, leads: tuple[str, ...]) -> str | None:
    bad = ~np.isfinite(signal)
    if not bad.any():
        return None
    lead, time = np.argwhere(bad)[0]
    return f"{int(bad.sum())} samples are NaN or infinite, the first in lead {leads[lead]} at sample {time}"


def _scale(signal: Float, live: Bool, unit: str) -> str | None:
    swing = float(np.ptp(signal, axis=-1).max())
    if swing == 0.0:
        return None
    if swing > HIGH_MV:
        deviation = float(np.percentile(np.abs(signal - signal.mean(axis=-1, keepdims=True)), 99.9))
        if deviation > HIGH_MV:
            return _unit_advice(f"reaches {deviation:.4g} mV", unit, _LARGER, "above", HIGH_MV)
    if swing < LOW_MV:
        return _unit_advice(f"spans {swing:.3g} mV", unit, _SMALLER, "below", LOW_MV)
    return None


def _z_scale(signal: Float, live: Bool, unit: str) -> str | None:
    if unit != "z_record_lead" or not live.any():
        return None
    lead = signal[live.argmax()]
    spread = float(np.sqrt(np.dot(lead, lead) / len(lead)))
    if 0.5 < spread < 2.0:
        return None
    return f"a lead has the root mean square {spread:.3g}; z-scores have 1: check `scale` and `unit`"


def _unit_advice(found: str, unit: str, other: dict[str, str], side: str, limit: float) -> str:
    advice = (
        f'it looks like {_WORDS[other[unit]]}: declare unit = "{other[unit]}"' if unit in other else "check `scale`"
    )
    return f"declared as {unit} the signal {found}, {side} what an ECG can be ({limit:g} mV); {advice}"


def _flat(live: Bool, leads: tuple[str, ...], flat_leads: str) -> str | None:
    if live.all():
        return None
    if not live.any():
        return "all leads are flat"
    if flat_leads == "missing":
        return None
    flat = [lead for lead, ok in zip(leads, live, strict=True) if not ok]
    text = f"lead {flat[0]} is flat" if len(flat) == 1 else f"leads {', '.join(flat)} are flat"
    return f'{text}; set flat_leads = "missing" to keep such records with the lead marked absent'


def _limbs(signal: Float, leads: tuple[str, ...]) -> dict[int, str]:
    """Compare the spread of I + III - II with the largest of the three: 0 by Kirchhoff's law, about 1 if swapped."""
    if not {"I", "II", "III"} <= set(leads):
        return {}
    limbs = signal[:, [leads.index(lead) for lead in ("I", "II", "III")]]
    limbs -= limbs.mean(axis=-1, keepdims=True)
    broken = limbs[:, 0] + limbs[:, 2] - limbs[:, 1]
    largest = np.einsum("rlt,rlt->rl", limbs, limbs).max(axis=1)
    residual = np.sqrt(np.einsum("rt,rt->r", broken, broken) / np.maximum(largest, FLAT_MV**2 * limbs.shape[-1]))
    return {
        int(i): f"leads I, II and III break I + III = II (residual {residual[i]:.0%} of the largest): they may be "
        'swapped, misnamed or scaled apart; set limb_leads = "trust" to keep such records'
        for i in np.flatnonzero(residual > LIMB)
    }
