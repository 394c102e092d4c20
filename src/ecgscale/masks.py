"""Which tokens to hide: exact shares per record, drawn from given random numbers, without a loop."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Chosen:
    """A choice of tokens per record.

    Attributes:
        mask: [batch, token] bool, the chosen tokens.
        index: [batch, slot] int64, the chosen tokens' places, in random order; the slots beyond a record's share repeat
            others.
        kept: [batch, slot] bool, which slots are real.
    """

    mask: Tensor
    index: Tensor
    kept: Tensor


def share(valid: Tensor, ratio: float) -> Tensor:
    """Return how many valid tokens of each record `choose` takes [batch]: ratio times all, halves rounded up."""
    return (valid.sum(1) * ratio + 0.5).floor().long()


def choose(valid: Tensor, ratio: float, random: Tensor) -> Chosen:
    """Choose the same share of every record's valid tokens: those of lowest random number.

    Args:
        valid: [batch, token] bool; nothing else is ever chosen.
        ratio: Share to choose, 0..1.
        random: [batch, token], uniform in [0, 1).
    """
    slots = min(int(valid.shape[1] * ratio + 0.5), valid.shape[1])
    index = random.masked_fill(~valid, 2.0).argsort(1)[:, :slots]
    kept = torch.arange(slots, device=valid.device) < share(valid, ratio)[:, None]
    mask = torch.zeros_like(valid).scatter(1, index, kept)
    return Chosen(mask, index, kept)
