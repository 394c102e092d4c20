"""data2vec: the student predicts, at hidden tokens, what the teacher's last blocks make of the whole record.

With t_l what the teacher's block l adds to its stream and n a normalisation without parameters, the target of a token
is y = (1/k) Σ n(t_l) over the last k blocks, and the loss is s · mean over hidden tokens of Σ over features of
smooth-L1(h - y), s = 1/sqrt(width). Default as data2vec has it for speech: n standardises every feature over the
record's tokens. For images and text, and in the release of arXiv:2605.12241, it standardises every token over its
features; targets of an untrained network are then nearly the same at all tokens ("target_std" 0.1 to 0.4 instead of
0.7). data2vec's smooth-L1 has beta 2 for images, 4 for text and 0, the squared error, for speech; the release has 1.

The head is linear, as data2vec's; `head = "s4"` puts that release's bidirectional S4 layer before it.

Sources: Baevski et al. 2022, arXiv:2202.03555; AI4HealthUOL/ecg-pretraining-strategies (recipe-pretraining §4.2).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ecgscale import masks, ranks
from ecgscale.backbones import Backbone, Tokens
from ecgscale.batch import Batch
from ecgscale.objectives import Loss
from ecgscale.objectives._distillation import (
    Distillation,
    Distiller,
    head,
    hidden_share,
    instance_norm,
    last_layers,
    layer_norm,
    mean,
)

Norm = Literal["layer", "instance", "both"]


class Data2Vec(Distillation):
    """data2vec on any backbone that hides tokens."""

    title: ClassVar[str] = "data2vec"

    layers: int = Field(2, ge=1)  # last blocks to average; arXiv:2605.12241; data2vec 8 of 12 for speech
    normalise: Norm = "instance"  # data2vec for speech; "layer": for images and text, and arXiv:2605.12241
    beta: float = Field(1.0, ge=0)  # of smooth-L1; arXiv:2605.12241; 0 = squared error, data2vec for speech
    scale: float | None = Field(None, gt=0)  # of the loss; None = 1/sqrt(width), data2vec

    def build(self, backbone: Backbone) -> Data2VecModel:
        """Return the backbone with its head and teacher."""
        return Data2VecModel(backbone, self)


class Data2VecModel(Distiller):
    """The module."""

    def __init__(self, backbone: Backbone, spec: Data2Vec) -> None:
        super().__init__(backbone, spec)
        width = backbone.token_width
        self.layers, self.normalise, self.beta = spec.layers, spec.normalise, spec.beta
        self.scale = width**-0.5 if spec.scale is None else spec.scale
        self.head = head(spec.head, width, width)

    def forward(self, batch: Batch, generator: torch.Generator) -> Loss:
        """Return the scaled distance; `target_std`: how much the targets differ between tokens, 0 = collapsed.

        Raises:
            SpecError: the backbone has fewer blocks than `layers`.
        """
        seen = self.teacher.tokens(batch, layers=True)
        hidden = self.hide(seen.valid, generator)
        weight, values, wanted = masks.rows(hidden, self.student(batch, hidden), self.targets(seen))
        value = mean(distance(self.head(values), wanted, self.beta), weight) * self.scale
        return Loss(
            value,
            {"target_std": _spread(wanted, weight), "masked": hidden_share(hidden, seen.valid)},
        )

    def targets(self, seen: Tokens) -> Tensor:
        """Return what to predict at every token [batch, token, width], float32."""
        return targets(last_layers(seen, self.layers), seen.valid, self.normalise)


def targets(layers: tuple[Tensor, ...], valid: Tensor, normalise: Norm) -> Tensor:
    """Return the mean of normalised layers [batch, token, width]; "both" is instance norm, then layer norm."""
    total = torch.zeros((), device=valid.device)
    for layer in layers:
        x = layer if normalise == "layer" else instance_norm(layer, valid)
        total = total + (x if normalise == "instance" else layer_norm(x))
    return total / len(layers)


def distance(predicted: Tensor, wanted: Tensor, beta: float) -> Tensor:
    """Return smooth-L1 summed over features [row]; for beta = 0 the squared error, as data2vec reads it."""
    predicted = predicted.float()
    if beta == 0:
        return (predicted - wanted).square().sum(-1)
    return F.smooth_l1_loss(predicted, wanted, reduction="none", beta=beta).sum(-1)


def _spread(wanted: Tensor, weight: Tensor) -> Tensor:
    """Return the standard deviation of rows around their mean, over all features."""
    share = (weight / ranks.total(weight.sum()).clamp(min=1))[:, None]
    centre = ranks.total((wanted * share).sum(0))
    return ranks.total(((wanted - centre).square() * share).sum(0)).mean().sqrt()
