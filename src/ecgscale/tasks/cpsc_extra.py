"""The statements of CPSC-Extra, the part of CPSC 2018 that its challenge did not use.

Source: Reyna et al. 2021, PhysioNet/CinC challenge; at least ten records per label as in arXiv:2605.12241
(recipe-pretraining §7.2).
"""

from __future__ import annotations

from typing import ClassVar, Literal

from ecgscale.tasks import ChallengeStatements


class CpscExtra(ChallengeStatements):
    """Multi-label statements of rhythm, conduction, ectopy, axis and ST-T."""

    reference: ClassVar[str] = (
        "Liu et al. 2018, doi:10.1166/jmihi.2018.2442; Perez Alday et al. 2020, doi:10.1088/1361-6579/abc960"
    )
    licence: ClassVar[str] = "CC BY 4.0"

    labels: Literal["all"] = "all"
