"""Masked heart beats: half of a record's beats are hidden and their code-book ids predicted, cross-entropy over the
hidden ones.

Only real beats are hidden, an exact share per record; published, half of all 256 positions are, padding included. Ids
are those that `beat_codes` gives whole records with lead and second embedded; published, pre-training asks for them
without those.

Source: Jin et al. 2025, PKUDigitalHealth/HeartLang (MIT), engine_for_pretraining.py.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ecgscale import masks, ranks
from ecgscale.backbones import Backbone
from ecgscale.batch import Batch
from ecgscale.objectives import Loss, Objective, ObjectiveSpec
from ecgscale.views import BeatTokens


class MaskedBeats(ObjectiveSpec):
    """Masked code prediction on a backbone that reads beats."""

    title: ClassVar[str] = "masked beats"
    paradigm: ClassVar[Literal["SL", "SSL"]] = "SSL"
    needs: ClassVar[frozenset[str]] = frozenset({"beats", "codes"})

    mask_ratio: float = Field(0.5, gt=0, le=1)  # arXiv:2605.17276
    codebook: str = ""  # uid of the beat_codes run that made the ids; a study fills it in
    codes: int = Field(512, ge=2)  # that run's number of codes

    def build(self, backbone: Backbone) -> MaskedBeatsModel:
        """Return the backbone, which must be one that reads beats, with a linear head over the codes."""
        return MaskedBeatsModel(backbone, self)


class MaskedBeatsModel(Objective):
    """The module."""

    def __init__(self, backbone: Backbone, spec: MaskedBeats) -> None:
        super().__init__()
        self.backbone, self.mask_ratio = backbone, spec.mask_ratio
        self.head = nn.Linear(backbone.token_width, spec.codes)

    def forward(self, batch: Batch, generator: torch.Generator) -> Loss:
        """Return the mean cross-entropy in nats per hidden beat.

        Raises:
            ValueError: the batch carries no codes.
        """
        beats = self.backbone.cut(batch)
        target, usable = _targets(batch, beats)
        columns = batch.beats.shape[1] + 1  # one more than there may be, so that a batch without beats has one too
        random = masks.uniform((len(batch), batch.signal.shape[1] * columns), generator, target.device)
        chosen = masks.choose(usable, self.mask_ratio, random.gather(1, _place(beats, columns)))
        values = self.backbone.read(beats, chosen.mask).values
        hidden = values.gather(
            1, chosen.index[..., None].expand(-1, -1, values.shape[-1])
        )  # only these need the wide head
        logits, wanted = self.head(hidden).flatten(0, 1), target.gather(1, chosen.index).flatten()
        wanted = wanted.masked_fill(~chosen.kept.flatten(), -100)
        count = ranks.total(chosen.kept.sum()).clamp(min=1)
        value = F.cross_entropy(logits.float(), wanted, ignore_index=-100, reduction="sum") / count
        return Loss(value, {"accuracy": ranks.total((logits.argmax(-1) == wanted).sum()) / count})

    def loss_weight(self, batch: Batch) -> Tensor:
        """Return the number of hidden beats."""
        return masks.share(_targets(batch, self.backbone.cut(batch))[1], self.mask_ratio).sum().float()


def _targets(batch: Batch, beats: BeatTokens) -> tuple[Tensor, Tensor]:
    """Return every token's id [batch, token], and which tokens have one [batch, token] bool."""
    if batch.codes is None:
        raise ValueError(
            "masked_beats needs the code-book's ids in Batch.codes, found none: train a beat_codes run and name it"
        )
    codes = F.pad(batch.codes, (0, 1), value=-1)
    target = codes.flatten(1).gather(1, _place(beats, codes.shape[2]))
    return target, beats.valid & (target >= 0)


def _place(beats: BeatTokens, columns: int) -> Tensor:
    """Return where a token stands in a flattened [lead, beat] table of so many columns [batch, token]."""
    return (beats.lead - 1).clamp(min=0) * columns + beats.beat
