"""Targets as a network learns them, and what its scores then mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit

from ecgscale.evaluation import metrics
from ecgscale.evaluation.ridge import Scale

Array = npt.NDArray[np.float64]
Output = Literal["binary", "regression"]


@dataclass(frozen=True, slots=True)
class Coding:
    """How the targets of a training part are learned.

    Attributes:
        output: What they are.
        usable: Which of them can be learned [label]: both classes are there, or the value varies.
        constant: What the others predict [label]: the smoothed prevalence, or the mean (0 where none is known).
        scale: Mean and deviation of regression targets; 0 and 1 for labels.
    """

    output: Output
    usable: npt.NDArray[np.bool_]
    constant: Array
    scale: Scale

    @classmethod
    def of(cls, y: Array, output: Output) -> Coding:
        """Return the coding of a training part [record, label], NaN where unknown."""
        if output == "regression":
            return cls(output, metrics.varies(y), np.nan_to_num(metrics.known_mean(y)), Scale.of(y))
        prevalence = ((y == 1).sum(axis=0) + 1) / ((~np.isnan(y)).sum(axis=0) + 2)
        return cls(output, metrics.has_both_classes(y), prevalence, Scale(np.zeros(y.shape[1]), np.ones(y.shape[1])))

    def code(self, y: Array) -> torch.Tensor:
        """Return what is learned [record, label] float32: standardised, NaN where unknown or of no use."""
        return torch.from_numpy((np.where(self.usable, y, np.nan) - self.scale.mean) / self.scale.deviation).float()

    def read(self, scores: Array) -> Array:
        """Return what scores [record, label] mean: probabilities, or values in the targets' units."""
        said = expit(scores) if self.output == "binary" else scores * self.scale.deviation + self.scale.mean
        return np.where(self.usable, said, self.constant)


def validation_loss(y: Array, predictions: Array, scale: Scale | None, output: Output) -> float:
    """Return the mean over labels of the mean loss over known records: nats, or variances of the training part."""
    if output == "binary" or scale is None:
        return metrics.macro(metrics.label_losses(y, predictions))
    return metrics.macro(metrics.squared_error(y, predictions) / scale.deviation**2)
