"""Blocks of a Transformer whose queries and keys are turned by their place (RoPE), and how wide and deep they are.

Half-split rotation of a head's features (u, v) at token t, with w_i = 10,000^(-2i / head width):

    u' = u cos(t w) - v sin(t w),    v' = v cos(t w) + u sin(t w)

so that a score depends on the distance of two tokens only and no parameter is tied to the window. Attention is torch's
fused one, whose FLOPs `training.flops` counts: on one CPU thread it takes between a third and all of the time of the
written-out products from 250 tokens on; it drops no attention weights.

Source: Su et al. 2021, arXiv:2104.09864.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgscale.nn import Dropout, FeedForward

BASE = 10_000.0  # of the rotation's wavelengths


class RotaryEncoder(nn.Module):
    """Blocks and a last LayerNorm; weights Xavier-uniform, biases zero."""

    def __init__(
        self, width: int, depth: int, heads: int, inner: int, dropout: float = 0.0, causal: bool = False
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(RotaryBlock(width, heads, inner, dropout, causal) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        half = width // heads // 2
        self.register_buffer("frequency", BASE ** -(torch.arange(half) / half), persistent=False)
        for block in self.blocks:
            _xavier(block.attention.qkv, parts=3)
            for linear in (block.attention.out, block.feed_forward.up, block.feed_forward.down):
                _xavier(linear)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the tokens and what each block's feed-forward added, all [batch, token, width]."""
        angle = torch.arange(x.shape[1], device=x.device)[:, None, None, None] * self.frequency  # token 1 1 feature/2
        cos, sin = torch.cat([angle, angle], -1).cos(), torch.cat([-angle, angle], -1).sin()
        layers = []
        for block in self.blocks:
            x, added = block(x, cos, sin)
            layers.append(added)
        return self.norm(x), tuple(layers)


class RotaryBlock(nn.Module):
    """Attention with turned queries and keys, then feed-forward, each added to the stream."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float = 0.0, causal: bool = False) -> None:
        super().__init__()
        self.attention = RotaryAttention(width, heads, dropout, causal)
        self.feed_forward = FeedForward(width, inner, dropout)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Return the stream and what the feed-forward added to it, both [batch, token, width]."""
        x = x + self.attention(x, cos, sin)
        added = self.feed_forward(x)
        return x + added, added


class RotaryAttention(nn.Module):
    """Pre-norm multi-head self-attention, all tokens seen, or those up to a token's own where `causal`."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return the update [batch, token, width]; `cos` and `sin` [token, 1, 1, head width] turn q and k."""
        qkv = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1))  # batch token 3 head feature
        q, k = turn(qkv[:, :, :2], cos, sin).to(qkv.dtype).transpose(1, 3).unbind(2)  # batch head token feature
        v = qkv[:, :, 2].transpose(1, 2)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return x [..., head width] with its halves turned against each other; the first half of `sin` is negated."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


def even_heads(width: int) -> int:
    """Return how many heads an even `width` has: of an even width each, nearest to width/8 kept in 32 to 64."""
    target = min(max(width / 8, 32.0), 64.0)
    fitting = (h for h in range(1, width // 2 + 1) if width // 2 % h == 0)
    return min(fitting, key=lambda h: abs(math.log(width / h / target)))


def shape(dial: float, smooth: float, block: tuple[float, float], outside: tuple[float, float]) -> tuple[int, int]:
    """Return an even width and a depth at a dial: the parameters of a smooth depth, spent on whole blocks.

    Args:
        dial: The wanted width.
        smooth: The wanted depth, kept in 2 to 24 and then rounded, unless it is whole.
        block: Parameters of a block of width d: the factors of d² and d.
        outside: The same for what stands outside the blocks.

    Returns:
        The width whose parameters at the rounded depth are those of `dial` at the smooth one, so that N is continuous
        where the depth jumps; rounded to a multiple of a power of two near width/32, and the depth.
    """
    smooth = smooth if smooth.is_integer() else min(max(smooth, 2.0), 24.0)
    depth = round(smooth)
    total = (smooth * block[0] + outside[0]) * dial**2 + (smooth * block[1] + outside[1]) * dial
    a, b = depth * block[0] + outside[0], depth * block[1] + outside[1]
    width = (math.sqrt(b * b + 4 * a * total) - b) / (2 * a)
    grain = min(max(2, 2 ** math.floor(math.log2(max(width, 1)) - 4)), 64)
    return max(grain, grain * round(width / grain)), depth


def _xavier(linear: nn.Linear, parts: int = 1) -> None:
    """Fill a layer made of `parts` stacked ones."""
    nn.init.uniform_(
        linear.weight, -(bound := math.sqrt(6 / (linear.in_features + linear.out_features / parts))), bound
    )
    nn.init.zeros_(linear.bias)
