"""What the samples of a record say against it: one sentence per bad record, many records judged at once.

Nothing is repaired here. A record with a reason goes to quarantine and is counted.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

REVISION = 1  # of the rules; enters the digest of every corpus

FLAT_MV = 1e-3  # a lead whose range is below 1 µV carries nothing
HIGH_MV = 20.0  # no surface ECG deviates so far from its mean, however broad the QRS
LOW_MV = 0.01  # even low-voltage ECGs exceed this tenfold
SHORTEST = 0.5  # of the window
LIMB = 0.25  # of the largest limb lead; rounding and separate filters leave less than a few per cent

_LARGER = {"mV": "uV", "V": "mV"}  # what a unit must be if the values are a thousand times too large
_SMALLER = {"mV": "V", "uV": "mV"}


def flaws(
    signal: Float,
    leads: tuple[str, ...],
    unit: str,
    flat_leads: Literal["quarantine", "missing"] = "quarantine",
    limb_leads: Literal["check", "trust"] = "check",
) -> tuple[list[str | None], Bool]:
    """Judge records that agree in leads and length.

    Args:
        signal: [record, lead, time]; voltages in mV, whatever `unit` the source declared.
        leads: Standard name of each lead.
        unit: The source's declared unit; voltages are checked for amplitude and limb leads, z-scores for their spread.
        flat_leads: "quarantine" rejects a record with a flat lead; "missing" keeps it with that lead marked absent.
        limb_leads: "check" rejects a record whose I + III differs from II.

    Returns:
        A sentence or None per record, and [record, lead] True where the lead carries a signal.
    """
    reasons: list[str | None] = [None] * len(signal)
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are what is being looked for
        high, low = signal.max(axis=-1), signal.min(axis=-1)
        finite = np.isfinite(high).all(1) & np.isfinite(low).all(1)
        swing = high - low
    voltage = not unit.startswith("z_")
    live = swing > (FLAT_MV if voltage else 1e-6)
    limbs = _limb_residual(signal, leads) if voltage and limb_leads == "check" else np.zeros(len(signal))
    for i in range(len(signal)):
        reasons[i] = (
            _not_finite(signal[i], leads, bool(finite[i]))
            or (_scale(signal[i], swing[i], unit) if voltage else _z_scale(signal[i], live[i], unit))
            or _flat(live[i], leads, flat_leads)
            or _limbs(float(limbs[i]))
        )
    return reasons, live


def too_short(samples: int, rate_hz: float, length_s: float) -> str | None:
    """Return a sentence if a record fills less than half of the window."""
    seconds = samples / rate_hz
    if seconds >= SHORTEST * length_s:
        return None
    return (
        f"the record lasts {seconds:.2f} s; at least {SHORTEST * length_s:g} s of the {length_s:g} s window are needed"
    )


def _not_finite(signal: Float, leads: tuple[str, ...], finite: bool) -> str | None:
    if finite:
        return None
    bad = ~np.isfinite(signal)
    lead, time = np.argwhere(bad)[0]
    return f"{int(bad.sum())} samples are NaN or infinite, the first in lead {leads[lead]} at sample {time}"


def _scale(signal: Float, swing: Float, unit: str) -> str | None:
    if not swing.any():
        return None
    if float(swing.max()) > HIGH_MV:
        deviation = float(np.percentile(np.abs(signal - signal.mean(axis=-1, keepdims=True)), 99.9))
        if deviation > HIGH_MV:
            return _unit_advice(f"reaches {deviation:.4g} mV", unit, _LARGER, "above", HIGH_MV)
    if float(swing.max()) < LOW_MV:
        return _unit_advice(f"spans {float(swing.max()):.3g} mV", unit, _SMALLER, "below", LOW_MV)
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


_WORDS = {"uV": "microvolts", "mV": "millivolts", "V": "volts"}


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


def _limb_residual(signal: Float, leads: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Spread of I + III - II over the largest spread of the three: 0 by Kirchhoff's law, about 1 for swapped names."""
    if not {"I", "II", "III"} <= set(leads):
        return np.zeros(len(signal))
    one, two, three = (signal[:, leads.index(lead)] for lead in ("I", "II", "III"))
    largest = np.maximum(np.maximum(one.std(axis=-1), two.std(axis=-1)), three.std(axis=-1))
    residual = (one + three - two).std(axis=-1)
    return np.asarray(residual / np.maximum(largest, FLAT_MV), dtype=np.float64)


def _limbs(residual: float) -> str | None:
    if not residual > LIMB:
        return None
    return (
        f"leads I, II and III break I + III = II (residual {residual:.0%} of the largest): they may be swapped, "
        'misnamed or scaled apart; set limb_leads = "trust" to keep such records'
    )
