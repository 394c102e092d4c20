"""HuBERT++: the student matches soft cluster assignments of the teacher's output, balanced by Sinkhorn-Knopp.

For every set of K prototypes P of length one and the teacher's output f of length one, Q = Sinkhorn(exp(f Pᵀ / τ_t)):
rounds that divide by the sums over all tokens of the batch, then by those over prototypes. With q the student's logits,
loss = Σ over sets of 0.75 mean_hidden KL(Q || softmax(q/τ_s)) + 0.25 mean_seen KL + 0.001 mean H(softmax q). After each
step P <- unit(0.99 P + 0.01 unit(Qᵀ f)). τ_t falls from 0.15 to 0.07 and τ_s from 0.5 to 0.1 by half a cosine over 200
steps. The first step's batch gives the prototypes, by k-means++.

Sources: arXiv:2605.12241, AI4HealthUOL/ecg-pretraining-strategies (recipe-pretraining §4.5), all numbers; Hsu et al.
2021 (HuBERT); Cuturi 2013 (Sinkhorn); Arthur & Vassilvitskii 2007 (k-means++).
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ecgscale import masks, ranks
from ecgscale.backbones import Backbone
from ecgscale.batch import Batch
from ecgscale.objectives import Loss
from ecgscale.objectives._distillation import Distillation, Distiller, Head, head, hidden_share, mean, perplexity

EPSILON = 1e-8  # added to Sinkhorn's sums, as released


class HuBERT(Distillation):
    """HuBERT++ on any backbone that hides tokens; every default is arXiv:2605.12241's release."""

    title: ClassVar[str] = "HuBERT++"

    prototypes: tuple[int, ...] = Field((128, 256), min_length=1)  # per set
    rounds: int = Field(3, ge=1)  # of Sinkhorn-Knopp
    teacher_temperature: tuple[float, float] = (0.15, 0.07)  # at the start, at the end
    student_temperature: tuple[float, float] = (0.5, 0.1)
    warmup: int = Field(200, ge=1)  # steps of both temperatures
    hidden_weight: float = Field(0.75, ge=0, le=1)  # the rest is the weight of tokens that were seen
    entropy: float = Field(0.001, ge=0)  # weight of the student's entropy
    prototype_momentum: float = Field(0.99, ge=0, le=1)
    head: Head = "mlp"  # "s4" is in the other heads of the release, not in this one

    def build(self, backbone: Backbone) -> HuBERTModel:
        """Return the backbone with its head, teacher and prototypes."""
        return HuBERTModel(backbone, self)


class HuBERTModel(Distiller):
    """The module."""

    def __init__(self, backbone: Backbone, spec: HuBERT) -> None:
        super().__init__(backbone, spec)
        self.settings = spec
        self.sets = nn.ModuleList(
            Prototypes(count, backbone.token_width, spec.prototype_momentum) for count in spec.prototypes
        )
        self.head = head(spec.head, backbone.token_width, sum(spec.prototypes))

    def forward(self, batch: Batch, generator: torch.Generator) -> Loss:
        """Return the sum over the sets, in nats; `perplexity`: how many prototypes are some token's best."""
        spec, step = self.settings, self.teacher.updates.count
        seen = self.teacher.tokens(batch)
        hidden = self.hide(seen.valid, generator)
        logits = self.head(self.student(batch, hidden)).float().flatten(0, 1)
        normed = F.normalize(seen.values.float(), dim=-1)
        features, valid = normed.flatten(0, 1), seen.valid.flatten().float()
        weights = valid * hidden.flatten(), valid * ~hidden.flatten()
        temperature = cosine(*spec.teacher_temperature, step, spec.warmup)
        student = cosine(*spec.student_temperature, step, spec.warmup)
        value, right, used = torch.zeros((), device=logits.device), [], []
        for prototypes, q in zip(self.sets, logits.split(list(spec.prototypes), -1), strict=True):
            current = prototypes.first(normed, seen.valid, generator) if step == 0 else prototypes.weight
            shares = prototypes.assign(current, features, valid, temperature, spec.rounds)
            value = value + prediction_loss(q, shares, *weights, student, spec.hidden_weight, spec.entropy)
            best = shares.argmax(-1)
            right.append(ranks.total(mean((q.detach().argmax(-1) == best).float(), weights[0])))
            used.append(perplexity(ranks.total(valid.new_zeros(q.shape[-1]).scatter_add_(0, best, valid))))
        parts = {"accuracy": torch.stack(right).mean(), "perplexity": torch.stack(used).mean()}
        return Loss(value, {**parts, "masked": hidden_share(weights[0], valid)})

    def after_step(self) -> None:
        """Let the teacher follow and move the prototypes; temperatures are functions of the number of steps."""
        super().after_step()
        for prototypes in self.sets:
            prototypes.move()


