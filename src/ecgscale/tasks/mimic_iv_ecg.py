"""Sex, admission to intensive care and death from MIMIC-IV-ECG, as MDS-ED defines them.

Admission and death are known for ECGs of the first 90 minutes in the emergency department only; all others are unknown
in these tasks.

Source: Lopez Alcaraz et al. 2024, arXiv:2407.17856, "MDS-ED: Multimodal Decision Support in the Emergency Department".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import pandas as pd

from ecgscale.tasks import Parts, TaskSpec


class MimicIvEcg(TaskSpec):
    """Whether the patient is a woman, comes to intensive care (2 labels), or dies (7 labels)."""

    reference: ClassVar[str] = (
        "Gow et al. 2023, doi:10.13026/4nqg-sb35; Lopez Alcaraz et al. 2024, arXiv:2407.17856; "
        "folds: Strodthoff et al. 2024, doi:10.1093/ehjdh/ztae039"
    )
    licence: ClassVar[str] = "PhysioNet Credentialed Health Data License 1.5.0"
    label_sets: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "sex": ("female",),
        "icu": ("icu_24h", "icu_stay"),
        "mortality": (*(f"mortality_{days}d" for days in (1, 7, 28, 90, 180, 365)), "mortality_stay"),
    }

    labels: Literal["sex", "icu", "mortality"] = "sex"
    split: Literal["folds", "patients"] = "folds"  # "patients": for a corpus ingested without MIMIC-IV-ECG-Ext-ICD

    @property
    def parts(self) -> Parts:
        """The published folds as the data set numbers them: 0–17 train, 18 validation, 19 test; or by patients."""
        return self.split

    def targets(self, index: pd.DataFrame) -> pd.DataFrame:
        """Return the set's labels; the corpus must have been ingested with the tables they come from."""
        return self.carried(index, self.label_sets[self.labels])
