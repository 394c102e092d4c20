"""What to predict from a corpus: one module per source, each a `TaskSpec` with a field `labels`."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import pandas as pd

from ecgscale.spec import Plugin

Parts = Literal["folds", "patients", "crossval"]


class TaskSpec(Plugin):
    """A downstream task: which labels, for which records."""

    kind: ClassVar[str] = "tasks"
    reference: ClassVar[str]
    licence: ClassVar[str]

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
        """Return one row per row of `index` (same order), one column per label: 1 present, 0 absent, NaN unknown.

        Args:
            index: A corpus's index, with `label.<name>` columns.

        Raises:
            ValueError: the corpus does not carry these labels.
        """
