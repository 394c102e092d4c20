"""Children's ECG findings, and the disease groups of their hospital stay, of Zhengzhou University.

A disease need not show in the tracing; it is unknown where the stay has no code.

Source: Tan et al. 2025; at least ten records per finding as in arXiv:2605.12241 (recipe-pretraining §7.2: 58 findings).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import pandas as pd

from ecgscale.tasks import Statements, TaskSpec

_PREFIX = {"findings": "ecg_", "diseases": "disease_"}


class ZzuPecg(Statements):
    """Multi-label findings (AHA codes), or disease groups (ICD-10)."""

    reference: ClassVar[str] = "Tan et al. 2025, doi:10.1038/s41597-025-05225-z"
    licence: ClassVar[str] = "CC BY 4.0"
    label_sets: ClassVar[Mapping[str, tuple[str, ...]]] = {}  # the corpus says which of the code book it carries

    labels: Literal["findings", "diseases"] = "findings"

    def candidates(self, index: pd.DataFrame) -> tuple[str, ...]:
        """Return the labels of the corpus with the prefix of the set, in alphabetical order."""
        return tuple(self.with_prefix(index, _PREFIX[self.labels]).columns)

    @classmethod
    def examples(cls) -> list[tuple[TaskSpec, tuple[str, ...]]]:
        """Return both tasks, each with three names."""
        return [
            (cls(labels="findings"), ("ecg_A1", "ecg_C21", "ecg_L145")),
            (cls(labels="diseases"), ("disease_cardiomyopathy", "disease_congenital", "disease_myocarditis")),
        ]
