"""Zhengzhou University's paediatric ECGs: `AttributesDictionary.csv`, two code books and WFDB records in `Child_ecg/`.

14,190 records of 11,643 children from 1 day to 15 years old, 5 to 120 s long; 1,856 of them have nine leads, without
V2, V4 and V6. About one record in eight touches a rail of 26.6 mV for long stretches and goes to quarantine.

Labels: `ecg_*` are the findings of `ECGCode.csv`, `disease_*` the four disease groups of `DiseaseCode.csv`, from the
ICD-10 codes of the hospital stay (unknown where a record has none), which the tracing need not show. The column
AHA_code holds codes, codes with a modifier (L145+Modifier362 is ST depression) and, for findings without a code, their
description: `findings` says which of these count.

Source: Tan et al. 2025; the benchmark's 58 findings by `prepare_data_zzu_pecg` of github.com/AI4HealthUOL/
ecg-fm-benchmarking, which also deals its own folds: the source has none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import NonNegativeFloat, PositiveInt

from ecgscale.data import synthetic, tables, wfdb16
from ecgscale.data.record import Record, Rejected, patient_id
from ecgscale.data.remote import Figshare
from ecgscale.datasets import DatasetError, DatasetSpec, portioned
from ecgscale.units import LEADS, lead_name

RATE_HZ = 500.0

_COLUMNS = ["Filename", "ECG_ID", "Patient_ID", "Age", "Gender", "Sampling_point", "Lead", "AHA_code", "ICD-10 code"]
_ECG_CODES = ["Description", "AHA(Category&Code)"]
_DISEASES = ["Disease Type", "ICD-10 Code"]
_NOTHING = ("", "n/a", "nan", "null", "none")
_MODIFIED = re.compile(r"[A-Z]\d+\+[A-Za-z]")
_SEX = {"female": "F", "male": "M"}


class _Portion(NamedTuple):
    """Rows of the table, each with the labels it has, and the labels that every record carries."""

    labels: tuple[str, ...]
    rows: list[tuple[dict[str, Any], frozenset[str]]]


class ZzuPecg(DatasetSpec):
    """Children's ECGs at 500 Hz with AHA findings and disease groups."""

    title: ClassVar[str] = "ZZU pECG (Zhengzhou University paediatric ECG database)"
    licence: ClassVar[str] = "CC BY 4.0"
    access: ClassVar[str] = "open"
    url: ClassVar[str] = "https://doi.org/10.6084/m9.figshare.27078763"
    citation: ClassVar[str] = "Tan et al. 2025, Scientific Data 12, doi:10.1038/s41597-025-05225-z"
    version: ClassVar[str] = "1"

    files: ClassVar[Figshare] = Figshare(
        27078763,
        after="join and unpack the two parts of the archive (zip -s 0 Child_ecg.zip --out whole.zip; unzip whole.zip)",
    )

    leads: Literal["twelve", "any"] = "twelve"  # "any": nine-lead records too, with V2, V4 and V6 marked absent
    shortest_s: NonNegativeFloat = 10.0  # shorter records are left out; the benchmark's choice, as twelve leads are
    findings: Literal["codes", "all"] = "codes"  # bare AHA codes (the benchmark); or modified ones and descriptions too
    minimum_records: PositiveInt = 10  # rarer findings are no labels (the benchmark, which counts before `shortest_s`)

    def portions(self, root: Path | None) -> Iterator[_Portion]:
        """Yield the chosen rows of `AttributesDictionary.csv` in its order."""
        if root is None:
            raise DatasetError("zzu_pecg needs the folder of ZZU pECG: bind it with --data zzu_pecg=PATH")
        table = tables.read(root / "AttributesDictionary.csv", _COLUMNS, DatasetError)
        books = _CodeBooks.read(root, self.findings)
        table = table.assign(
            **{name: pd.to_numeric(table[name], errors="coerce") for name in ("Lead", "Sampling_point")}
        )
        if self.leads == "twelve":
            table = table[table["Lead"] == len(LEADS)]
        rows = [(row, books.labels(row)) for row in tables.rows(table)]
        count = Counter(label for _, labels in rows for label in labels)
        labels = tuple(name for name in books.names if count[name] >= self.minimum_records)
        for chunk in portioned(item for item in rows if not item[0]["Sampling_point"] < self.shortest_s * RATE_HZ):
            yield _Portion(labels, chunk)

    def read(self, root: Path | None, portion: _Portion) -> Iterator[Record | Rejected]:
        """Yield the records of these rows."""
        assert root is not None
        for row, has in portion.rows:
            name = str(row["ECG_ID"])
            stay = 0.0 if _parts(row["ICD-10 code"]) else float("nan")
            absent = {label: stay if label.startswith("disease_") else 0.0 for label in portion.labels}
            try:
                yield _record(root, name, row, {label: 1.0 if label in has else no for label, no in absent.items()})
            except ValueError as error:
                yield Rejected(name, str(error))

    @classmethod
    def sample(cls, root: Path, seed: int = 0) -> ZzuPecg:
        """Write 96 synthetic ECGs of 60 children: every eighth with nine leads, two of 6 s, gains that differ."""
        ecg = synthetic.population(patients=60, records=96, rate_hz=RATE_HZ, seed=seed)
        rows = [_sample_record(root, i, ecg) for i in range(96)]
        pd.DataFrame(rows).to_csv(root / "AttributesDictionary.csv", index=False)
        pd.DataFrame(_SAMPLE_CODES, columns=[*_ECG_CODES, "CHN(Category&Code)"]).to_csv(
            root / "ECGCode.csv", index=False
        )
        pd.DataFrame(_SAMPLE_DISEASES, columns=_DISEASES).to_csv(root / "DiseaseCode.csv", index=False)
        return cls(leads="any", shortest_s=5.0, findings="all")


