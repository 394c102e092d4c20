"""Contrastive multi-segment coding: the two halves of a recording, and of other recordings of the patient, attract each
other.

With S_ij = exp(cos(z1_i, z2_j) / T), r_i its row sums and c_j its column sums over all entries, the published loss
averages -mean_i log(S_ii / r_i), -mean_j log(S_jj / c_j), and, where a patient repeats in the batch, -log(S_ij / r_i)
over the patient's pairs i < j and -log(S_ij / c_j) over those with i > j. "symmetric" is the mean over all positives of
row and column cross-entropies, which does not depend on the order of the batch.

Sources: Kiyasseh et al. 2021, CLOCS, ICML (written from the formula); symmetric: Oh et al. 2022, Jwoo5/fairseq-signals
(MIT), with the gradient of the true cosine. CLOCS scales every half to [0, 1]; here halves stay in the corpus's unit.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ecgscale import ranks, views
from ecgscale.backbones import Backbone
from ecgscale.batch import Batch
from ecgscale.nn import unit
from ecgscale.objectives import Loss, Objective, ObjectiveSpec


class CMSC(ObjectiveSpec):
    """CLOCS's CMSC on any backbone."""

    title: ClassVar[str] = "CMSC"
    paradigm: ClassVar[Literal["SL", "SSL"]] = "SSL"

    temperature: float = Field(0.1, gt=0)  # CLOCS
    loss: Literal["published", "symmetric"] = "published"
    projection: int = Field(0, ge=0)  # width of a two-layer head that is thrown away; 0 = none, as CLOCS

    def build(self, backbone: Backbone) -> CMSCModel:
        """Return the backbone with its projection."""
        return CMSCModel(backbone, self)


class CMSCModel(Objective):
    """The module."""

    def __init__(self, backbone: Backbone, spec: CMSC) -> None:
        super().__init__()
        self.backbone, self.spec = backbone, spec
        self.head = _projection(backbone.width, spec.projection) if spec.projection else nn.Identity()

    def forward(self, batch: Batch, generator: torch.Generator) -> Loss:
        """Return the loss in nats; `accuracy`: how often a first half's nearest second half is its patient's."""
        with ranks.copies(2):
            vectors = self.head(self.backbone.encode(views.stack(*views.halves(batch)))).float()
        first, second = (ranks.gather(half) for half in vectors.chunk(2))
        cosine = unit(first) @ unit(second).T
        patient = ranks.gather(batch.patient)
        same = patient[:, None] == patient
        value = (published if self.spec.loss == "published" else symmetric)(cosine / self.spec.temperature, same)
        nearest = same.gather(1, cosine.argmax(1, keepdim=True)).float().mean()
        return Loss(ranks.share(value), {"accuracy": nearest, "cosine": cosine.detach().diagonal().mean()})


def _projection(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, out))


def published(scores: Tensor, same: Tensor) -> Tensor:
    """Return CLOCS's loss of scores cos/T [first, second]; `same` [first, second] is True for one patient."""
    rows, columns = -scores.log_softmax(1), -scores.log_softmax(0)
    above, below = same.triu(1), same.tril(-1)
    pairs = above.sum().clamp(min=1)
    repeated = above.any().float()
    off = ((rows * above).sum() + (columns * below).sum()) / pairs
    return (rows.diagonal().mean() + columns.diagonal().mean() + off) / (2 + 2 * repeated)


def symmetric(scores: Tensor, same: Tensor) -> Tensor:
    """Return the mean over all pairs of one patient of half the row's and half the column's cross-entropy."""
    return -((scores.log_softmax(1) + scores.log_softmax(0)) * same).sum() / (2 * same.sum())
