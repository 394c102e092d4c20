"""What so many labels of a task are worth: the expected loss of every family's largest run, and of random weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecgscale.answers.families import Question
from ecgscale.answers.places import FAR
from ecgscale.fitting.result import LawFit
from ecgscale.lab import read_json


@dataclass(frozen=True)
class Expected:
    """One learning curve, read at a number of labels.

    Attributes:
        labels: Labelled records of the task's training part.
        loss, interval: Expected there, with 95 % interval; NaN ends where the curve has none.
        status: Of the fit.
        measured: The smallest and largest number of labels it was measured with.
    """

    family: str
    labels: float
    loss: float
    interval: tuple[float, float]
    status: str
    measured: tuple[float, float]

    @property
    def far(self) -> bool:
        """Whether the number lies more than `FAR` times outside what was measured."""
        return not self.measured[0] / FAR <= self.labels <= FAR * self.measured[1]


def curves_of(lab: Path | str, question: Question) -> dict[str, LawFit]:
    """Return the learning curves of a study on the task that is asked about; none where it was not measured with few
    labels."""
    folder = Path(lab) / "studies" / question.study / "fits"
    dumps = [read_json(path) for path in sorted(folder.glob("learning_curve.*.json"))]
    asked = (question.eval_corpus, question.task, question.protocol)
    own = [d for d in dumps if d and (d["eval_corpus"], d["task"], d["protocol"]) == asked]
    several = len({d["pretrain"] for d in own if d["pretrain"]}) > 1
    return {
        "-".join([d["family"], *([d["pretrain"]] if several and d["pretrain"] else [])]): LawFit.load(d) for d in own
    }


def expected(curves: Mapping[str, LawFit], labels: float) -> tuple[Expected, ...]:
    """Return what every curve expects at so many labels, the lowest loss first."""
    found = []
    for family, fit in curves.items():
        at = {fit.law.inputs[0]: np.array([labels])}
        low, high = fit.band(at)
        ends = (float(low[0]), float(high[0]))
        found.append(
            Expected(family, labels, float(fit.predict(at)[0]), ends, fit.status, fit.ranges[fit.law.inputs[0]])
        )
    return tuple(sorted(found, key=lambda e: e.loss))
