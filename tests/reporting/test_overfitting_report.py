"""Extents of planted laws lie on their curve, fits that cannot be read are in no figure, and gaps are printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from ecgscale.reporting import ReportInput, overfitting
from ecgscale.reporting.render import render
from ecgscale.reporting.rows import prepare

Build = Callable[..., ReportInput]


def run(D: int, validation: float) -> dict[str, Any]:
    named = {"run": f"r{D}", "backbone": "resnet1d", "objective": "cmsc", "pretrain": "world_a", "size": 20_000, "D": D}
    ends = {"seed": 0, "steps": 40, "passes": 3200 / D, "train": 1.0, "validation": validation, "gap": validation - 1}
    return {**named, **ends, "best": 1.4, "best_step": 20}


FOUND: dict[str, Any] = {
    "runs": [run(250, 2.0), run(4000, 1.41)],
    "curves": [{**run(D, 2.0), "points": [[20, 1.6, 1.7], [40, 1.0, 2.0]]} for D in (250, 4000)],
}


def built(make_report: Build) -> ReportInput:
    report = make_report(worlds=1, tasks=1)
    fits = [f | {"split": "id" if f["eval_corpus"] == "world_a" else "ood"} for f in report.fits]
    return replace(report, table=report.table[report.table["split"] == "id"], fits=fits, overfitting=FOUND)


def test_measured_extents_lie_on_the_curve_of_the_planted_law(make_report: Build) -> None:
    report = built(make_report)
    points = overfitting.points_of(report, prepare(report))
    assert len(set(points["family"])) == 3 and "resnet1d-cmsc" not in set(points["family"])  # which cannot be read
    for fit in overfitting.readable(report):
        own = points[points["family"] == fit["family"]]
        expected = fit["params"]["B"] * own["x"] ** -fit["params"]["beta"]
        assert len(own) == 15 and own["N"].nunique() == 3
        np.testing.assert_allclose(own["value"], expected, atol=0.03)  # noise of 0.002 on losses of 0.1 and more
        assert own["value"].corr(expected) > 0.95
    line = overfitting.fitted_of(report, points)
    assert line.groupby("family")["x"].max().le(points.groupby("family")["x"].max() * 1.001).all()


def test_the_page_and_the_twin_hold_extents_and_gaps(make_report: Build, tmp_path: Path) -> None:
    report = built(make_report)
    text = render(report, tmp_path).read_text()
    twin = json.loads((tmp_path / "report.json").read_text())
    schema = json.loads((files("ecgscale.reporting") / "report.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(twin)
    assert twin["overfitting"] == FOUND and {"overfitting", "curves"} <= {f["id"] for f in twin["figures"]}
    tables = {t["id"]: t for t in twin["tables"]}
    (row,) = [r for r in tables["overfitting"]["frame"]["records"] if r["family"] == "resnet1d-supervised"]
    assert row["limit"] == pytest.approx(0.12 + 3.0 * 101_700**-0.4)
    assert row["smallest"][0] == pytest.approx(3.0 * 250**-0.45 / row["limit"])
    enough, lo, hi = row["enough"]
    assert enough == pytest.approx((3.0 / (0.1 * row["limit"])) ** (1 / 0.45)) and lo < enough < hi
    assert "Training and validation at the last step" in text
    said = " ".join(twin["findings"])
    assert (
        "In 1 of 2 runs of the grid validation loss ended more than 2 % above its lowest; furthest: resnet1d · cmsc at "
        "20K parameters, D = 250, 43 % after 12.8 passes." in said
    )


def test_without_runs_and_readable_fits_there_is_nothing(make_report: Build) -> None:
    report = make_report(worlds=1, tasks=1)  # its fits do not say where they are in distribution
    assert overfitting.tables_of(report, prepare(report)) == [] and overfitting.sentences(report) == []
    assert overfitting.points_of(report, prepare(report)).empty
    calm = replace(report, overfitting={"runs": [run(4000, 1.41)], "curves": []})
    assert overfitting.sentences(calm) == [
        "In none of 1 runs of the grid did validation loss end more than 2 % above its lowest."
    ]
