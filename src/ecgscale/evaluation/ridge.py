"""The ridge probe of regression targets on frozen features, exact at every strength, all targets at once.

Targets are standardised on the training part, t = (y - mean) / deviation. For each target with n known training
records the probe minimises

    J(w, b) = 1/n Σ_i (t_i - b - x_i · w / sqrt(k))² + lambda |w|²,

with x the standardised features, k their number and b not penalised: scikit-learn's Ridge on x / sqrt(k) with
alpha = lambda n. With Z the centred design of the known records and Z'Z / n = V diag(s) V',
w(lambda) = V (V' Z't / n) / (s + lambda): one eigendecomposition gives the whole path, and where all targets are known
the principal components are their own eigenvectors. Lambda is the one of lowest validation MSE, per target.

Source: Hoerl and Kennard 1970, Technometrics 12:55.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecgscale.evaluation import metrics
from ecgscale.evaluation.directions import Features, matrix
from ecgscale.evaluation.folds import inner_folds, out_of_fold, two_dimensional
from ecgscale.evaluation.probes import CrossValidated, best_of, grid

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and standard deviation of targets, [target]; NaN where they do not vary."""

    mean: Array
    deviation: Array

    @classmethod
    def of(cls, y: npt.ArrayLike) -> Scale:
        """Return the scale of the known targets [record, target]."""
        y = np.asarray(y, dtype=np.float64)
        mean = metrics.known_mean(y)
        deviation = np.sqrt(metrics.known_mean((y - mean) ** 2))
        return cls(mean, np.where(metrics.varies(y), deviation, np.nan))


@dataclass(frozen=True, slots=True)
class RidgePath:
    """The minima at every lambda, in the targets' own units: weights [lambda, direction, target], intercepts."""

    features: Features
    weights: Array
    intercepts: Array  # [lambda, target]

    def predict(self, x: npt.ArrayLike) -> Array:
        """Return predictions [lambda, record, target] of features [record, feature]."""
        return np.asarray(self.features(x) @ self.weights + self.intercepts[:, None])


@dataclass(frozen=True, slots=True)
class RidgeProbe:
    """A fitted probe.

    Attributes:
        lambdas: [target], chosen on validation; NaN for a target that does not vary in training, which predicts its
            mean (0 where none is known).
        validation_losses: [lambda, target], MSE in variances of the training part.
        predictions: [record, target] for each of the test sets given, in the targets' units.
        scale: Mean and deviation of the training part.
    """

    lambdas: Array
    validation_losses: Array
    predictions: tuple[Array, ...]
    scale: Scale


def ridge_probe(
    train_x: npt.ArrayLike,
    train_y: npt.ArrayLike,
    val_x: npt.ArrayLike,
    val_y: npt.ArrayLike,
    test_xs: Sequence[npt.ArrayLike] = (),
    lambdas: Sequence[float] | None = None,
) -> RidgeProbe:
    """Fit on the training part, choose lambda per target on the validation part, predict the test parts.

    Args:
        train_x, val_x, test_xs: Features [record, feature]; NaN is missing (training median plus an indicator).
        train_y, val_y: [record, target], any number, NaN unknown.
        lambdas: By default `probes.grid` of the training part.

    Raises:
        ValueError: an infinite feature, shapes that differ, or an empty training part.
    """
    train_y, val_y = two_dimensional(train_x, train_y), two_dimensional(val_x, val_y)
    path_lambdas = grid(len(train_y)) if lambdas is None else np.asarray(lambdas, dtype=np.float64)
    path, scale = fit_ridge(train_x, train_y, path_lambdas), Scale.of(train_y)
    losses = _losses(val_y, path.predict(val_x)) / scale.deviation**2
    best, columns = best_of(losses), np.arange(train_y.shape[1])
    chosen = np.where(np.isnan(scale.deviation), np.nan, path_lambdas[best])
    weights, intercepts = path.weights[best, :, columns].T, path.intercepts[best, columns]
    return RidgeProbe(chosen, losses, tuple(path.features(x) @ weights + intercepts for x in test_xs), scale)


def cross_validated_ridge(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    patients: npt.ArrayLike,
    folds: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]],
    seed: int = 0,
) -> CrossValidated:
    """Predict every record out of fold; lambda is chosen per target on patient-disjoint folds inside the training part.

    Args:
        x: Features [record, feature].
        y: [record, target], any number, NaN unknown.
        patients: [record].
        folds: (train rows, test rows) pairs; a repeat ends when every record has been tested once.

    Raises:
        ValueError: as `folds.out_of_fold`.
    """
    x, y, patients = matrix(x), two_dimensional(x, y), np.asarray(patients)
    chosen = []

    def predict(fold: int, train: npt.NDArray[np.intp], test: npt.NDArray[np.intp]) -> Array:
        lambdas = grid(len(train))
        held = np.full((len(lambdas), len(train), y.shape[1]), np.nan)
        held[:] = np.nan_to_num(Scale.of(y[train]).mean)
        for out in inner_folds(patients[train], seed, fold):
            held[:, out] = fit_ridge(x[train][~out], y[train][~out], lambdas).predict(x[train][out])
        best = best_of(_losses(y[train], held))
        chosen.append(np.where(np.isnan(Scale.of(y[train]).deviation), np.nan, lambdas[best]))
        every = fit_ridge(x[train], y[train], lambdas).predict(x[test])
        return every[best, :, np.arange(y.shape[1])].T

    return CrossValidated(tuple(out_of_fold(y.shape, patients, folds, predict)), np.array(chosen), True)


def fit_ridge(x: npt.ArrayLike, y: Array, lambdas: Array) -> RidgePath:
    """Fit every target at every lambda.

    Args:
        x: Features [record, feature].
        y: [record, target]; one that does not vary predicts its mean, 0 where none is known.
        lambdas: [lambda], positive.
    """
    features, z = Features.fit(x)
    weights = np.zeros((len(lambdas), z.shape[1], y.shape[1]))
    intercepts = np.zeros((len(lambdas), y.shape[1]))
    intercepts[:] = np.nan_to_num(metrics.known_mean(y))
    known = ~np.isnan(y)
    fitted = np.flatnonzero(metrics.varies(y))
    patterns, which = np.unique(known[:, fitted], axis=1, return_inverse=True)
    for i, rows in enumerate(patterns.T):
        columns = fitted[which.ravel() == i]
        centre = z[rows].mean(axis=0)
        found = _path(z[rows] - centre, y[np.ix_(rows, columns)], lambdas, bool(rows.all()))
        weights[:, :, columns] = found
        intercepts[:, columns] -= centre @ found
    return RidgePath(features, weights, intercepts)


def _path(z: Array, y: Array, lambdas: Array, orthogonal: bool) -> Array:
    """Weights [lambda, direction, target] of centred directions; the eigenvectors are known where all records are."""
    moment = z.T @ (y - y.mean(axis=0)) / len(z)
    if orthogonal:
        return np.asarray(moment / (np.square(z).mean(axis=0)[:, None] + lambdas[:, None, None]))
    variance, vectors = np.linalg.eigh(z.T @ z / len(z))
    shrunk = (vectors.T @ moment) / (np.maximum(variance, 0.0)[:, None] + lambdas[:, None, None])
    return np.asarray(vectors @ shrunk)


def _losses(y: Array, predictions: Array) -> Array:
    return np.stack([metrics.squared_error(y, p) for p in predictions])
