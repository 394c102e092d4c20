"""The six abnormalities of CODE-15 %, the in-distribution task of models that are pre-trained on CODE.

Source: Ribeiro et al. 2020, Nature Communications 11:1760.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import pandas as pd

from ecgscale.tasks import TaskSpec


class Code15(TaskSpec):
    """Multi-label: first-degree AV block, both bundle branch blocks, bradycardia, fibrillation, tachycardia."""

    reference: ClassVar[str] = "Ribeiro et al. 2021, doi:10.5281/zenodo.4916206"
    licence: ClassVar[str] = "CC BY 4.0"
    label_sets: ClassVar[Mapping[str, tuple[str, ...]]] = {"six": ("1dAVb", "RBBB", "LBBB", "SB", "AF", "ST")}

    labels: Literal["six"] = "six"

    def targets(self, index: pd.DataFrame) -> pd.DataFrame:
        """Return the six labels in the order of CODE."""
        return self.carried(index, self.label_sets[self.labels])
