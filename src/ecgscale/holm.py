"""Holm's correction: p-values of a family of comparisons that are judged together.

Source: Holm 1979, Scandinavian Journal of Statistics 6:65.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def holm(p: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return p-values corrected for being several: the chance of one false finding among them stays below the level.

    Args:
        p: [comparison]; NaN stays NaN and is not counted.
    """
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
