"""Signals in one NPY or NPZ array and a table beside it: what most laboratories have, described instead of converted.

A descriptor of the 1,819 filtered PTB-XL records, as `[data.ptbxl1819]` of a study or as a file for `ecgscale ingest
--describe`:

    dataset = "ptbxl1819"
    signal = "ptbxl1819_100hz_int16.npz:x"
    ids = "ptbxl1819_100hz_int16.npz:ecg_id"
    axes = "record time lead"
    rate_hz = 100.0
    unit = "z_record_lead"
    scale = 1e-3
    band_hz = [0.5, 40.0]
    table = "labels.csv"
    id = "ecg_id"
    patient = "patient_id"
    population = "ptbxl"
    fold = "strat_fold"
    labels = {super = ["super_NORM", "super_MI"]}
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import field_validator, model_validator

from ecgscale.data import npy, synthetic, tables
from ecgscale.data.record import Record, Rejected, patient_id
from ecgscale.datasets import DatasetError, DatasetSpec
from ecgscale.units import LEADS, Unit, lead_name

AXES = ("record", "lead", "time")


class Arrays(DatasetSpec):
    """An array of signals with a table of its records."""

    title: ClassVar[str] = "Arrays with a table"
    licence: ClassVar[str] = "yours"
    access: ClassVar[str] = "yours"
    url: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    version: ClassVar[str] = "as found"

    dataset: str = "arrays"  # the name of the corpus
    signal: str  # FILE.npy, FILE.npz or FILE.npz:KEY below the root; KEY alone where the root holds one NPZ
    ids: str | None = None  # the same for the record ids; None: row i of the table is record i of the signal
    axes: str = "record time lead"  # what the axes of the array are
    rate_hz: float  # samples per second
    leads: tuple[str, ...] = LEADS  # along the lead axis
    unit: Unit = "mV"  # of scale × value
    scale: float = 1.0  # units per stored value
    band_hz: tuple[float, float] | None = None  # pass band already applied
    table: str  # CSV, TSV or Parquet below the root, one row per record
    id: str  # column: record
    patient: str  # column: patient
    population: str  # prefix of the patients; data sets that share patients share it
    fold: str | None = None  # column: official fold
    age: str | None = None  # column: years
    sex: str | None = None  # column: F / M, female / male, or the keys of sex_codes
    sex_codes: dict[str, str] | None = None  # e.g. {"0" = "M", "1" = "F"}: sources contradict each other
    labels: dict[str, tuple[str, ...]] = {}  # groups of label columns: 0, 1 or empty  # noqa: RUF012

    @field_validator("leads")
    @classmethod
    def _standard(cls, leads: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(lead_name(lead) for lead in leads)

    @field_validator("axes")
    @classmethod
    def _three(cls, axes: str) -> str:
        if sorted(axes.split()) != sorted(AXES):
            raise ValueError(
                'expected the words record, lead and time in the order of the array, e.g. "record time lead"'
            )
        return axes

    @field_validator("sex_codes")
    @classmethod
    def _known(cls, codes: dict[str, str] | None) -> dict[str, str] | None:
        if codes and not set(codes.values()) <= {"F", "M"}:
            raise ValueError('expected every code to mean "F" or "M"')
        return codes

    @model_validator(mode="after")
    def _positive(self) -> Arrays:
        if not (self.rate_hz > 0 and self.scale != 0):
            raise ValueError("rate_hz must be positive and scale must not be 0")
        return self

    def records(self, root: Path | None) -> Iterator[Record | Rejected]:
        """Yield the records in the order of the array; a record without a row in the table is rejected.

        Rows of the table without a signal are not records of this data set.
        """
        if root is None:
            raise DatasetError("arrays needs a folder: bind it with --data NAME=PATH")
        table = self._table(root)
        with npy.reading(DatasetError):
            rows = npy.Rows.open(root, self.signal, self.axes.split().index("record"))
            ids = self._ids(root, table, len(rows))
            self._check_shape(rows)
            order = [name for name in self.axes.split() if name != "record"]
            position = {name: i for i, name in enumerate(table.index)}
            if len(position) < len(table):
                twice = table.index[table.index.duplicated()][0]
                raise DatasetError(f"{root / self.table}: the id {twice} stands in column {self.id} more than once")
            columns = self._columns(table)
            for name, values in zip(ids, rows, strict=True):
                where = position.get(name)
                if where is None:
                    yield Rejected(name, f"{self.table} has no row with {self.id} = {name}")
                    continue
                yield self._record(name, values if order == ["lead", "time"] else values.T, columns, where)

    def facts(self) -> dict[str, Any]:
        """Return the groups of labels."""
        return {"label_groups": {name: list(columns) for name, columns in self.labels.items()}}

    @classmethod
    def sample(cls, root: Path, seed: int = 0) -> Arrays:
        """Write 96 synthetic ECGs of 60 patients as int16 µV [record, time, lead] with a CSV table."""
        ecg = synthetic.population(patients=60, records=96, rate_hz=100.0, seed=seed)
        root.mkdir(parents=True, exist_ok=True)
        np.save(root / "signal.npy", np.rint(ecg.signal * 1000).astype(np.int16).transpose(0, 2, 1))
        np.save(root / "ids.npy", np.arange(1, 97))
        table = pd.DataFrame(
            {"id": np.arange(1, 97), "patient": ecg.patient.astype(float), "fold": ecg.patient % 10 + 1}
        )
        table["age"], table["sex"] = ecg.age, np.where(ecg.female, "F", "M")
        for name, values in ecg.labels.items():
            table[name] = values
        table.loc[3, "fast"] = np.nan
        table.to_csv(root / "table.csv", index=False)
        return cls(
            dataset="sample",
            signal="signal.npy",
            ids="ids.npy",
            rate_hz=100.0,
            unit="uV",
            table="table.csv",
            id="id",
            patient="patient",
            population="sample",
            fold="fold",
            age="age",
            sex="sex",
            labels={"rhythm": ("fast", "slow"), "form": ("wide", "tall", "inverted")},
        )

    def _table(self, root: Path) -> pd.DataFrame:
        columns = [self.id, self.patient, *filter(None, (self.fold, self.age, self.sex))]
        columns += [name for group in self.labels.values() for name in group]
        frame = tables.read(root / self.table, list(dict.fromkeys(columns)), DatasetError)
        frame.index = pd.Index([_key(v) for v in frame[self.id]])
        return frame

    def _ids(self, root: Path, table: pd.DataFrame, records: int) -> list[str]:
        if self.ids is None:
            if len(table) != records:
                raise DatasetError(
                    f"{root / self.table} has {len(table)} rows and {self.signal} {records} records; "
                    "give `ids` to match them"
                )
            return list(table.index)
        found = npy.whole(root, self.ids, beside=self.signal)
        if found.shape != (records,):
            raise DatasetError(
                f"`ids` = {self.ids} has shape {list(found.shape)}; expected [{records}] as in {self.signal}"
            )
        return [_key(value) for value in found.tolist()]

    def _check_shape(self, rows: npy.Rows) -> None:
        shape = dict(zip(self.axes.split(), rows.shape, strict=False))
        if len(rows.shape) != 3 or shape["lead"] != len(self.leads):
            raise DatasetError(
                f"{rows.name} has shape {list(rows.shape)}; `axes` = {self.axes!r} expects three axes "
                f"with {len(self.leads)} along lead"
            )

    def _columns(self, table: pd.DataFrame) -> dict[str, list[Any]]:
        """Turn the columns of the table into plain lists: looking up a cell of a frame is slow."""
        columns: dict[str, list[Any]] = {"patient": table[self.patient].tolist()}
        for name, column in (("fold", self.fold), ("age", self.age), ("sex", self.sex)):
            columns[name] = table[column].tolist() if column else [None] * len(table)
        for name in (name for group in self.labels.values() for name in group):
            columns[f"label.{name}"] = pd.to_numeric(table[name], errors="coerce").where(table[name].notna()).tolist()
            wrong = table.index[pd.to_numeric(table[name], errors="coerce").isna() & table[name].notna()]
            if len(wrong):
                raise DatasetError(
                    f"{self.table}: column {name} holds {table[name][wrong[0]]!r} for {self.id} {wrong[0]}; "
                    "expected 0, 1 or empty"
                )
        return columns

    def _record(self, name: str, values: Any, columns: dict[str, list[Any]], where: int) -> Record | Rejected:
        signal = np.multiply(values, np.float32(self.scale), dtype=np.float32)
        try:
            return Record(
                signal=signal,
                unit=self.unit,
                rate_hz=self.rate_hz,
                leads=self.leads,
                record=name,
                patient=patient_id(self.population, columns["patient"][where]),
                age=_number(columns["age"][where], "age"),
                sex=self._sex(columns["sex"][where]),
                labels={key[6:]: column[where] for key, column in columns.items() if key.startswith("label.")},
                fold=_whole(columns["fold"][where]),
                band_hz=self.band_hz,
            )
        except ValueError as error:
            return Rejected(name, str(error))

    def _sex(self, value: Any) -> str | None:
        if value is None or value != value:
            return None
        text = _key(value)
        if self.sex_codes is not None:
            if text in self.sex_codes:
                return self.sex_codes[text]
            raise ValueError(f'the sex is "{text}", which `sex_codes` does not name')
        known = {"f": "F", "female": "F", "m": "M", "male": "M", "": None, "unknown": None}
        if text.lower() not in known:
            raise ValueError(
                f'the sex is "{text}"; expected F or M: say what the codes mean, sex_codes = {{"0" = "M", …}}'
            )
        return known[text.lower()]


def _key(value: Any) -> str:
    """Write an id as text, integers as integers: 9, 9.0 and "9" are one record."""
    text = str(value).strip()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return text.removesuffix(".0") if text.removesuffix(".0").isdigit() else text


def _number(value: Any, what: str) -> float | None:
    if value is None or value != value:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f'the {what} is "{value}"; expected a number') from None


def _whole(value: Any) -> int | None:
    number = _number(value, "fold")
    if number is None:
        return None
    if not math.isfinite(number) or number != int(number):
        raise ValueError(f"the fold is {value}; expected a whole number")
    return int(number)
