"""The residual network of Ribeiro et al. for 12-lead ECG: five blocks of two streams, kernel 17, each but the first a
quarter as long.

A window whose length is no multiple of 256 is padded with zeros at its end to the next one (1000 becomes 1024, 500
becomes 512). Tensors are 4-D and channels last [batch, channel, 1, time], in which a CPU convolves half as fast again.

Source: Ribeiro et al. 2020, Nature Communications 11:1760; antonior92/ecg-age-prediction (MIT), resnet.py, without its
head.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ecgscale.backbones import Backbone, BackboneSpec, Tokens
from ecgscale.batch import Batch
from ecgscale.convolution import TimeConv
from ecgscale.nn import Dropout
from ecgscale.views import every_token, time_patches

WIDTHS = (64, 128, 196, 256, 320)  # at dial 1
STRIDES = (1, 4, 4, 4, 4)
SHRINK = 256  # samples that become one token


class ResNet1d(BackboneSpec):
    """Ribeiro's ResNet; the dial multiplies its five widths."""

    title: ClassVar[str] = "ResNet"

    dial: float = Field(0.1, gt=0)
    pool: Literal["mean", "flatten"] = "mean"
    dropout: float = Field(0.2, ge=0, lt=1)  # the paper keeps 0.8; the released PyTorch code drops 0.8

    def module(self, leads: int, samples: int) -> ResNet:
        """Return the network; a dial of 1 has 6.9 million parameters."""
        widths = [max(1, round(self.dial * width)) for width in WIDTHS]
        return ResNet(leads, widths, self.dropout, self.pool, -(-samples // SHRINK))


class ResNet(Backbone):
    """The module: stem, five blocks; tokens are the positions of the last map."""

    time_last: ClassVar[bool] = True

    def __init__(
        self,
        leads: int,
        widths: list[int],
        dropout: float = 0.2,
        pool: Literal["mean", "flatten"] = "mean",
        positions: int = 4,
    ) -> None:
        super().__init__()
        self.stem = TimeConv(leads, widths[0])
        self.norm = nn.BatchNorm2d(widths[0])
        before = [widths[0], *widths[:-1]]
        self.blocks = nn.ModuleList(_Block(*sizes, dropout) for sizes in zip(before, widths, STRIDES, strict=True))
        self.pool = pool
        self.token_width, self.patch_width = widths[-1], leads * SHRINK
        self.width = self.token_width * (positions if pool == "flatten" else 1)
        self.to(memory_format=torch.channels_last)

    def valid(self, batch: Batch) -> Tensor:
        """Return that every token is real."""
        return every_token(batch, SHRINK)

    def patches(self, batch: Batch) -> Tensor:
        """Return the 256 samples of all leads that lie at a token."""
        return time_patches(batch.signal, SHRINK)

    def tokens(self, batch: Batch, masked: Tensor | None = None, layers: bool = False) -> Tokens:
        """Return one token per 256 samples.

        Raises:
            ValueError: `masked` or `layers` is asked for; these convolutions can hide no token.
        """
        if masked is not None or layers:
            raise ValueError("resnet1d cannot hide tokens: masked must be None, layers False")
        x = F.pad(batch.signal, (0, -batch.signal.shape[-1] % SHRINK))
        x = y = self.norm(self.stem(x.unsqueeze(2)))  # batch channel 1 time
        for block in self.blocks:
            x, y = block(x, y)
        values = x.flatten(2).transpose(1, 2)  # batch token width
        return Tokens(values, self.valid(batch))


class _Block(nn.Module):
    """Two streams: x is normalised, activated and convolved; y carries the raw sums."""

    def __init__(self, before: int, width: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.stride = stride
        self.conv1, self.norm1 = TimeConv(before, width), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = TimeConv(width, width, stride), nn.BatchNorm2d(width)
        self.skip = nn.Linear(before, width, bias=False) if before != width else nn.Identity()  # kernel 1
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return both streams [batch, width, 1, time/stride]."""
        y = F.max_pool2d(y, (1, self.stride)) if self.stride > 1 else y
        y = self.skip(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # over channels
        x = self.dropout(F.relu(self.norm1(self.conv1(x))))
        y = self.conv2(x) + y
        return self.dropout(F.relu(self.norm2(y))), y
