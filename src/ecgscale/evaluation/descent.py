"""The descent that `frozen` and `finetune` share: AdamW at constant rates, and the epoch of lowest validation loss.

The loss of a batch is the mean over all its known targets: cross-entropy, or the squared error of standardised targets
(published: the absolute one; the table's loss is squared). An epoch is cut into equal batches of at most the size
asked for (ours), so that none is too small for a batch norm. All random numbers are functions of the settings' seed;
torch's own generators are as they were afterwards.

Source: arXiv:2605.12241 (recipe-pretraining §7.1); Loshchilov & Hutter 2019 (AdamW).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgscale import rng
from ecgscale.evaluation.features import BATCH
from ecgscale.evaluation.settings import Descent
from ecgscale.evaluation.targets import Array, Coding, Output, validation_loss
from ecgscale.loader import Rows
from ecgscale.spec import Explained


class DescentError(Explained, RuntimeError):
    """A network's scores are not finite."""


class Parts(NamedTuple):
    """Rows of a corpus: to train on, to choose the epoch by, and to predict."""

    train: Rows
    validation: Rows
    test: Rows


@dataclass(frozen=True, slots=True)
class Descended:
    """What came of it.

    Attributes:
        epoch: The one kept, 0 for the start.
        validation_losses: [epoch + 1], the first before training; nats, or variances of the training part.
        tested, validated: Probabilities, or values in the targets' units [record, label].
    """

    epoch: int
    validation_losses: list[float]
    tested: Array
    validated: Array


def descend(
    network: nn.Module,
    groups: list[dict[str, Any]],
    take: Callable[[Rows, int], Any],
    y: Array,
    parts: Parts,
    output: Output,
    how: Descent,
    device: str = "cpu",
    crops: int = 1,
) -> Descended:
    """Train a network and leave it with the weights of the epoch of lowest validation loss.

    Args:
        network: Turns what `take` gives of rows into scores [row, label].
        groups: Its trained parameters, each group with its `lr`.
        take: Gives the inputs of rows of the corpus and a number of a crop, on the device.
        y: Targets of the whole corpus [record, label], NaN where unknown.
        parts: Rows of the corpus; the last epoch is kept where no target of the validation part is known.
        output: What the targets are.
        how: The settings.
        device: Where the network is.
        crops: Of a record.

    Raises:
        DescentError: the scores are not finite.
    """
    coding = Coding.of(y[parts.train], output)
    targets = coding.code(y[parts.train])
    optimiser = torch.optim.AdamW(groups, weight_decay=how.weight_decay, fused=True)

    def predicted(rows: Rows) -> Array:
        """Return what the network says [row, label], averaged over the crops."""
        said = [coding.read(_scores(network, take, rows, crop, y.shape[1])) for crop in range(crops)]
        return said[0] if crops == 1 else np.mean(said, axis=0)

    losses: list[float] = []
    chosen, validated = 0, np.empty(0)
    kept: dict[str, Tensor] = {}
    for epoch in range(how.epochs + 1):
        if epoch:
            _train(network, optimiser, take, parts.train, targets, output, how, epoch, device, crops)
        reached = predicted(parts.validation)
        losses.append(validation_loss(y[parts.validation], reached, coding.scale, output))
        if not kept or losses[-1] < losses[chosen] or math.isnan(losses[0]):
            chosen, validated = epoch, reached
            kept = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(kept)
    tested = predicted(parts.test)
    if not np.isfinite(tested).all():
        raise DescentError(f"the scores of a network are not finite after {chosen} epochs: lower its learning rates")
    return Descended(chosen, losses, tested, validated)


def masked_loss(scores: Tensor, y: Tensor, output: Output) -> Tensor:
    """Return the mean loss over the known targets [row, label], NaN where unknown; 0 where none is."""
    known = ~torch.isnan(y)
    truth = torch.where(known, y, 0.0)
    if output == "binary":
        losses = F.binary_cross_entropy_with_logits(scores, truth, reduction="none")
    else:
        losses = (scores - truth).square()
    return torch.where(known, losses, 0.0).sum() / known.sum().clamp(min=1)


@contextmanager
def seeded(device: str, seed: int, *path: str | int) -> Iterator[None]:
    """Let torch's generators begin at the stream named by `path`, and restore them afterwards."""
    with torch.random.fork_rng([torch.cuda.current_device()] if device != "cpu" else []):
        torch.manual_seed(rng.seed_of(seed, "descent", *path))
        yield


def _train(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    take: Callable[[Rows, int], Any],
    rows: Rows,
    targets: Tensor,
    output: Output,
    how: Descent,
    epoch: int,
    device: str,
    crops: int,
) -> None:
    """Pass once over the training rows, whose targets [row, label] come in their order."""
    network.train()
    order = rng.generator(how.seed, "descent", "order", epoch).permutation(len(rows))
    shown = rng.generator(how.seed, "descent", "crop", epoch)
    with seeded(device, how.seed, "dropout", epoch):
        for places in np.array_split(order, math.ceil(len(rows) / how.batch)):
            rising = np.sort(places)  # read fastest
            loss = masked_loss(
                network(take(rows[rising], int(shown.integers(crops)))), targets[rising].to(device), output
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()


@torch.no_grad()
def _scores(network: nn.Module, take: Callable[[Rows, int], Any], rows: Rows, crop: int, labels: int) -> Array:
    """Return the scores [row, label] of a network in eval mode on one crop of every record."""
    network.eval()
    found = [network(take(rows[i : i + BATCH], crop)).double().cpu().numpy() for i in range(0, len(rows), BATCH)]
    return np.concatenate([np.empty((0, labels)), *found])
