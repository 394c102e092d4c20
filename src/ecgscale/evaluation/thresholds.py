"""Where a probability becomes a decision: one threshold per label, of highest F1 on records that are not tested.

Thresholds lie half-way between neighbouring scores. A label without both classes among these records has none: it is
left out of F1, the same for every model, and not given 0.5.

Source: Lipton, Elkan and Naryanaswamy 2014, ECML, "Optimal Thresholding of Classifiers to Maximize F1 Measure".
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ecgscale.evaluation import metrics

Array = npt.NDArray[np.float64]


def best_thresholds(y: npt.ArrayLike, probabilities: npt.ArrayLike) -> Array:
    """Return the threshold of highest F1 [label]; of equal ones the highest; NaN for a label without both classes.

    Args:
        y: [record, label]: 1, 0 or NaN (unknown).
        probabilities: [record, label].

    Raises:
        ValueError: as `metrics.targets`.
    """
    y, p = metrics.targets(y, probabilities)
    found = np.full(y.shape[1], np.nan)
    for label in np.flatnonzero(metrics.has_both_classes(y)):
        known = ~np.isnan(y[:, label])
        found[label] = _best(y[known, label], p[known, label])
    return found


def decide(probabilities: npt.ArrayLike, thresholds: npt.ArrayLike) -> Array:
    """Return decisions, 1 where a probability reaches its threshold, else 0; NaN where the threshold is.

    Args:
        probabilities: [..., record, label].
        thresholds: [label], or any shape that stretches to that of the probabilities.
    """
    p, t = np.asarray(probabilities, dtype=np.float64), np.asarray(thresholds, dtype=np.float64)
    return np.where(np.isnan(t), np.nan, (p >= t).astype(np.float64))


def _best(y: Array, p: Array) -> float:
    order = np.argsort(-p, kind="stable")
    falling, true = p[order], np.cumsum(y[order])
    ends = np.flatnonzero(np.r_[falling[1:] != falling[:-1], True])  # last record of every tie
    f1 = 2 * true[ends] / (ends + 1 + true[-1])
    best = int(np.argmax(f1))
    below = falling[ends[best + 1]] if best + 1 < len(ends) else 0.0
    return float((falling[ends[best]] + below) / 2)
