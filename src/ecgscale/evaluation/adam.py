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
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit

from ecgscale.evaluation import metrics
from ecgscale.evaluation.directions import Standard, matrix
from ecgscale.evaluation.folds import inner_folds, out_of_fold, two_dimensional
from ecgscale.evaluation.probes import CrossValidated
from ecgscale.evaluation.ridge import Scale
from ecgscale.evaluation.thresholds import best_thresholds, decide
from ecgscale.rng import generator

Array = npt.NDArray[np.float64]
Output = Literal["binary", "regression"]

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
    scale = _scale(train_y, output)
    usable, constant = _usable(train_y, output)
    x, held = (torch.from_numpy(np.column_stack([a, np.ones(len(a))])).float() for a in (z, standard(val_x)))
    y = torch.from_numpy((np.where(usable, train_y, np.nan) - scale.mean) / scale.deviation).float()
    weights = torch.nn.Parameter(torch.zeros(x.shape[1], y.shape[1]), requires_grad=False)
    optimiser = torch.optim.Adam([weights], lr=LR, fused=True)
    chosen, kept = 0, weights.clone()
    losses: list[float] = []
    for epoch in range(epochs + 1):
        if epoch:
            for rows in _batches(len(x), seed, epoch):
                weights.grad = _gradient(x[rows], y[rows], weights, output)
                optimiser.step()
        reached = _link((held @ weights).double().numpy(), scale, usable, constant, output)
        losses.append(validation_loss(val_y, reached, scale, output))
        if not losses[chosen] <= losses[-1]:  # the last one where validation knows no target
            chosen, kept = epoch, weights.clone()
    found = kept.double().numpy()

    def predict(features: npt.ArrayLike) -> Array:
        z = standard(features)
        return _link(z @ found[:-1] + found[-1], scale, usable, constant, output)

    return AdamProbe(chosen, np.array(losses), predict(val_x), tuple(predict(t) for t in test_xs), scale)


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
    x, y, patients = matrix(x), two_dimensional(x, y), np.asarray(patients)
    decided: list[Array] = []

    def predict(fold: int, train: npt.NDArray[np.intp], test: npt.NDArray[np.intp]) -> Array:
        out = next(inner_folds(patients[train], seed, fold), None)
        if out is None:
            raise ValueError(f"fold {fold} trains on one patient: none is left to choose the epoch")
        fitted, chosen = train[~out], train[out]
        probe = adam_probe(x[fitted], y[fitted], x[chosen], y[chosen], [x[test]], output, seed=seed)
        if output == "binary":
            decided.append(decide(probe.predictions[0], best_thresholds(y[chosen], probe.validated)))
        return probe.predictions[0]

    found = tuple(out_of_fold(y.shape, patients, folds, predict))
    again = iter(decided)
    decisions = tuple(out_of_fold(y.shape, patients, folds, lambda *_: next(again))) if decided else ()
    return CrossValidated(found, np.empty((len(folds), y.shape[1])) * np.nan, True, decisions)


def validation_loss(y: Array, predictions: Array, scale: Scale | None, output: Output) -> float:
    """Return the mean over labels of the mean loss over known records: nats, or variances of the training part."""
    if output == "binary" or scale is None:
        return metrics.macro(metrics.label_losses(y, predictions))
    return metrics.macro(metrics.squared_error(y, predictions) / scale.deviation**2)


def _usable(y: Array, output: Output) -> tuple[npt.NDArray[np.bool_], Array]:
    """Which labels can be fitted, and what the others predict."""
    if output == "regression":
        return metrics.varies(y), np.nan_to_num(metrics.known_mean(y))
    return metrics.has_both_classes(y), ((y == 1).sum(axis=0) + 1) / ((~np.isnan(y)).sum(axis=0) + 2)


def _scale(y: Array, output: Output) -> Scale:
    return Scale.of(y) if output == "regression" else Scale(np.zeros(y.shape[1]), np.ones(y.shape[1]))


def _link(scores: Array, scale: Scale, usable: npt.NDArray[np.bool_], constant: Array, output: Output) -> Array:
    """What scores [record, label] mean: probabilities, or values in the targets' units."""
    said = expit(scores) if output == "binary" else scores * scale.deviation + scale.mean
    return np.where(usable, said, constant)


def _gradient(x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor, output: Output) -> torch.Tensor:
    """Of the mean over known targets of cross-entropy, or of the squared error; written out: autograd takes longer."""
    known = ~torch.isnan(y)
    scores = x @ weights
    residual = scores.sigmoid_() - y if output == "binary" else 2 * (scores - y)
    return x.T @ torch.where(known, residual, 0.0) / max(1, int(known.sum()))


def _batches(records: int, seed: int, epoch: int) -> Sequence[torch.Tensor]:
    order = torch.from_numpy(generator(seed, "probe", "adam", epoch).permutation(records))
    return torch.split(order, BATCH)
