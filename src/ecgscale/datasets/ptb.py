"""The PTB Diagnostic ECG Database in its own layout: `patient001/s0010_re.hea` with `.dat` and `.xyz`, 1000 Hz.

This is the original, not the copy in the PhysioNet/CinC challenges, which lost the patients: here the folder is the
patient. The three Frank leads vx, vy and vz, in the `.xyz` file, are left out. Labels are the reason for admission that
the header states, one per record, so a patient with an infarction is negative in every other label whatever else is
known; where the summary is missing ("n/a") all labels are unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from ecgscale.data import challenge, synthetic, wfdb16
from ecgscale.data.record import Record, Rejected, patient_id
from ecgscale.data.remote import PhysioNet
from ecgscale.datasets import DatasetError, DatasetSpec, portioned
from ecgscale.units import LEADS

_RECORDS = challenge.Collection("ptb", "the PTB Diagnostic ECG Database", r"s(\d{4})(?:_re|lre)", "patient001/s0010_re")
_FRANK = ("vx", "vy", "vz")
_REASONS = {
    "Myocardial infarction": "myocardial_infarction",
    "Healthy control": "healthy_control",
    "Cardiomyopathy": "cardiomyopathy",
    "Heart failure (NYHA 2)": "heart_failure",
    "Heart failure (NYHA 3)": "heart_failure",
    "Heart failure (NYHA 4)": "heart_failure",
    "Bundle branch block": "bundle_branch_block",
    "Dysrhythmia": "dysrhythmia",
    "Hypertrophy": "hypertrophy",
    "Myocardial hypertrophy": "hypertrophy",
    "Valvular heart disease": "valvular_heart_disease",
    "Myocarditis": "myocarditis",
    "Stable angina": "stable_angina",
    "Unstable angina": "unstable_angina",
    "Palpitation": "palpitation",
}
_SAMPLE = ("fast", "slow", "wide", "tall", "inverted")
_SAMPLE_REASONS = ("Dysrhythmia", "Palpitation", "Bundle branch block", "Hypertrophy", "Myocardial infarction")


class Ptb(DatasetSpec):
    """549 ECGs of 290 people at 1000 Hz, 30 s to two minutes long, with the reason for admission."""

    title: ClassVar[str] = "PTB Diagnostic ECG Database"
    licence: ClassVar[str] = "ODC-By 1.0"
    access: ClassVar[str] = "open"
    url: ClassVar[str] = "https://physionet.org/content/ptbdb/1.0.0/"
    citation: ClassVar[str] = "Bousseljot, Kreiseler and Schnabel 1995, Biomedizinische Technik 40 (S1):317-318"
    version: ClassVar[str] = "1.0.0"
    files: ClassVar[PhysioNet] = PhysioNet("ptbdb/1.0.0")

    def portions(self, root: Path | None) -> Iterator[challenge.Portion]:
        """Yield the records by name."""
        found = [name for name in challenge.find(root, _RECORDS, DatasetError) if _patient(name)]
        if not found:
            raise DatasetError(f"{root} has records of PTB outside folders such as patient001, so patients are unknown")
        for names in portioned(found):
            yield challenge.Portion(tuple(names))

    def read(self, root: Path | None, portion: challenge.Portion) -> Iterator[Record | Rejected]:
        """Yield these records without the Frank leads."""
        assert root is not None
        for name in portion.records:
            patient = patient_id("ptb", _patient(name))
            yield challenge.read(root, name, patient, _labels, checksums=True, drop=_FRANK)

    @classmethod
    def sample(cls, root: Path, seed: int = 0) -> Ptb:
        """Write 60 synthetic ECGs of 50 patients with 15 leads in two files, 2000 counts per mV, CRLF in headers."""
        ecg = synthetic.population(patients=50, records=60, rate_hz=1000.0, seed=seed)
        leads = (*(lead.lower() for lead in LEADS), *_FRANK)
        suffixes = (".dat",) * len(LEADS) + (".xyz",) * len(_FRANK)
        for i in range(60):
            path = root / f"patient{ecg.patient[i]:03d}" / f"s{i + 10:04d}{'_re' if i % 2 else 'lre'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            has = [reason for label, reason in zip(_SAMPLE, _SAMPLE_REASONS, strict=True) if ecg.labels[label][i]]
            comments = (
                f" age: {'n/a' if i == 0 else f'{ecg.age[i]:.0f}'}",
                f" sex: {'female' if ecg.female[i] else 'male'}",
                " Diagnose:",
                f" Reason for admission: {'n/a' if i == 1 else (has or ['Healthy control'])[0]}",
            )
            signal = 2 * ecg.signal[i][[*range(12), 10, 5, 7]]
            wfdb16.write(path, signal, leads, 1000.0, np.full(15, 2000.0), suffixes, comments)
            header = path.parent / f"{path.name}.hea"
            header.write_bytes(header.read_bytes().replace(b"(0)/mV", b"").replace(b"\n", b"\r\n"))
        return cls()


def _patient(name: str) -> str:
    """Return the number in the name of a record's folder, or nothing."""
    match = re.search(r"(?:^|/)patient(\d{3})/[^/]*$", name, re.ASCII)
    return match[1] if match else ""


def _labels(said: challenge.Facts) -> dict[str, float]:
    reason = said.get("reason for admission", "n/a")
    names = dict.fromkeys(_REASONS.values())
    if reason.lower() in ("", "n/a"):
        return dict.fromkeys(names, float("nan"))
    if reason not in _REASONS:
        raise ValueError(f"the reason for admission is {reason[:60]!r}; expected one of {', '.join(_REASONS)}")
    return {name: float(name == _REASONS[reason]) for name in names}
