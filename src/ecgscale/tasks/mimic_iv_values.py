"""Numbers from MIMIC-IV-ECG: body measures, intervals and axes, laboratory values, vital signs.

A regression; errors are in deviations of the training part, since units differ. The corpus must have been ingested with
the tables that hold the numbers; those of an ECG are known where a table knows them.

Source: arXiv:2605.12241 (recipe-pretraining §7.2, tasks 23 to 26), which trims laboratory values at their 1 % and 99 %
quantiles; here they are what the table says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import pandas as pd

from ecgscale.data.mimic_columns import BIOMETRICS, ECG_FEATURES, LABORATORY, VITAL_SIGNS
from ecgscale.tasks import Parts, TaskSpec


class MimicIvValues(TaskSpec):
    """Three body measures, seven intervals and axes, eighteen laboratory values, or six vital signs."""

    output: ClassVar[Literal["binary", "regression"]] = "regression"
    prefix: ClassVar[str] = "value."
    reference: ClassVar[str] = "Gow et al. 2023, doi:10.13026/4nqg-sb35; Al-Masud and Strodthoff 2026, arXiv:2605.12241"
    licence: ClassVar[str] = "PhysioNet Credentialed Health Data License 1.5.0; ECG features ODbL 1.0"
    label_sets: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "biometrics": BIOMETRICS,
        "ecg_features": ECG_FEATURES,
        "laboratory": LABORATORY,
        "vital_signs": VITAL_SIGNS,
    }

    labels: Literal["biometrics", "ecg_features", "laboratory", "vital_signs"] = "ecg_features"
    split: Parts = "folds"  # as tasks of mimic_iv_ecg

    @property
    def parts(self) -> Parts:
        """As chosen by `split`."""
        return self.split

    def targets(self, index: pd.DataFrame) -> pd.DataFrame:
        """Return the numbers in the order of the benchmark.

        Raises:
            ValueError: the corpus was ingested without their table.
        """
        return self.carried(index, self.label_sets[self.labels])
