"""Writes EDF+ with edfio (https://www.edfplus.info/specs/edfplus.html): one signal per lead, and one that is no ECG."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Literal

import numpy as np

from ecgscale.data.hospital import Ecg

_DAY = datetime.date(2023, 6, 15)
RANGE_UV = (-16384.0, 16383.5)  # of 16 bits: half a microvolt per count


def write(path: Path, ecg: Ecg, unit: str = "uV") -> None:
    """Write an ECG with labels such as "ECG I" and a respiration signal at another rate; `unit` is uV or mV.

    An age is written as a birth date that many years before the recording, since EDF+ has no field for ages.
    """
    from edfio import Edf, EdfAnnotation, EdfSignal, Patient, Recording

    per_mv = {"uV": 1000.0, "mV": 1.0}[unit]
    limits = (RANGE_UV[0] * per_mv / 1000, RANGE_UV[1] * per_mv / 1000)
    signals = [
        EdfSignal(
            row.astype(np.float64) * per_mv,
            ecg.rate_hz,
            label=f"ECG {lead}",
            physical_dimension=unit,
            physical_range=limits,
            digital_range=(-32768, 32767),
        )
        for lead, row in zip(ecg.leads, ecg.signal, strict=True)
    ]
    seconds = ecg.signal.shape[1] / ecg.rate_hz
    breath = np.sin(2 * np.pi * 0.25 * np.arange(round(25 * seconds)) / 25)
    signals.append(EdfSignal(breath, 25.0, label="Resp", physical_range=(-1, 1)))
    born = None if ecg.age is None else _DAY.replace(year=_DAY.year - int(ecg.age))
    Edf(
        signals,
        patient=Patient(code=ecg.patient or "X", sex=_sex(ecg.sex), birthdate=born, name="Jane_Doe"),
        recording=Recording(startdate=_DAY, equipment_code="ecgscale"),
        annotations=[EdfAnnotation(0, None, "Recording begins")],
    ).write(path)


def _sex(sex: str | None) -> Literal["F", "M", "X"]:
    return "F" if sex == "F" else "M" if sex == "M" else "X"
