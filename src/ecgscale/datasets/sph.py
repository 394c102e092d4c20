"""Shandong Provincial Hospital: `metadata.csv` and `records/A00001.h5` …, each with `ecg` [12, time] float16 in mV.

500 Hz, 10 to 60 s, leads I, II, III, aVR, aVL, aVF, V1 … V6; the recorder had removed mains hum, baseline wander and
muscle noise, its pass band is not published. `AHA_Code` holds statements separated by ";", each one primary statement
and modifiers joined by "+", e.g. "50+347;82" (Liu et al. 2022). Labels are the 44 primary statements that occur, named
after the descriptions in `code.csv`; modifiers (codes 200 to 499: acute, old, occasional …) are left out. A record is
negative in every statement it does not carry, since a cardiologist gave each record its complete statements.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ecgscale.data import cells, hdf5, synthetic, tables
from ecgscale.data.record import Record, Rejected, patient_id
from ecgscale.data.remote import RemoteFile, RemoteFiles
from ecgscale.datasets import DatasetError, DatasetSpec, portioned
from ecgscale.units import LEADS

_COLUMNS = ["ECG_ID", "AHA_Code", "Patient_ID", "Age", "Sex", "N"]
_MODIFIERS = range(200, 500)

# primary statement: label
STATEMENTS = {
    1: "normal_ecg",
    21: "sinus_tachycardia",
    22: "sinus_bradycardia",
    23: "sinus_arrhythmia",
    30: "atrial_premature_complexes",
    31: "atrial_premature_complexes_nonconducted",
    36: "junctional_premature_complexes",
    37: "junctional_escape_complexes",
    50: "atrial_fibrillation",
    51: "atrial_flutter",
    54: "junctional_tachycardia",
    60: "ventricular_premature_complexes",
    80: "short_pr_interval",
    81: "av_conduction_ratio",
    82: "prolonged_pr_interval",
    83: "second_degree_av_block_mobitz_1",
    84: "second_degree_av_block_mobitz_2",
    85: "av_block_2_to_1",
    86: "av_block_varying_conduction",
    87: "av_block_advanced",
    88: "av_block_complete",
    101: "left_anterior_fascicular_block",
    102: "left_posterior_fascicular_block",
    104: "left_bundle_branch_block",
    105: "incomplete_right_bundle_branch_block",
    106: "right_bundle_branch_block",
    108: "ventricular_preexcitation",
    120: "right_axis_deviation",
    121: "left_axis_deviation",
    125: "low_voltage",
    140: "left_atrial_enlargement",
    142: "left_ventricular_hypertrophy",
    143: "right_ventricular_hypertrophy",
    145: "st_deviation",
    146: "st_deviation_with_t_wave_change",
    147: "t_wave_abnormality",
    148: "prolonged_qt_interval",
    152: "tu_fusion",
    153: "st_t_change_due_to_ventricular_hypertrophy",
    155: "early_repolarization",
    160: "anterior_mi",
    161: "inferior_mi",
    165: "anteroseptal_mi",
    166: "extensive_anterior_mi",
}


class Sph(DatasetSpec):
    """25,770 ECGs of 24,666 patients at 500 Hz, with standardised statements of cardiologists."""

    title: ClassVar[str] = "Shandong Provincial Hospital ECG database"
    licence: ClassVar[str] = "CC0 1.0"
    access: ClassVar[str] = "open"
    url: ClassVar[str] = "https://doi.org/10.6084/m9.figshare.c.5779802.v1"
    citation: ClassVar[str] = "Liu et al. 2022, Scientific Data 9:272, doi:10.1038/s41597-022-01403-5"
    version: ClassVar[str] = "1"
    files: ClassVar[RemoteFiles] = RemoteFiles(
        (
            RemoteFile("metadata.csv", "https://ndownloader.figshare.com/files/34793152"),
            RemoteFile("code.csv", "https://ndownloader.figshare.com/files/32630954"),
            RemoteFile("records.tar", "https://ndownloader.figshare.com/files/32630684", 2_281_799_680),
        ),
        after="unpack records.tar in it",
    )

    def portions(self, root: Path | None) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows of `metadata.csv` in its order."""
        if root is None:
            raise DatasetError("sph needs the folder of the SPH database: bind it with --data sph=PATH")
        table = tables.read(root / "metadata.csv", _COLUMNS, DatasetError)
        if not (root / "records").is_dir():
            raise DatasetError(f"{root} has no folder records; unpack records.tar.gz there")
        for rows in portioned(range(len(table))):
            yield tables.rows(table.iloc[rows])

    def read(self, root: Path | None, portion: list[dict[str, Any]]) -> Iterator[Record | Rejected]:
        """Yield the records of these rows; one with another number of samples than its row says is rejected."""
        assert root is not None
        for row in portion:
            name = str(row["ECG_ID"]).strip()
            try:
                yield _record(root, name, row)
            except ValueError as error:
                yield Rejected(name, str(error))

    @classmethod
    def sample(cls, root: Path, seed: int = 0) -> Sph:
        """Write 72 synthetic ECGs of 60 patients, most of 10 s and some of 12 s, in SPH's layout."""
        ecg = synthetic.population(patients=60, records=72, rate_hz=500.0, seed=seed)
        (root / "records").mkdir(parents=True, exist_ok=True)
        rows = []
        for i in range(72):
            signal = ecg.signal[i] if i % 8 else np.concatenate([ecg.signal[i], ecg.signal[i][:, :1000]], axis=1)
            _write(root / "records" / f"A{i + 1:05d}.h5", signal)
            rows.append(
                {
                    "ECG_ID": f"A{i + 1:05d}",
                    "AHA_Code": _codes({name: bool(values[i]) for name, values in ecg.labels.items()}),
                    "Patient_ID": f"S{ecg.patient[i]:05d}",
                    "Age": int(ecg.age[i]),
                    "Sex": "F" if ecg.female[i] else "M",
                    "N": signal.shape[1],
                    "Date": f"2020-0{1 + i % 8}-1{i % 10}",
                }
            )
        pd.DataFrame(rows).to_csv(root / "metadata.csv", index=False)
        pd.DataFrame(_SAMPLE_CODES, columns=["Category", "Code", "Description"]).to_csv(root / "code.csv", index=False)
        return cls()


