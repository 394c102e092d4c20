"""Layers that more than one part uses: pre-norm attention blocks and the encoder of token sequences.

Sources: the Vision Transformer (Dosovitskiy et al. 2021) as HeartLang lays it out (Jin et al. 2025,
PKUDigitalHealth/HeartLang, MIT).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgscale import ranks

GROUP = 8  # records of similar length that pass a CPU together


class Dropout(nn.Module):
    """Dropout with a fast CPU path: one byte an element, so p is rounded to 1/256 there (see `keep_mask`)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor, rows_at: int = 0) -> Tensor:
        """Return x; in training a share p of its elements is zero and the rest scaled by 1/(1-p).

        Args:
            x: Of any shape.
            rows_at: The axis of records, of which other ranks may have more.
        """
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            if ranks.alone():
                return F.dropout(x, self.p)
            return x * ranks.cut(lambda whole: F.dropout(x.new_ones(whole), self.p), x.shape, rows_at)
        channels_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
        shape = x.permute(0, 2, 3, 1).shape if channels_last else x.shape  # as it lies in memory
        mask = ranks.cut(lambda whole: keep_mask(math.prod(whole), self.p).view(whole), shape, rows_at).flatten()
        return x * (
            mask.as_strided(x.shape, x.stride()) if channels_last else mask.view(x.shape)
        )  # mixed layouts are slow


def keep_mask(elements: int, p: float) -> Tensor:
    """Return a flat float32 mask: 0 with probability round(256 p)/256, else the inverse of the probability to keep.

    The bytes come from an SFC64 stream seeded by one draw of torch's global generator, and NumPy compares them: torch's
    own Bernoulli numbers take ten times as long on CPU, a third of a small network's step.
    """
    drop = round(256 * p)
    seed = int(torch.randint(2**63 - 1, (), dtype=torch.int64))
    draws = np.random.SFC64(seed).random_raw((elements + 7) // 8).view(np.uint8)[:elements]
    return torch.from_numpy(np.multiply(draws >= np.uint8(drop), np.float32(256 / (256 - drop)), dtype=np.float32))


class Attention(nn.Module):
    """Pre-norm multi-head self-attention with a key-padding mask.

    Written out: fused attention on CPU is slower for small heads, and its FLOPs are not counted there.
    """

    def __init__(self, width: int, heads: int, head_width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.out = nn.Linear(heads * head_width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return the update [batch, token, width]; `bias` [batch * heads, 1, token] is added to its keys' scores."""
        qkv = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).flatten(1, 2).unbind(0)  # batch*head token width
        scores = torch.bmm(q * q.shape[-1] ** -0.5, k.transpose(1, 2))
        if bias is not None:
            scores += bias
        mixed = torch.bmm(scores.softmax(-1), v).unflatten(0, (-1, self.heads))
        return self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))


