"""The simulator's labels: the six CODE diagnoses, a structural condition unseen in pre-training, sex, and findings.

Findings are those of the world `registry`: `frequent` are the 36 that are planted more often, `tail` the other 36.

Source of the six labels: Ribeiro et al. 2020, Nature Communications 11:1760.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from ecgscale.data.simulation.findings import FINDINGS
from ecgscale.tasks import TaskSpec


class Simulated(TaskSpec):
    """Labels of simulated ECGs, of any world."""

    reference: ClassVar[str] = (
        "ecgscale simulator; label definitions of Ribeiro et al. 2020, doi:10.1038/s41467-020-15432-4"
    )
    licence: ClassVar[str] = "Apache-2.0 (generated)"
    label_sets: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "code": ("1dAVb", "RBBB", "LBBB", "SB", "AF", "ST"),
        "structural": ("structural",),
        "sex": ("female",),
        "findings": FINDINGS,
        "frequent": FINDINGS[: len(FINDINGS) // 2],
        "tail": FINDINGS[len(FINDINGS) // 2 :],
    }

    labels: Literal["code", "structural", "sex", "findings", "frequent", "tail"] = "code"

    def targets(self, index: pd.DataFrame) -> pd.DataFrame:
        """Return what the simulated reader wrote, errors included."""
        return self.carried(index, self.label_sets[self.labels])

    def floor(self, manifest: Mapping[str, Any]) -> float | None:
        """Return the mean of the labels' planted irreducible losses, nats; None for a corpus without them."""
        known = (manifest.get("facts") or {}).get("irreducible_loss") or {}
        names = self.label_sets[self.labels]
        return float(np.mean([known[name] for name in names])) if all(name in known for name in names) else None