@dataclass(frozen=True, slots=True)
class _CodeBooks:
    """Which label a statement of the table stands for."""

    findings: dict[str, str]  # AHA code, or description where there is none
    diseases: dict[str, str]  # ICD-10 code
    modified: bool  # a code with a modifier counts as the code

    @classmethod
    def read(cls, root: Path, findings: str) -> _CodeBooks:
        """Read `ECGCode.csv` and `DiseaseCode.csv`, whose row for other diseases refers to the table and is no code."""
        found, groups = {}, {}
        for row in tables.rows(tables.read(root / "ECGCode.csv", _ECG_CODES, DatasetError)):
            description, code = (str(row[column]).strip() for column in _ECG_CODES)
            if code.lower() not in _NOTHING:
                found[code] = f"ecg_{_slug(description)}"
            elif findings == "all":
                found[description] = f"ecg_{_slug(description)}"
        for row in tables.rows(tables.read(root / "DiseaseCode.csv", _DISEASES, DatasetError)):
            codes = [code.strip() for code in str(row["ICD-10 Code"]).split(";")]
            groups.update({code: f"disease_{_slug(row['Disease Type'])}" for code in codes if "dictionary" not in code})
        return cls(found, groups, findings == "all")

    @property
    def names(self) -> tuple[str, ...]:
        """Every label once, in the order of the books."""
        return tuple(dict.fromkeys([*self.findings.values(), *self.diseases.values()]))

    def labels(self, row: dict[str, Any]) -> frozenset[str]:
        """Return the labels a row has; statements that do not count, or that no book knows, are passed over."""
        said = _parts(row["AHA_code"])
        if self.modified:
            said += [part.partition("+")[0] for part in said if _MODIFIED.match(part)]
        found = [self.findings.get(part) for part in said] + [
            self.diseases.get(part) for part in _parts(row["ICD-10 code"])
        ]
        return frozenset(filter(None, found))


def _record(root: Path, name: str, row: dict[str, Any], labels: dict[str, float]) -> Record:
    read = wfdb16.read(root, f"Child_ecg/{str(row['Filename']).strip().lstrip('/')}")
    if len(read.leads) != row["Lead"]:
        raise ValueError(f"the header names {len(read.leads)} leads; the table says {row['Lead']:g}")
    return Record(
        signal=read.physical,
        unit=read.unit,
        rate_hz=read.rate_hz,
        leads=tuple(lead_name(lead) for lead in read.leads),
        record=name,
        patient=patient_id("zzu_pecg", row["Patient_ID"]),
        age=_age(row["Age"]),
        sex=_SEX.get(str(row["Gender"]).strip().strip("'").lower()),
        labels=labels,
    )


