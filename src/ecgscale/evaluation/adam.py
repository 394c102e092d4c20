"""The papers' linear probe: Adam, learning rate 1e-3, cross-entropy, the epoch of lowest validation loss.

Stated by the papers: frozen features, one linear layer, Adam at 1e-3, cross-entropy, fitted on the training part and
chosen on the validation part. Not stated, and ours: features are standardised on the training part as for the exact
probe, weights start at zero, batches of 256 records in an order drawn anew every epoch, 100 epochs, no weight decay.
Its loss is that of an unfinished descent: `probes.linear_probe` is the optimum.

The loss of a batch is the mean over all its known targets, the validation loss the mean over labels of the mean over
known records, and one epoch is chosen for all labels of a task, as there is one network. Regression targets are
standardised on the training part and their loss is the squared error.

Sources: arXiv:2605.17276 and arXiv:2605.12241 (protocol); Kingma and Ba 2015, ICLR (Adam).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from ecgscale.evaluation import early
from ecgscale.evaluation.directions import Standard, matrix
from ecgscale.evaluation.folds import Rows, two_dimensional
from ecgscale.evaluation.probes import CrossValidated
from ecgscale.evaluation.ridge import Scale
from ecgscale.evaluation.targets import Coding, Output, validation_loss
from ecgscale.rng import generator

Array = npt.NDArray[np.float64]

LR: Final = 1e-3  # arXiv:2605.17276
EPOCHS: Final = 100
BATCH: Final = 256  # records


@dataclass(frozen=True, slots=True)
class AdamProbe:
    """A fitted probe.

    Attributes:
        epoch: The one of lowest validation loss, 0 for the start.
        validation_losses: [epoch + 1], the first before training; nats, or variances of the training part.
        validated: Probabilities, or values in the targets' units, of the validation part [record, label].
        predictions: The same of each of the test sets given.
        scale: Mean and deviation of regression targets in the training part; 0 and 1 for labels.
    """

    epoch: int
    validation_losses: Array
    validated: Array
    predictions: tuple[Array, ...]
    scale: Scale


def adam_probe(
    train_x: npt.ArrayLike,
    train_y: npt.ArrayLike,
    val_x: npt.ArrayLike,
    val_y: npt.ArrayLike,
    test_xs: Sequence[npt.ArrayLike] = (),
    output: Output = "binary",
    epochs: int = EPOCHS,
    seed: int = 0,
) -> AdamProbe:
    """Train on the training part, keep the epoch of lowest validation loss, predict the test parts.

    Args:
        train_x, val_x, test_xs: Features [record, feature]; NaN is missing (training median plus an indicator).
        train_y, val_y: [record, label]: 1, 0 or NaN (unknown); any number for regression. A label with one class in
            training predicts its smoothed prevalence, a target that does not vary its mean.
        output: What the targets are.
        epochs: At least 0.
        seed: Of the batches.

    Raises:
        ValueError: an infinite feature, shapes that differ, or an empty training part.
    """
    train_y, val_y = two_dimensional(train_x, train_y), two_dimensional(val_x, val_y)
    standard, z = Standard.fit(train_x)
    coding = Coding.of(train_y, output)
    x, held = (torch.from_numpy(np.column_stack([a, np.ones(len(a))])).float() for a in (z, standard(val_x)))
    y = coding.code(train_y)
    weights = torch.nn.Parameter(torch.zeros(x.shape[1], y.shape[1]), requires_grad=False)
    optimiser = torch.optim.Adam([weights], lr=LR, fused=True)
    chosen, kept = 0, weights.clone()
    losses: list[float] = []
    for epoch in range(epochs + 1):
        if epoch:
            for rows in _batches(len(x), seed, epoch):
                weights.grad = _gradient(x[rows], y[rows], weights, output)
                optimiser.step()
        reached = coding.read((held @ weights).double().numpy())
        losses.append(validation_loss(val_y, reached, coding.scale, output))
        if not losses[chosen] <= losses[-1]:  # the last one where validation knows no target
            chosen, kept = epoch, weights.clone()
    found = kept.double().numpy()

    def predict(features: npt.ArrayLike) -> Array:
        z = standard(features)
        return coding.read(z @ found[:-1] + found[-1])

    return AdamProbe(chosen, np.array(losses), predict(val_x), tuple(predict(t) for t in test_xs), coding.scale)


def cross_validated_adam(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    patients: npt.ArrayLike,
    folds: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]],
    output: Output = "binary",
    seed: int = 0,
) -> CrossValidated:
    """Predict every record out of fold; the first inner fold, a quarter of the training patients, chooses the epoch.

    Args:
        x: Features [record, feature].
        y: [record, label].
        patients: [record].
        folds: (train rows, test rows) pairs; a repeat ends when every record has been tested once.
        output: What the targets are.

    Raises:
        ValueError: as `folds.out_of_fold`, or a training part has a single patient.
    """
    x, y = matrix(x), two_dimensional(x, y)

    def fit(train: Rows, choosing: Rows, test: Rows) -> tuple[Array, Array]:
        probe = adam_probe(x[train], y[train], x[choosing], y[choosing], [x[test]], output, seed=seed)
        return probe.predictions[0], probe.validated

    return early.cross_validated(fit, y, patients, folds, output, seed)


def _gradient(x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor, output: Output) -> torch.Tensor:
    """Of the mean over known targets of cross-entropy, or of the squared error; written out: autograd takes longer."""
    known = ~torch.isnan(y)
    scores = x @ weights
    residual = scores.sigmoid_() - y if output == "binary" else 2 * (scores - y)
    return x.T @ torch.where(known, residual, 0.0) / max(1, int(known.sum()))


def _batches(records: int, seed: int, epoch: int) -> Sequence[torch.Tensor]:
    order = torch.from_numpy(generator(seed, "probe", "adam", epoch).permutation(records))
    return torch.split(order, BATCH)
