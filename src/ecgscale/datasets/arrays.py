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

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from pydantic import field_validator, model_validator

from ecgscale.data import npy, synthetic
from ecgscale.data.described import Described, Table, as_id
from ecgscale.data.record import Record, Rejected, patient_id
from ecgscale.datasets import DatasetError, DatasetSpec, portioned
from ecgscale.units import LEADS, Unit, lead_name

AXES = ("record", "lead", "time")


class _Row(NamedTuple):
    """A record of the array: its name, its place along the record axis, and its row of the table, if it has one."""

    name: str
    place: int
    said: dict[str, Any] | None


class Arrays(Described, DatasetSpec):
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

    @model_validator(mode="after")
    def _positive(self) -> Arrays:
        if not (self.rate_hz > 0 and self.scale != 0):
            raise ValueError("rate_hz must be positive and scale must not be 0")
        return self

    def portions(self, root: Path | None) -> Iterator[list[_Row]]:
        """Yield the rows of the array with what the table says of them, in the order of the array.

        Rows of the table without a signal are not records of this data set.
        """
        if root is None:
            raise DatasetError("arrays needs a folder: bind it with --data NAME=PATH")
        table = Table.read(root, self.table, self.id, self.patient, self, DatasetError)
        with npy.reading(DatasetError):
            rows = npy.Rows.open(root, self.signal, self.axes.split().index("record"))
            ids = self._ids(root, table, len(rows))
            self._check_shape(rows)
            yield from portioned(_Row(name, i, table.get(name)) for i, name in enumerate(ids))

    def read(self, root: Path | None, portion: list[_Row]) -> Iterator[Record | Rejected]:
        """Yield the records of these rows; a record without a row in the table is rejected."""
        assert root is not None
        order = [name for name in self.axes.split() if name != "record"]
        with npy.reading(DatasetError):
            rows = npy.rows(root, self.signal, self.axes.split().index("record"))
            for row, values in zip(portion, rows.span(portion[0].place, portion[-1].place + 1), strict=True):
                if row.said is None:
                    yield Rejected(row.name, f"{self.table} has no row with {self.id} = {row.name}")
                    continue
                yield self._record(row.name, values if order == ["lead", "time"] else values.T, row.said)

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

    def _ids(self, root: Path, table: Table, records: int) -> list[str]:
        if self.ids is None:
            if len(table.ids) != records:
                raise DatasetError(
                    f"{root / self.table} has {len(table.ids)} rows and {self.signal} {records} records; "
                    "give `ids` to match them"
                )
            return table.ids
        found = npy.whole(root, self.ids, beside=self.signal)
        if found.shape != (records,):
            raise DatasetError(
                f"`ids` = {self.ids} has shape {list(found.shape)}; expected [{records}] as in {self.signal}"
            )
        return [as_id(value) for value in found.tolist()]

    def _check_shape(self, rows: npy.Rows) -> None:
        shape = dict(zip(self.axes.split(), rows.shape, strict=False))
        if len(rows.shape) != 3 or shape["lead"] != len(self.leads):
            raise DatasetError(
                f"{rows.name} has shape {list(rows.shape)}; `axes` = {self.axes!r} expects three axes "
                f"with {len(self.leads)} along lead"
            )

    def _record(self, name: str, values: Any, said: dict[str, Any]) -> Record | Rejected:
        signal = np.multiply(values, np.float32(self.scale), dtype=np.float32)
        try:
            return Record(
                signal=signal,
                unit=self.unit,
                rate_hz=self.rate_hz,
                leads=self.leads,
                record=name,
                patient=patient_id(self.population, said["patient"]),
                band_hz=self.band_hz,
                **self.known(said),
            )
        except ValueError as error:
            return Rejected(name, str(error))