def _age(value: Any) -> float | None:
    """Return years from "572d"."""
    if value is None or value != value:
        return None
    days = re.fullmatch(r"(\d+)d?", str(value).strip())
    if days is None:
        raise ValueError(f"the age is {value!r}; expected days such as 572d")
    return int(days[1]) / 365.25


def _parts(cell: Any) -> list[str]:
    """Return the parts of "'D31';'Left ventricular high voltage'"."""
    parts = [] if cell is None or cell != cell else [part.strip().strip("'").strip() for part in str(cell).split(";")]
    return [part for part in parts if part.lower() not in _NOTHING]


def _slug(description: object) -> str:
    """Return lower-case words joined by underscores; the cells hold commas and line breaks."""
    return re.sub(r"[^a-z0-9]+", "_", str(description).lower()).strip("_")


def _sample_record(root: Path, i: int, ecg: synthetic.Population) -> dict[str, object]:
    """Write one record and return its row."""
    patient, few = f"P{ecg.patient[i]:05d}", i % 8 == 3
    exam = 1 + int((ecg.patient[:i] == ecg.patient[i]).sum())
    name = f"{patient[:3]}/{patient}/{patient}_E{exam:02d}"
    leads = [lead for lead in LEADS if not (few and lead in ("V2", "V4", "V6"))]
    signal = ecg.signal[i, [LEADS.index(lead) for lead in leads], : 3000 if i in (5, 6) else 5000]
    _write(root / "Child_ecg" / name, signal, [lead.upper() for lead in leads])
    has = {key: bool(values[i]) for key, values in ecg.labels.items()}
    return {
        "Filename": name,
        "ECG_ID": f"{patient}_E{exam:02d}",
        "Patient_ID": patient,
        "Age": f"{ecg.age[i] * 50:.0f}d",
        "Gender": "'Female'" if ecg.female[i] else "'Male'",
        "Sampling_point": signal.shape[1],
        "Lead": len(leads),
        "AHA_code": _packed({code: has[sign] for code, sign in _SAMPLE_SIGNS.items()} | {"A1": not any(has.values())}),
        "ICD-10 code": "Null"
        if i % 10 == 0
        else _packed({"Q21.0": has["tall"], "(F) I40.0": has["fast"], "J18.9": True}),
    }


def _write(path: Path, signal: npt.NDArray[np.float32], leads: list[str]) -> None:
    """Write format 16 as wfdb does by default: every lead stretched over the range, by a gain and a baseline."""
    path.parent.mkdir(parents=True, exist_ok=True)
    low, high = signal.min(axis=1).astype(float), signal.max(axis=1).astype(float)
    gain = 65_000 / (high - low)
    baseline = np.rint(-32_500 - low * gain).astype(int)
    counts = np.rint(signal * gain[:, None] + baseline[:, None]).astype("<i2")
    lines = [f"{path.name} {len(leads)} {RATE_HZ:g} {signal.shape[1]}"]
    lines += [
        f"{path.name}.dat 16 {g}({b})/mV 16 0 {row[0]} {int(row.sum(dtype=np.int64)) & 0xFFFF} 0 {lead}"
        for g, b, row, lead in zip(gain, baseline, counts, leads, strict=True)
    ]
    path.with_name(f"{path.name}.hea").write_text("\n".join(lines) + "\n")
    path.with_name(f"{path.name}.dat").write_bytes(np.ascontiguousarray(counts.T).tobytes())


def _packed(said: dict[str, bool]) -> str:
    return ";".join(f"'{code}'" for code, on in said.items() if on)


_SAMPLE_SIGNS = {
    "C21": "fast",
    "C22": "slow",
    "I106": "wide",
    "Left ventricular high voltage": "tall",
    "L147+Modifier369": "inverted",
}
_SAMPLE_CODES = [
    ("Normal ECG", "A1", "A1"),
    ("Sinus tachycardia", "C21", "C13"),
    ("Sinus bradycardia", "C22", "C14"),
    ("Right bundle-branch block", "I106", "I91"),
    ("Left ventricular high voltage", "N/A", "J106"),
    ("T-wave abnormality", "L147", "L123"),
]
_SAMPLE_DISEASES = [
    ("Congenital \nheart disease", "Q21.0"),
    ("Myocarditis", "(F) I40.0"),
    ("Other diseases(OD)", "See attribute dictionary file"),
]
