"""WFDB records in a folder of one's own, with or without a table: described instead of converted.

A descriptor, as `[data.mine]` of a study or as a file for `ecgscale ingest --describe`:

    dataset = "mine"
    headers = "RECORDS"
    table = "patients.csv"
    id = "record"
    patient = "subject"
    population = "hospital"
    sex = "sex"
    sex_codes = {"0" = "F", "1" = "M"}
    labels = {rhythm = ["af", "flutter"]}
    lead_names = {MLII = "II"}
    other_leads = "drop"

Without a table, age, sex and diagnoses are those of the header's comments ("Age: 74", "Sex: Female", "Dx:
426783006,164889003", as in the PhysioNet challenges): `labels` then names the codes that count, or none for every code
that a header holds, and a code becomes the label `dx_<code>`; a record without a Dx line is unknown in all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import field_validator, model_validator

from ecgscale.data import synthetic, wfdb16
from ecgscale.data.described import Described, Table
from ecgscale.data.record import Record, Rejected, patient_id
from ecgscale.datasets import DatasetError, DatasetSpec, portioned
from ecgscale.units import LEADS, MILLIVOLTS, lead_name, unit_name

_REMARK = re.compile(r"<?(age|sex|gender|dx)>?\s*:\s*(.*)", re.IGNORECASE)
_UNKNOWN = ("", "unknown", "nan", "n/a", "na", "none", "?")


class _Portion(NamedTuple):
    """Names of records, each with its row of the table, and, where there is no table, the codes that are labels."""

    codes: tuple[str, ...]
    rows: list[tuple[str, dict[str, Any] | None]]


class WfdbFolder(Described, DatasetSpec):
    """A folder of WFDB records."""

    title: ClassVar[str] = "WFDB records in a folder"
    licence: ClassVar[str] = "yours"
    access: ClassVar[str] = "yours"
    url: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    version: ClassVar[str] = "as found"

    dataset: str = "wfdb_folder"  # the name of the corpus
    headers: str = "**/*.hea"  # pattern of headers below the root; or a file that lists records, such as RECORDS
    table: str | None = None  # CSV, TSV or Parquet below the root, one row per record
    id: str | None = None  # column: record, as its path below the root without suffix or as the last part of that path
    patient: str | None = None  # column: patient
    patient_pattern: str = ".+"  # else: the part of a record's path (or its first group); default: each its own patient
    lead_names: dict[str, str] = {}  # what headers call the standard leads, e.g. {MLII = "II"}  # noqa: RUF012
    other_leads: Literal["reject", "drop"] = "reject"  # records with leads that are not among the twelve, or the leads

    @field_validator("headers", "table")
    @classmethod
    def _below(cls, path: str | None) -> str | None:
        if path is not None and (not path or Path(path).is_absolute() or ".." in Path(path).parts):
            raise ValueError("expected a path below the root")
        return path

    @field_validator("patient_pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"expected a regular expression, {error}") from None
        return pattern

    @field_validator("lead_names")
    @classmethod
    def _standard(cls, names: dict[str, str]) -> dict[str, str]:
        return {name: lead_name(lead) for name, lead in names.items()}

    @model_validator(mode="after")
    def _joined(self) -> WfdbFolder:
        if (self.table is None) != (self.id is None):
            raise ValueError("`table` and `id`, its column of records, go together")
        if self.table is None and any((self.patient, self.fold, self.age, self.sex)):
            raise ValueError("`patient`, `fold`, `age` and `sex` are columns of a table; name the `table`")
        return self

    def portions(self, root: Path | None) -> Iterator[_Portion]:
        """Yield the names of the records in alphabetical order, or in that of the list.

        Without a table and `labels`, the headers are read once for their codes.
        """
        if root is None:
            raise DatasetError("wfdb_folder needs a folder: bind it with --data NAME=PATH")
        pattern = any(sign in self.headers for sign in "*?[")
        names = _matching(root, self.headers) if pattern else list(dict.fromkeys(_listed(root, self.headers)))
        if not names:
            raise DatasetError(f"{root} holds no record that `headers` = {self.headers!r} names")
        if self.table is None or self.id is None:
            codes = self.label_names or _codes(root, names)
            yield from (_Portion(codes, [(name, None) for name in chunk]) for chunk in portioned(names))
            return
        table = Table.read(root, self.table, self.id, self.patient, self, DatasetError)
        for chunk in portioned(names):
            yield _Portion((), [(name, table.get(name) or table.get(name.rpartition("/")[2])) for name in chunk])

    def read(self, root: Path | None, portion: _Portion) -> Iterator[Record | Rejected]:
        """Yield these records; with a table, one without a row in it is rejected."""
        assert root is not None
        for name, said in portion.rows:
            if said is None and self.table is not None:
                yield Rejected(name, f"{self.table} has no row with {self.id} = {name} or {name.rpartition('/')[2]}")
                continue
            try:
                yield self._record(name, wfdb16.read(root, name), said, portion.codes)
            except ValueError as error:
                yield Rejected(name, str(error))

    def facts(self) -> dict[str, Any]:
        """Return the groups of labels."""
        prefix = "" if self.table else "dx_"
        return {"label_groups": {name: [prefix + label for label in group] for name, group in self.labels.items()}}

    @classmethod
    def sample(cls, root: Path, seed: int = 0) -> WfdbFolder:
        """Write 96 synthetic ECGs of 60 patients, a folder for each, with foreign lead names and a table."""
        ecg = synthetic.population(patients=60, records=96, rate_hz=200.0, seed=seed)
        names = []
        for i in range(96):
            names.append(f"p{ecg.patient[i]:03d}/r{i:03d}")
            (root / names[i]).parent.mkdir(parents=True, exist_ok=True)
            leads = (*("MLII" if lead == "II" else lead.lower() for lead in LEADS), "VX")
            wfdb16.write(root / names[i], np.vstack([ecg.signal[i], ecg.signal[i, :1]]), leads, 200.0)
        fold, sex = ecg.patient % 10 + 1, ecg.female.astype(int)
        table = pd.DataFrame({"record": names, "fold": fold, "age": ecg.age, "sex": sex, **ecg.labels})
        table.loc[3, "fast"] = np.nan
        table.to_csv(root / "table.csv", index=False)
        return cls(
            dataset="sample",
            table="table.csv",
            id="record",
            patient_pattern=r"^p(\d+)/",
            population="sample",
            fold="fold",
            age="age",
            sex="sex",
            sex_codes={"0": "M", "1": "F"},
            labels={"rhythm": ("fast", "slow"), "form": ("wide", "tall", "inverted")},
            lead_names={"MLII": "II"},
            other_leads="drop",
        )

    def _record(
        self, name: str, read: wfdb16.WfdbRecord, said: dict[str, Any] | None, codes: tuple[str, ...]
    ) -> Record:
        leads = self._leads(read.leads)
        if not leads:
            raise ValueError(f"none of the leads {' '.join(read.leads)} is one of the twelve standard leads")
        rows = list(leads)
        scale = np.array([MILLIVOLTS[unit_name(read.units[row])] for row in rows], np.float32)
        return Record(
            signal=read.physical[rows] * scale[:, None],
            unit="mV",
            rate_hz=read.rate_hz,
            leads=tuple(leads.values()),
            record=name,
            patient=patient_id(self.population, said["patient"] if said and self.patient else self._patient(name)),
            **(self.known(said) if said else self._remarked(read.comments, codes)),
        )

    def _leads(self, names: tuple[str, ...]) -> dict[int, str]:
        """Return the standard name of each row that has one."""
        found = {}
        for row, name in enumerate(names):
            try:
                found[row] = self.lead_names.get(name) or lead_name(name)
            except ValueError as error:
                if self.other_leads == "reject":
                    raise ValueError(f'{error}; name it in `lead_names` or set other_leads = "drop"') from None
        return found

    def _patient(self, name: str) -> str:
        match = re.search(self.patient_pattern, name)
        if match is None:
            raise ValueError(f"`patient_pattern` = {self.patient_pattern!r} finds no patient in the path {name}")
        return match[1] if match.re.groups else match[0]

    def _remarked(self, comments: tuple[str, ...], codes: tuple[str, ...]) -> dict[str, Any]:
        said = _remarks(comments)
        has, age, sex = said.get("dx"), said.get("age", ""), said.get("sex", said.get("gender", ""))
        return {
            "age": float(age) if re.fullmatch(r"\d+(\.\d+)?", age) else None,
            "sex": self.sex_of(sex) if sex else None,
            "labels": {f"dx_{code}": float(code in _parts(has)) if has else float("nan") for code in codes},
        }


def _matching(root: Path, pattern: str) -> list[str]:
    headers = (path.relative_to(root).as_posix() for path in root.glob(pattern) if path.suffix == ".hea")
    return sorted(name.removesuffix(".hea") for name in headers)


def _listed(root: Path, file: str, above: tuple[Path, ...] = ()) -> Iterator[str]:
    """Yield the records of a list, one a line, below its own folder; a line that ends in / is a folder with a list.

    Source: the file RECORDS of https://physionet.org/physiotools/wag/wag.htm.
    """
    path = (root / file).resolve()
    if not path.is_relative_to(root.resolve()) or path in above:
        raise DatasetError(f"the list {root / file} lies outside {root} or names itself; it is not read")
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DatasetError(f"the list {root / file} cannot be read: {(error.strerror or str(error)).lower()}") from None
    folder = Path(file).parent
    for line in filter(None, (line.strip() for line in lines)):
        if line.endswith("/"):
            yield from _listed(root, (folder / line / Path(file).name).as_posix(), (*above, path))
        else:
            yield (folder / line.removesuffix(".hea")).as_posix()


def _codes(root: Path, names: list[str]) -> tuple[str, ...]:
    """Return every code in the Dx lines of the headers; headers that cannot be read are rejected with their records."""
    found: set[str] = set()
    for name in names:
        try:
            found.update(_parts(_remarks(wfdb16.comments(root, name)).get("dx", "")))
        except ValueError:
            continue
    return tuple(sorted(found))


def _remarks(comments: tuple[str, ...]) -> dict[str, str]:
    """Return what the comments say of age, sex and Dx; unknown is left out."""
    found = [match for line in comments if (match := _REMARK.fullmatch(line.strip()))]
    return {match[1].lower(): match[2].strip() for match in found if match[2].strip().lower() not in _UNKNOWN}


def _parts(codes: str | None) -> list[str]:
    return [code.strip() for code in (codes or "").split(",") if code.strip()]
