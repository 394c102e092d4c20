"""The Lobachevsky University database: 200 ten-second ECGs of 200 patients, `ludb.csv` and WFDB records in `data/`.

The gains in its headers stretch every lead to a range of 1 mV, which breaks I + III = II by half of the signal
(median of 200 records); the ADC counts themselves obey it exactly, with one scale for all leads. The reader therefore
takes a count as 1 µV. That this is the scale is an inference: the precordial amplitudes then agree with those of
other databases (see tests).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ecgscale.data import synthetic, tables, wfdb16
from ecgscale.data.record import Record, Rejected, patient_id
from ecgscale.data.remote import PhysioNet
from ecgscale.datasets import DatasetError, DatasetSpec, portioned
from ecgscale.units import LEADS, lead_name

_AXIS = "Electric axis of the heart"
_COLUMNS = ["ID", "Sex", "Age", "Rhythms", _AXIS, "Conduction abnormalities", "Hypertrophies", "Cardiac pacing"]

# label: (column, how its statement begins in lower case)
_LABELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "rhythm_sinus": ("Rhythms", ("sinus rhythm",)),
    "rhythm_sinus_bradycardia": ("Rhythms", ("sinus bradycardia",)),
    "rhythm_sinus_tachycardia": ("Rhythms", ("sinus tachycardia",)),
    "rhythm_sinus_arrhythmia": ("Rhythms", ("sinus arrhythmia",)),
    "rhythm_af": ("Rhythms", ("atrial fibrillation",)),
    "rhythm_flutter": ("Rhythms", ("atrial flutter",)),
    "rhythm_wandering_pacemaker": ("Rhythms", ("wandering atrial pacemaker",)),
    "axis_normal": (_AXIS, ("electric axis of the heart: normal",)),
    "axis_left": (_AXIS, ("electric axis of the heart: left",)),
    "axis_right": (_AXIS, ("electric axis of the heart: right",)),
    "axis_vertical": (_AXIS, ("electric axis of the heart: vertical",)),
    "axis_horizontal": (_AXIS, ("electric axis of the heart: horizontal",)),
    "lvh": ("Hypertrophies", ("left ventricular hypertrophy",)),
    "la_hypertrophy": ("Hypertrophies", ("left atrial hypertrophy",)),
    "ra_overload": ("Hypertrophies", ("right atrial overload",)),
    "irbbb": ("Conduction abnormalities", ("incomplete right bundle",)),
    "crbbb": ("Conduction abnormalities", ("complete right bundle",)),
    "ilbbb": ("Conduction abnormalities", ("incomplete left bundle",)),
    "clbbb": ("Conduction abnormalities", ("complete left bundle",)),
    "lafb": ("Conduction abnormalities", ("left anterior hemiblock",)),
    "avb1": ("Conduction abnormalities", ("i degree av",)),
    "avb3": ("Conduction abnormalities", ("iii degree av",)),
    "paced": ("Cardiac pacing", ("",)),
}


class Ludb(DatasetSpec):
    """200 ECGs of 200 patients at 500 Hz, with rhythm, axis, conduction and hypertrophy statements."""

    title: ClassVar[str] = "Lobachevsky University Electrocardiography Database"
    licence: ClassVar[str] = "ODC-By 1.0"
    access: ClassVar[str] = "open"
    url: ClassVar[str] = "https://physionet.org/content/ludb/1.0.1/"
    citation: ClassVar[str] = "Kalyakulina et al. 2020, IEEE Access 8:186181, doi:10.1109/ACCESS.2020.3029211"
    version: ClassVar[str] = "1.0.1"
    files: ClassVar[PhysioNet] = PhysioNet("ludb/1.0.1", size=24_600_000)  # of its 2,803 files, added up

    def portions(self, root: Path | None) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows of `ludb.csv` in its order."""
        if root is None:
            raise DatasetError("ludb needs the folder of LUDB: bind it with --data ludb=PATH")
        yield from portioned(tables.rows(tables.read(root / "ludb.csv", _COLUMNS, DatasetError)))

    def read(self, root: Path | None, portion: list[dict[str, Any]]) -> Iterator[Record | Rejected]:
        """Yield the records of these rows; a record is its own patient."""
        assert root is not None
        for row in portion:
            name = str(row["ID"]).strip()
            try:
                yield _record(name, row, wfdb16.read(root, f"data/{name}"))
            except ValueError as error:
                yield Rejected(name, str(error))

    @classmethod
    def sample(cls, root: Path, seed: int = 0) -> Ludb:
        """Write 60 synthetic ECGs in LUDB's layout: lower-case leads, a gain per lead, statements on several lines."""
        ecg = synthetic.population(patients=60, records=60, rate_hz=500.0, seed=seed)
        (root / "data").mkdir(parents=True, exist_ok=True)
        rows = []
        for i in range(60):
            gain = 1000 * np.ptp(ecg.signal[i], axis=1)
            wfdb16.write(root / "data" / str(i + 1), ecg.signal[i], tuple(n.lower() for n in LEADS), 500.0, gain)
            rows.append(_sample_row(i, ecg))
        pd.DataFrame(rows, columns=_COLUMNS).to_csv(root / "ludb.csv", index=False)
        return cls()


def _record(name: str, row: dict[str, Any], read: wfdb16.WfdbRecord) -> Record:
    return Record(
        signal=read.counts,
        unit="uV",
        rate_hz=read.rate_hz,
        leads=tuple(lead_name(lead) for lead in read.leads),
        record=name,
        patient=patient_id("ludb", name),
        age=_age(row["Age"]),
        sex=_text(row["Sex"]).upper() or None,
        labels=_labels(row),
    )


def _labels(row: dict[str, Any]) -> dict[str, float]:
    said = {column: [part.strip().lower() for part in _text(row[column]).split("\n")] for column in _COLUMNS[3:]}
    return {
        label: float(any(part and part.startswith(starts) for part in said[column]))
        for label, (column, starts) in _LABELS.items()
    }


def _age(value: Any) -> float | None:
    """Return the age; "&gt;89" and ">89" are 90, as in PTB-XL."""
    text = _text(value)
    if text.startswith(">"):
        return float(text[1:]) + 1
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value).strip()


def _sample_row(i: int, ecg: synthetic.Population) -> dict[str, object]:
    has = {name: bool(values[i]) for name, values in ecg.labels.items()}
    rhythm = "Sinus tachycardia" if has["fast"] else "Sinus bradycardia" if has["slow"] else "Sinus rhythm"
    hypertrophies = ["Left ventricular hypertrophy"] * has["tall"] + ["Left atrial hypertrophy"] * has["inverted"]
    return {
        "ID": i + 1,
        "Sex": "F\n" if ecg.female[i] else "M\n",
        "Age": ">89\n" if i == 0 else f"{ecg.age[i]:.0f}\n",
        "Rhythms": rhythm,
        _AXIS: f"{_AXIS}: {'left axis deviation' if has['wide'] else 'normal'}",
        "Conduction abnormalities": "Complete right bundle branch block" if has["wide"] else None,
        "Hypertrophies": "\n".join(hypertrophies) or None,
        "Cardiac pacing": None,
    }
