"""No patient and no recording that a study pre-trains on is tested, whatever the task and whatever they are called."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecgscale.data.corpus import Corpus, Rows
from ecgscale.data.split import shared_signals
from ecgscale.study.plan import PlannedEval
from ecgscale.study.study import StudyError


def checked(study: str, label: str, corpus: Corpus, trained: Rows, evaluation: PlannedEval) -> dict[str, Any]:
    """Return what the report says of an evaluation that shares nothing with pre-training.

    Args:
        study: Its name.
        label: Of the pre-training source.
        corpus: The pre-training corpus.
        trained: The rows of it that are trained on.
        evaluation: What is tested, and where.

    Raises:
        StudyError: a patient or a recording stands on both sides.
    """
    other, title = evaluation.source.open(), f"{evaluation.title} on {evaluation.source.label}"
    tested = evaluation.spec.tested(other)
    names = (set(c.index["patient"].iloc[np.asarray(rows)]) for c, rows in ((corpus, trained), (other, tested)))
    shared = sorted(set.intersection(*names))
    if shared:
        raise StudyError(
            f"{study}: {len(shared)} patients of the test part of {title} are pre-training patients of {label} "
            f"({', '.join(shared[:5])}); choose another split or corpus"
        )
    copies = shared_signals(corpus, other, trained, tested)
    if copies:
        raise StudyError(
            f"{study}: {len(copies)} recordings of the test part of {title} are pre-training records of {label} under "
            f"other names ({', '.join(f'{b} is {a}' for a, b in copies[:5])}); choose another split or corpus"
        )
    known = len(set(corpus.index["patient"]) & set(other.index["patient"]))
    return {
        "a": f"{label} (training)", "b": f"{evaluation.source.label}: {evaluation.title} (test)", "shared_patients": 0,
        "common_patients": known, "verdict": "no patient and no recording stands on both sides",
    }  # fmt: skip
