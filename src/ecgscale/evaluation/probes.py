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
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from ecgscale.evaluation import metrics
from ecgscale.evaluation.directions import Features, matrix
from ecgscale.evaluation.folds import inner_folds, out_of_fold, two_dimensional
from ecgscale.evaluation.logistic import GAP, minimise
from ecgscale.evaluation.thresholds import best_thresholds, decide

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

REVISION: Final = 2  # bumped when a probe's numbers change
LAMBDAS: Final = 10  # values in the default grid
STRONG: Final = 10.0  # its first lambda: next to nothing but the prevalence is left
WEAK: Final = 1e-3  # its last one times the training records: the same prior on w for every size of the training part
BATCH: Final = 32  # (label, lambda) pairs solved at once, more of them while
CELLS: Final = 50_000  # their logits (record × pair) stay in the cache
INNER_GAP: Final = 1e-9  # nats; at 1e-7 one lambda in a thousand, tied with another, turned on what else was solved
ROUGH_GAP: Final = 1e-8  # nats, in single precision: validation losses to some 1e-5
NEAR: Final = 1e-3  # nats: lambdas whose rough validation loss is so near the lowest are solved again, to the end
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
        validation_losses: [lambda, label] nats, in the order of the grid, to some 1e-5 where they are no rival of the
            lowest; NaN where validation knows no target.
        thresholds: [label], of highest F1 on validation; NaN where it does not know both classes.
        probabilities: [record, label] for each of the test sets given.
        converged: Every minimum was reached.
    """

    features: Features
    weights: Array
    intercepts: Array
    lambdas: Array
    validation_losses: Array
    thresholds: Array
    probabilities: tuple[Array, ...]
    converged: bool

    def predict(self, x: npt.ArrayLike) -> Array:
        """Return probabilities [record, label] of features [record, feature]."""
        return np.asarray(expit(self.features(x) @ self.weights + self.intercepts))


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """What was predicted out of fold.

    Attributes:
        probabilities: [record, label] per repeat; predictions in the targets' units for regression.
        lambdas: [fold, label], NaN where a label could not be fitted.
        converged: Every minimum was reached.
        decisions: [record, label] per repeat: the probabilities at thresholds of highest F1 on the training part's
            inner predictions; NaN where a fold has none. Empty for regression.
    """

    probabilities: tuple[Array, ...]
    lambdas: Array
    converged: bool
    decisions: tuple[Array, ...] = ()


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
    train_y, val_y = two_dimensional(train_x, train_y), two_dimensional(val_x, val_y)
    path_lambdas = grid(len(train_y)) if lambdas is None else np.asarray(lambdas, dtype=np.float64)
    features, z = Features.fit(train_x)
    path = _descend(features, z.astype(np.float32), train_y, path_lambdas, ROUGH_GAP)
    near = _near(_losses(val_y, path.predict(val_x)))
    path = _finish(path, z, train_y, path_lambdas, near)
    losses = _losses(val_y, path.predict(val_x))
    best = best_of(losses)
    weights, intercepts = path.choose(best)
    chosen = np.where(metrics.has_both_classes(train_y), path_lambdas[best], np.nan)
    tests = tuple(np.asarray(expit(features(x) @ weights + intercepts)) for x in test_xs)
    thresholds = best_thresholds(val_y, expit(features(val_x) @ weights + intercepts))
    return LinearProbe(features, weights, intercepts, chosen, losses, thresholds, tests, path.converged)


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
    x, y, patients = matrix(x), two_dimensional(x, y), np.asarray(patients)
    chosen, converged = [], []
    decided: list[Array] = []

    def predict(fold: int, train: Rows, test: Rows) -> Array:
        path_lambdas = grid(len(train)) if lambdas is None else np.asarray(lambdas, dtype=np.float64)
        inner = partial(_held_out, x[train], y[train], patients[train], seed, fold)
        best = path_lambdas[best_of(_losses(y[train], inner(path_lambdas, INNER_GAP)))]
        path = fit_path(x[train], y[train], best[None], OUTER_GAP)
        chosen.append(np.where(metrics.has_both_classes(y[train]), best, np.nan))
        converged.append(path.converged)
        found = path.predict(x[test])[0]
        decided.append(decide(found, best_thresholds(y[train], inner(best[None], OUTER_GAP)[0])))
        return found

    probabilities = tuple(out_of_fold(y.shape, patients, folds, predict))
    again = iter(decided)
    decisions = tuple(out_of_fold(y.shape, patients, folds, lambda *_: next(again)))
    return CrossValidated(probabilities, np.array(chosen), all(converged), decisions)


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
    return _descend(*Features.fit(x), y, lambdas, gap)


def _descend(features: Features, z: Array, y: Array, lambdas: Array, gap: float) -> Path:
    """Fit as `fit_path` on directions [record, direction], in their precision."""
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


def _held_out(
    x: Array, y: Array, patients: npt.NDArray[np.generic], seed: int, fold: int, lambdas: Array, gap: float
) -> Array:
    """Probabilities [lambda, record, label] of a training part, each by a probe that has not seen the patient."""
    held = np.full((len(lambdas), *y.shape), 0.5)
    for out in inner_folds(patients, seed, fold):
        held[:, out] = fit_path(x[~out], y[~out], lambdas, gap).predict(x[out])
    return held


def _losses(y: Array, probabilities: Array) -> Array:
    return np.stack([metrics.label_losses(y, p) for p in probabilities])


def _near(losses: Array) -> npt.NDArray[np.bool_]:
    """Return which lambdas [lambda, label] are near the label's lowest loss; of one unknown there, of the mean's."""
    known = ~np.isnan(losses).any(axis=0)
    common = losses[:, known].mean(axis=1) if known.any() else np.arange(len(losses), dtype=float)
    each = np.where(known, losses, common[:, None])
    return np.asarray(each <= each.min(axis=0) + NEAR)


def _finish(path: Path, z: Array, y: Array, lambdas: Array, near: npt.NDArray[np.bool_]) -> Path:
    """Go on to the minimum at the lambdas [lambda, label] that are near, from where the path stands."""
    rows, labels = np.nonzero(near & metrics.has_both_classes(y))
    weights, intercepts = path.weights.copy(), path.intercepts.copy()
    solved = minimise(z, y[:, labels], lambdas[rows], (weights[rows, :, labels].T, intercepts[rows, labels]))
    weights[rows, :, labels], intercepts[rows, labels] = solved.weights.T, solved.intercepts
    return Path(path.features, weights, intercepts, bool(solved.converged.all()))


def best_of(losses: Array) -> Rows:
    """Return the lambda of lowest validation loss [label]; a label unknown there follows the mean of the others."""
    known = ~np.isnan(losses).any(axis=0)
    common = int(np.argmin(losses[:, known].mean(axis=1))) if known.any() else 0
    return np.where(known, np.argmin(np.where(known, losses, 0.0), axis=0), common)
