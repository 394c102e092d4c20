"""A Transformer over the heart beats of all leads, in the manner of HeartLang.

Each beat of each lead is a token of 96 samples at 100 Hz (views.cut_beats). Blocks are pre-norm; lead and second are
embedded. Departures from the published network, all undone by `published_truncation`: padding is hidden from attention,
beats of masked and missing leads are zero before the token convolution (published, its kernel of three lets masked
beats leak into their neighbours), that convolution pads with zeros instead of the sequence's other end, there is room
for all leads at 220 beats a minute, and no learned sequence position. Attention weights see no dropout.

Source: Jin et al. 2025, "Reading your heart", PKUDigitalHealth/HeartLang (MIT), modeling_pretrain.py; sizes: one dial,
ours.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from ecgscale.backbones import Backbone, BackboneSpec, Tokens
from ecgscale.batch import Batch
from ecgscale.nn import SequenceEncoder, head_count
from ecgscale.views import BEAT, BeatTokens, cut_beats, most_beats

PUBLISHED_TOKENS = 256


class BeatTransformer(BackboneSpec):
    """HeartLang's encoder; the dial is its width at the depth 12 sqrt(dial/768), as published at 768, of 2 to 24."""

    title: ClassVar[str] = "Beat Transformer"
    needs: ClassVar[frozenset[str]] = frozenset({"beats"})
    hides_tokens: ClassVar[bool] = True

    dial: float = Field(32.0, gt=0)
    pool: Literal["mean", "cls", "ends"] = "mean"
    dropout: float = Field(0.1, ge=0, lt=1)  # HeartLang
    positions: bool = False  # learned place in the sequence, beside lead and second
    published_truncation: bool = False  # 256 tokens without padding mask, circular convolution, 257 positions

    def module(self, leads: int, samples: int) -> BeatEncoder:
        """Return the encoder; windows must be at 100 Hz."""
        width, depth = shape(self.dial)
        places = PUBLISHED_TOKENS if self.published_truncation else leads * most_beats(samples)
        encoder = SequenceEncoder(
            BEAT,
            width,
            depth,
            heads := head_count(width),
            width // heads,
            inner=round(4 * width / 3),
            positions=(1 + places) if self.positions or self.published_truncation else 0,
            published=self.published_truncation,
            dropout=self.dropout,
        )
        return BeatEncoder(encoder, width, self.pool, PUBLISHED_TOKENS if self.published_truncation else None)


class BeatEncoder(Backbone):
    """The module; `cut` and `read` are for objectives that need the beats themselves."""

    def __init__(
        self,
        encoder: SequenceEncoder,
        width: int,
        pool: Literal["mean", "cls", "ends"] = "mean",
        length: int | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.pool, self.length, self.patch_width = encoder, pool, length, BEAT
        self.token_width, self.width = width, 2 * width if pool == "ends" else width

    def cut(self, batch: Batch) -> BeatTokens:
        """Return the beats that `read` takes."""
        return cut_beats(batch, self.length)

    def read(self, beats: BeatTokens, masked: Tensor | None = None, layers: bool = False) -> Tokens:
        """Return a context vector per beat; `masked` [batch, token] bool hides those beats' samples."""
        cls, values, embedded, added = self.encoder(beats.values, beats.lead, beats.second, beats.valid, masked, layers)
        return Tokens(values, beats.valid, cls * beats.valid.any(1, keepdim=True), embedded, added)

    def valid(self, batch: Batch) -> Tensor:
        """Return which tokens are beats of leads that are there."""
        return self.cut(batch).valid

    def patches(self, batch: Batch) -> Tensor:
        """Return the 96 samples around a beat's peak in its lead."""
        return self.cut(batch).values

    def tokens(self, batch: Batch, masked: Tensor | None = None, layers: bool = False) -> Tokens:
        """Return one token per beat and lead, lead by lead."""
        return self.read(self.cut(batch), masked, layers)


def shape(dial: float) -> tuple[int, int]:
    """Return width and depth at a dial: the parameters of a smooth depth, spent on a whole number of blocks.

    A block of width d has 20/3 d² + 22/3 d parameters, what stands outside the blocks 324 d. Giving the root of this
    quadratic at the rounded depth keeps N continuous where the depth jumps.
    """
    smooth = min(max(12 * math.sqrt(dial / 768), 2.0), 24.0)
    depth = round(smooth)
    total = smooth * (20 / 3 * dial**2 + 22 / 3 * dial) + 324 * dial
    a, b = depth * 20 / 3, depth * 22 / 3 + 324
    return _grained((math.sqrt(b * b + 4 * a * total) - b) / (2 * a)), depth


def _grained(width: float) -> int:
    """Round to a multiple of a power of two near width/32, 2 to 64: whole heads, steps of at most 1/16 from 32."""
    grain = min(max(2, 2 ** math.floor(math.log2(max(width, 1)) - 4)), 64)
    return max(grain, grain * round(width / grain))
