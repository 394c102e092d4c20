"""InceptionTime: six modules of three long kernels side by side, with a short-cut around every third.

A module narrows its input (1x1), convolves it with kernels 39, 19 and 9, puts the convolved (1x1) maxima of three
neighbours beside them, and normalises the four branches together: ReLU(BN([c39(b), c19(b), c9(b), p(max3(x))])). After
the third and the sixth module the input of the three is added through a 1x1 convolution with batch norm, then ReLU.

The paper's kernels of 40, 20 and 10 are odd here, so that they are centred. A token is a sample, or the mean of
`stride` of them. The receptive field is 229 samples, 114 on either side, and stride - 1 more.

Source: Ismail Fawaz et al. 2020, Data Mining and Knowledge Discovery 34:1936, arXiv:1909.04939; the one network, not
the ensemble of five.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ecgscale.backbones import Backbone, BackboneSpec, Tokens
from ecgscale.batch import Batch
from ecgscale.views import every_token, time_patches

KERNELS = (39, 19, 9)
DEPTH = 6  # modules
SKIP = 3  # modules that a short-cut spans


class InceptionTime(BackboneSpec):
    """The network; the dial is the width of a branch, a quarter of the width of the tokens."""

    title: ClassVar[str] = "InceptionTime"

    dial: float = Field(6.0, gt=0)  # published: 32
    pool: Literal["mean"] = "mean"
    stride: int = Field(1, ge=1)  # samples of a token; the mean over all tokens does not depend on it

    def module(self, leads: int, samples: int) -> Inception:
        """Return the network.

        Widths are whole, from 64 on multiples of 8; where that leaves no equal branches, those of short kernels are
        wider, so that sizes lie close enough.
        """
        unit = 8 if self.dial >= 64 else 1
        quarters = max(4, round(4 * self.dial / unit))
        branches = [unit * ((quarters + i) // 4) for i in range(4)]
        return Inception(leads, branches, unit * max(1, math.floor(self.dial / unit + 0.5)), self.stride)


class Inception(Backbone):
    """The module.

    Args:
        branches: Widths of the branches of kernel 39, 19 and 9 and of the maxima.
        bottleneck: Width that the kernels see.
    """

    def __init__(self, leads: int, branches: list[int], bottleneck: int, stride: int = 1) -> None:
        super().__init__()
        width = sum(branches)
        before = [leads if i == 0 else width for i in range(DEPTH)]
        self.inceptions = nn.ModuleList(_Module(size, branches, bottleneck) for size in before)
        self.skips = nn.ModuleList(nn.Linear(before[i], width, bias=False) for i in range(0, DEPTH, SKIP))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in self.skips)
        self.stride, self.pool = stride, "mean"
        self.token_width = self.width = width
        self.patch_width = leads * stride

    def valid(self, batch: Batch) -> Tensor:
        """Return that every token is real."""
        return every_token(batch, self.stride)

    def patches(self, batch: Batch) -> Tensor:
        """Return the `stride` samples of all leads that lie at a token."""
        return time_patches(batch.signal, self.stride)

    def tokens(self, batch: Batch, masked: Tensor | None = None, layers: bool = False) -> Tokens:
        """Return one token per `stride` samples.

        Raises:
            ValueError: `masked` or `layers` is asked for; these convolutions can hide no token.
        """
        if masked is not None or layers:
            raise ValueError("inception_time cannot hide tokens: masked must be None, layers False")
        x = start = batch.signal.transpose(1, 2).contiguous()  # batch time width
        for i, module in enumerate(self.inceptions):
            x = module(x)
            if i % SKIP == SKIP - 1:
                x = start = F.relu(x + _normed(self.skips[i // SKIP](start), self.norms[i // SKIP]))
        if self.stride > 1:
            x = F.avg_pool1d(x.transpose(1, 2), self.stride, ceil_mode=True).transpose(1, 2)
        return Tokens(x, self.valid(batch))


class _Module(nn.Module):
    """Four branches, batch norm, ReLU."""

    def __init__(self, before: int, branches: list[int], bottleneck: int) -> None:
        super().__init__()
        self.bottleneck = nn.Linear(before, bottleneck, bias=False)
        self.convs = nn.ModuleList(
            nn.Conv2d(bottleneck, width, (1, kernel), padding=(0, kernel // 2), bias=False)
            for width, kernel in zip(branches[:-1], KERNELS, strict=True)
        )
        self.maxima = nn.Linear(before, branches[-1], bias=False)
        self.norm = nn.BatchNorm1d(sum(branches))
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch, time, width]; channels last takes a CPU a third to half of the time."""
        narrow = self.bottleneck(x).transpose(1, 2).unsqueeze(2)  # batch channel 1 time
        convolved = [conv(narrow).squeeze(2).transpose(1, 2) for conv in self.convs]
        return F.relu(_normed(torch.cat([*convolved, self.maxima(_highest(x))], 2), self.norm))


def _normed(x: Tensor, norm: nn.Module) -> Tensor:
    """Normalise [batch, time, width] over its last axis's channels."""
    return norm(x.flatten(0, 1)).view(x.shape)


def _highest(x: Tensor) -> Tensor:
    """Return the largest of each sample and its two neighbours [batch, time, width]."""
    channels_last = x.transpose(1, 2).unsqueeze(2)  # batch width 1 time
    return F.max_pool2d(channels_last, (1, 3), 1, (0, 1)).squeeze(2).transpose(1, 2)
