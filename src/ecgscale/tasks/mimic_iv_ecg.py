"""Sex, admission to intensive care, deterioration, death and discharge diagnoses from MIMIC-IV-ECG.

Admission and death are known for ECGs of the first 90 minutes in the emergency department only; all others are unknown
in these tasks. Diagnoses are the ICD-10 codes that the corpus was ingested with; cardiac ones are those of chapter IX,
which begin with I; frequent ones are the half with more positive ECGs in the training folds, tail ones the other half.

Source: Lopez Alcaraz et al. 2024, arXiv:2407.17856, "MDS-ED: Multimodal Decision Support in the Emergency Department";
Strodthoff et al. 2024, doi:10.1093/ehjdh/ztae039, for diagnoses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import pandas as pd

from ecgscale.data.mimic_columns import DETERIORATION
from ecgscale.tasks import Parts, TaskSpec

TRAINING_FOLDS = 8  # 1 to 8, of ten


class MimicIvEcg(TaskSpec):
    """Whether the patient is a woman, comes to intensive care (2 labels), deteriorates (6), dies (7), or leaves with a
    diagnosis."""

    reference: ClassVar[str] = (
        "Gow et al. 2023, doi:10.13026/4nqg-sb35; Lopez Alcaraz et al. 2024, arXiv:2407.17856; "
        "folds: Strodthoff et al. 2024, doi:10.1093/ehjdh/ztae039"
    )
    licence: ClassVar[str] = "PhysioNet Credentialed Health Data License 1.5.0"
    label_sets: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "sex": ("female",),
        "icu": ("icu_24h", "icu_stay"),
        "deterioration": DETERIORATION,
        "mortality": (*(f"mortality_{days}d" for days in (1, 7, 28, 90, 180, 365)), "mortality_stay"),
    }

    labels: Literal["sex", "icu", "deterioration", "mortality", "cardiac", "noncardiac", "frequent", "tail"] = "sex"
    split: Literal["folds", "patients"] = "folds"  # "patients": for a corpus ingested without MIMIC-IV-ECG-Ext-ICD

    @property
    def parts(self) -> Parts:
        """The published folds as the data set numbers them: 0–17 train, 18 validation, 19 test; or by patients."""
        return self.split

    def targets(self, index: pd.DataFrame) -> pd.DataFrame:
        """Return the set's labels; the corpus must have been ingested with the tables they come from."""
        if self.labels in self.label_sets:
            return self.carried(index, self.label_sets[self.labels])
        codes = self.with_prefix(index, "icd10_")
        if self.labels in ("frequent", "tail"):
            return codes[_half(codes, index["fold"], tail=self.labels == "tail")]
        cardiac = codes.columns.str.startswith("icd10_I")
        chosen = codes.loc[:, cardiac if self.labels == "cardiac" else ~cardiac]
        return self.carried(index, tuple(chosen.columns) or ("icd10_I…" if self.labels == "cardiac" else "icd10_…",))

    @classmethod
    def examples(cls) -> list[tuple[TaskSpec, tuple[str, ...]]]:
        """Return a task for every label set, and those of diagnoses with two codes each."""
        cardiac, others = ("icd10_I25", "icd10_I48"), ("icd10_E11", "icd10_N17")
        return [*super().examples(), (cls(labels="cardiac"), cardiac), (cls(labels="noncardiac"), others)]


def _half(codes: pd.DataFrame, fold: pd.Series, tail: bool) -> list[str]:
    """Return the names of the more frequent half of the codes, or of the rest, in alphabetical order.

    Raises:
        ValueError: there is one code, or no record of a training fold.
    """
    positive = (codes[(fold <= TRAINING_FOLDS).fillna(False).astype(bool)] == 1).sum()
    if len(positive) < 2 or not (fold <= TRAINING_FOLDS).any():
        raise ValueError("frequent and tail codes need two codes, and training folds to count them in")
    ranked = positive.sort_index().sort_values(ascending=False, kind="stable").index
    frequent = (len(ranked) + 1) // 2
    return sorted(ranked[frequent:] if tail else ranked[:frequent])
