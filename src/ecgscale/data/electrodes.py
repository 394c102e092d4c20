"""Which limb electrodes may have been swapped, judged by the polarity of P, QRS and T. A suspicion, not a proof.

Both arms: leads I and V6 look at the heart from the same side, so a beat that is inverted in lead I alone is no heart's
doing; a heart on the right side inverts V6 too. Right arm and right leg: the legs have nearly one potential, so lead
II, then between both legs, nearly vanishes. Left arm and right leg would do the same to lead III, which an axis of 30°
does as well; left arm and left leg leave no mark of their own. Neither is looked for.

Source: what each swap does to each lead, Krasteva et al. 2019 (doi:10.3390/s19132920); the thresholds stand between
2,569 ECGs of PTB-XL, LUDB, Georgia and Chapman-Ningbo and the same ECGs with electrodes swapped by arithmetic.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ecgscale.data.beats import MIN_RATE_HZ, find_beats

Float = npt.NDArray[np.float32]

_OPPOSED = -0.5  # correlation of a beat in I and V6: below -0.67 in 0.1 % of ECGs, and those have P or QRS upright
_FAINT = 0.15  # span of a beat in II over the larger of I and III: the least of 750 ECGs is 0.23
_LOOK_OPPOSED, _LOOK_FAINT = -0.2, 0.3  # the same of all slopes, which is cheap: a closer look at 1 % of ECGs
_BEFORE_S, _AFTER_S = 0.30, 0.60  # of a beat
_P_S, _LEVEL_S, _QRS_S = (-0.24, -0.06), (-0.10, -0.06), (-0.06, 0.08)
_FEWEST = 3  # beats


def suspected(signal: Float, leads: tuple[str, ...], rate_hz: float, voltage: bool) -> list[str | None]:
    """Return what each record's waves say about its limb electrodes: the start of a sentence, or None.

    Args:
        signal: [record, lead, time], finite; every fifth sample of 500 a second is enough.
        leads: Standard names; I and V6 (or V5) show swapped arms, I and II the right arm on the right leg.
        rate_hz: Samples per second; below 50 nothing is judged.
        voltage: False for z-scores of single leads, whose sizes cannot be compared.
    """
    found: list[str | None] = [None] * len(signal)
    chest = next((lead for lead in ("V6", "V5") if lead in leads), None)
    used = [lead for lead in ("I", "II" if voltage else None, chest) if lead and lead in leads]
    if "I" not in used or len(used) < 2 or rate_hz < MIN_RATE_HZ:
        return found
    places = [leads.index(lead) for lead in used]
    rows = np.flatnonzero(
        _suspicious({lead: signal[:, place] for lead, place in zip(used, places, strict=True)}, chest)
    )
    if len(rows):
        for row, beats in zip(rows.tolist(), find_beats(signal[rows], rate_hz), strict=True):
            beat = _usual_beat(signal[row, places], beats, rate_hz)
            if beat is not None:
                found[row] = _verdict(dict(zip(used, beat, strict=True)), chest, rate_hz)
    return found


def _suspicious(signal: dict[str, Float], chest: str | None) -> npt.NDArray[np.bool_]:
    """Compare the slopes of the leads [record, time]: [record]."""
    slope = {lead: row[:, 2:] - row[:, :-2] for lead, row in signal.items()}
    one = slope["I"]
    power = _product(one, one)
    doubtful = np.zeros(len(one), np.bool_)
    if chest:
        doubtful |= _product(one, slope[chest]) < _LOOK_OPPOSED * np.sqrt(power * _product(slope[chest], slope[chest]))
    if "II" in slope:
        two = _product(slope["II"], slope["II"])
        three = power + two - 2 * _product(one, slope["II"])
        doubtful |= two < _LOOK_FAINT**2 * np.maximum(power, three)
    return doubtful


def _product(a: Float, b: Float) -> npt.NDArray[np.float64]:
    return np.asarray(np.einsum("rt,rt->r", a, b), dtype=np.float64)


def _usual_beat(record: Float, beats: npt.NDArray[np.int32], rate_hz: float) -> Float | None:
    """Return the median beat [lead, time], or None if there are too few beats."""
    before, after = round(_BEFORE_S * rate_hz), round(_AFTER_S * rate_hz)
    whole = beats[(beats >= before) & (beats < record.shape[1] - after)]
    if len(whole) < _FEWEST:
        return None
    around = whole[:, None] + np.arange(-before, after)
    return np.asarray(np.median(record[:, around], axis=1), dtype=np.float32)


def _verdict(beat: dict[str, Float], chest: str | None, rate_hz: float) -> str | None:
    one = beat["I"]
    if "II" in beat:
        two, other = float(np.ptp(beat["II"])), float(max(np.ptp(one), np.ptp(beat["II"] - one)))
        if two < _FAINT * other:
            return (
                f"a beat spans {two:.2f} mV in lead II and {other:.2f} mV in another limb lead: "
                "right arm and right leg may be swapped"
            )
    if chest and _opposed(one, beat[chest], rate_hz):
        return f"the beat of lead I is the inverse of that of {chest}, P wave and QRS included: the arms may be swapped"
    return None


def _opposed(one: Float, chest: Float, rate_hz: float) -> bool:
    """Is lead I the inverse of the chest lead, with P and QRS of lead I pointing down?"""
    p, level, qrs = (slice(*(round((_BEFORE_S + s) * rate_hz) for s in part)) for part in (_P_S, _LEVEL_S, _QRS_S))
    zero = float(np.median(one[level]))
    return bool(
        _correlation(one, chest) < _OPPOSED
        and _correlation(_levelled(one[p]), _levelled(chest[p])) < 0
        and _levelled(one[p]).mean() < 0
        and one[qrs].max() - zero < zero - one[qrs].min()
    )


def _levelled(wave: Float) -> Float:
    """Take off the line through both ends."""
    return np.asarray(wave - np.linspace(wave[:2].mean(), wave[-2:].mean(), len(wave)), dtype=np.float32)


def _correlation(a: Float, b: Float) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / max(float(np.sqrt((a @ a) * (b @ b))), 1e-12))
