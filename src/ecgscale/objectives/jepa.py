"""Joint-embedding prediction: the student sees a context and predicts what the teacher, who sees everything, makes of
hidden blocks.

The loss is smooth-L1(predicted token, LayerNorm(teacher's final token)), the mean over features and over all pairs of a
target block and a token in it. Each record has four target blocks of one length and a context block without them; every
token outside the context is hidden by the mask token, and none is dropped, so that networks which need the whole
sequence run too. Blocks are counted in real tokens; where tokens are beats lead by lead, a block runs on into the next
lead.

The predictor is narrow bidirectional attention with sinusoidal positions, as in I-JEPA (which tells it the places to
predict; here the hidden tokens already stand there); it asks nothing of the backbone and leaves out tokens that are not
real. `predictor = "s4"` is the release's: a bidirectional S4 layer of state 64, then a linear one.

`published_blocks` is the release's masking: no target block shorter than 64 tokens, and 64 random tokens, targets
included, as context where fewer remain. It makes sense in windows of far more than 64 tokens (300 in the release).

Sources: Assran et al. 2023, I-JEPA, CVPR; arXiv:2605.12241, AI4HealthUOL/ecg-pretraining-strategies,
mask/jepa_multiblock_mask.py, loss/selfsupervised.py (recipe-pretraining §4.4).
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from ecgscale import masks, ranks
from ecgscale.backbones import Backbone
from ecgscale.batch import Batch
from ecgscale.nn import Block, head_count
from ecgscale.objectives import Loss, Objective, ObjectiveSpec
from ecgscale.objectives._distillation import released_block
from ecgscale.objectives._teacher import Teacher

PUBLISHED_FLOOR = 64  # tokens


def _within(scale: tuple[float, float]) -> tuple[float, float]:
    low, high = scale
    if not 0 < low <= high <= 1:
        raise ValueError(f"a scale is two shares of the tokens, 0 < lower <= upper <= 1, found {low:g} and {high:g}")
    return scale


Scale = Annotated[tuple[float, float], AfterValidator(_within)]


class JEPA(ObjectiveSpec):
    """JEPA on a backbone that can hide tokens."""

    title: ClassVar[str] = "JEPA"
    paradigm: ClassVar[Literal["SL", "SSL"]] = "SSL"
    needs: ClassVar[frozenset[str]] = frozenset({"hides_tokens"})
    comparable: ClassVar[bool] = False
    best: ClassVar[bool] = False

    teacher: Literal["ema", "frozen_random"] = "ema"  # "frozen_random": what the release trains against
    momentum: float = Field(0.9996, ge=0, le=1)  # per step, as released; I-JEPA 0.996
    momentum_final: float | None = Field(None, ge=0, le=1)  # reached after `ramp` steps; None = `momentum`; I-JEPA 1
    ramp: int = Field(0, ge=0)  # steps
    blocks: int = Field(4, ge=1)  # target blocks, I-JEPA
    target_scale: Scale = (0.15, 0.2)  # share of the tokens in a target block, I-JEPA
    context_scale: Scale = (0.85, 1.0)  # share of the tokens in the context block, I-JEPA
    min_keep: int = Field(10, ge=0)  # tokens; with fewer, all outside the targets are the context; I-JEPA's configs
    published_blocks: bool = False  # see the module's text; `min_keep` is then 64
    target_norms: Literal[1, 2] = 1  # layer norms of the target; the release has two in a row
    overlaps: Literal["repeated", "once"] = "repeated"  # tokens in several target blocks, I-JEPA and the release
    predictor: Literal["attention", "s4"] = "attention"  # I-JEPA; "s4": arXiv:2605.12241
    predictor_width: int = Field(0, ge=0)  # 0 = half of the tokens' width, as I-JEPA's 384 of ViT-B's 768
    predictor_depth: int = Field(2, ge=1)  # blocks; ours, I-JEPA 6 to 12

    def build(self, backbone: Backbone) -> JEPAModel:
        """Return the backbone with its teacher and predictor."""
        return JEPAModel(backbone, self)


class JEPAModel(Objective):
    """The module."""

    def __init__(self, backbone: Backbone, spec: JEPA) -> None:
        super().__init__()
        self.backbone, self.spec = backbone, spec
        features = backbone.token_width
        width = spec.predictor_width or max(8, 2 * round(features / 4))
        attention = spec.predictor == "attention"
        self.predictor = Predictor(features, width, spec.predictor_depth) if attention else S4Predictor(features)
        self.teacher = Teacher(backbone, spec.teacher, spec.momentum, spec.momentum_final, spec.ramp)

    def forward(self, batch: Batch, generator: torch.Generator) -> Loss:
        """Return the loss; `visible`: share of the tokens in the context; `spread`: standard deviation of the targets
        over the batch's tokens, 0 where the teacher has collapsed."""
        valid = self.backbone.valid(batch)
        drawn = draw(valid, self.spec, generator)
        seen = self.backbone.tokens(batch, ~drawn.context & valid)
        predicted = self.predictor(seen.values, valid).float()
        target = targets(self.teacher.tokens(batch).values.float(), self.spec.target_norms)
        value = loss(predicted, target, drawn.targets, self.spec.overlaps == "once")
        visible = ranks.total(drawn.context.sum()) / ranks.total(valid.sum()).clamp(min=1)
        return Loss(value, {"visible": visible, "spread": spread(target, valid)})

    def after_step(self) -> None:
        """Move the teacher."""
        self.teacher.follow(self.backbone)

    def health(self) -> dict[str, Tensor]:
        """Return how far the teacher is from the student."""
        return {"teacher_distance": self.teacher.distance(self.backbone)}

    def loss_weight(self, batch: Batch) -> Tensor:
        """Return the number of valid tokens, to which that of target tokens is in proportion."""
        return self.backbone.valid(batch).sum().clamp(min=1).float()


