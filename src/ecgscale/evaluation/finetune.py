"""The protocol `finetune`: a linear head on pooled features, and the whole encoder under it, trained layer by layer.

Learning rates stand as 1 / 0.1 / 0.01 of head, encoder and the encoder's lower part. Published is the split of an
encoder on a convolutional stem: the stem is the lower part, all else, mask token included, the encoder. Other encoders
are split in the middle of their blocks (ours, see `Backbone.lower`). Untrained weights, which make this supervised
training from scratch, all move at one rate, as published. Dropout and batch norms are those of training.

Source: arXiv:2605.12241, AI4HealthUOL/ecg-pretraining-strategies, template_model.py (recipe-pretraining §5, §7.1).
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from ecgscale.backbones import Backbone
from ecgscale.batch import Batch
from ecgscale.evaluation.descent import Descended, DescentError, Parts, descend, seeded
from ecgscale.evaluation.settings import Finetune
from ecgscale.evaluation.targets import Array, Output
from ecgscale.evaluation.windows import Windows
from ecgscale.loader import Loader, Rows


class Tuned(nn.Module):
    """An encoder and a linear head: batches to scores.

    Args:
        backbone: The encoder.
        outputs: Labels.
    """

    def __init__(self, backbone: Backbone, outputs: int) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(backbone.width, outputs)

    def forward(self, batch: Batch) -> Tensor:
        """Return scores [row, label]."""
        return self.head(self.backbone.encode(batch))

    def groups(self, how: Finetune, trained: bool) -> list[dict[str, Any]]:
        """Return the parameters with their learning rates, head first; an untrained encoder has one for all."""
        head, upper, lower = how.rates if trained else 3 * (how.scratch,)
        below = {id(p) for p in self.backbone.lower()}
        inside = list(self.backbone.parameters())
        return [
            {"params": list(self.head.parameters()), "lr": head},
            {"params": [p for p in inside if id(p) not in below], "lr": upper},
            {"params": [p for p in inside if id(p) in below], "lr": lower},
        ]


def tune(
    backbone: Backbone,
    trained: bool,
    loader: Loader,
    y: Array,
    parts: Parts,
    output: Output,
    how: Finetune,
    device: str = "cpu",
    windows: Windows | None = None,
) -> Descended:
    """Train a copy of an encoder, which stays as it is, with a head of its own.

    Args:
        backbone: On the device.
        trained: Whether it was pre-trained.
        loader: Gives batches of the corpus.
        y: Targets of the whole corpus [record, label].
        parts: Rows of the corpus.
        output: What the targets are.
        how: The settings.
        device: Where to compute.
        windows: The crops it sees; whole records by default.

    Raises:
        DescentError: the scores are not finite, or the encoder's width hangs on the length of what it sees.
    """
    windows = windows or Windows()
    if windows.samples is not None and backbone.pool == "flatten":
        raise DescentError('an encoder with pool = "flatten" cannot be fine-tuned on crops: its width is of the whole')
    with seeded(device, how.seed, "head"):
        network = Tuned(copy.deepcopy(backbone).requires_grad_(True), y.shape[1]).to(device)

    def take(rows: Rows, crop: int) -> Batch:
        return windows.cut(loader.take(rows).to(device), crop)

    return descend(network, network.groups(how, trained), take, y, parts, output, how, device, windows.count)
