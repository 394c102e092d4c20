"""Learning rates by name: what a study may write instead of a number, each with its source.

"packaged" is the rate tuned with ecgscale itself (study `rates`, LOG.md) at 20,000 parameters, scaled by a power of N;
"published" is what a family's authors used, whatever the size.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from ecgscale.spec import Explained

Rule = Literal["packaged", "published"]

SMALL = 20_000  # parameters at which the packaged rates were tuned


class RateError(Explained, ValueError):
    """No rate of that name is known for a family."""


class Rate(NamedTuple):
    """A peak learning rate, the exponent of N / 20,000 that scales it, and where it comes from."""

    lr: float
    exponent: float
    source: str


_STRATEGIES = Rate(3e-4, 0.0, "arXiv:2605.12241, effective rate of the backbone (recipe-pretraining §5)")
PUBLISHED = {
    "resnet1d-supervised": Rate(1e-3, 0.0, "Ribeiro et al. 2020, antonior92/ecg-age-prediction"),
    "resnet1d-cmsc": Rate(1e-4, 0.0, "Kiyasseh et al. 2021, CLOCS"),
    "beat_transformer-beat_codes": Rate(5e-5, 0.0, "Jin et al. 2025, HeartLang, code-book"),
    "beat_transformer-masked_beats": Rate(5e-4, 0.0, "Jin et al. 2025, HeartLang"),
    "s4-supervised": Rate(1e-3, 0.0, "arXiv:2605.12241, supervised S4"),
    **{
        f"{backbone}-{objective}": _STRATEGIES
        for backbone in ("s4", "transformer", "net1d")
        for objective in ("cpc", "jepa", "data2vec", "dinosr", "hubert")
    },
}

# The rate of least regret, (score - best score) / best score, summed over simulated ECGs and, where named, PTB-XL; no
# more than 0.032. The exponent is that of the study `quickstart`.
_TUNED = {
    "beat_transformer-cmsc": 0.004,  # real and simulated
    "beat_transformer-data2vec": 0.00025,  # simulated
    "beat_transformer-dinosr": 0.001,  # simulated
    "beat_transformer-hubert": 0.001,  # simulated
    "beat_transformer-jepa": 0.001,  # simulated
    "beat_transformer-mae": 0.016,  # real and simulated
    "beat_transformer-masked_beats": 0.016,  # simulated
    "beat_transformer-supervised": 0.016,  # real and simulated
    "inception_time-cmsc": 0.032,  # simulated
    "inception_time-mae": 0.016,  # simulated
    "inception_time-supervised": 0.032,  # simulated
    "net1d-cmsc": 0.001,  # simulated
    "net1d-cpc": 0.016,  # real and simulated
    "net1d-data2vec": 0.016,  # real and simulated
    "net1d-dinosr": 0.004,  # real and simulated
    "net1d-hubert": 0.016,  # real and simulated
    "net1d-jepa": 0.00025,  # real and simulated
    "net1d-mae": 0.016,  # simulated
    "net1d-supervised": 0.016,  # simulated
    "patchtst-cmsc": 0.016,  # simulated
    "patchtst-data2vec": 0.016,  # simulated
    "patchtst-dinosr": 0.004,  # simulated
    "patchtst-hubert": 0.016,  # simulated
    "patchtst-jepa": 6.25e-05,  # simulated
    "patchtst-mae": 0.016,  # simulated
    "patchtst-supervised": 0.016,  # simulated
    "resnet1d-cmsc": 0.032,  # real and simulated
    "resnet1d-mae": 0.016,  # real and simulated
    "resnet1d-supervised": 0.032,  # real and simulated
    "s4-cmsc": 0.016,  # real and simulated
    "s4-cpc": 0.016,  # real and simulated
    "s4-data2vec": 0.004,  # real and simulated
    "s4-dinosr": 0.004,  # real and simulated
    "s4-hubert": 0.004,  # real and simulated
    "s4-jepa": 0.001,  # real and simulated
    "s4-mae": 0.016,  # real and simulated
    "s4-supervised": 0.004,  # real and simulated
    "transformer-cmsc": 0.001,  # simulated
    "transformer-cpc": 0.016,  # real and simulated
    "transformer-data2vec": 0.016,  # real and simulated
    "transformer-dinosr": 0.016,  # real and simulated
    "transformer-hubert": 0.016,  # real and simulated
    "transformer-jepa": 0.004,  # real and simulated
    "transformer-mae": 0.004,  # simulated
    "transformer-supervised": 0.016,  # simulated
}
PACKAGED = {name: Rate(lr, -0.25, "study `rates`, 2026-11-21 (LOG.md)") for name, lr in _TUNED.items()}


def rate(rule: Rule, family: str, N: float) -> float:
    """Return the peak learning rate a rule gives.

    Args:
        rule: Its name.
        family: `<backbone>-<objective>`.
        N: Parameters of the backbone.

    Raises:
        RateError: the rule knows no such family.
    """
    known = PACKAGED if rule == "packaged" else PUBLISHED
    if family not in known:
        raise RateError(f'there is no {rule} learning rate for {family}; write a number, or rates = "tuned"')
    found = known[family]
    return found.lr * (N / SMALL) ** found.exponent
