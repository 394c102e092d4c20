"""The primary statements of Shandong Provincial Hospital's ECGs that at least ten records carry.

Source: Liu et al. 2022, Scientific Data 9:272; at least ten records per label as in arXiv:2605.12241
(recipe-pretraining §7.2: 35 statements).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from ecgscale.datasets.sph import STATEMENTS
from ecgscale.tasks import Statements


class Sph(Statements):
    """Multi-label primary statements of the AHA, ACC and HRS."""

    reference: ClassVar[str] = "Liu et al. 2022, doi:10.1038/s41597-022-01403-5"
    licence: ClassVar[str] = "CC BY 4.0"
    label_sets: ClassVar[Mapping[str, tuple[str, ...]]] = {"primary": tuple(STATEMENTS.values())}

    labels: Literal["primary"] = "primary"
