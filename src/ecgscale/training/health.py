"""Whether a representation is alive: its effective rank and spread on held-out records.

RankMe is the exponential of the entropy of the normalised singular values of the feature matrix, exp(-Σ p_k ln p_k)
with p_k = s_k / Σ s: between 1 (all features on one line: collapsed) and the smaller of records and width. Here
features are centred first, so that a constant vector has no part in it.

Source: Garrido et al. 2023, RankMe, ICML, equations 1 and 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-7  # as published, added to every share


def rankme(features: Tensor) -> Tensor:
    """Return the effective rank of features [record, width]; 1 for features that are all alike."""
    singular = torch.linalg.svdvals((features - features.mean(0)).double())
    total = singular.sum()
    share = singular / total.clamp(min=torch.finfo(torch.float64).tiny) + EPSILON
    return torch.where(total > 1e-12, torch.exp(-(share * share.log()).sum()), 1.0)


def spread(features: Tensor) -> Tensor:
    """Return the mean over features of their standard deviation over records [record, width]."""
    return features.std(0, correction=0).mean()


def measure(features: Tensor) -> dict[str, float]:
    """Return effective rank and spread of features [record, width]."""
    return {"rankme": float(rankme(features)), "feature_std": float(spread(features))}
