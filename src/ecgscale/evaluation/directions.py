"""From frozen features to centred, mutually orthogonal directions, fitted on a training part.

Missing features take the training median, and an indicator column says that they were missing. Features are
standardised, divided by the root of their number (so that an L2 penalty means the same for every width) and turned
into principal components; constant features and null directions are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

CONSTANT: Final = 1e-6  # a feature whose deviation is below this share of its magnitude carries nothing but rounding
NULL: Final = 1e-9  # a direction with less than this share of the largest variance is a null direction


@dataclass(frozen=True, slots=True)
class Standard:
    """The map from raw features to standardised ones without gaps, fitted on a training part."""

    median: Array  # [feature]
    gaps: npt.NDArray[np.intp]  # features that were missing somewhere in training: each gets an indicator column
    kept: npt.NDArray[np.bool_]  # [feature + gap]
    mean: Array  # [kept]
    deviation: Array  # [kept]

    @classmethod
    def fit(cls, x: npt.ArrayLike) -> tuple[Standard, Array]:
        """Return the map and the standardised training features [record, kept] of [record, feature]."""
        x = matrix(x)
        missing = np.isnan(x)
        median = _median(x, missing)
        gaps = np.flatnonzero(missing.any(axis=0))
        full = _complete(x, median, gaps)
        deviation = full.std(axis=0)
        kept = deviation > CONSTANT * np.abs(full).max(axis=0, initial=0.0)
        z = full[:, kept]  # a copy
        mean = z.mean(axis=0)
        z -= mean
        z /= deviation[kept]
        return cls(median, gaps, kept, mean, deviation[kept]), z

    def centred(self, x: npt.ArrayLike) -> Array:
        """Return features [record, feature] as [record, kept] minus the training mean.

        Raises:
            ValueError: another number of features than in training, or an infinite one.
        """
        x = matrix(x)
        if x.shape[1] != len(self.median):
            raise ValueError(f"the probe was fitted on {len(self.median)} features, found {x.shape[1]}")
        return _complete(x, self.median, self.gaps)[:, self.kept] - self.mean

    def __call__(self, x: npt.ArrayLike) -> Array:
        """Return the standardised features [record, kept]; raises as `centred`."""
        return self.centred(x) / self.deviation


@dataclass(frozen=True, slots=True)
class Features:
    """The map from raw features to centred, orthogonal directions, fitted on a training part."""

    standard: Standard
    rotation: Array  # [kept, direction], includes division by deviation and root of the number of kept features

    @classmethod
    def fit(cls, x: npt.ArrayLike) -> tuple[Features, Array]:
        """Return the map and the directions [record, direction] of training features [record, feature]."""
        standard, z = Standard.fit(x)
        root = np.sqrt(max(1, z.shape[1]))
        z /= root
        axes = _principal_axes(z)
        return cls(standard, axes / (standard.deviation * root)[:, None]), z @ axes

    def __call__(self, x: npt.ArrayLike) -> Array:
        """Return the directions [record, direction] of features [record, feature].

        Raises:
            ValueError: another number of features than in training, or an infinite one.
        """
        return self.standard.centred(x) @ self.rotation


def matrix(x: npt.ArrayLike) -> Array:
    """Return features as float64 [record, feature].

    Raises:
        ValueError: another shape, no record, or an infinite feature.
    """
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2 or not len(x):
        raise ValueError(f"features must be [record, feature] with at least one record, found shape {x.shape}")
    if np.isinf(x).any():
        raise ValueError(f"feature {int(np.flatnonzero(np.isinf(x).any(axis=0))[0])} is infinite for some record")
    return x


def _median(x: Array, missing: npt.NDArray[np.bool_]) -> Array:
    median = np.zeros(x.shape[1])
    some = ~missing.all(axis=0)
    median[some] = np.nanmedian(x[:, some], axis=0) if missing.any() else 0.0
    return median


def _complete(x: Array, median: Array, gaps: npt.NDArray[np.intp]) -> Array:
    """Fill missing features with the training median and append indicators of those that were missing in training."""
    missing = np.isnan(x)
    if not len(gaps) and not missing.any():
        return x
    return np.column_stack([np.where(missing, median, x), missing[:, gaps].astype(np.float64)])


def _principal_axes(standard: Array) -> Array:
    """Return orthonormal directions [feature, direction] of decreasing variance, null directions dropped."""
    records, width = standard.shape
    if width == 0:
        return np.zeros((0, 0))
    small = records < width
    variance, vectors = np.linalg.eigh(standard @ standard.T if small else standard.T @ standard)
    kept = variance > NULL * max(float(variance[-1]), np.finfo(float).tiny)
    variance, vectors = variance[kept][::-1], vectors[:, kept][:, ::-1]
    return standard.T @ vectors / np.sqrt(variance) if small else vectors
