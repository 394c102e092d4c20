"""One ECG as a source gives it, and the checks it must pass before it may enter a corpus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Record:
    """One ECG.

    Attributes:
        signal: [lead, time] float32, in `unit`.
        unit: "mV", "uV", "V", "z_record_lead" or "z_global".
        rate_hz: Samples per second.
        leads: Standard lead names, one per row of `signal`, in the source's own order.
        record: Name, unique within its data set.
        patient: `population:id`, e.g. "ptbxl:18792"; ids are written as integers where they are integers.
        age: Years, or None.
        sex: "F", "M" or None.
        labels: 1 present, 0 absent, NaN unknown.
        fold: The source's official fold, if it has one.
        band_hz: The pass band already applied to `signal`, if any.
    """

    signal: Float
    unit: str
    rate_hz: float
    leads: tuple[str, ...]
    record: str
    patient: str
    age: float | None = None
    sex: str | None = None
    labels: Mapping[str, float] = field(default_factory=dict)
    fold: int | None = None
    band_hz: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that could not be read or may not be used: its name and one sentence saying why."""

    record: str
    reason: str


def patient_id(population: str, raw: object) -> str:
    """Return `population:id`; "18792.0" and 18792.0 become "18792".

    Raises:
        ValueError: the id is empty or NaN.
    """
    text = str(raw).strip()
    if text.lower() in ("", "nan", "none", "<na>"):
        raise ValueError("the patient id is empty")
    try:
        number = float(text)
    except ValueError:
        return f"{population}:{text}"
    return f"{population}:{int(number)}" if number.is_integer() else f"{population}:{text}"
