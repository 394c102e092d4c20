"""LUDB's diagnoses on 200 patients, by repeated patient-stratified cross-validation.

Source: Kalyakulina et al. 2020, IEEE Access 8, "LUDB: A New Open-Access Validation Tool for Electrocardiogram
Delineation Algorithms".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import pandas as pd
from pydantic import NonNegativeInt

from ecgscale.tasks import Parts, TaskSpec


class Ludb(TaskSpec):
    """Rhythm, left-ventricular hypertrophy, left-atrial hypertrophy or electrical axis."""

    reference: ClassVar[str] = "Kalyakulina et al. 2020, doi:10.1109/ACCESS.2020.3029211; PhysioNet ludb 1.0.1"
    licence: ClassVar[str] = "ODC-By 1.0"
    label_sets: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "rhythm": (
            "rhythm_sinus",
            "rhythm_sinus_bradycardia",
            "rhythm_sinus_tachycardia",
            "rhythm_sinus_arrhythmia",
            "rhythm_af",
            "rhythm_flutter",
            "rhythm_wandering_pacemaker",
        ),
        "lvh": ("lvh",),
        "la_hypertrophy": ("la_hypertrophy",),
        "axis": ("axis_normal", "axis_left", "axis_right", "axis_vertical", "axis_horizontal"),
    }

    labels: Literal["rhythm", "lvh", "la_hypertrophy", "axis"] = "rhythm"
    minimum_patients: NonNegativeInt = 12  # in each class; labels below are left out and counted (ours)

    @property
    def parts(self) -> Parts:
        """Too few patients for one split."""
        return "crossval"

    def targets(self, index: pd.DataFrame) -> pd.DataFrame:
        """Return the labels whose two classes both have enough patients."""
        found = self._all(index)
        small = self.left_out(index)
        if len(small) == found.shape[1]:
            raise ValueError(f"task {self.title}: no label has {self.minimum_patients} patients in each class")
        return found.drop(columns=list(small))

    def left_out(self, index: pd.DataFrame) -> dict[str, int]:
        """Return the labels left out, each with the number of patients in its smaller class."""
        found = self._all(index)
        smaller = {
            name: min(index["patient"][found[name] == value].nunique() for value in (0, 1)) for name in found.columns
        }
        return {name: count for name, count in smaller.items() if count < self.minimum_patients}

    def _all(self, index: pd.DataFrame) -> pd.DataFrame:
        if self.labels in ("rhythm", "axis"):
            return self.with_prefix(index, f"{self.labels}_")
        return self.carried(index, self.label_sets[self.labels])
