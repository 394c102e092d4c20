"""What the objectives share whose student sees hidden spans and learns from a teacher that sees everything.

Sources: Baevski et al. 2022 (data2vec); arXiv:2605.12241, AI4HealthUOL/ecg-pretraining-strategies (recipe-pretraining
§4.2, §4.6), whose teacher is meant to follow with a momentum of 0.9996.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ecgscale import masks, ranks
from ecgscale.backbones import Backbone, Tokens
from ecgscale.batch import Batch
from ecgscale.objectives import Objective, ObjectiveSpec
from ecgscale.objectives._teacher import Teacher
from ecgscale.s4_layers import S4Block
from ecgscale.spec import SpecError
from ecgscale.state_space import StateSpace

Head = Literal["linear", "mlp", "s4"]


class Distillation(ObjectiveSpec):
    """The fields of teacher and mask."""

    paradigm: ClassVar[Literal["SL", "SSL"]] = "SSL"
    needs: ClassVar[frozenset[str]] = frozenset({"hides_tokens"})
    comparable: ClassVar[bool] = False  # its targets move
    best: ClassVar[bool] = False

    teacher: Literal["ema", "frozen_random"] = "ema"  # "frozen_random": what the release of arXiv:2605.12241 does
    momentum: float = Field(0.9996, ge=0, le=1)  # arXiv:2605.12241; data2vec 0.999, DinoSR 0.999
    final: float | None = Field(None, ge=0, le=1)  # momentum from step `ramp` on; data2vec and DinoSR 0.9999
    ramp: int = Field(0, ge=0)  # steps; data2vec and DinoSR 30,000
    mask_start: float = Field(0.065, gt=0, le=1)  # probability that a span starts at a token; wav2vec 2.0, data2vec
    mask_span: int = Field(10, ge=1)  # tokens; wav2vec 2.0, data2vec, arXiv:2605.12241
    head: Head = "linear"  # data2vec, DinoSR; "s4": arXiv:2605.12241, see `head`
    published_mask: bool = False  # as the release of arXiv:2605.12241: 6.3 % hidden instead of half, see masks.spans


class Distiller(Objective):
    """The module: student, teacher, and their movement."""

    def __init__(self, backbone: Backbone, spec: Distillation) -> None:
        super().__init__()
        self.backbone = backbone
        self.start, self.span, self.published_mask = spec.mask_start, spec.mask_span, spec.published_mask
        self.teacher = Teacher(backbone, spec.teacher, spec.momentum, spec.final, spec.ramp)
        self.before = released_block(backbone.token_width) if spec.head == "s4" else None  # of the head

    def student(self, batch: Batch, hidden: Tensor) -> Tensor:
        """Return what the head reads: the tokens of a student that does not see some [batch, token, width]."""
        values = self.backbone.tokens(batch, hidden).values
        return values if self.before is None else self.before(values)[0]

    def hide(self, valid: Tensor, generator: torch.Generator) -> Tensor:
        """Return which tokens the student does not see [batch, token] bool, at least one per record that has any;
        with the published mask perhaps none."""
        random = masks.uniform(valid.shape, generator, valid.device)
        return masks.spans(valid, self.start, self.span, random, 0 if self.published_mask else 1, self.published_mask)

    def after_step(self) -> None:
        """Let the teacher follow."""
        self.teacher.follow(self.backbone)

    def health(self) -> dict[str, Tensor]:
        """Return how far student and teacher are apart."""
        return {"teacher_distance": self.teacher.distance(self.backbone)}

    def loss_weight(self, batch: Batch) -> Tensor:
        """Return the number of valid tokens: the share of them that is hidden is the same everywhere."""
        return self.backbone.valid(batch).sum().float()


def head(kind: Head, width: int, out: int) -> nn.Module:
    """Return what the student predicts with: a linear map, which "s4" has behind `released_block`, or one hidden layer
    of its own width with ReLU."""
    if kind != "mlp":
        return nn.Linear(width, out)
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, out))


def released_block(width: int) -> S4Block:
    """Return the bidirectional S4 layer in the heads of the release of arXiv:2605.12241 (recipe-pretraining §4.2).

    It reads tokens as they follow each other, those that are not real too: meant for networks on a stem.
    """
    return S4Block(StateSpace(width, state=64), dropout=0.2)


def last_layers(tokens: Tokens, count: int) -> tuple[Tensor, ...]:
    """Return what the last `count` blocks added to the stream.

    Raises:
        SpecError: the backbone has fewer blocks.
    """
    if len(tokens.layers) < count:
        raise SpecError(
            f"objective.layers = {count}, but this backbone has {len(tokens.layers)} blocks: ask for at most that many"
        )
    return tokens.layers[-count:]


def layer_norm(x: Tensor) -> Tensor:
    """Standardise every token over its features [batch, token, width], float32."""
    return F.layer_norm(x.float(), x.shape[-1:])


def instance_norm(x: Tensor, valid: Tensor) -> Tensor:
    """Standardise every feature over a record's valid tokens [batch, token, width], float32; the others become zero."""
    x, weight = x.float(), valid[..., None].float()
    count = weight.sum(1, keepdim=True).clamp(min=1)
    x = (x - (x * weight).sum(1, keepdim=True) / count) * weight
    return x * (x.square().sum(1, keepdim=True) / count + 1e-5).rsqrt()


def mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return this rank's share of the weighted mean of values [row]; zero where all weights are."""
    return (values * weight).sum() / ranks.total(weight.sum()).clamp(min=1)


def hidden_share(hidden: Tensor, valid: Tensor) -> Tensor:
    """Return which share of the whole batch's valid tokens is hidden."""
    return ranks.total(hidden.sum()) / ranks.total(valid.sum()).clamp(min=1)


def perplexity(uses: Tensor) -> Tensor:
    """Return the effective number of codes, exp of the entropy of their use [..., code], averaged over code-books."""
    share = uses / uses.sum(-1, keepdim=True).clamp(min=1)
    return torch.special.entr(share).sum(-1).exp().mean()
