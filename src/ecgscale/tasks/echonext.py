"""Structural heart disease from the ECG alone, on EchoNext's own train, validation and test patients.

Source: Poterucha et al. 2025, Nature, doi:10.1038/s41586-025-09227-0; flags of PhysioNet echonext 1.1.0. Whether a
finding that nobody measured counts as absent is a choice of the data set (`unmeasured`), not of the task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import pandas as pd

from ecgscale.tasks import Parts, TaskSpec


class EchoNext(TaskSpec):
    """Eleven echocardiographic findings, or the composite that is present where any of them is."""

    reference: ClassVar[str] = (
        "Poterucha et al. 2025, doi:10.1038/s41586-025-09227-0; PhysioNet echonext 1.1.0, doi:10.13026/3ykd-bf14"
    )
    licence: ClassVar[str] = "PhysioNet Restricted Health Data License 1.5.0"
    label_sets: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "shd": (
            "lvef_lte_45_flag",
            "lvwt_gte_13_flag",
            "aortic_stenosis_moderate_or_greater_flag",
            "aortic_regurgitation_moderate_or_greater_flag",
            "mitral_regurgitation_moderate_or_greater_flag",
            "tricuspid_regurgitation_moderate_or_greater_flag",
            "pulmonary_regurgitation_moderate_or_greater_flag",
            "rv_systolic_dysfunction_moderate_or_greater_flag",
            "pericardial_effusion_moderate_large_flag",
            "pasp_gte_45_flag",
            "tr_max_gte_32_flag",
        ),
        "composite": ("shd_moderate_or_greater_flag",),
    }

    labels: Literal["shd", "composite"] = "shd"

    @property
    def parts(self) -> Parts:
        """EchoNext's splits: train is fold 1, val 9, test 10."""
        return "folds"

    def targets(self, index: pd.DataFrame) -> pd.DataFrame:
        """Return the flags as the corpus carries them."""
        return self.carried(index, self.label_sets[self.labels])
