"""The units a signal may have, and the standard leads.

Voltages become millivolts on their way into a corpus; z-scores have no way back and stay what they are.
"""

from __future__ import annotations

from typing import Literal

Unit = Literal["mV", "uV", "V", "z_record_lead", "z_global"]

MILLIVOLTS: dict[str, float] = {"mV": 1.0, "uV": 1e-3, "V": 1e3}  # one unit in mV

LEADS: tuple[str, ...] = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")

_BY_LOWER = {lead.lower(): lead for lead in LEADS}
_UNIT_BY_LOWER = {"mv": "mV", "uv": "uV", "µv": "uV", "μv": "uV", "v": "V"}


def lead_name(name: str) -> str:
    """Return the standard spelling of a lead: "avr", "AVR" and "Lead aVR" are "aVR".

    Raises:
        ValueError: not one of the twelve standard leads.
    """
    word = name.strip().lower().removeprefix("lead").strip(" _-")
    if word not in _BY_LOWER:
        raise ValueError(f'"{name}" is not one of the twelve standard leads {" ".join(LEADS)}')
    return _BY_LOWER[word]


def unit_name(name: str) -> str:
    """Return the standard spelling of a voltage unit: "mv" is "mV", "µV" is "uV".

    Raises:
        ValueError: not a voltage.
    """
    word = name.strip().lower()
    if word not in _UNIT_BY_LOWER:
        raise ValueError(f'"{name}" is not a voltage unit; expected mV, uV or V')
    return _UNIT_BY_LOWER[word]
