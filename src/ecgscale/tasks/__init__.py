"""What to predict from a corpus: one module per source, each a `TaskSpec` with a field `labels`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import NonNegativeInt

from ecgscale.data import snomed
from ecgscale.spec import Plugin

Parts = Literal["folds", "patients", "crossval"]


class TaskSpec(Plugin):
    """A downstream task: which labels, for which records."""

    kind: ClassVar[str] = "tasks"
    output: ClassVar[Literal["binary", "regression"]] = "binary"  # what the targets are
    unit: ClassVar[str | None] = None  # of all regression targets; where they differ, errors are in deviations
    prefix: ClassVar[str] = "label."  # what the index's columns are called before the names in `label_sets`
    reference: ClassVar[str]
    licence: ClassVar[str]
    label_sets: ClassVar[Mapping[str, tuple[str, ...]]]  # each value of `labels` -> the source's label names in it

    labels: str  # which of the module's label sets, e.g. "super"

    @property
    def title(self) -> str:
        """The task's name in the table, `<module>_<labels>`, e.g. "ptbxl_super"."""
        return f"{self.part_name()}_{self.labels}"

    @property
    def parts(self) -> Parts:
        """How records are divided: official folds, a patient-disjoint split, or patient-stratified cross-validation."""
        return "patients"

    @abstractmethod
    def targets(self, index: pd.DataFrame) -> pd.DataFrame:
        """Return one row per row of `index` (same order), one float64 column per label or regression target.

        Labels are 1 present, 0 absent, NaN unknown; regression targets any number, NaN unknown.

        Args:
            index: A corpus's index, with `label.<name>` columns.

        Raises:
            ValueError: the corpus does not carry these labels.
        """

    def left_out(self, index: pd.DataFrame) -> dict[str, int]:
        """Return the labels that `targets` leaves out by a stated rule, each with the count that rule goes by."""
        return {}

    def floor(self, manifest: Mapping[str, Any]) -> float | None:
        """Return the irreducible loss in nats, mean over the labels, where a corpus's manifest knows it, else None."""
        return None

    @classmethod
    def examples(cls) -> list[tuple[TaskSpec, tuple[str, ...]]]:
        """Return a task for every label set, with the label names a corpus needs to carry for it."""
        return [(cls(labels=labels), names) for labels, names in cls.label_sets.items()]

    def carried(self, index: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
        """Return the columns `<prefix><name>` of an index as float64, named without the prefix.

        Raises:
            ValueError: one of them is missing.
        """
        prefix = self.prefix
        missing = [name for name in names if f"{prefix}{name}" not in index.columns]
        if missing:
            known = ", ".join(str(c).removeprefix(prefix) for c in index.columns if str(c).startswith(prefix))
            what = f'no {prefix.rstrip(".")} "{missing[0]}"; it has {known or "none"}'
            raise ValueError(f"task {self.title}: the corpus has {what}")
        return pd.DataFrame({name: index[f"{prefix}{name}"].astype(np.float64) for name in names}, index=index.index)

    def with_prefix(self, index: pd.DataFrame, prefix: str) -> pd.DataFrame:
        """Return the columns `label.<prefix>…` of an index in alphabetical order, as `carried` does.

        Raises:
            ValueError: there is none.
        """
        found = sorted(str(c).removeprefix("label.") for c in index.columns if str(c).startswith(f"label.{prefix}"))
        return self.carried(index, tuple(found) or (f"{prefix}…",))


class OfThePatient(TaskSpec):
    """What the index says of the patient in a column of its own, whatever the source."""

    prefix: ClassVar[str] = ""
    licence: ClassVar[str] = "that of the corpus"

    split: Parts = "folds"  # "folds": as the study parts the corpus

    @property
    def parts(self) -> Parts:
        """As chosen by `split`."""
        return self.split

    def column(self, index: pd.DataFrame, name: str) -> pd.Series:
        """Return a column of an index.

        Raises:
            ValueError: the corpus does not know it of any record.
        """
        if name not in index.columns or index[name].isna().all():
            raise ValueError(f"task {self.title}: the corpus knows the {name} of no record")
        return index[name]


class Statements(TaskSpec):
    """Those statements of a source that enough records of the corpus carry."""

    minimum_records: NonNegativeInt = 10  # with the statement; the benchmark of arXiv:2605.12241

    def candidates(self, index: pd.DataFrame) -> tuple[str, ...]:
        """Return the label names that may count, in the order of the task."""
        return self.label_sets[self.labels]

    def targets(self, index: pd.DataFrame) -> pd.DataFrame:
        """Return the statements that the corpus carries, rare ones left out.

        Raises:
            ValueError: it carries none, or all are rare.
        """
        found, rare = self._found(index), self.left_out(index)
        kept = found.drop(columns=list(rare))
        if kept.empty:
            raise ValueError(f"task {self.title}: no label stands in {self.minimum_records} records or more")
        return kept

    def left_out(self, index: pd.DataFrame) -> dict[str, int]:
        """Return the labels with too few records, each with the number of its records."""
        positive = (self._found(index) == 1).sum()
        return {str(name): int(n) for name, n in positive.items() if n < self.minimum_records}

    def _found(self, index: pd.DataFrame) -> pd.DataFrame:
        names = self.candidates(index)
        return self.carried(index, tuple(name for name in names if f"label.{name}" in index.columns) or names[:1])


class ChallengeStatements(Statements):
    """All SNOMED CT statements of a source of the PhysioNet/CinC challenge 2021, by the challenge's abbreviations."""

    label_sets: ClassVar[Mapping[str, tuple[str, ...]]] = {"all": snomed.abbreviations()}

    def candidates(self, index: pd.DataFrame) -> tuple[str, ...]:
        """Return the abbreviations, then codes without one that the corpus carries."""
        bare = sorted(str(c).removeprefix("label.") for c in index.columns if str(c).startswith("label.snomed_"))
        return (*self.label_sets[self.labels], *(bare if self.labels == "all" else ()))

    @classmethod
    def examples(cls) -> list[tuple[TaskSpec, tuple[str, ...]]]:
        """Return a task for every label set, with five of its names."""
        return [(cls(labels=labels), names[:5]) for labels, names in cls.label_sets.items()]
