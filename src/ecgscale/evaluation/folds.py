"""Predictions out of fold, for any probe: who is trained on, who is tested, who chooses inside the training part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from ecgscale.rng import generator

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

INNER_FOLDS: Final = 4


def out_of_fold(
    shape: tuple[int, ...],
    patients: npt.NDArray[np.generic],
    folds: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]],
    predict: Callable[[int, Rows, Rows], Array],
) -> list[Array]:
    """Return predictions of every record, [record, label] per repeat.

    Args:
        shape: (records, labels).
        patients: [record].
        folds: (train rows, test rows) pairs; a repeat ends when every record has been tested once.
        predict: Takes the number of the fold, its training and its test rows; returns predictions of the latter.

    Raises:
        ValueError: the test parts do not cover every record equally often, or a patient stands on both sides of a fold.
    """
    results: list[Array] = []
    tested = np.ones(shape[0], dtype=bool)
    for i, (train, test) in enumerate((np.asarray(a), np.asarray(b)) for a, b in folds):
        if np.isin(patients[test], patients[train]).any():
            raise ValueError(f"fold {i} has a patient in both its training and its test part")
        if tested.all():
            results.append(np.full(shape, np.nan))
            tested = np.zeros(shape[0], dtype=bool)
        if tested[test].any():
            raise ValueError(f"fold {i} tests a record twice within one repeat")
        results[-1][test] = predict(i, train, test)
        tested[test] = True
    if not results or not tested.all():
        raise ValueError("the folds do not test every record equally often")
    return results


def inner_folds(patients: npt.NDArray[np.generic], seed: int, fold: int) -> Iterator[npt.NDArray[np.bool_]]:
    """Yield who is held out, [record], of each patient-disjoint fold inside a training part; none for one patient."""
    ids, codes = np.unique(patients, return_inverse=True)
    place = generator(seed, "probe", "inner", fold).permutation(len(ids))[codes] % INNER_FOLDS
    for inner in np.unique(place):
        out = place == inner
        if not out.all():
            yield out


def two_dimensional(x: npt.ArrayLike, y: npt.ArrayLike) -> Array:
    """Return targets as float64 [record, label].

    Raises:
        ValueError: another number of records than of features.
    """
    y = np.asarray(y, dtype=np.float64)
    y = y[:, None] if y.ndim == 1 else y
    if len(y) != len(np.asarray(x)):
        raise ValueError(f"features cover {len(np.asarray(x))} records and targets {len(y)}")
    return y
