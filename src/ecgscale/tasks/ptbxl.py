"""PTB-XL's statement groups on its official folds.

By the published rule, a record takes part in a group only if it has at least one of the group's statements: the others
are unknown, not negative. That leaves 21,388 of 21,799 records for `super`, `sub` and `diag`, 8,978 for `form`, 21,030
for `rhythm` and every record for `all`.

Source: Strodthoff et al. 2021, IEEE JBHI 25(5), "Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-
XL", and its code, `select_data` of github.com/helme/ecg_ptbxl_benchmarking.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import pandas as pd

from ecgscale.tasks import Parts, TaskSpec

_GROUPS: dict[str, tuple[str, ...]] = {
    group: tuple(f"{group}_{name}" for name in names.split())
    for group, names in {
        "super": "CD HYP MI NORM STTC",
        "sub": "AMI AVB CLBBB CRBBB ILBBB IMI IRBBB ISC ISCA ISCI IVCD LAFB/LPFB LAO/LAE LMI LVH NORM NST PMI "
        "RAO/RAE RVH SEHYP STTC WPW",
        "diag": "1AVB 2AVB 3AVB ALMI AMI ANEUR ASMI CLBBB CRBBB DIG EL ILBBB ILMI IMI INJAL INJAS INJIL INJIN INJLA "
        "IPLMI IPMI IRBBB ISC ISCAL ISCAN ISCAS ISCIL ISCIN ISCLA IVCD LAFB LAO/LAE LMI LNGQT LPFB LVH NDT NORM NST "
        "PMI RAO/RAE RVH SEHYP WPW",
        "form": "ABQRS DIG HVOLT INVT LNGQT LOWT LPR LVOLT NDT NST NT PAC PRC(S) PVC QWAVE STD STE TAB VCLVH",
        "rhythm": "AFIB AFLT BIGU PACE PSVT SARRH SBRAD SR STACH SVARR SVTAC TRIGU",
    }.items()
}


def _once(names: list[str]) -> list[str]:
    """Keep one label per code: a form statement that is diagnostic too counts as diagnostic."""
    first: dict[str, str] = {}
    for name in sorted(names):
        first.setdefault(name.partition("_")[2], name)
    return list(first.values())


class PtbXl(TaskSpec):
    """Multi-label statements of PTB-XL: the labels of the group that the corpus carries, in alphabetical order."""

    reference: ClassVar[str] = (
        "Wagner et al. 2020, doi:10.1038/s41597-020-0495-6; Strodthoff et al. 2021, doi:10.1109/JBHI.2020.3022989"
    )
    licence: ClassVar[str] = "CC BY 4.0"
    label_sets: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **_GROUPS,
        "all": tuple(_once([*_GROUPS["diag"], *_GROUPS["form"], *_GROUPS["rhythm"]])),
    }

    labels: Literal["all", "diag", "sub", "super", "form", "rhythm"] = "super"  # 71, 44, 23, 5, 19, 12
    without: Literal["drop", "negative"] = "drop"  # records without any statement of the group (the published rule)

    @property
    def parts(self) -> Parts:
        """PTB-XL's ten folds: 1–8 train, 9 validation, 10 test."""
        return "folds"

    def targets(self, index: pd.DataFrame) -> pd.DataFrame:
        """Return the group's columns; with `without` = "drop", a record that has none of them is unknown in all."""
        found = self._all(index) if self.labels == "all" else self.with_prefix(index, f"{self.labels}_")
        return found.where((found == 1).any(axis=1)) if self.without == "drop" else found

    def _all(self, index: pd.DataFrame) -> pd.DataFrame:
        """Return every statement once; all three groups must be there, or the set would not be what it is called."""
        columns = [list(self.with_prefix(index, f"{group}_").columns) for group in ("diag", "form", "rhythm")]
        return self.carried(index, tuple(_once([name for group in columns for name in group])))
