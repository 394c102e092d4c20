"""A study shrunk until all of it runs in a minute, on samples of its data sets: a test of the path, never a result.

It keeps every family, every task and the form. Sizes, data, steps and resamples become as small as they get; the study
has another name, so its numbers never stand beside real ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecgscale.data.split import SplitRule
from ecgscale.lab import Lab
from ecgscale.spec import Plugin
from ecgscale.study.declared import Standins
from ecgscale.study.study import Study, StudyError

SIZE = 20_000  # parameters
RECORDS = (12, 24)  # D
STEPS, BATCH = 2, 4
HELD_OUT = 16  # records of validation and test
RESAMPLES = 20
CODES = 64  # of code-books
PARTS = (0.6, 0.15, 0.25)  # of patients: samples are too small for thinner parts
NOTE = (
    "SHRUNK: the data are small samples that ecgscale itself writes in the format of each source, with made-up labels, "
    f"and every run has {STEPS} steps. This page shows that the study runs; no number on it means anything."
)


def shrink(study: Study) -> Study:
    """Return a study with the same families and tasks, as small as it gets."""
    arms = tuple(
        arm.model_copy(update={"sizes": (SIZE,), "records": RECORDS, "seeds": (0,), "extra_seeds": (), "extra_sizes": ()})
        for arm in study.arm
    )  # fmt: skip
    families = tuple(f.model_copy(update={"objective": _few_codes(f.objective), "batch": BATCH}) for f in study.family)
    return study.model_copy(
        update={
            "name": f"{study.name}-shrunk",
            "title": f"{study.title}, shrunk, on samples",
            "notes": (NOTE, *study.notes),
            "seconds": None,
            "arm": arms,
            "family": families,
            "training": study.training.model_copy(update=_training()),
            "codebook": _codebook(study),
            "split": SplitRule(by="patients", fractions=PARTS) if study.split.by == "patients" else study.split,
            "evaluate": tuple(e.model_copy(update=_evaluation(e.fractions)) for e in study.evaluate),
            "rates": "given" if study.rates == "tuned" else study.rates,
            "resamples": RESAMPLES,
            "fit_resamples": RESAMPLES,
        }
    )


def samples(study: Study, lab: Lab, bound: Mapping[str, Path]) -> Standins:
    """Return what binds a shrunk study to the samples of its data sets, kept in the lab beside its results.

    Raises:
        StudyError: data are bound, which a shrunk study does not read.
    """
    if bound:
        raise StudyError(f"--shrink runs on samples: leave out --data {', '.join(bound)}")
    return Standins(study, lab.study(study.name) / "samples", lab)


def _training() -> dict[str, Any]:
    return {
        "rule": "equal_steps", "steps": STEPS, "epochs": None, "batch": BATCH, "branches": (), "validations": 1,
        "validation_records": HELD_OUT, "test_records": HELD_OUT,
    }  # fmt: skip


def _codebook(study: Study) -> Any:
    rule = study.codebook
    small = {"size": SIZE, "steps": STEPS, "batch": BATCH}
    return rule and rule.model_copy(update={**small, "objective": _few_codes(rule.objective)})


def _few_codes(objective: Plugin) -> Plugin:
    return objective.model_copy(update={"codes": CODES}) if "codes" in type(objective).model_fields else objective


def _evaluation(fractions: tuple[float, float, float] | None) -> dict[str, Any]:
    return {"train": None, "validation": None, "test": None, "fractions": fractions and PARTS}
