"""One ECG as a source gives it, and the checks it must pass before it may enter a corpus."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
import numpy.typing as npt

from ecgscale.units import LEADS, Unit

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
        values: Numbers in the source's own units, NaN unknown, e.g. a laboratory value.
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
    values: Mapping[str, float] = field(default_factory=dict)


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


def check(record: Record) -> str | None:
    """Return one sentence saying what is wrong with the form of a record, or None.

    What the samples themselves say is judged by `ecgscale.data.quality.flaws`, many records at once.
    """
    return _signal_flaw(record) or _metadata_flaw(record)


def _signal_flaw(record: Record) -> str | None:
    signal, leads = record.signal, record.leads
    if signal.ndim != 2 or len(leads) != signal.shape[0]:
        return f"the signal has shape {list(signal.shape)}; expected [lead, time] with {len(leads)} leads"
    if signal.size == 0:
        return "the signal is empty"
    unknown = [lead for lead in leads if lead not in LEADS]
    if unknown:
        return f'lead "{unknown[0]}" is not one of the twelve standard leads {" ".join(LEADS)}'
    if len(set(leads)) < len(leads):
        twice = next(lead for lead in leads if leads.count(lead) > 1)
        return f"lead {twice} stands in the record twice"
    if not (math.isfinite(record.rate_hz) and record.rate_hz > 0):
        return f"the sampling rate is {record.rate_hz} Hz; expected a positive number"
    if record.unit not in get_args(Unit):
        return f'the unit is "{record.unit}"; expected one of {", ".join(get_args(Unit))}'
    return None


def _metadata_flaw(record: Record) -> str | None:
    population, _, patient = record.patient.partition(":")
    if not record.record.strip():
        return "the record has no name"
    if not population.strip() or not patient.strip():
        return f'the patient is "{record.patient}"; expected population:id'
    if record.age is not None and not 0 <= record.age <= 120:
        return f"the age is {record.age:g} years; expected 0 to 120 or nothing"
    if record.sex not in (None, "F", "M"):
        return f'the sex is "{record.sex}"; expected F, M or nothing'
    for name, value in record.labels.items():
        if value not in (0, 1) and not math.isnan(value):
            return f"the label {name} is {value:g}; expected 0, 1 or NaN for unknown"
    endless = next((name for name, value in record.values.items() if math.isinf(value)), None)
    if endless is not None:
        return f"the value {endless} is infinite; expected a number or NaN for unknown"
    return None
