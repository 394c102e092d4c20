"""Sex from the ECG, which most corpora carry.

Source: Attia et al. 2019, Circulation: Arrhythmia and Electrophysiology 12:e007284.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import pandas as pd

from ecgscale.tasks import Parts, TaskSpec


class Sex(TaskSpec):
    """Whether the patient is a woman, by the record's own column."""

    prefix: ClassVar[str] = ""
    reference: ClassVar[str] = "Attia et al. 2019, doi:10.1161/CIRCEP.119.007284"
    licence: ClassVar[str] = "that of the corpus"
    label_sets: ClassVar[Mapping[str, tuple[str, ...]]] = {"female": ("sex",)}

    labels: Literal["female"] = "female"
    split: Parts = "folds"  # "folds": as the study parts the corpus

    @property
    def parts(self) -> Parts:
        """As chosen by `split`."""
        return self.split

    def targets(self, index: pd.DataFrame) -> pd.DataFrame:
        """Return 1 for "F", 0 for "M", NaN for neither, in the column `sex`.

        Raises:
            ValueError: the corpus knows no sex.
        """
        if "sex" not in index.columns or index["sex"].isna().all():
            raise ValueError(f"task {self.title}: the corpus knows the sex of no record")
        female = index["sex"].map({"F": 1.0, "M": 0.0})
        return pd.DataFrame({"sex": female.astype(np.float64)}, index=index.index)
