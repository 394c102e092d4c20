"""The exact linear probe: logistic regression on frozen features, its L2 strength chosen per label on validation loss.

Features are imputed, standardised on the training part and divided by the root of their number k, so lambda means
the same for every width. For label l with n known training records the probe minimises

    J(w, b) = 1/n Σ_i BCE(y_i, sigmoid(b + x_i · w / sqrt(k))) + lambda/2 |w|²,

with x the standardised features and b not penalised: the optimum of scikit-learn's StandardScaler +
LogisticRegression with C = 1 / (lambda k n). Internally x is turned into its principal components (J does not change
under a rotation) and null directions are dropped; the solver divides by each direction's curvature, which whitens
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from ecgscale.evaluation import metrics
from ecgscale.evaluation.directions import Features, matrix
from ecgscale.evaluation.logistic import GAP, minimise
from ecgscale.rng import generator

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

REVISION: Final = 2  # bumped when a probe's numbers change
LAMBDAS: Final = 10  # values in the default grid
STRONG: Final = 10.0  # its first lambda: next to nothing but the prevalence is left
WEAK: Final = 1e-3  # its last one times the training records: the same prior on w for every size of the training part
BATCH: Final = 32  # (label, lambda) pairs solved at once, more of them while
CELLS: Final = 50_000  # their logits (record × pair) stay in the cache
INNER_FOLDS: Final = 4
INNER_GAP: Final = 1e-9  # nats; at 1e-7 one lambda in a thousand, tied with another, turned on what else was solved
OUTER_GAP: Final = 1e-20  # nats; probabilities good to 1e-9: which labels are solved together does not show


@dataclass(frozen=True, slots=True)
class Path:
    """The minima of J at every lambda: weights [lambda, direction, label], intercepts [lambda, label]."""

    features: Features
    weights: Array
    intercepts: Array
    converged: bool

    def predict(self, x: npt.ArrayLike) -> Array:
        """Return probabilities [lambda, record, label] of features [record, feature]."""
        return np.asarray(expit(self.features(x) @ self.weights + self.intercepts[:, None]))

    def choose(self, best: npt.NDArray[np.intp]) -> tuple[Array, Array]:
        """Return weights [direction, label] and intercepts [label] at one lambda per label."""
        labels = np.arange(len(best))
        return self.weights[best, :, labels].T, self.intercepts[best, labels]


@dataclass(frozen=True, slots=True)
class LinearProbe:
    """A fitted probe.

    Attributes:
        features: Map from raw features to directions.
        weights, intercepts: [direction, label], [label].
        lambdas: [label], chosen on validation; NaN for a label with one class in training, which predicts its smoothed
            prevalence.
        validation_losses: [lambda, label] nats, in the order of the grid; NaN where validation knows no target.
        probabilities: [record, label] for each of the test sets given.
        converged: Every minimum was reached.
    """

    features: Features
    weights: Array
    intercepts: Array
    lambdas: Array
    validation_losses: Array
    probabilities: tuple[Array, ...]
    converged: bool

    def predict(self, x: npt.ArrayLike) -> Array:
        """Return probabilities [record, label] of features [record, feature]."""
        return np.asarray(expit(self.features(x) @ self.weights + self.intercepts))


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """`probabilities` out of fold, [record, label] per repeat; `lambdas` [fold, label]; `converged` in every fold."""

    probabilities: tuple[Array, ...]
    lambdas: Array
    converged: bool


def linear_probe(
    train_x: npt.ArrayLike,
    train_y: npt.ArrayLike,
    val_x: npt.ArrayLike,
    val_y: npt.ArrayLike,
    test_xs: Sequence[npt.ArrayLike] = (),
    lambdas: Sequence[float] | None = None,
) -> LinearProbe:
    """Fit on the training part, choose lambda per label on the validation part, predict the test parts.

    Args:
        train_x, val_x, test_xs: Features [record, feature]; NaN is missing (training median plus an indicator).
        train_y, val_y: [record, label]: 1, 0 or NaN (unknown).
        lambdas: By default `grid` of the training part; of equal validation losses the first wins, so strong ones stand
            first.

    Raises:
        ValueError: an infinite feature, shapes that differ, or an empty training part.
    """
    train_y, val_y = _targets(train_x, train_y), _targets(val_x, val_y)
    path_lambdas = grid(len(train_y)) if lambdas is None else np.asarray(lambdas, dtype=np.float64)
    path = fit_path(train_x, train_y, path_lambdas)
    losses = _losses(val_y, path.predict(val_x))
    best = _best(losses)
    weights, intercepts = path.choose(best)
    chosen = np.where(metrics.has_both_classes(train_y), path_lambdas[best], np.nan)
    tests = tuple(np.asarray(expit(path.features(x) @ weights + intercepts)) for x in test_xs)
    return LinearProbe(path.features, weights, intercepts, chosen, losses, tests, path.converged)


def cross_validated_probe(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    patients: npt.ArrayLike,
    folds: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]],
    lambdas: Sequence[float] | None = None,
    seed: int = 0,
) -> CrossValidated:
    """Predict every record out of fold; lambda is chosen per label on patient-disjoint folds inside the training part.

    Labels do not touch each other: the labels of several tasks in one call get what separate calls would give.

    Args:
        x: Features [record, feature].
        y: [record, label]: 1, 0 or NaN.
        patients: [record].
        folds: (train rows, test rows) pairs; a repeat ends when every record has been tested once.

    Raises:
        ValueError: the test parts do not cover every record equally often, or a patient stands on both sides of a fold.
    """
    x, y, patients = matrix(x), _targets(x, y), np.asarray(patients)
    results: list[Array] = []
    chosen, converged = [], True
    tested = np.ones(len(x), dtype=bool)
    for i, (train, test) in enumerate((np.asarray(a), np.asarray(b)) for a, b in folds):
        if np.isin(patients[test], patients[train]).any():
            raise ValueError(f"fold {i} has a patient in both its training and its test part")
        if tested.all():
            results.append(np.full(y.shape, np.nan))
            tested = np.zeros(len(x), dtype=bool)
        path_lambdas = grid(len(train)) if lambdas is None else np.asarray(lambdas, dtype=np.float64)
        best = path_lambdas[_inner_choice(x[train], y[train], patients[train], path_lambdas, seed, i)]
        path = fit_path(x[train], y[train], best[None], OUTER_GAP)
        results[-1][test] = path.predict(x[test])[0]
        if tested[test].any():
            raise ValueError(f"fold {i} tests a record twice within one repeat")
        tested[test] = True
        chosen.append(np.where(metrics.has_both_classes(y[train]), best, np.nan))
        converged &= path.converged
    if not results or not tested.all():
        raise ValueError("the folds do not test every record equally often")
    return CrossValidated(tuple(results), np.array(chosen), converged)


def grid(records: int) -> Array:
    """Return the default lambdas for so many training records: log-spaced from `STRONG` to `WEAK` / records."""
    return np.geomspace(STRONG, WEAK / records, LAMBDAS)


def fit_path(x: npt.ArrayLike, y: Array, lambdas: Array, gap: float = GAP) -> Path:
    """Fit every label at every lambda, strong to weak, each start from the last minimum.

    Args:
        x: Features [record, feature].
        y: [record, label]; a label with one class (or none) predicts (positives + 1) / (known + 2).
        lambdas: [lambda], or [lambda, label].
        gap: How close to the minimum of J, nats.
    """
    features, z = Features.fit(x)
    lambdas = np.broadcast_to(lambdas if lambdas.ndim == 2 else lambdas[:, None], (len(lambdas), y.shape[1]))
    weights = np.zeros((len(lambdas), z.shape[1], y.shape[1]))
    intercepts = np.empty((len(lambdas), y.shape[1]))
    positive, known = (y == 1).sum(axis=0), (~np.isnan(y)).sum(axis=0)
    intercepts[:] = np.log((positive + 1) / (known - positive + 1))
    labels = np.flatnonzero(metrics.has_both_classes(y))
    step = max(1, max(BATCH, CELLS // len(z)) // max(1, len(labels)))
    start, converged = None, True
    for first in range(0, len(lambdas) if len(labels) else 0, step):
        part = lambdas[first : first + step, labels]
        solved = minimise(z, np.tile(y[:, labels], len(part)), part.ravel(), start, gap=gap)
        shape = (len(part), len(labels))
        weights[first : first + step, :, labels] = solved.weights.reshape(-1, *shape).transpose(1, 0, 2)
        intercepts[first : first + step, labels] = solved.intercepts.reshape(shape)
        converged &= bool(solved.converged.all())
        following = len(lambdas[first + step : first + 2 * step])
        last = weights[first + len(part) - 1][:, labels], intercepts[first + len(part) - 1, labels]
        start = np.tile(last[0], following), np.tile(last[1], following)
    return Path(features, weights, intercepts, converged)


def _inner_choice(x: Array, y: Array, patients: npt.NDArray[np.generic], lambdas: Array, seed: int, fold: int) -> Rows:
    ids, codes = np.unique(patients, return_inverse=True)
    place = generator(seed, "probe", "inner", fold).permutation(len(ids))[codes] % INNER_FOLDS
    held = np.full((len(lambdas), *y.shape), 0.5)
    for inner in np.unique(place):
        out = place == inner
        if not out.all():
            held[:, out] = fit_path(x[~out], y[~out], lambdas, INNER_GAP).predict(x[out])
    return _best(_losses(y, held))


def _losses(y: Array, probabilities: Array) -> Array:
    return np.stack([metrics.label_losses(y, p) for p in probabilities])


def _best(losses: Array) -> Rows:
    """Index of the lowest validation loss per label; a label unknown in validation follows the mean of the others."""
    known = ~np.isnan(losses).any(axis=0)
    common = int(np.argmin(losses[:, known].mean(axis=1))) if known.any() else 0
    return np.where(known, np.argmin(np.where(known, losses, 0.0), axis=0), common)


def _targets(x: npt.ArrayLike, y: npt.ArrayLike) -> Array:
    y = np.asarray(y, dtype=np.float64)
    y = y[:, None] if y.ndim == 1 else y
    if len(y) != len(np.asarray(x)):
        raise ValueError(f"features cover {len(np.asarray(x))} records and targets {len(y)}")
    return y
