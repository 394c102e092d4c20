"""The statements of Ningbo First Hospital's ECGs in the PhysioNet/CinC challenge.

Source: Reyna et al. 2021, PhysioNet/CinC challenge; at least ten records per label as in arXiv:2605.12241
(recipe-pretraining §7.2).
"""

from __future__ import annotations

from typing import ClassVar, Literal

from ecgscale.tasks import ChallengeStatements


class Ningbo(ChallengeStatements):
    """Multi-label statements of rhythm, conduction, ectopy, axis and ST-T."""

    reference: ClassVar[str] = "Zheng et al. 2020, doi:10.1038/s41598-020-59821-7"
    licence: ClassVar[str] = "CC BY 4.0"

    labels: Literal["all"] = "all"
