"""PTB-XL's statement groups on its official folds.

A record takes part in a group only if it has at least one of the group's statements: the others are unknown, not
negative. That is the published rule for all groups.

Source: Strodthoff et al. 2021, IEEE JBHI 25(5), "Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-
XL".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import pandas as pd

from ecgscale.tasks import Parts, TaskSpec


class PtbXl(TaskSpec):
    """Multi-label statements of PTB-XL: the labels of the group that the corpus carries, in alphabetical order."""

    reference: ClassVar[str] = (
        "Wagner et al. 2020, doi:10.1038/s41597-020-0495-6; Strodthoff et al. 2021, doi:10.1109/JBHI.2020.3022989"
    )
    licence: ClassVar[str] = "CC BY 4.0"
    label_sets: ClassVar[Mapping[str, tuple[str, ...]]] = {
        group: tuple(f"{group}_{name}" for name in names.split())
        for group, names in {
            "super": "CD HYP MI NORM STTC",
            "sub": "AMI AVB CLBBB CRBBB ILBBB IMI IRBBB ISC ISCA ISCI IVCD LAFB/LPFB LAO/LAE LMI LVH NORM NST PMI "
            "RAO/RAE RVH SEHYP STTC WPW",
            "form": "ABQRS DIG HVOLT INVT LNGQT LOWT LPR LVOLT NDT NST NT PAC PRC(S) PVC QWAVE STD STE TAB VCLVH",
            "rhythm": "AFIB AFLT BIGU PACE PSVT SARRH SBRAD SR STACH SVARR SVTAC TRIGU",
        }.items()
    }

    labels: Literal["super", "sub", "form", "rhythm"] = "super"

    @property
    def parts(self) -> Parts:
        """PTB-XL's ten folds: 1–8 train, 9 validation, 10 test."""
        return "folds"

    def targets(self, index: pd.DataFrame) -> pd.DataFrame:
        """Return the group's columns; a record without any of its statements is unknown in all of them."""
        found = self.with_prefix(index, f"{self.labels}_")
        return found.where((found == 1).any(axis=1))
