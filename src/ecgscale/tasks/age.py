"""Age in years from the ECG, a regression target that most corpora carry.

Source: Attia et al. 2019, Circulation: Arrhythmia and Electrophysiology 12:e007284; Lima et al. 2021, Nature
Communications 12:5117.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import pandas as pd

from ecgscale.tasks import OfThePatient


class Age(OfThePatient):
    """Age in years; sources that hide ages above 89 give 90 for all of them."""

    output: ClassVar[Literal["binary", "regression"]] = "regression"
    unit: ClassVar[str | None] = "years"
    reference: ClassVar[str] = (
        "Attia et al. 2019, doi:10.1161/CIRCEP.119.007284; Lima et al. 2021, 10.1038/s41467-021-25351-7"
    )
    label_sets: ClassVar[Mapping[str, tuple[str, ...]]] = {"years": ("age",)}

    labels: Literal["years"] = "years"

    def targets(self, index: pd.DataFrame) -> pd.DataFrame:
        """Return the column `age`.

        Raises:
            ValueError: the corpus knows no age.
        """
        return pd.DataFrame({"age": self.column(index, "age").astype(np.float64)}, index=index.index)
