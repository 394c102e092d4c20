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

_TUNED = "study `rates` on simulated ECGs, 2026-11-21 (LOG.md)"
PACKAGED: dict[str, Rate] = {}


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