def _record(root: Path, name: str, row: dict[str, Any]) -> Record:
    labels = _labels(row["AHA_Code"])
    signal = hdf5.whole(root, f"records/{name}.h5", "ecg", (12, None)).astype(np.float32)
    if signal.shape[1] != cells.number("N", row["N"]):
        raise ValueError(f"records/{name}.h5 has {signal.shape[1]} samples, but metadata.csv says {row['N']}")
    sex = str(row["Sex"]).strip()
    return Record(
        signal=signal,
        unit="mV",
        rate_hz=500.0,
        leads=LEADS,
        record=name,
        patient=patient_id("sph", row["Patient_ID"]),
        age=cells.number("age", row["Age"]),
        sex=sex if sex in ("F", "M") else None,
        labels=labels,
    )


def _labels(codes: Any) -> dict[str, float]:
    """Return every label, 1 where `codes` holds its statement.

    Raises:
        ValueError: a statement without exactly one primary code, or a code that is not known.
    """
    labels = dict.fromkeys(STATEMENTS.values(), 0.0)
    for statement in str(codes).split(";"):
        words = [word.strip() for word in statement.split("+")]
        primary = [word for word in words if not (word.isdecimal() and int(word) in _MODIFIERS)]
        if len(primary) != 1 or not primary[0].isdecimal() or int(primary[0]) not in STATEMENTS:
            raise ValueError(f'AHA_Code is "{codes}"; expected one known primary statement in "{statement}"')
        labels[STATEMENTS[int(primary[0])]] = 1.0
    return labels


def _write(path: Path, signal: Any) -> None:
    import h5py

    path.unlink(missing_ok=True)  # it may still be open for reading
    with h5py.File(path, "w") as file:
        file["ecg"] = signal.astype(np.float16)


def _codes(has: dict[str, bool]) -> str:
    said = {"21": "fast", "22": "slow", "106": "wide", "142": "tall", "147+367": "inverted"}
    return ";".join(code for code, name in said.items() if has[name]) or "1"


_SAMPLE_CODES = [
    ("A", 1, "Normal ECG"),
    ("C", 21, "Sinus tachycardia"),
    ("C", 22, "Sinus bradycardia"),
    ("I", 106, "Right bundle-branch block"),
    ("K", 142, "Left ventricular hypertrophy"),
    ("L", 147, "T-wave abnormality"),
    ("Modifier", 367, "Inversion"),
]
