"""DeLong's variance of the AUROC and the paired test of two scorers: a cross-check of the bootstrap.

With P positives scoring x_i and Q negatives scoring z_j, the AUROC of scorer k is the mean of psi(x_i, z_j), 1 if
x_i > z_j, 1/2 if equal, else 0. V10[k, i] is its mean over negatives and V01[k, j] over positives; their covariances
S10 and S01 over records give

    cov(AUROC_k, AUROC_l) = S10[k, l] / P + S01[k, l] / Q.

V10 and V01 come from midranks, in O(n log n): V10[i] = (rank of x_i among all - rank among positives) / Q.

Records count as independent. Several ECGs of one patient are not, and the variance is then too small: on such data the
patient bootstrap (`comparisons.compare`) decides, and this is no substitute.

Sources: DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837; Sun and Xu 2014, IEEE Signal Processing Letters
21:1389 (midranks).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ecgscale.evaluation import metrics

Array = npt.NDArray[np.float64]


class Areas(NamedTuple):
    """AUROCs [scorer] and their covariance [scorer, scorer]."""

    auroc: Array
    covariance: Array


class Paired(NamedTuple):
    """AUROC of A minus that of B, its standard error, and the two-sided p-value of no difference."""

    difference: float
    error: float
    p: float


def areas(y: npt.ArrayLike, scores: npt.ArrayLike) -> Areas:
    """Return the AUROC of several scorers of one label and their covariance.

    Args:
        y: [record]: 1, 0 or NaN (unknown, left out).
        scores: [scorer, record], or [record] of one scorer.

    Raises:
        ValueError: fewer than two positives or two negatives, or as `metrics.targets`.
    """
    from scipy.stats import rankdata  # a second to import

    truth = np.asarray(y, dtype=np.float64)
    s = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    for row in s:
        metrics.targets(truth, row)
    positive, negative = s[:, truth == 1], s[:, truth == 0]
    p, q = positive.shape[1], negative.shape[1]
    if min(p, q) < 2:
        raise ValueError(f"DeLong's variance needs two records of each class, found {p} positive and {q} negative")
    ranks = rankdata(np.hstack([positive, negative]), axis=1)
    v10 = (ranks[:, :p] - rankdata(positive, axis=1)) / q
    v01 = 1 - (ranks[:, p:] - rankdata(negative, axis=1)) / p
    return Areas(v10.mean(axis=1), np.atleast_2d(np.cov(v10)) / p + np.atleast_2d(np.cov(v01)) / q)


def paired_test(y: npt.ArrayLike, a: npt.ArrayLike, b: npt.ArrayLike) -> Paired:
    """Return DeLong's paired test of two scorers [record] of one label; p is NaN where they rank all records alike.

    Raises:
        ValueError: as `areas`.
    """
    from scipy.special import erfc

    found = areas(y, np.stack([np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)]))
    contrast = np.array([1.0, -1.0])
    difference, variance = float(contrast @ found.auroc), float(contrast @ found.covariance @ contrast)
    error = np.sqrt(max(variance, 0.0))
    p = float(erfc(abs(difference) / error / np.sqrt(2))) if error > 0 else float("nan")
    return Paired(difference, float(error), p)
