"""The nine classes of the China Physiological Signal Challenge 2018.

Papers that use MERL's split (4,950, 551 and 1,376 records, that is 72, 8 and 20 %) get it with `split` = "folds" from a
corpus of the data set `cpsc2018` with `splits` = "merl". Without these lists the split is seeded and by patients; the
fractions (0.72, 0.08, 0.2) give the same proportions.

Source: Liu et al. 2018, J. Med. Imaging Health Inform. 8, "An Open Access Database for Evaluating the Algorithms of
Electrocardiogram Rhythm and Morphology Abnormality Detection".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import pandas as pd

from ecgscale.tasks import Parts, TaskSpec


class Cpsc2018(TaskSpec):
    """Multi-label rhythm, conduction, ectopy and ST classes."""

    reference: ClassVar[str] = "Liu et al. 2018, doi:10.1166/jmihi.2018.2442; split: Liu et al. 2024, MERL, ICML"
    licence: ClassVar[str] = "CC BY 4.0"
    label_sets: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "nine": ("NSR", "AF", "IAVB", "LBBB", "RBBB", "PAC", "VEB", "STD", "STE"),
    }

    labels: Literal["nine"] = "nine"
    split: Literal["patients", "folds"] = "patients"  # "folds": the published lists, where the corpus carries them

    @property
    def parts(self) -> Parts:
        """As chosen by `split`."""
        return self.split

    def targets(self, index: pd.DataFrame) -> pd.DataFrame:
        """Return the nine classes in the order of the challenge."""
        return self.carried(index, self.label_sets[self.labels])
