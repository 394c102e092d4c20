"""How many labels pre-training saves: labels from scratch over labels with pre-training, for one and the same loss.

With many labels, that is the lowest loss that both curves reach; with few, the loss of the better curve's first point.
No curve is drawn beyond what was measured. Each curve is made to fall with labels (neighbours that do not are pooled at
the mean of their log labels and log losses) and is straight between points in log-log: a law with a floor has three
parameters, as many as short curves have points, and one exponent for fractions of 1/128 to 1 would decide what is
asked. Where the other curve does not come to that loss, the factor is a bound.

Source: Hernandez et al. 2021, arXiv:2102.01293, for data from scratch that a loss is worth; Barlow et al. 1972 for
pooling adjacent violators.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from ecgscale.fitting.resample import LEVEL, Array

Bound = Literal["at least", "at most"]


class Saved(NamedTuple):
    """A factor of labels.

    Attributes:
        value: Labels from scratch over labels with pre-training; NaN where the curve from scratch, or both, do not
            fall.
        lo, hi: 95 % interval; 0 or inf where the resamples do not bound it.
        bound: Whether `value` is only a bound.
        loss: At which labels are compared.
    """

    value: float
    lo: float
    hi: float
    bound: Bound | None
    loss: float


def labels_saved(
    own_labels: Array, own: Array, own_drawn: Array, scratch_labels: Array, scratch: Array, scratch_drawn: Array,
    fewest: bool = False,
) -> Saved:  # fmt: skip
    """Return the factor of labels saved with its interval.

    Args:
        own_labels, scratch_labels: Labelled records of each point, rising [point].
        own, scratch: Losses, positive [point].
        own_drawn, scratch_drawn: The same in resamples of the tested patients, paired [resample, point].
        fewest: At the loss that the fewest labels give, else at the lowest that both reach.
    """
    log_own, log_scratch = np.log(own_labels), np.log(scratch_labels)
    value, bound, level = _factor(log_own, np.log(own), log_scratch, np.log(scratch), fewest)
    found = [
        _limits(*_factor(log_own, a, log_scratch, b, fewest)[:2])
        for a, b in zip(np.log(own_drawn), np.log(scratch_drawn), strict=True)
    ]
    low, high = np.array(found).T
    tail = (1 - LEVEL) / 2
    lo = np.quantile(low, tail, method="inverted_cdf")
    hi = np.quantile(high, 1 - tail, method="inverted_cdf")
    value, lo, hi, level = (float(np.exp(x)) for x in (value, lo, hi, level))
    return Saved(value, lo, hi, bound, level)


def _limits(value: float, bound: Bound | None) -> tuple[float, float]:
    """Return what one resample allows the log factor to be."""
    if np.isnan(value):
        return -np.inf, np.inf
    return (-np.inf if bound == "at most" else value, np.inf if bound == "at least" else value)


def _factor(
    x_own: Array, y_own: Array, x_scratch: Array, y_scratch: Array, fewest: bool
) -> tuple[float, Bound | None, float]:
    """Return the log factor, whether it is a bound, and the log loss, of curves [point] of log labels and losses."""
    own, scratch = falling(x_own, y_own), falling(x_scratch, y_scratch)
    end = 0 if fewest else -1
    low, high = (own, scratch) if own[1][end] <= scratch[1][end] else (scratch, own)
    given, read = (low, high) if fewest else (high, low)  # the loss is one's own point and read off the other curve
    level = float(given[1][end])
    if not fewest and len(given[0]) < 2:
        return float("nan"), None, level
    gap = float(scratch[0][end] - _reaches(own, level) if given is scratch else _reaches(scratch, level) - own[0][end])
    bounded = read[1][-1] > level if fewest else read[1][0] < level
    return gap, ("at least" if low is own else "at most") if bounded else None, level


def _reaches(curve: tuple[Array, Array], level: float) -> float:
    x, y = curve
    return float(np.interp(-level, -y, x))


def falling(x: Array, y: Array) -> tuple[Array, Array]:
    """Return the points of a curve with neighbours pooled until y falls with every step of x."""
    blocks: list[list[float]] = []  # mean x, mean y, points
    for point in zip(x, y, strict=True):
        blocks.append([*map(float, point), 1.0])
        while len(blocks) > 1 and blocks[-1][1] >= blocks[-2][1]:
            last = blocks.pop()
            blocks[-1] = _pooled((blocks[-1], last))
    pooled = np.array(blocks)
    return pooled[:, 0], pooled[:, 1]


def _pooled(blocks: Sequence[Sequence[float]]) -> list[float]:
    count = sum(b[2] for b in blocks)
    return [sum(b[i] * b[2] for b in blocks) / count for i in (0, 1)] + [count]
