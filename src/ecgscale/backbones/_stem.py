"""What the backbones on a convolutional stem share: the stem, the mask token, and how tokens become a `Tokens`.

The stem is four convolutions without bias, each with batch norm and ReLU; only the first mixes time. Departures from
the release: the first kernel is stride + 1 (3 at the published stride 2), so that other strides leave out no sample,
and where tokens are hidden their samples are zero before the stem, since the first kernel reaches one sample into a
neighbour. A token never depends on a sample after its own `stride` ones, so a causal network on top keeps causality.

Source: arXiv:2605.12241, AI4HealthUOL/ecg-pretraining-strategies, conf and ts/encoder.py (recipe-pretraining §3.1).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgscale.backbones import Backbone, Pool, Tokens
from ecgscale.batch import Batch
from ecgscale.views import every_token, time_patches


class Stem(nn.Module):
    """[batch, lead, time] to [batch, token, width], one token per `stride` samples."""

    def __init__(self, leads: int, width: int, stride: int = 2, layers: int = 4) -> None:
        super().__init__()
        self.stride = stride
        self.first = nn.Conv1d(leads, width, stride + 1, stride, stride // 2, bias=False)
        self.rest = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(layers - 1))  # kernel 1
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(layers))

    def forward(self, signal: Tensor) -> Tensor:
        """Return the tokens [batch, ceil(time / stride), width]."""
        x = self.first(F.pad(signal, (0, -signal.shape[-1] % self.stride))).transpose(1, 2)  # batch token width
        batch, tokens, width = x.shape
        x = F.relu(self.norms[0](x.reshape(-1, width)))
        for linear, norm in zip(self.rest, self.norms[1:], strict=True):
            x = F.relu(norm(linear(x)))
        return x.view(batch, tokens, width)


class StemBackbone(Backbone):
    """A stem and what `context` puts on it."""

    def __init__(self, leads: int, width: int, stride: int = 2, pool: Pool = "mean") -> None:
        super().__init__()
        self.stem = Stem(leads, width, stride)
        self.mask_token = nn.Parameter(torch.empty(width).normal_())  # as released
        self.patch_width = leads * stride
        self.pool, self.token_width, self.width = pool, width, 2 * width if pool == "ends" else width

    def lower(self) -> Iterable[nn.Parameter]:
        """Return the parameters of the stem, as published."""
        return self.stem.parameters()

    @abstractmethod
    def context(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the contextual tokens and what each block added to the stream, all [batch, token, width] as x."""

    def tokens(self, batch: Batch, masked: Tensor | None = None, layers: bool = False) -> Tokens:
        """Return one token per `stride` samples; a masked one enters the blocks as the learned mask token."""
        if masked is None:
            embedded = self.stem(batch.signal)
        else:
            hidden = masked.repeat_interleave(self.stem.stride, 1)[:, None, : batch.signal.shape[-1]]
            embedded = self.stem(batch.signal.masked_fill(hidden, 0.0))
            embedded = torch.where(masked[..., None], self.mask_token.to(embedded.dtype), embedded)
        values, added = self.context(embedded)
        return Tokens(values, self.valid(batch), None, embedded, added if layers else ())

    def valid(self, batch: Batch) -> Tensor:
        """Return that every token is real."""
        return every_token(batch, self.stem.stride)

    def patches(self, batch: Batch) -> Tensor:
        """Return the `stride` samples of all leads that lie at a token."""
        return time_patches(batch.signal, self.stem.stride)
