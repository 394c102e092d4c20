"""Contrastive predictive coding: from what a causal network has seen up to a token, tell the token `horizon` further on
from others.

With c the contextual tokens and z those that left the stem, the prediction is W c_i, and the loss of position i is
-log(exp(s_+) / (exp(s_+) + sum_j exp(s_j))), where s_+ = (W c_i) z_{i+horizon} and s_j runs over `negatives` draws with
replacement from all other tokens; a network that knows nothing scores chance, ln(1 + negatives). Gradients flow into z.
As released, one horizon is predicted; "all" predicts every step up to it, each with its own W, as the paper does.
A stem whose kernel is longer than its stride shares samples between neighbours, so the first steps of "all" are easy.

W starts 1/sqrt(width) as large as torch's linear layer does, so that scores are of order one and the loss begins near
chance at every width; as released, it begins the higher above chance the wider the network.

Every token counts as real: causal networks read samples, not beats.

Sources: van den Oord et al. 2018, arXiv:1807.03748; arXiv:2605.12241, AI4HealthUOL/ecg-pretraining-strategies,
loss/selfsupervised.py (recipe-pretraining §4.1).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ecgscale import masks, ranks
from ecgscale.backbones import Backbone
from ecgscale.batch import Batch
from ecgscale.nn import unit
from ecgscale.objectives import Loss, Objective, ObjectiveSpec


class CPC(ObjectiveSpec):
    """CPC on a causal backbone."""

    title: ClassVar[str] = "CPC"
    paradigm: ClassVar[Literal["SL", "SSL"]] = "SSL"
    needs: ClassVar[frozenset[str]] = frozenset({"causal"})

    horizon: int = Field(14, ge=1)  # tokens ahead; as released, 117 ms at 120 tokens a second
    horizons: Literal["one", "all"] = "one"  # "one" as released; "all": steps 1 to horizon, the 2018 paper
    negatives: int = Field(128, ge=1)  # per position, as released
    # "window" as released; "batch" scores every token of the batch at every position: memory grows with its square
    negatives_from: Literal["window", "batch"] = "window"
    temperature: float = Field(1.0, gt=0)  # as released
    normalise: bool = False  # whether scores are cosines; as released not
    published_start: bool = False  # whether W starts as torch's linear layer does
    reduction: Literal["mean", "sum"] = "mean"  # over positions; "sum" as released, then the mean over records

    def build(self, backbone: Backbone) -> CPCModel:
        """Return the backbone with its linear predictions."""
        return CPCModel(backbone, self)


class CPCModel(Objective):
    """The module."""

    def __init__(self, backbone: Backbone, spec: CPC) -> None:
        super().__init__()
        self.backbone, self.spec = backbone, spec
        self.steps = (spec.horizon,) if spec.horizons == "one" else tuple(range(1, spec.horizon + 1))
        self.head = nn.Linear(backbone.token_width, len(self.steps) * backbone.token_width, bias=False)
        if not spec.published_start:
            with torch.no_grad():
                self.head.weight.mul_(backbone.token_width**-0.5)

    def forward(self, batch: Batch, generator: torch.Generator) -> Loss:
        """Return the loss in nats; `accuracy`: how often the true token scores highest.

        Raises:
            ValueError: the window is too short for the horizon, or the backbone gives no embedded tokens.
        """
        tokens = self.backbone.tokens(batch)
        if tokens.embedded is None:
            raise ValueError("cpc predicts the tokens that enter the first block: this backbone gives none")
        seen, place = positions(tokens.values.shape[1], self.steps, tokens.values.device)
        queries = self.head(tokens.values).unflatten(-1, (len(self.steps), -1)).flatten(1, 2).index_select(1, seen)
        keys, place = tokens.embedded, place.expand(len(batch), -1)
        if self.spec.normalise:
            queries, keys = unit(queries), unit(keys)
        everyone = self.spec.negatives_from == "batch"
        if everyone:
            place = place + keys.shape[1] * ranks.places(len(batch)).to(place.device)[:, None]
            keys = ranks.gather(keys).flatten(0, 1)[None]
        drawn = others(place, keys.shape[1], self.spec.negatives, generator)
        if everyone:
            queries, place, drawn = (t.flatten(0, 1)[None] for t in (queries, place, drawn))
        scores = contrast(queries, keys, place, drawn) / self.spec.temperature
        value = ranks.mean((scores.logsumexp(-1) - scores[..., 0]).view(len(batch), -1))
        right = (scores.detach().argmax(-1) == 0).float().view(len(batch), -1)
        accuracy = ranks.total(ranks.mean(right))
        return Loss(value * len(seen) if self.spec.reduction == "sum" else value, {"accuracy": accuracy})


def positions(count: int, steps: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return which predictions have a token to predict, and that token: two [position] int64.

    Args:
        count: Tokens of a window.
        steps: How far ahead each prediction of a token looks; prediction s of token i stands at i * len(steps) + s.
        device: Where the result lies.

    Raises:
        ValueError: no token has one `max(steps)` after it.
    """
    if count <= steps[-1]:
        raise ValueError(
            f"cpc predicts {steps[-1]} tokens ahead, found windows of {count} tokens: give longer windows or a smaller "
            "horizon"
        )
    every = [torch.arange(count - step, device=device) for step in steps]
    seen = torch.cat([token * len(steps) + s for s, token in enumerate(every)])
    return seen, torch.cat([token + step for token, step in zip(every, steps, strict=True)])


def others(place: Tensor, count: int, draws: int, generator: torch.Generator) -> Tensor:
    """Return uniform draws with replacement from all tokens but each position's own [batch, position, draw] int64.

    Args:
        place: The token left out [batch, position].
        count: Tokens to draw from, at least 2.
        draws: Draws per position.
        generator: CPU generator.
    """
    random = masks.uniform((*place.shape, draws), generator, place.device)
    ahead = (random * (count - 1)).long().clamp(max=count - 2)  # float32 may round up to count - 1
    return (place[..., None] + 1 + ahead).remainder(count)


def contrast(queries: Tensor, keys: Tensor, place: Tensor, drawn: Tensor) -> Tensor:
    """Return dot products [batch, position, 1 + draw] float32, the true token's first.

    Args:
        queries: Predictions [batch, position, width].
        keys: Tokens [batch, token, width].
        place: The true token [batch, position] int64.
        drawn: Negatives [batch, position, draw] int64.
    """
    scores = torch.bmm(queries, keys.transpose(1, 2))  # batch position token
    return scores.gather(2, torch.cat([place[..., None], drawn], -1)).float()
