"""What a run minimises: one module per objective, each an `ObjectiveSpec` that wraps a backbone.

An objective owns its views, heads, teacher and code-books; all of its state lives in its state dict.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ecgscale.backbones import Backbone
from ecgscale.batch import Batch
from ecgscale.spec import Plugin


@dataclass(frozen=True, slots=True)
class Loss:
    """A batch's loss.

    Attributes:
        value: The scalar to minimise; where ranks share a batch, this rank's share of it (see `ranks`).
        parts: Detached scalars worth logging (health, terms) of the whole batch, never read per step.
    """

    value: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


class ObjectiveSpec(Plugin):
    """A pre-training objective."""

    kind: ClassVar[str] = "objectives"
    title: ClassVar[str]
    paradigm: ClassVar[Literal["SL", "SSL"]]
    needs: ClassVar[frozenset[str]] = frozenset()  # of "labels", "beats", "codes", "causal", "hides_tokens"
    comparable: ClassVar[bool] = True  # may its loss be fitted across the runs of a grid?
    best: ClassVar[bool] = True  # does the checkpoint of lowest validation loss enter the laws? else the last

    @abstractmethod
    def build(self, backbone: Backbone) -> Objective:
        """Return the module that trains `backbone` (global torch RNG for the heads' initial weights)."""


class Objective(nn.Module, ABC):
    """A backbone under training."""

    backbone: Backbone

    @abstractmethod
    def forward(self, batch: Batch, generator: torch.Generator) -> Loss:
        """Return the loss of one batch; every random choice comes from `generator` (a CPU generator)."""

    def after_step(self) -> None:
        """Called after every optimiser step: teachers, code-books and temperatures move here and nowhere else."""

    def health(self) -> dict[str, Tensor]:
        """Return scalars that are worth logging but not worth computing at every step."""
        return {}

    def loss_weight(self, batch: Batch) -> Tensor:
        """Return how many units (records, tokens) a validation batch's mean loss stands for, for averaging."""
        return torch.tensor(float(len(batch)))
