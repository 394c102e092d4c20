"""Masked reconstruction: half of the window is hidden and drawn anew from the rest; the plain reference that runs on
every backbone.

Time is cut into patches, a share of them is set to zero in the signal the backbone reads, and a decoder turns each
token into the samples beneath it: mean((prediction - sample)²) over hidden samples only. Since the samples themselves
are hidden, no architecture can leak them; a hidden stretch looks like a flat baseline. Departures from He et al.: every
token passes the encoder, and the decoder has one hidden layer and sees its own token only.

A linear decoder, as in SimMIM, cannot place a wave within a token that is longer than a beat: under it a ResNet, whose
tokens are 256 samples, explains nothing of what is hidden and its features vanish (LOG, 2026-11-21).

Where tokens are beats, these stay where they were found in the whole signal: the network knows when a hidden beat is,
not its shape.

Sources: He et al. 2022, Masked Autoencoders Are Scalable Vision Learners, CVPR; Xie et al. 2022, SimMIM, CVPR (linear
decoder); Na et al. 2024, ST-MEM, ICLR ("lead": each lead is hidden on its own).
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ecgscale import masks, ranks
from ecgscale.backbones import Backbone
from ecgscale.batch import Batch
from ecgscale.objectives import Loss, Objective, ObjectiveSpec

HIDDEN = 4  # width of the decoder's hidden layer over that of the tokens


class MAE(ObjectiveSpec):
    """Masked reconstruction on any backbone."""

    title: ClassVar[str] = "MAE"
    paradigm: ClassVar[Literal["SL", "SSL"]] = "SSL"

    patch_s: float = Field(0.2, gt=0)  # s; ours, a few waves of a beat
    ratio: float = Field(0.5, gt=0, lt=1)  # share of patches hidden; ours, 0.75 for images in He et al. and ST-MEM
    across: Literal["time", "lead"] = "time"  # "time" hides a patch in all leads; "lead" lead by lead, ST-MEM
    decoder: Literal["mlp", "linear"] = "mlp"  # "linear": SimMIM
    norm_targets: bool = False  # samples of each token standardised, He et al.'s better variant

    def build(self, backbone: Backbone) -> MAEModel:
        """Return the backbone with its decoder."""
        return MAEModel(backbone, self)


class MAEModel(Objective):
    """The module."""

    def __init__(self, backbone: Backbone, spec: MAE) -> None:
        super().__init__()
        self.backbone, self.spec = backbone, spec
        width, out = backbone.token_width, backbone.patch_width
        hidden = [nn.Linear(width, HIDDEN * width), nn.GELU()] if spec.decoder == "mlp" else []
        self.head = nn.Sequential(*hidden, nn.Linear(HIDDEN * width if hidden else width, out))

    def forward(self, batch: Batch, generator: torch.Generator) -> Loss:
        """Return the mean squared error of the hidden samples, in the signal's unit squared (1 where targets are
        normalised); `explained`: its distance from that of predicting zero, as a share of the latter."""
        hidden = hide(batch, self.spec.patch_s, self.spec.ratio, self.spec.across == "lead", generator)
        values = self.backbone.tokens(replace(batch, signal=batch.signal * ~hidden)).values
        scored = hidden & batch.lead_ok[..., None]
        weight = self._patches(batch, scored) * self.backbone.valid(batch)[..., None]
        target = self.backbone.patches(batch)
        if self.spec.norm_targets:
            target = standardised(target, self._patches(batch, batch.lead_ok[..., None].expand_as(scored)))
        count = ranks.total(weight.sum()).clamp(min=1)
        value = ((self.head(values).float() - target).square() * weight).sum() / count
        power = ranks.total((target.square() * weight).sum()) / count
        return Loss(value, {"explained": 1 - ranks.total(value.detach()) / power.clamp(min=1e-12)})

    def loss_weight(self, batch: Batch) -> Tensor:
        """Return the number of valid tokens, to which that of hidden samples is in proportion."""
        return self.backbone.valid(batch).sum().clamp(min=1).float()

    def _patches(self, batch: Batch, where: Tensor) -> Tensor:
        """Return 1 at a token's samples for which `where` [batch, lead, time] holds, else 0 [batch, token, sample]."""
        return self.backbone.patches(replace(batch, signal=where.to(batch.signal.dtype)))


def hide(batch: Batch, patch_s: float, ratio: float, by_lead: bool, generator: torch.Generator) -> Tensor:
    """Return which samples to hide [batch, lead, time] bool: an exact share of each record's patches.

    Args:
        batch: Records.
        patch_s: Length of a patch in s, rounded to whole samples.
        ratio: Share of the patches, halves rounded up.
        by_lead: Whether patches are drawn from those of all leads that are there; otherwise one draw serves all leads.
        generator: CPU generator.
    """
    records, leads, time = batch.signal.shape
    length = max(1, round(patch_s * batch.rate_hz))
    shape = (records, leads if by_lead else 1, -(-time // length))
    there = batch.lead_ok[..., None] if by_lead else batch.lead_ok.new_ones(1)
    random = masks.uniform(shape, generator, batch.signal.device)
    chosen = masks.choose(there.expand(shape).flatten(1), ratio, random.flatten(1)).mask.unflatten(1, shape[1:])
    return chosen.repeat_interleave(length, -1)[..., :time].expand(-1, leads, -1)


def standardised(patches: Tensor, real: Tensor) -> Tensor:
    """Return patches [batch, token, sample] with mean 0 and variance 1 over each token's real samples, 0 elsewhere."""
    count = real.sum(-1, keepdim=True).clamp(min=1)
    centred = (patches - (patches * real).sum(-1, keepdim=True) / count) * real
    variance = centred.square().sum(-1, keepdim=True) / count
    return centred * torch.rsqrt(variance + 1e-6)  # He et al.'s guard
