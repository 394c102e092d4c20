"""The statements of Chapman-Shaoxing in the PhysioNet/CinC challenge, and its rhythms alone.

The rhythms are the eleven of the data set's paper; which of them arXiv:2605.12241 counts, its benchmark does not say.

Source: Zheng et al. 2020, table 3; Reyna et al. 2021, PhysioNet/CinC challenge; at least ten records per label as in
arXiv:2605.12241 (recipe-pretraining §7.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from ecgscale.data import snomed
from ecgscale.tasks import ChallengeStatements


class Chapman(ChallengeStatements):
    """Multi-label statements, or the rhythms among them."""

    reference: ClassVar[str] = "Zheng et al. 2020, doi:10.1038/s41597-020-0386-x"
    licence: ClassVar[str] = "CC BY 4.0"
    label_sets: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "all": snomed.abbreviations(),
        "rhythm": ("SB", "NSR", "AF", "STach", "SVT", "AFL", "SA", "ATach", "AVNRT", "AVRT", "SAAWR"),
    }

    labels: Literal["all", "rhythm"] = "all"
