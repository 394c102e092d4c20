"""How alike two representations are: linear CKA without bias, summed over minibatches so that memory does not grow.

CKA(X, Y) = HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)) with the unbiased estimate of HSIC, from Gram matrices K = X X'
whose diagonal is set to zero:

    HSIC1(K, L) = (tr(K L) + 1'K1 1'L1 / ((n-1)(n-2)) - 2 1'K L1 / (n-2)) / (n (n-3))

It is 1 for representations that differ by rotation, scale and shift, and about 0 for independent ones whatever their
widths (the biased estimate grows with width over n); being unbiased it may fall below 0.

Sources: Kornblith et al. 2019, arXiv:1905.00414; Song et al. 2012, JMLR 13:1393 (unbiased HSIC); Nguyen, Raghu and
Kornblith 2021, arXiv:2010.15327 (minibatches).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

BATCH = 256  # records whose Gram matrices are held at once


def similarity(features: Sequence[npt.ArrayLike], batch: int = BATCH) -> Array:
    """Return the CKA of every pair of representations of the same records, [representation, representation].

    Args:
        features: Of each representation [record, width]; widths may differ. Records should be in no order: consecutive
            ones share a minibatch, and what is left over after the last whole one is not used.
        batch: Records of a minibatch; fewer records than that are one minibatch.

    Returns:
        Symmetric, with ones on the diagonal; NaN for a representation that is the same for all records.

    Raises:
        ValueError: fewer than four records, or not as many of each.
    """
    x = [np.asarray(f, dtype=np.float64) for f in features]
    records = {len(f) for f in x}
    if len(records) != 1 or min(records) < 4 or batch < 4:
        raise ValueError(f"CKA compares representations of the same four or more records, found {sorted(records)}")
    (count,) = records
    width = min(batch, count)
    shifted = [f - f.mean(0) for f in x]  # CKA is blind to it, and numbers stay small
    total = np.zeros((len(x), len(x)))
    for start in range(0, count - width + 1, width):
        total += _independence([f[start : start + width] for f in shifted])
    own = np.sqrt(np.where(np.diag(total) > 0, np.diag(total), np.nan))
    return np.asarray(total / np.outer(own, own))


def _independence(x: Sequence[Array]) -> Array:
    """Return HSIC1 of every pair of representations of n records."""
    n = len(x[0])
    gram = np.stack([f @ f.T for f in x])
    gram[:, np.arange(n), np.arange(n)] = 0.0
    flat, rows = gram.reshape(len(x), -1), gram.sum(2)
    sums = rows.sum(1)
    return np.asarray(
        (flat @ flat.T + np.outer(sums, sums) / ((n - 1) * (n - 2)) - 2 * rows @ rows.T / (n - 2)) / (n * (n - 3))
    )
