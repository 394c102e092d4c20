"""Few labels: nested parts of the training patients, the same for every model.

A patient's place is a hash of (seed, patient) alone, by another stream than the order in which patients are taken for
pre-training, so that whose labels are known does not follow whose ECGs a small run has seen. The first ceil(fraction ×
patients) of a training part keep their labels; the smaller part lies inside the larger. Validation keeps all its
labels at every fraction (what a fraction saves is training labels), and the test part is never touched. A label that
has lost a class in the part predicts its smoothed prevalence, as everywhere.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from ecgscale import rng

Rows = npt.NDArray[np.int64]

FRACTIONS: Final = tuple(2.0**-k for k in range(8))  # 1 to 1/128


def labelled(index: pd.DataFrame, rows: npt.ArrayLike, fraction: float, seed: int = 0) -> Rows:
    """Return the rows of the patients who keep their labels, in the order of `rows`.

    Args:
        index: A corpus's index, with the column `patient`.
        rows: Of its training part.
        fraction: Of the patients, in (0, 1]; at least one patient stays.
        seed: Of the parts.

    Raises:
        ValueError: the fraction is outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"a fraction of labels must lie in (0, 1], found {fraction:g}")
    rows = np.asarray(rows, dtype=np.int64)
    if fraction == 1:
        return rows
    code, patients = pd.factorize(index["patient"].to_numpy()[rows])
    names = np.asarray(patients, dtype=str)
    keys = np.array([rng.key(seed, "few labels", str(name)) >> 64 for name in names], dtype=np.uint64)
    order = np.lexsort((names, keys))
    kept = np.zeros(len(names), dtype=bool)
    kept[order[: math.ceil(fraction * len(names))]] = True
    return rows[kept[code]]


def suffix(fraction: float) -> str:
    """Return what the table appends to a protocol: "" for all labels, else "-1of8": fit for the name of a file."""
    return "" if fraction == 1 else f"-1of{round(1 / fraction)}"
