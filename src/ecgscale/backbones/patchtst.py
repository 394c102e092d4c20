"""PatchTST: every lead is cut into patches and attends within itself; all leads share one Transformer.

A token is one patch of one lead, lead by lead; patches do not overlap, as where the paper pre-trains by masking, and
the last one is filled up with zeros. A lead's tokens see no other lead, so those of a missing lead are nobody's keys
but their own. The receptive field is the whole window of the token's lead.

Departures from the paper: pre-norm blocks with LayerNorm instead of post-norm ones with batch norm, whose statistics
missing leads and mask tokens would enter; places by rotation of queries and keys instead of learned positions, which
tie the parameters to the window; heads of 32 to 64 features instead of 8; a learned vector per lead, without which a
mean over tokens forgets which lead said what; no normalisation of single windows, since amplitudes in mV carry meaning.

Source: Nie et al. 2023, arXiv:2211.14730; blocks: rotary.py; sizes: one dial, ours.
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
from ecgscale.nn import Dropout
from ecgscale.rotary import RotaryEncoder, even_heads, shape


class PatchTST(BackboneSpec):
    """The encoder; the dial is its width at the depth 3 sqrt(dial/128) of 2 to 24, as published at 128."""

    title: ClassVar[str] = "PatchTST"
    hides_tokens: ClassVar[bool] = True

    dial: float = Field(32.0, gt=0)  # published: 128, with an inner width of 256
    pool: Literal["mean", "ends"] = "mean"
    patch: int = Field(16, ge=1)  # samples of a token; the paper's patch length
    dropout: float = Field(0.2, ge=0, lt=1)  # the paper's in pre-training and forecasting

    def module(self, leads: int, samples: int) -> PatchEncoder:
        """Return the encoder."""
        outside = 0.0, self.patch + leads + 4.0  # embedding, leads, mask token, last norm
        width, depth = shape(self.dial, 3 * math.sqrt(self.dial / 128), (8.0, 11.0), outside)
        return PatchEncoder(leads, width, depth, self.patch, self.dropout, self.pool)


class PatchEncoder(Backbone):
    """The module."""

    def __init__(
        self,
        leads: int,
        width: int,
        depth: int,
        patch: int = 16,
        dropout: float = 0.2,
        pool: Literal["mean", "ends"] = "mean",
    ) -> None:
        super().__init__()
        self.patch = self.patch_width = patch
        self.pool, self.token_width, self.width = pool, width, 2 * width if pool == "ends" else width
        self.embed = nn.Linear(patch, width)
        self.lead = nn.Parameter(torch.empty(leads, 1, width).normal_(std=0.02))
        self.mask_token = nn.Parameter(torch.empty(width).normal_(std=0.02))
        self.dropout = Dropout(dropout)
        self.encoder = RotaryEncoder(width, depth, even_heads(width), 2 * width, dropout)

    def valid(self, batch: Batch) -> Tensor:
        """Return which tokens are patches of leads that are there."""
        return batch.lead_ok.repeat_interleave(-(-batch.signal.shape[-1] // self.patch), 1)

    def patches(self, batch: Batch) -> Tensor:
        """Return the samples of each patch, zeros past the end."""
        return self._cut(batch).flatten(1, 2)

    def tokens(self, batch: Batch, masked: Tensor | None = None, layers: bool = False) -> Tokens:
        """Return one token per lead and patch, lead by lead; a masked one enters as the learned mask token."""
        values = self._cut(batch)
        rows, leads, count, _ = values.shape
        x = self.embed(values)
        if masked is not None:
            x = torch.where(masked.view(rows, leads, count, 1), self.mask_token.to(x.dtype), x)
        x = embedded = self.dropout(x + self.lead)
        x, added = self.encoder(x.flatten(0, 1))
        whole, entered, *between = (
            y.reshape(rows, leads * count, -1) for y in (x, embedded, *(added if layers else ()))
        )
        return Tokens(whole, self.valid(batch), None, entered, tuple(between))

    def _cut(self, batch: Batch) -> Tensor:
        """Return the patches [batch, lead, patch, sample]."""
        return F.pad(batch.signal, (0, -batch.signal.shape[-1] % self.patch)).unflatten(-1, (-1, self.patch))
