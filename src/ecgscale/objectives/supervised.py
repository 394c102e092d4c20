"""Multi-label classification: a linear head on the pooled vector and binary cross-entropy, mean over the known labels.

Source: Ribeiro et al. 2020, Nature Communications 11:1760.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgscale import ranks
from ecgscale.backbones import Backbone
from ecgscale.batch import Batch
from ecgscale.objectives import Loss, Objective, ObjectiveSpec


class Supervised(ObjectiveSpec):
    """Supervised pre-training on named labels."""

    title: ClassVar[str] = "supervised"
    paradigm: ClassVar[Literal["SL", "SSL"]] = "SL"
    needs: ClassVar[frozenset[str]] = frozenset({"labels"})

    labels: tuple[str, ...] = ()  # in the order of Batch.labels; a study may choose them by a rule of the family

    def build(self, backbone: Backbone) -> SupervisedModel:
        """Return the backbone with one logit per label."""
        return SupervisedModel(backbone, len(self.labels))


class SupervisedModel(Objective):
    """The module."""

    def __init__(self, backbone: Backbone, labels: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.width, labels)

    def forward(self, batch: Batch, generator: torch.Generator) -> Loss:
        """Return the mean cross-entropy in nats per known label; `known` is the share of labels that are."""
        logits = self.head(self.backbone.encode(batch))
        each = F.binary_cross_entropy_with_logits(logits, batch.labels, reduction="none") * batch.labels_ok
        value = each.sum() / ranks.total(batch.labels_ok.sum()).clamp(min=1)
        return Loss(value, {"known": ranks.total(ranks.mean(batch.labels_ok.float()))})

    def loss_weight(self, batch: Batch) -> Tensor:
        """Return the number of known labels."""
        return batch.labels_ok.sum().float()
