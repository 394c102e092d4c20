"""Spearman's rank correlation with its interval, on Fisher's scale: tanh(atanh rho ± z sqrt((1 + rho²/2) / (n - 3))).

Source: Bonett and Wright 2000, Psychometrika 65:23.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, spearmanr

FEWEST = 8  # points behind an interval, as of every fit


class Correlation(NamedTuple):
    """Rank correlation; `lo` and `hi` are NaN with fewer than `FEWEST` points, all are where one side is constant."""

    rho: float
    lo: float
    hi: float
    n: int


def rank_correlation(x: npt.ArrayLike, y: npt.ArrayLike, level: float = 0.95) -> Correlation:
    """Return Spearman's rho of independent points with its interval.

    Args:
        x, y: [point].
        level: Of the interval.

    Raises:
        ValueError: the lengths differ.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.shape != y.shape:
        raise ValueError(f"a rank correlation needs as many x as y, found {x.shape} and {y.shape}")
    n = len(x)
    if n < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(np.nan, np.nan, np.nan, n)
    rho = float(spearmanr(x, y).statistic)
    if n < FEWEST:
        return Correlation(rho, np.nan, np.nan, n)
    inside = np.clip(rho, -1 + 1e-12, 1 - 1e-12)
    error = norm.ppf((1 + level) / 2) * np.sqrt((1 + inside**2 / 2) / (n - 3))
    lo, hi = np.tanh(np.arctanh(inside) + np.array([-error, error]))
    return Correlation(rho, float(lo), float(hi), n)
