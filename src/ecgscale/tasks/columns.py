"""Any label columns of a corpus: the task for data of one's own, ingested with `arrays` or `wfdb_folder`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pandas as pd
from pydantic import Field

from ecgscale.tasks import Parts, TaskSpec


class Columns(TaskSpec):
    """Binary labels named one by one; NaN in a column is unknown."""

    reference: ClassVar[str] = "yours"
    licence: ClassVar[str] = "yours"
    label_sets: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    labels: str = Field(min_length=1)  # the task's name in the table: columns_<labels>
    columns: tuple[str, ...] = Field(min_length=1)  # label names, without "label."
    split: Parts = "patients"

    @property
    def parts(self) -> Parts:
        """As chosen by `split`."""
        return self.split

    def targets(self, index: pd.DataFrame) -> pd.DataFrame:
        """Return the named columns in the order given."""
        return self.carried(index, self.columns)

    @classmethod
    def examples(cls) -> list[tuple[TaskSpec, tuple[str, ...]]]:
        """Return one task of two columns for each way to split."""
        names = ("first", "second")
        splits: tuple[Parts, ...] = ("patients", "folds", "crossval")
        return [(cls(labels=split, columns=names, split=split), names) for split in splits]
