"""What a table beside the signals says of each record: the fields and the join that descriptions of own data share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import field_validator

from ecgscale.data import cells, tables
from ecgscale.spec import Spec

_SEXES = {"f": "F", "female": "F", "m": "M", "male": "M", "": None, "unknown": None}


class Described(Spec):
    """Which columns of a table hold what; a mixin of the data sets that read tables of one's own."""

    population: str  # prefix of the patients; data sets that share patients share it
    fold: str | None = None  # column: official fold
    age: str | None = None  # column: years
    sex: str | None = None  # column: F / M, female / male, or the keys of sex_codes
    sex_codes: dict[str, str] | None = None  # e.g. {"0" = "M", "1" = "F"}: sources contradict each other
    labels: dict[str, tuple[str, ...]] = {}  # groups of label columns: 0, 1 or empty  # noqa: RUF012

    @field_validator("sex_codes")
    @classmethod
    def _known(cls, codes: dict[str, str] | None) -> dict[str, str] | None:
        if codes and not set(codes.values()) <= {"F", "M"}:
            raise ValueError('expected every code to mean "F" or "M"')
        return codes

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels of all groups, each once."""
        return tuple(dict.fromkeys(name for group in self.labels.values() for name in group))

    def known(self, said: dict[str, Any]) -> dict[str, Any]:
        """Return age, sex, fold and labels of a row of `Table` as keywords of `Record`.

        Raises:
            ValueError: one of them is not what it should be.
        """
        return {
            "age": cells.number("age", said["age"]),
            "sex": self.sex_of(said["sex"]),
            "fold": _whole(said["fold"]),
            "labels": said["labels"],
        }

    def sex_of(self, value: Any) -> str | None:
        """Return "F", "M" or None for what a source writes.

        Raises:
            ValueError: a code that nobody explained.
        """
        if value is None or value != value:
            return None
        text = as_id(value)
        if self.sex_codes is not None:
            if text in self.sex_codes:
                return self.sex_codes[text]
            raise ValueError(f'the sex is "{text}", which `sex_codes` does not name')
        if text.lower() not in _SEXES:
            raise ValueError(
                f'the sex is "{text}"; expected F or M: say what the codes mean, sex_codes = {{"0" = "M", …}}'
            )
        return _SEXES[text.lower()]


class Table:
    """The rows of a table by the id of their record.

    Attributes:
        ids: Of the rows, in the table's order.
    """

    def __init__(self, ids: list[str], columns: dict[str, list[Any]], labels: dict[str, list[Any]]) -> None:
        self.ids = ids
        self._columns, self._labels = columns, labels
        self._place = {name: i for i, name in enumerate(ids)}

    @classmethod
    def read(
        cls, root: Path, table: str, id: str, patient: str | None, described: Described, error_type: type[Exception]
    ) -> Table:
        """Read the columns that are named.

        Args:
            root: Folder of the table.
            table: CSV, TSV or Parquet below `root`, one row per record.
            id, patient: Columns.
            described: The other columns.
            error_type: Raised as one sentence: a missing column, an id that stands twice, a label that is no number.
        """
        named = {"patient": patient, "fold": described.fold, "age": described.age, "sex": described.sex}
        wanted = [id, *filter(None, named.values()), *described.label_names]
        frame = tables.read(root / table, list(dict.fromkeys(wanted)), error_type)
        ids = [as_id(value) for value in frame[id]]
        if len(set(ids)) < len(ids):
            twice = next(name for name, double in zip(ids, pd.Index(ids).duplicated(), strict=True) if double)
            raise error_type(f"{root / table}: the id {twice} stands in column {id} more than once")
        columns = {name: frame[column].tolist() if column else [None] * len(ids) for name, column in named.items()}
        labels = {}
        for name in described.label_names:
            values = pd.to_numeric(frame[name], errors="coerce")
            wrong = (values.isna() & frame[name].notna()).to_numpy()
            if wrong.any():
                row = int(wrong.argmax())
                found = f"{frame[name].iloc[row]!r} for {id} {ids[row]}"
                raise error_type(f"{table}: column {name} holds {found}; expected 0, 1 or empty")
            labels[name] = values.tolist()
        return cls(ids, columns, labels)

    def get(self, name: str) -> dict[str, Any] | None:
        """Return what the row of a record says: patient, fold, age, sex and labels; None where there is no row."""
        place = self._place.get(name)
        if place is None:
            return None
        said = {key: values[place] for key, values in self._columns.items()}
        return {**said, "labels": {key: values[place] for key, values in self._labels.items()}}


def as_id(value: Any) -> str:
    """Write an id as text, integers as integers: 9, 9.0 and "9" are one record."""
    text = str(value).strip()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return text.removesuffix(".0") if text.removesuffix(".0").isdigit() else text


def _whole(value: Any) -> int | None:
    number = cells.number("fold", value)
    if number is None:
        return None
    if not math.isfinite(number) or number != int(number):
        raise ValueError(f"the fold is {value}; expected a whole number")
    return int(number)