class Prototypes(nn.Module):
    """One set of directions; all state in the buffer."""

    def __init__(self, count: int, width: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("weight", F.normalize(torch.randn(count, width), dim=-1))
        self._noted: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def first(self, features: Tensor, valid: Tensor, generator: torch.Generator) -> Tensor:
        """Return prototypes for before the first step [prototype, width]: valid features [record, ..., width] of all
        ranks, far apart."""
        features, valid = ranks.gather(features).flatten(0, -2), ranks.gather(valid).flatten().float()
        chosen = spread(features, valid, len(self.weight), generator)
        return torch.where(valid.sum() > 0, chosen, self.weight)

    @torch.no_grad()
    def assign(self, current: Tensor, features: Tensor, valid: Tensor, temperature: float, rounds: int) -> Tensor:
        """Return the shares [row, prototype] of features [row, width]; in training remember them for `move`."""
        with torch.autocast(features.device.type, enabled=False):
            shares = sinkhorn(features @ current.T / temperature, valid, rounds)
            if self.training:
                self._noted = current, ranks.total(shares.T @ features)
        return shares

    @torch.no_grad()
    def move(self) -> None:
        """Move by what was assigned since the last call."""
        if self._noted is None:
            return
        current, sums = self._noted
        self.weight.copy_(F.normalize(current.lerp(F.normalize(sums, dim=-1), 1 - self.momentum), dim=-1))
        self._noted = None


def sinkhorn(scores: Tensor, weight: Tensor, rounds: int) -> Tensor:
    """Return assignments [row, code] whose rows sum to one (zero for rows of weight zero) and whose columns are even
    over the rows of all ranks.

    The table is kept as exp(scores) times a factor per row and one per column, so a round is two products with vectors.

    Args:
        scores: [row, code], already divided by the temperature.
        weight: [row], 0 or 1.
        rounds: How often columns, then rows are divided by their sums; columns are only nearly even after a few.
    """
    table = (scores - scores.amax(1, keepdim=True)).exp()
    row, column = weight, torch.ones_like(table[0])
    for _ in range(rounds):
        column = column / (column * ranks.total(row @ table) + EPSILON)
        row = row / (row * (table @ column) + EPSILON)
        scale = column.mean()  # each round moves the ratio of rows to columns from one factor to the other
        row, column = row * scale, column / scale
    return table.mul_(row[:, None]).mul_(column)


def spread(features: Tensor, valid: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` valid ones of the features [row, width] of length one, drawn far apart: k-means++.

    Each is drawn with probability proportional to the squared distance from the nearest one before it. Rows repeat
    where fewer than `count` differ.
    """
    apart, found = valid, []
    for draw in masks.uniform((count,), generator, features.device, by_row=False):
        total = apart.cumsum(0)
        index = torch.searchsorted(total, draw * total[-1], right=True).clamp(max=len(total) - 1)
        found.append(features.index_select(0, index[None])[0])  # features[index] would wait for the device
        distance = (2 - 2 * (features * found[-1]).sum(-1)).clamp(min=1e-12) * valid
        apart = distance if len(found) == 1 else torch.minimum(apart, distance)
    return torch.stack(found)


def prediction_loss(
    logits: Tensor,
    shares: Tensor,
    hidden: Tensor,
    seen: Tensor,
    temperature: float,
    hidden_weight: float = 0.75,
    entropy: float = 0.001,
) -> Tensor:
    """Return one set's loss in nats.

    Args:
        logits, shares: [row, code].
        hidden, seen: Weight of each row as a hidden and as a seen token [row].
        temperature: The student's.
        hidden_weight: Weight of hidden tokens; that of seen ones is the rest.
        entropy: Weight of the entropy of softmax(logits), temperature 1, over all tokens.
    """
    predicted = (logits / temperature).log_softmax(-1)
    divergence = torch.xlogy(shares, shares).sum(-1) - (shares * predicted).sum(-1)
    value = hidden_weight * mean(divergence, hidden) + (1 - hidden_weight) * mean(divergence, seen)
    if not entropy:
        return value
    plain = logits.log_softmax(-1)
    return value - entropy * mean((plain.exp() * plain).sum(-1), hidden + seen)


def cosine(start: float, end: float, step: int, steps: int) -> float:
    """Return a value that goes from `start` to `end` in `steps` steps by half a cosine, and stays."""
    return end + (start - end) * (1 + math.cos(math.pi * min(step / steps, 1.0))) / 2
