"""A folder of ECG files as a hospital's archive exports them, by choice with a table of patients, ages and labels.

Read are GE MUSE XML, Philips XML (compressed or not), HL7 aECG, DICOM, SCP-ECG and EDF+, through the extra
`pip install "ecgscale[hospital]"`; see `ecgscale.data.hospital`. Of each file only the signal, the patient's id, age
and sex enter a record. As `[data.ours]` of a study or as a file for `ecgscale ingest --describe`:

    dataset = "hospital_folder"
    population = "our-hospital"
    table = "labels.csv"
    id = "file"
    labels = {echo = ["lvef_below_40"]}
    statements = {said_af = "(?<!no )(?<!without )atrial fibrillation"}

`statements` makes labels of what the interpretation says: a regular expression that is looked for in each statement,
whatever the case; 1 where one statement matches, 0 where none does, unknown where the file states nothing. Mind
negation: "atrial fibrillation" is also found in "no atrial fibrillation", "cannot rule out atrial fibrillation" and
"atrial fibrillation has resolved". Nothing here understands language; read a hundred statements before you trust one.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import pandas as pd
from pydantic import field_validator, model_validator

from ecgscale.data import synthetic
from ecgscale.data.described import Described, Table
from ecgscale.data.hospital import Ecg, HospitalError, reader, require, samples
from ecgscale.data.record import Record, Rejected, patient_id
from ecgscale.datasets import DatasetError, DatasetSpec, portioned
from ecgscale.units import LEADS


class _Row(NamedTuple):
    """A file below the root and its row of the table, if it has one."""

    name: str
    said: dict[str, Any] | None


class HospitalFolder(Described, DatasetSpec):
    """Files of hospital ECG systems, one ECG each."""

    title: ClassVar[str] = "Hospital files"
    licence: ClassVar[str] = "yours"
    access: ClassVar[str] = "yours"
    url: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    version: ClassVar[str] = "as found"

    dataset: str = "hospital_folder"  # the name of the corpus
    population: str = "hospital"  # prefix of the patients; data sets that share patients share it
    patterns: tuple[str, ...] = ("*.xml", "*.dcm", "*.dicom", "*.scp", "*.edf")  # names at any depth, in either case
    missing_leads: Literal["quarantine", "missing"] = "quarantine"  # a file without I, II, V1 … V6
    table: str | None = None  # CSV, TSV or Parquet below the root, one row per file
    id: str = "file"  # column: path of the file below the root, with /
    patient: str | None = None  # column: patient; None: the id in each file
    statements: dict[str, str] = {}  # label: regular expression over the statements in the file  # noqa: RUF012

    @field_validator("statements")
    @classmethod
    def _compiles(cls, statements: dict[str, str]) -> dict[str, str]:
        for label, pattern in statements.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"the pattern of {label} is no regular expression: {error}") from None
        return statements

    @model_validator(mode="after")
    def _consistent(self) -> HospitalFolder:
        columns = {"patient": self.patient, "age": self.age, "sex": self.sex, "fold": self.fold, "labels": self.labels}
        named = [key for key, value in columns.items() if value]
        if self.table is None and named:
            raise ValueError(f"{', '.join(named)} name columns, but no `table` is given")
        if both := set(self.statements) & {*self.label_names, *(["statements"] if "statements" in self.labels else [])}:
            raise ValueError(f"{min(both)} is a label of `statements` and of `labels`; rename one")
        return self

    def portions(self, root: Path | None) -> Iterator[list[_Row]]:
        """Yield the files in the order of their paths, with what the table says of them.

        A file that only the table names is one of them, and so is one that the table does not know: both are told.
        """
        if root is None:
            raise DatasetError("hospital_folder needs a folder: bind it with --data hospital_folder=PATH")
        if not root.is_dir():
            raise DatasetError(f"{root} is no folder; hospital_folder reads the files of a folder")
        try:
            require()
        except HospitalError as error:
            raise DatasetError(str(error)) from None
        names = self._names(root)
        if self.table is None:
            yield from portioned(_Row(name, None) for name in sorted(names))
            return
        table = Table.read(root, self.table, self.id, self.patient, self, DatasetError)
        yield from portioned(_Row(name, table.get(name)) for name in sorted(names | set(table.ids)))

    def read(self, root: Path | None, portion: list[_Row]) -> Iterator[Record | Rejected]:
        """Yield the ECGs of these files, in mV with the leads in standard order."""
        assert root is not None
        for row in portion:
            try:
                if self.table is not None and row.said is None:
                    raise ValueError(f"{self.table} has no row with {self.id} = {row.name}")
                yield self._record(row, reader.read(root, row.name))
            except ValueError as error:
                yield Rejected(row.name, str(error))

    def facts(self) -> dict[str, Any]:
        """Return the groups of labels; those that statements give are the group `statements`."""
        groups = {name: list(columns) for name, columns in self.labels.items()}
        return {"label_groups": {**groups, "statements": list(self.statements)} if self.statements else groups}

    @classmethod
    def sample(cls, root: Path, seed: int = 0) -> HospitalFolder:
        """Write 72 synthetic ECGs of 60 patients, twelve in each format, and a table of labels.

        Raises:
            DatasetError: the extra is not installed.
        """
        try:
            require()
        except HospitalError as error:
            raise DatasetError(str(error)) from None
        ecg = synthetic.population(patients=60, records=72, rate_hz=500.0, seed=seed)
        rows = []
        for i in range(72):
            name = samples.write(root, i, _sample_ecg(i, ecg))
            rows.append({"file": name, **{label: values[i] for label, values in ecg.labels.items()}})
        pd.DataFrame(rows).to_csv(root / "labels.csv", index=False)
        return cls(
            population="sample",
            table="labels.csv",
            labels={"rhythm": ("fast", "slow"), "form": ("wide", "tall", "inverted")},
            statements={"said_block": "(?<!no )bundle branch block"},
        )

    def _names(self, root: Path) -> set[str]:
        """Return the files whose name fits, less hidden ones such as those a Mac leaves beside others."""
        wanted = [pattern.lower() for pattern in self.patterns]
        names = {
            path.relative_to(root).as_posix()
            for path in root.rglob("*")
            if not path.name.startswith(".")
            and any(fnmatch.fnmatchcase(path.name.lower(), pattern) for pattern in wanted)
            and path.is_file()
        }
        names.discard(self.table or "")
        if not names:
            raise DatasetError(
                f"{root} holds no file {', '.join(self.patterns)}; set `patterns` if yours are named otherwise"
            )
        return names

    def _record(self, row: _Row, ecg: Ecg) -> Record:
        lacking = [lead for lead in LEADS if lead not in ecg.leads]
        if lacking and self.missing_leads == "quarantine":
            raise ValueError(
                f"{row.name} lacks {', '.join(lacking)}; expected I, II and V1 to V6 at least: set "
                'missing_leads = "missing" to keep such files with these leads marked absent'
            )
        said = self.known(row.said) if row.said is not None else {}
        return Record(
            signal=ecg.signal,
            unit="mV",
            rate_hz=ecg.rate_hz,
            leads=ecg.leads,
            record=row.name,
            patient=self._patient(row, ecg),
            age=said["age"] if self.age else ecg.age,
            sex=said["sex"] if self.sex else ecg.sex,
            labels={**said.get("labels", {}), **self._stated(ecg.statements)},
            fold=said.get("fold"),
        )

    def _patient(self, row: _Row, ecg: Ecg) -> str:
        if self.patient and row.said is not None:
            try:
                return patient_id(self.population, row.said["patient"])
            except ValueError:
                raise ValueError(
                    f"{self.table} names no patient for {row.name}; fill in column {self.patient}"
                ) from None
        if not ecg.patient:
            raise ValueError(
                f"{row.name} holds no patient id; give a table with columns for the file and the patient, "
                'table = "…", id = "…", patient = "…"'
            )
        return patient_id(self.population, ecg.patient)

    def _stated(self, statements: tuple[str, ...]) -> dict[str, float]:
        if not statements:
            return dict.fromkeys(self.statements, float("nan"))
        return {
            label: float(any(re.search(pattern, text, re.IGNORECASE) for text in statements))
            for label, pattern in self.statements.items()
        }


def _sample_ecg(i: int, ecg: synthetic.Population) -> Ecg:
    has = {name: bool(values[i]) for name, values in ecg.labels.items()}
    rhythm = "Sinus tachycardia" if has["fast"] else "Sinus bradycardia" if has["slow"] else "Normal sinus rhythm"
    block = "Right bundle branch block" if has["wide"] else "No bundle branch block"
    return Ecg(
        signal=ecg.signal[i],
        leads=LEADS,
        rate_hz=500.0,
        patient=f"H{ecg.patient[i]:03d}",
        age=float(ecg.age[i]),
        sex="F" if ecg.female[i] else "M",
        statements=(rhythm, block),
    )
