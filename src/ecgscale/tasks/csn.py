"""The 38 labels of Chapman-Shaoxing-Ningbo on which MERL and HeartLang report.

Papers that use MERL's split (16,546, 1,860 and 4,620 records, that is 72, 8 and 20 %) get it with `split` = "folds"
from a corpus of the data set `csn` with `splits` = "merl". Without these lists the split is seeded and by patients; the
fractions (0.72, 0.08, 0.2) give the same proportions. The published labels match acronyms inside longer ones, see
`ecgscale.datasets.csn`.

Source: the header of finetune/data_split/chapman/chapman_val.csv in https://github.com/cheliu-computation/MERL-ICML2024,
which leaves out sinus bradycardia (SB), the commonest label; why, it does not say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import pandas as pd

from ecgscale.tasks import Parts, TaskSpec


class Csn(TaskSpec):
    """Multi-label rhythm, conduction, ectopy, axis, ST-T and hypertrophy statements."""

    reference: ClassVar[str] = "Zheng, Guo and Chu 2022, doi:10.13026/wgex-er52; labels: Liu et al. 2024, MERL, ICML"
    licence: ClassVar[str] = "CC BY 4.0"
    label_sets: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "merl": tuple(
            name
            for line in (
                "1AVB 2AVB 2AVB1 AF AFIB ALS APB AQW ARS AT AVB CCR CR ERV JEB LBBB LVH MI PRIE",
                "PWC QTIE RBBB RVH SA SR ST STDD STE STTC STTU SVT TWC TWO UW VB VEB VPB WPW",
            )
            for name in line.split()
        ),
    }

    labels: Literal["merl"] = "merl"
    split: Literal["patients", "folds"] = "patients"  # "folds": the published lists, where the corpus carries them

    @property
    def parts(self) -> Parts:
        """As chosen by `split`."""
        return self.split

    def targets(self, index: pd.DataFrame) -> pd.DataFrame:
        """Return the 38 labels in alphabetical order."""
        return self.carried(index, self.label_sets[self.labels])
