"""What stands beside a family's law: whether another form predicts better, what its exponents hang on, and whether
families share them.

Asked once a family, on the probe loss in distribution, where all families meet.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from ecgscale.fitting import REVISION
from ecgscale.fitting.forms import Forms, compare_forms, usual_forms
from ecgscale.fitting.joint import joint
from ecgscale.fitting.points import problem_of
from ecgscale.fitting.stability import sensitivity
from ecgscale.fitting.uncertainty import MIN_LEVELS, MIN_POINTS
from ecgscale.holm import holm
from ecgscale.lab import Lab, read_json, write_json
from ecgscale.laws.scaling import Scaling
from ecgscale.printing import finite
from ecgscale.spec import digest
from ecgscale.study.fits import common_axis, select

LEVELS = {"saturation": 4, "broken": 6}  # of its input that a form needs; MIN_LEVELS where it is not named
PARTS = ("forms", "sensitivity", "shared")
Diagnosis = dict[str, list[dict[str, Any]]]


def diagnosed(table: pd.DataFrame, lab: Lab, study: str) -> Diagnosis:
    """Return {"forms", "sensitivity", "shared"}: records of `compare_forms` and `stability.sensitivity` per family, or
    why there are none, and of `joint` per exponent; kept in the study's folder until its rows change."""
    curves = _curves(table)
    source = digest([[name, rows.to_json(orient="split", double_precision=15)] for name, rows in curves] + [REVISION])
    path = lab.study(study) / "diagnosis.json"
    stored = read_json(path)
    if stored and stored["source"] == source:
        return {name: stored[name] for name in PARTS}
    found: Diagnosis = {"forms": [], "sensitivity": [], "shared": _shared(curves)}
    for name, rows in curves:
        found["forms"] += [{"family": name, **record} for record in _forms(rows)]
        found["sensitivity"] += [{"family": name, **record} for record in _sensitivity(rows)]
    write_json(path, {"source": source, **found})
    return found


def _curves(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the losses of every family in distribution; of its first task there, where there are several."""
    rows = common_axis(select(table))
    several = rows["pretrain"].nunique() > 1
    curves = []
    for (backbone, objective, pretrain), own in rows.groupby(["backbone", "objective", "pretrain"], sort=True):
        first = own.sort_values(["eval_corpus", "task", "protocol"], kind="stable")
        where = ["eval_corpus", "task", "protocol"]
        own = first[(first[where] == first[where].iloc[0]).all(axis=1)]
        name = "-".join(map(str, (backbone, objective, *([pretrain] if several else []))))
        numbers = dict.fromkeys(("N", "N_total", "D", "value"), float) | {"seed": int}
        curves.append((name, own[list(numbers)].astype(numbers).reset_index(drop=True)))
    return curves


def _forms(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the forms in N and D, and those along each edge of the grid, the best predictor of each first."""
    found = _compared("N and D", rows, usual_forms("N", "D"))
    for axis, other in (("N", "D"), ("D", "N")):
        edge = rows[rows[other] == rows[other].max()]
        found += _compared(f"{axis}, at the largest {other}", edge, usual_forms(axis))
    return found


def _compared(along: str, rows: pd.DataFrame, forms: Forms) -> list[dict[str, Any]]:
    lacking = {name: why for name, (law, _) in forms.items() if (why := _too_few(name, law.inputs, rows))}
    able = {name: form for name, form in forms.items() if name not in lacking}
    records = [
        {"along": along, "status": "compared", **finite(record)}
        for record in (compare_forms(rows, able).to_dict("records") if len(able) > 1 else [])
    ]
    return records + [{"along": along, "status": "too_few", "form": f, "reason": why} for f, why in lacking.items()]


def _too_few(form: str, inputs: tuple[str, ...], rows: pd.DataFrame) -> str | None:
    least = LEVELS.get(form, MIN_LEVELS)
    for axis in inputs:
        if (levels := rows[axis].nunique()) < least:
            return f"{levels} levels of {axis}, {least} are needed"
    return f"{len(rows)} runs, {MIN_POINTS} are needed" if len(rows) < MIN_POINTS else None


def _sensitivity(rows: pd.DataFrame) -> list[dict[str, Any]]:
    if _too_few("scaling", ("N", "D"), rows):
        return []
    table = sensitivity(Scaling(), rows, over=("seed",))
    return list(map(finite, table.to_dict("records")))


def _shared(curves: list[tuple[str, pd.DataFrame]]) -> list[dict[str, Any]]:
    """Return the test of each exponent that one value holds for all families with a grid."""
    able = {name: problem_of(Scaling(), rows)[0] for name, rows in curves if not _too_few("scaling", ("N", "D"), rows)}
    if len(able) < 2:
        return []
    found = {name: joint(able, (name,)) for name in ("alpha", "beta")}
    corrected = holm([j.p for j in found.values()]).tolist()
    return [
        {"exponent": name, "families": list(able), "shared": j.shared[name], "statistic": j.statistic,
         "degrees": j.degrees, "p": j.p, "corrected": p}
        for (name, j), p in zip(found.items(), corrected, strict=True)
    ]  # fmt: skip