class FeedForward(nn.Module):
    """Pre-norm GELU network."""

    def __init__(self, width: int, inner: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the update [batch, token, width]."""
        return self.dropout(self.down(self.dropout(F.gelu(self.up(self.norm(x))))))


class Block(nn.Module):
    """Attention, then feed-forward, each added to the stream."""

    def __init__(self, width: int, heads: int, head_width: int, inner: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = Attention(width, heads, head_width, dropout)
        self.feed_forward = FeedForward(width, inner, dropout)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the stream and what the feed-forward added to it, both [batch, token, width]."""
        x = x + self.attention(x, bias)
        added = self.feed_forward(x)
        return x + added, added


class TokenConv(nn.Module):
    """A kernel of three over the sequence of tokens, without bias: one matrix product, then shifted sums."""

    def __init__(self, features: int, width: int, circular: bool = False) -> None:
        super().__init__()
        self.circular = circular
        self.weight = nn.Parameter(
            nn.init.kaiming_normal_(torch.empty(width, features, 3), mode="fan_in", nonlinearity="leaky_relu")
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch, token, width] from [batch, token, features]; beyond the ends zeros, or the other end."""
        before, here, after = (x @ self.weight.permute(1, 2, 0).flatten(1)).chunk(3, -1)
        if self.circular:
            return before.roll(1, 1) + here + after.roll(-1, 1)
        return F.pad(before[:, :-1], (0, 0, 1, 0)) + here + F.pad(after[:, 1:], (0, 0, 0, 1))


class Encoded(NamedTuple):
    """What `SequenceEncoder` returns.

    Attributes:
        cls: The class token [batch, width].
        tokens: The tokens after the last block [batch, token, width].
        embedded: The tokens before the first block [batch, token, width].
        layers: Where asked for: what each block's feed-forward added [batch, token, width].
    """

    cls: Tensor
    tokens: Tensor
    embedded: Tensor
    layers: tuple[Tensor, ...]


class SequenceEncoder(nn.Module):
    """Tokens with a lead and a second to context vectors: token convolution, embeddings, class token, blocks, norm.

    Args:
        features: Numbers per token.
        width, depth, heads, head_width, inner: Sizes of the blocks; `inner` is the feed-forward's.
        positions: Learned sequence positions for so many places, the class token's included; 0 = none.
        published: As HeartLang: the token convolution is circular, sees the values of masked tokens and padding, and
            nothing is hidden from attention. Otherwise masked and invalid tokens are zero before the convolution and
            invalid ones are nobody's keys.
        dropout: After the embeddings, the attention and twice in the feed-forward.
    """

    def __init__(
        self,
        features: int,
        width: int,
        depth: int,
        heads: int,
        head_width: int,
        inner: int,
        positions: int = 0,
        published: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.published = published
        self.embed = TokenConv(features, width, circular=published)
        self.lead = nn.Embedding(16, width)
        self.second = nn.Embedding(16, width)
        self.mask_token = nn.Parameter(torch.empty(width).normal_(std=0.02))
        self.cls = nn.Parameter(torch.empty(width).normal_(std=0.02))
        self.positions = nn.Parameter(torch.empty(positions, width).normal_(std=0.02)) if positions else None
        self.blocks = nn.ModuleList(Block(width, heads, head_width, inner, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        nn.init.normal_(self.lead.weight, std=0.02)
        nn.init.normal_(self.second.weight, std=0.02)

    def forward(
        self,
        values: Tensor,
        lead: Tensor,
        second: Tensor,
        valid: Tensor,
        masked: Tensor | None = None,
        layers: bool = False,
    ) -> Encoded:
        """Encode a batch of sequences.

        Args:
            values: [batch, token, features].
            lead, second: [batch, token] int64, 0..15.
            valid: [batch, token] bool.
            masked: [batch, token] bool; the input of these tokens is hidden.
            layers: Whether `Encoded.layers` is wanted.
        """
        inputs = (values, lead, second, valid) if masked is None else (values, lead, second, valid, masked)
        if self.published or values.device.type != "cpu" or ranks.rows(len(values)) <= GROUP:
            return self._encode(layers, *inputs)
        return self._in_groups(layers, *inputs)

    def _in_groups(self, layers: bool, *inputs: Tensor) -> Encoded:
        """Encode records of similar length together, each group trimmed to its longest.

        Rows are independent, so only the time changes.
        """
        valid = inputs[3]
        length = ranks.gather((valid * torch.arange(1, valid.shape[1] + 1)).amax(1))
        order = length.argsort(descending=True)
        done, places = [], []
        for group in order.split(GROUP):
            longest = max(int(length[group[0]]), 1)
            with ranks.among(group) as here:
                done.append(self._encode(layers, *(each[here, :longest] for each in inputs)))
            places.append(here)
        back = torch.cat(places).argsort()
        cls = torch.cat([group.cls for group in done])
        tokens, embedded, *added = (
            torch.cat([F.pad(t, (0, 0, 0, valid.shape[1] - t.shape[1])) for t in each])[back]
            for each in zip(*((group.tokens, group.embedded, *group.layers) for group in done), strict=True)
        )
        return Encoded(cls[back], tokens, embedded, tuple(added))

    def _encode(
        self,
        layers: bool,
        values: Tensor,
        lead: Tensor,
        second: Tensor,
        valid: Tensor,
        masked: Tensor | None = None,
    ) -> Encoded:
        seen = valid if masked is None else valid & ~masked
        x = self.embed(values if self.published else values * seen[..., None])
        if masked is not None:
            x = torch.where(masked[..., None], self.mask_token.to(x.dtype), x)
        x = x + self.lead(lead) + self.second(second.clamp(max=15))
        x = torch.cat([self.cls.to(x.dtype).expand(len(x), 1, -1), x], 1)
        if self.positions is not None:
            x = x + self.positions[: x.shape[1]]
        bias = None if self.published else self._bias(valid, x.dtype)
        x = embedded = self.dropout(x)
        added = []
        for block in self.blocks:
            x, update = block(x, bias)
            added.append(update[:, 1:])
        x = self.norm(x)
        return Encoded(x[:, 0], x[:, 1:], embedded[:, 1:], tuple(added) if layers else ())

    def _bias(self, valid: Tensor, dtype: torch.dtype) -> Tensor:
        """Return what hides invalid tokens [batch * heads, 1, 1 + token]: the class token is always seen."""
        bias = torch.zeros(valid.shape, dtype=dtype, device=valid.device).masked_fill(
            ~valid, torch.finfo(dtype).min / 2
        )
        return F.pad(bias, (1, 0)).repeat_interleave(self.blocks[0].attention.heads, 0)[:, None]


def head_count(width: int) -> int:
    """Return the divisor of `width` that brings the head width nearest to width/8 kept between 32 and 64."""
    target = min(max(width / 8, 32.0), 64.0)
    return min((h for h in range(1, width + 1) if width % h == 0), key=lambda h: abs(math.log(width / h / target)))


def unit(z: Tensor) -> Tensor:
    """Return vectors of length one; a zero vector stays zero and gets a finite gradient."""
    length = torch.linalg.vector_norm(z, dim=-1, keepdim=True)
    return z / length.masked_fill(length == 0, 1.0)
