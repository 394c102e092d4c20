"""Sex from the ECG, which most corpora carry.

Source: Attia et al. 2019, Circulation: Arrhythmia and Electrophysiology 12:e007284.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import pandas as pd

from ecgscale.tasks import OfThePatient


class Sex(OfThePatient):
    """Whether the patient is a woman, by the record's own column."""

    reference: ClassVar[str] = "Attia et al. 2019, doi:10.1161/CIRCEP.119.007284"
    label_sets: ClassVar[Mapping[str, tuple[str, ...]]] = {"female": ("sex",)}

    labels: Literal["female"] = "female"

    def targets(self, index: pd.DataFrame) -> pd.DataFrame:
        """Return 1 for "F", 0 for "M", NaN for neither, in the column `sex`.

        Raises:
            ValueError: the corpus knows no sex.
        """
        female = self.column(index, "sex").map({"F": 1.0, "M": 0.0})
        return pd.DataFrame({"sex": female.astype(np.float64)}, index=index.index)
