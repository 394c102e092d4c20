"""Multi-label metrics: held-out loss, AUROC and average precision of every label at once.

Targets are [record, label] with 1 present, 0 absent and NaN unknown; an unknown target is ignored for its own label
only. A label without both classes has no AUROC and no average precision: it is left out of the macro mean and
counted, never imputed.

    loss   mean over labels of the mean over known records of -[y ln p + (1 - y) ln(1 - p)], in nats
    AUROC  (sum of the positives' ranks - P (P + 1) / 2) / (P (n - P)), ties share their mean rank
    AUPRC  sum over thresholds of (recall step) x precision, without interpolation (average precision)

Sources: Hanley and McNeil 1982 (AUROC by ranks); sklearn.metrics.roc_auc_score and average_precision_score as
references.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

CLIP: Final = 1e-7  # a probability of exactly 0 or 1 costs at most 16.1 nats


class Counts(NamedTuple):
    """What stands behind a number: records with a known target, all positives, labels without both classes."""

    n: int
    n_pos: int
    left_out: int


def targets(y: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Array, Array]:
    """Return targets and scores as float64 [record, label]; a vector is one label.

    Raises:
        ValueError: the shapes differ, a target is not 0, 1 or NaN, or a score is not finite.
    """
    y, scores = (np.asarray(a, dtype=np.float64) for a in (y, scores))
    if y.shape != scores.shape or y.ndim not in (1, 2):
        raise ValueError(f"targets and scores must both be [record, label], found {y.shape} and {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError(f"scores must be finite, found {int((~np.isfinite(scores)).sum())} that are not")
    odd = y[~((y == 0) | (y == 1) | np.isnan(y))]
    if odd.size:
        raise ValueError(f"targets must be 0, 1 or NaN (unknown), found {odd[0]:g}")
    return (y[:, None], scores[:, None]) if y.ndim == 1 else (y, scores)


def has_both_classes(y: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return [label]: at least one known record with the label and one without it."""
    y = np.asarray(y)
    return np.asarray((y == 1).any(axis=0) & (y == 0).any(axis=0))


def counts(y: npt.ArrayLike) -> Counts:
    """Count records with a known target, positive targets, and labels without both classes."""
    y = np.asarray(y, dtype=np.float64)
    y = y[:, None] if y.ndim == 1 else y
    known = int((~np.isnan(y)).any(axis=1).sum())
    return Counts(known, int((y == 1).sum()), int((~has_both_classes(y)).sum()))


def record_losses(y: npt.ArrayLike, probabilities: npt.ArrayLike) -> Array:
    """Return the binary cross-entropy of every target, nats [record, label]; NaN where the target is unknown.

    Raises:
        ValueError: a probability is outside [0, 1], or as `targets`.
    """
    y, p = targets(y, probabilities)
    if p.size and (p.min() < 0 or p.max() > 1):
        raise ValueError(f"probabilities must lie in [0, 1], found {p.min():g} to {p.max():g}")
    p = np.clip(p, CLIP, 1 - CLIP)
    return -(y * np.log(p) + (1 - y) * np.log1p(-p))


def label_losses(y: npt.ArrayLike, probabilities: npt.ArrayLike) -> Array:
    """Return the mean loss over known records, nats [label]; NaN for a label that no record knows."""
    losses = record_losses(y, probabilities)
    known = ~np.isnan(losses)
    return _ratio(np.where(known, losses, 0.0).sum(axis=0), known.sum(axis=0))


def auroc(y: npt.ArrayLike, scores: npt.ArrayLike) -> Array:
    """Return the area under the ROC curve [label]; NaN for a label without both classes."""
    y, scores = targets(y, scores)
    # unknown records rank after all known ones, so they move nobody's rank
    from scipy.stats import rankdata  # a second to import

    ranks = rankdata(np.where(np.isnan(y), np.inf, scores), axis=0)
    positive, negative = (y == 1).sum(axis=0), (y == 0).sum(axis=0)
    above = np.where(y == 1, ranks, 0.0).sum(axis=0) - positive * (positive + 1) / 2
    return _ratio(above, positive * negative)


def auprc(y: npt.ArrayLike, scores: npt.ArrayLike) -> Array:
    """Return the average precision [label]; NaN for a label without both classes."""
    y, scores = targets(y, scores)
    if not len(y):
        return np.full(y.shape[1], np.nan)
    order = np.argsort(np.where(np.isnan(y), np.inf, -scores), axis=0, kind="stable")
    y, scores = np.take_along_axis(y, order, axis=0), np.take_along_axis(scores, order, axis=0)
    true, predicted = np.cumsum(y == 1, axis=0), np.cumsum(~np.isnan(y), axis=0)
    end = tie_ends(scores, ~np.isnan(y))
    precision = np.take_along_axis(true, end, axis=0) / np.maximum(np.take_along_axis(predicted, end, axis=0), 1)
    average = _ratio(np.where(y == 1, precision, 0.0).sum(axis=0), (y == 1).sum(axis=0))
    return np.where(has_both_classes(y), average, np.nan)


def tie_ends(ordered: Array, known: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Return, for ordered scores [record, label] with the known ones first, the row at which each one's ties end."""
    rows = len(ordered)
    last = np.ones(ordered.shape, dtype=bool)
    last[:-1] = (ordered[1:] != ordered[:-1]) | (known[1:] != known[:-1])
    ends = np.where(last, np.arange(rows)[:, None], rows - 1)
    return np.minimum.accumulate(ends[::-1], axis=0)[::-1]


def macro(values: npt.ArrayLike) -> float:
    """Return the mean over the labels that have a value; NaN if none has."""
    values = np.asarray(values, dtype=np.float64)
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if kept.size else float("nan")


PER_LABEL: Final[dict[str, Callable[[npt.ArrayLike, npt.ArrayLike], Array]]] = {
    "loss": label_losses,
    "auroc": auroc,
    "auprc": auprc,
}


def evaluate(
    y: npt.ArrayLike, probabilities: npt.ArrayLike, metrics: tuple[str, ...] = tuple(PER_LABEL)
) -> dict[str, float]:
    """Return the macro mean of each metric.

    Args:
        y: [record, label]: 1, 0 or NaN (unknown).
        probabilities: [record, label].
        metrics: Keys of `PER_LABEL`.

    Raises:
        ValueError: an unknown metric, or as `record_losses`.
    """
    return {name: macro(named(name)(y, probabilities)) for name in metrics}


def named(name: str) -> Callable[[npt.ArrayLike, npt.ArrayLike], Array]:
    """Return the per-label metric of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in PER_LABEL:
        raise ValueError(f'unknown metric "{name}"; choose from {", ".join(PER_LABEL)}')
    return PER_LABEL[name]


def _ratio(top: npt.ArrayLike, bottom: npt.ArrayLike) -> Array:
    top, bottom = np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64)
    return np.asarray(np.divide(top, bottom, out=np.full(np.broadcast(top, bottom).shape, np.nan), where=bottom > 0))