class Predictor(nn.Module):
    """Narrow attention blocks between two linear layers; tokens that are not real are nobody's keys."""

    def __init__(self, features: int, width: int, depth: int) -> None:
        super().__init__()
        self.heads = head_count(width)
        self.enter, self.leave = nn.Linear(features, width), nn.Linear(width, features)
        sizes = (width, self.heads, width // self.heads, 4 * width)
        self.blocks = nn.ModuleList(Block(*sizes) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, valid: Tensor) -> Tensor:
        """Return [batch, token, features] from the student's tokens of the same shape."""
        x = self.enter(tokens)
        x = x + sinusoids(x.shape[1], x.shape[2], x.device).to(x.dtype)
        bias = torch.zeros(valid.shape, dtype=x.dtype, device=x.device)
        bias = bias.masked_fill(~valid, torch.finfo(x.dtype).min / 2).repeat_interleave(self.heads, 0)[:, None]
        for block in self.blocks:
            x, _ = block(x, bias)
        return self.leave(self.norm(x))


class S4Predictor(nn.Module):
    """The release's: an S4 layer and a linear one, of the tokens' width."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.before, self.leave = released_block(features), nn.Linear(features, features)

    def forward(self, tokens: Tensor, valid: Tensor) -> Tensor:
        """Return [batch, token, features] from the student's tokens of the same shape."""
        return self.leave(self.before(tokens)[0])


def sinusoids(count: int, width: int, device: torch.device) -> Tensor:
    """Return sines, then cosines, of places 0 to count - 1 at wavelengths from 2 pi to 20000 pi [place, width].

    Source: Vaswani et al. 2017.
    """
    half = -(-width // 2)
    rate = torch.exp(torch.arange(half, device=device) * (-math.log(10000.0) / half))
    angle = torch.arange(count, device=device)[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], 1)[:, :width]


class Drawn(NamedTuple):
    """The tokens of one step.

    Attributes:
        targets: The target blocks [batch, block, token] bool.
        context: What the student sees [batch, token] bool.
    """

    targets: Tensor
    context: Tensor


def draw(valid: Tensor, spec: JEPA, generator: torch.Generator) -> Drawn:
    """Draw blocks of one length for the whole batch, and their places for every record, among the valid tokens.

    Args:
        valid: [batch, token] bool.
        spec: Scales and numbers of blocks.
        generator: CPU generator.
    """
    records, count = valid.shape
    share = torch.rand(2, generator=generator).tolist()  # on the host
    random = masks.uniform((records, spec.blocks + 1), generator, valid.device)
    spare = masks.uniform((records, count), generator, valid.device) if spec.published_blocks else None
    floor = PUBLISHED_FLOOR if spec.published_blocks else 1
    total = valid.sum(1, keepdim=True)  # batch 1
    size, wide = (
        block_length(total, low + u * (high - low), least)
        for u, (low, high), least in zip(share, (spec.target_scale, spec.context_scale), (floor, 1), strict=True)
    )
    length = torch.cat([size.expand(-1, spec.blocks), wide], 1)
    start = (random * (total - length + 1)).long().clamp(min=0).minimum(total - length)
    return arrange(valid, start, length, floor if spec.published_blocks else spec.min_keep, spare)


def block_length(total: Tensor, share: float, least: int) -> Tensor:
    """Return the tokens of a block: a share of `total` [batch, 1], at least so many, at most all."""
    return (total * share).floor().long().clamp(min=least).minimum(total)


def arrange(valid: Tensor, start: Tensor, length: Tensor, keep: int, spare: Tensor | None = None) -> Drawn:
    """Return the blocks at given places, and the context that is left.

    Args:
        valid: [batch, token] bool; places and lengths count valid tokens only.
        start: First token of each target block, then of the context block [batch, block + 1].
        length: Tokens of each of them [batch, block + 1].
        keep: Where fewer than so many context tokens remain, the context is all valid tokens outside the targets, or
        spare: As released, the `keep` valid tokens of lowest random number, inside targets or not [batch, token].
    """
    rank = (valid.cumsum(1) - 1)[:, None]  # batch 1 token
    inside = (rank >= start[..., None]) & (rank < (start + length)[..., None]) & valid[:, None]
    targets = inside[:, :-1]
    outside = valid & ~targets.any(1)
    context = inside[:, -1] & outside
    instead = outside if spare is None else (spare.masked_fill(~valid, 2.0).argsort(1).argsort(1) < keep) & valid
    return Drawn(targets, torch.where(context.sum(1, keepdim=True) < keep, instead, context))


def targets(tokens: Tensor, norms: int) -> Tensor:
    """Return the teacher's tokens [batch, token, width], layer-normed over features `norms` times."""
    for _ in range(norms):
        tokens = F.layer_norm(tokens, tokens.shape[-1:])
    return tokens


def loss(predicted: Tensor, target: Tensor, blocks: Tensor, once: bool) -> Tensor:
    """Return the smooth-L1 error (beta 1), the mean over features and over all pairs of a block and a token in it.

    Args:
        predicted, target: [batch, token, width].
        blocks: [batch, block, token] bool.
        once: Whether a token in several blocks counts once.
    """
    error = F.smooth_l1_loss(predicted, target, reduction="none").mean(-1)
    weight = (blocks.any(1) if once else blocks.sum(1)).to(error.dtype)
    return (error * weight).sum() / ranks.total(weight.sum()).clamp(min=1)


def spread(tokens: Tensor, valid: Tensor) -> Tensor:
    """Return the standard deviation over all valid tokens of a batch [batch, token, width], averaged over features."""
    weight = valid[..., None] / ranks.total(valid.sum()).clamp(min=1)
    mean = ranks.total((tokens * weight).sum((0, 1)))
    return ranks.total(((tokens - mean).square() * weight).sum((0, 1))).sqrt().mean()
