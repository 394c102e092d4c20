"""Which tokens to hide: exact shares per record, drawn from given random numbers, without a loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ecgscale import ranks


def uniform(shape: Sequence[int], generator: torch.Generator, device: torch.device, by_row: bool = True) -> Tensor:
    """Return numbers in [0, 1) of a CPU generator on a device: the same on all, and the host waits for none.

    Args:
        shape: Of the result; [row, ...] where `by_row`.
        generator: On the CPU.
        device: Where they go.
        by_row: Whether they belong to the rows of a batch, of which a rank gets its own.
    """

    def drawn(whole: tuple[int, ...]) -> Tensor:
        return torch.rand(whole, generator=generator, pin_memory=device.type == "cuda")

    numbers = ranks.cut(drawn, shape) if by_row else drawn(tuple(shape))
    return numbers.to(device, non_blocking=True)


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


def spans(valid: Tensor, start: float, span: int, random: Tensor, at_least: int = 1, published: bool = False) -> Tensor:
    """Hide spans of tokens that start at random places and may overlap.

    wav2vec 2.0 and data2vec start a span at 6.5 % of the tokens and hide 10 from there, about half of all. The release
    of arXiv:2605.12241 divides that probability by the span, puts the span around its token (4 before, 5 after) and
    hides the last token only where a span is drawn at it: 6.3 % are hidden.

    Args:
        valid: [batch, token] bool; nothing else is ever hidden.
        start: Probability that a token starts a span.
        span: Tokens of a span.
        random: [batch, token], uniform in [0, 1); a token starts a span where it is below `start`.
        at_least: So many valid tokens of a record, those of lowest random number, start a span in any case.
        published: Whether to hide as that release does.

    Returns:
        The hidden tokens [batch, token] bool.

    Sources: Baevski et al. 2020, section 3.1; AI4HealthUOL/ecg-pretraining-strategies (recipe-pretraining §4.2).
    """
    tokens = valid.shape[1]
    first = random < (start / span if published else start)
    if at_least:
        lowest = random.masked_fill(~valid, 2.0).topk(min(at_least, tokens), largest=False).values
        first = first | (random <= lowest[:, -1:])
    first = first & valid
    before = (span - 1) // 2 if published else 0
    started = F.pad(first.cumsum(1), (span, 0))  # at [span + t]: spans drawn up to token t
    place = torch.arange(tokens, device=valid.device) + before
    hidden = started[:, place.clamp(max=tokens - 1) + span] > started[:, place]
    if published:
        hidden[:, -1] = first[:, -1]
    return hidden & valid


def rows(chosen: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
    """Return a weight for each row [row] float32, and the tokens of `values` [batch, token, ...] as rows [row, ...].

    On a CPU the rows are the chosen tokens, each of weight one; elsewhere all tokens, those not chosen of weight zero,
    since to pick some would wait for the device.
    """
    flat = [value.flatten(0, 1) for value in values]
    weight = chosen.flatten().float()
    if chosen.device.type != "cpu":
        return weight, *flat
    place = weight.nonzero().squeeze(1)
    return weight[place], *(value.index_select(0, place) for value in flat)
