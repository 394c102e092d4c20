"""A study shrunk until all of it runs in a minute, on samples of its data sets: a test of the path, never a result.

It keeps every data set and task, every protocol once, and of more than four families as few as show every backbone and
objective, the first of them at two data sizes. Windows, sizes, data, steps and resamples become as small as they get;
the study has another name, so that its numbers never stand beside real ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecgscale.data.corpus import Form
from ecgscale.data.split import SplitRule
from ecgscale.lab import Lab
from ecgscale.spec import Plugin
from ecgscale.study.declared import Standins
from ecgscale.study.labels import LabelRule
from ecgscale.study.study import Arm, Evaluation, Family, Study, StudyError

SIZE = 20_000  # parameters
RECORDS = (12, 24)  # D
SAMPLE = 48  # records of a data set
WINDOW_S = 2.5
FAMILIES = 4  # of which all are kept
STEPS, BATCH = 2, 4
HELD_OUT = 16  # records of validation and test
RESAMPLES = 20
CODES = 64  # of code-books
LABELS = (2,)  # of a family's, beside all of them
PARTS = (0.6, 0.15, 0.25)  # of patients: samples are too small for thinner parts
NOTE = (
    "SHRUNK: the data are small samples that ecgscale itself writes in the format of each source, with made-up labels, "
    f"and every run has {STEPS} steps of {BATCH} records. This page shows that the study runs; no number on it means "
    "anything."
)


def shrink(study: Study) -> Study:
    """Return a study with the same data sets, parts and tasks, as small as it gets."""
    kept = _few(study.family)
    families = tuple(
        f.model_copy(update={"objective": _few_codes(f.objective), "batch": BATCH, "labels": _few_labels(f)})
        for f in kept
    )
    arms = [small for arm in study.arm for small in _arms(arm, [f.name for f in kept], len(study.family) > FAMILIES)]
    return study.model_copy(
        update={
            "name": f"{study.name}-shrunk",
            "title": f"{study.title}, shrunk, on samples",
            "notes": (NOTE, *study.notes),
            "seconds": None,
            "form": _short(study.form),
            "arm": tuple(arms),
            "family": families,
            "training": study.training.model_copy(update=_training()),
            "codebook": _codebook(study),
            "split": SplitRule(by="patients", fractions=PARTS) if study.split.by == "patients" else study.split,
            "evaluate": _evaluations(study.evaluate),
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
    return Standins(study, lab.study(study.name) / "samples", lab, SAMPLE)


def _few(families: tuple[Family, ...]) -> tuple[Family, ...]:
    """Return all of a few families; of many those that bring a new backbone or objective, both if possible."""
    if len(families) <= FAMILIES:
        return families
    kept: list[Family] = []
    seen: set[str] = set()
    for new in (2, 1):
        for family in families:
            if len({family.backbone.part_name(), family.objective.part_name()} - seen) >= new:
                kept.append(family)
                seen |= {family.backbone.part_name(), family.objective.part_name()}
    return tuple(family for family in families if family in kept)


def _arms(arm: Arm, kept: list[str], many: bool) -> list[Arm]:
    """Return an arm of one size and seed; of many families the first alone has two data sizes."""
    families = tuple(name for name in kept if name in (arm.families or kept))
    small = {"sizes": (SIZE,), "records": RECORDS, "seeds": (0,), "extra_seeds": (), "extra_sizes": ()}
    one = arm.model_copy(update={**small, "families": families, "form": arm.form and _short(arm.form)})
    if not many or len(families) < 2:
        return [one] if families else []
    rest = {"name": f"{arm.name}, one D", "families": families[1:], "records": RECORDS[-1:]}
    return [one.model_copy(update={"families": families[:1]}), one.model_copy(update=rest)]


def _short(form: Form) -> Form:
    return form.model_copy(update={"length_s": min(form.length_s, WINDOW_S)})


def _training() -> dict[str, Any]:
    return {
        "rule": "equal_steps", "steps": STEPS, "epochs": None, "batch": BATCH, "branches": (), "crop_s": None,
        "validations": 1,
        "validation_records": HELD_OUT, "test_records": HELD_OUT,
    }  # fmt: skip


def _codebook(study: Study) -> Any:
    rule = study.codebook
    small = {"size": SIZE, "steps": STEPS, "batch": BATCH}
    return rule and rule.model_copy(update={**small, "objective": _few_codes(rule.objective)})


def _few_codes(objective: Plugin) -> Plugin:
    return objective.model_copy(update={"codes": CODES}) if "codes" in type(objective).model_fields else objective


def _few_labels(family: Family) -> LabelRule | None:
    return family.labels and family.labels.model_copy(update={"counts": LABELS, "total": None})


def _evaluations(asked: tuple[Evaluation, ...]) -> tuple[Evaluation, ...]:
    """Return every task by the first protocol it is asked for, and every further protocol and fraction once."""
    tasks: set[tuple[str, str]] = set()
    hows: set[tuple[str, float]] = set()
    kept: list[Evaluation] = []
    for e in asked:
        task, how = (e.data, e.task.title), (e.protocol, e.fraction)
        if task not in tasks or how not in hows:
            parts = {"train": None, "validation": None, "test": None, "fractions": e.fractions and PARTS}
            once = e.settings and e.settings.model_copy(update={"epochs": 1})
            crop_s = e.crop_s and min(e.crop_s, WINDOW_S)
            kept.append(e.model_copy(update={**parts, "settings": once, "crop_s": crop_s}))
        tasks.add(task)
        hows.add(how)
    return tuple(kept)
