"""The factor of labels saved: a table, a figure, a sentence and data; open intervals are said in words."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema

from ecgscale.reporting import ReportInput, efficiency
from ecgscale.reporting.render import render


def row(
    objective: str, value: float | None, lo: float | None, hi: float | None, bound: str | None = None
) -> dict[str, Any]:
    numbers = {"value": value, "lo": lo, "hi": hi, "bound": bound, "loss": 0.3}
    curves = {"own": [[25.0, 0.5], [50.0, 0.4], [100.0, 0.35]], "scratch": [[25.0, 0.6], [50.0, 0.5], [100.0, 0.3]]}
    place = {
        "backbone": "resnet1d",
        "variant": "resnet1d",
        "objective": objective,
        "eval_corpus": "world_b",
        "task": "simulated_af",
    }
    return {**place, "protocol": "finetune", **numbers, "few": numbers, "n_seeds": 2, "n_patients": 300, **curves}


ROWS = [
    row("supervised", 8.0, 4.0, 12.0),
    row("cmsc", 128.0, 20.0, None, "at least"),
    row("mae", 0.5, None, 0.8),
    row("cpc", None, None, None),
]
FOUND: dict[str, Any] = {"setting": {"arm": "main", "pretrain": "world_a", "target": 20_000, "D": 4000}, "rows": ROWS}


def test_the_table_the_figure_and_the_twin_stand(bare_report: ReportInput, tmp_path: Path) -> None:
    text = render(replace(bare_report, efficiency=FOUND), tmp_path).read_text()
    twin = json.loads((tmp_path / "report.json").read_text())
    schema = json.loads((files("ecgscale.reporting") / "report.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(twin)
    assert "Labels that pre-training saves" in text and twin["efficiency"] == FOUND
    (figure,) = [f for f in twin["figures"] if f["id"] == "efficiency"]
    drawn = {(r["family"], r["x"], r["value"]) for r in figure["frame"]["records"]}
    assert ("from scratch (resnet1d)", 100.0, 0.3) in drawn and ("resnet1d-cmsc", 25.0, 0.5) in drawn
    assert len(drawn) == 4 * 3 + 3  # scratch is drawn once
    assert (
        "Against training from scratch at the same size, pre-training saves labels in 2 of 4 comparisons, costs labels "
        "in 1, and 1 cannot tell; surest: resnet1d · cmsc on simulated_af (world_b, finetune), at least 128 × (above "
        "20 ×)."
    ) in twin["findings"]


def test_open_intervals_and_undefined_factors_are_words() -> None:
    (table,) = efficiency.tables_of(FOUND)
    assert [(r[3].text, r[3].note, r[4].text) for r in table.rows] == [
        ("8 ×", "(4–12 ×)", "saves labels"),
        ("at least 128 ×", "(above 20 ×)", "saves labels"),
        ("0.5 ×", "(below 0.8 ×)", "costs labels"),
        ("–", "", "cannot tell"),
    ]
    mixed = {**FOUND, "rows": [{**ROWS[2], "few": ROWS[0]}]}
    assert efficiency.tables_of(mixed)[0].rows[0][4].text == "few labels: saves, many: costs"
    assert efficiency.tables_of({}) == [] and efficiency.sentences({}) == []
