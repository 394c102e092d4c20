"""A Transformer on a convolutional stem: pre-norm blocks with rotary positions (rotary.py).

Departure from the release: attention weights see no dropout, the fused kernel of CPUs having none; the update, the
inner layer and the output of the feed-forward do. The receptive field is the whole window, all of the past where
`causal`.

Source: arXiv:2605.12241, AI4HealthUOL/ecg-pretraining-strategies, vanilla_transformer.py (recipe-pretraining §3.3);
sizes: one dial, ours.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from ecgscale.backbones import BackboneSpec
from ecgscale.backbones._stem import StemBackbone
from ecgscale.rotary import RotaryEncoder, even_heads, shape


class Transformer(BackboneSpec):
    """The encoder; the dial is its width, at the depth 6 sqrt(dial/512) of 2 to 24 unless `depth` fixes it."""

    title: ClassVar[str] = "Transformer"
    hides_tokens: ClassVar[bool] = True

    dial: float = Field(32.0, gt=0)  # published: 512, with 8 heads and an inner width of 2048
    pool: Literal["mean", "ends"] = "mean"
    depth: int | None = Field(None, ge=1)  # blocks; published 6; None: grows with the dial
    stride: int = Field(2, ge=1)  # samples per token; published 2 at 240 Hz
    dropout: float = Field(0.1, ge=0, lt=1)  # published
    causal: bool = False

    def module(self, leads: int, samples: int) -> TransformerEncoder:
        """Return the encoder."""
        smooth = 6 * math.sqrt(self.dial / 512) if self.depth is None else float(self.depth)
        outside = 3.0, leads * (self.stride + 1) + 11.0  # stem, mask token, last norm
        width, depth = shape(self.dial, smooth, (12.0, 13.0), outside)
        return TransformerEncoder(leads, width, depth, self.stride, self.dropout, self.causal, self.pool)


class TransformerEncoder(StemBackbone):
    """The module."""

    def __init__(
        self,
        leads: int,
        width: int,
        depth: int,
        stride: int = 2,
        dropout: float = 0.1,
        causal: bool = False,
        pool: Literal["mean", "ends"] = "mean",
    ) -> None:
        super().__init__(leads, width, stride, pool)
        self.encoder = RotaryEncoder(width, depth, even_heads(width), 4 * width, dropout, causal)

    def context(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the contextual tokens and what each block's feed-forward added, all [batch, token, width]."""
        return self.encoder(x)
