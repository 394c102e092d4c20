"""Own loss against tasks: a figure with a panel for every family, a table, and a sentence that counts by interval."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema

from ecgscale.reporting import ReportInput, downstream
from ecgscale.reporting.render import render


def row(objective: str, task: str, rho: float | None, lo: float | None, hi: float | None) -> dict[str, Any]:
    family = {"backbone": "resnet1d", "objective": objective, "pretrain": "world_a"}
    place = {"eval_corpus": "world_b", "task": task, "protocol": "linear", "split": "ood"}
    return {**family, **place, "rho": rho, "lo": lo, "hi": hi, "n": 9}


ROWS = [
    row("cmsc", "a", 0.9, 0.5, 0.98),
    row("cmsc", "b", -0.8, -0.95, -0.2),
    row("supervised", "a", 0.3, -0.4, 0.8),
    row("supervised", "b", None, None, None),
]
NAMES = ("backbone", "objective", "pretrain", "eval_corpus", "task", "protocol", "split")
FOUND: dict[str, Any] = {
    "rows": ROWS,
    "points": [
        {**{k: r[k] for k in NAMES}, "run": f"r{i}", "N": 1e4, "D": 100.0, "own": 2.0 + i, "value": 0.5 + 0.1 * i,
         "lo": 0.4, "hi": None} for r in ROWS for i in range(3)
    ],
}  # fmt: skip


def test_the_figure_the_table_and_the_twin_stand(bare_report: ReportInput, tmp_path: Path) -> None:
    render(replace(bare_report, downstream=FOUND), tmp_path)
    twin = json.loads((tmp_path / "report.json").read_text())
    schema = json.loads((files("ecgscale.reporting") / "report.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(twin)
    (figure,) = [f for f in twin["figures"] if f["id"] == "downstream"]
    records = figure["frame"]["records"]
    assert len(records) == 12 and {r["family"] for r in records} == {"a, world_b", "b, world_b"}
    assert list(dict.fromkeys(r["panel"].partition("\n")[0] for r in records)) == [
        "resnet1d · supervised", "resnet1d · cmsc",
    ]  # fmt: skip
    assert (
        "Measurements out of distribution on which a lower held-out loss on the own objective goes with a lower error "
        "(rank correlation over the grid): resnet1d · supervised on 0 of 2; resnet1d · cmsc on 1 of 2, against on 1; "
        "elsewhere it cannot be told."
    ) in twin["findings"]


def test_readings_go_by_the_interval() -> None:
    (table,) = downstream.tables_of(FOUND)
    assert [r[3].text for r in table.rows] == ["lower error", "higher error", "cannot tell", "cannot tell"]
    assert downstream.tables_of({}) == [] and downstream.sentences({}) == []


def test_more_tasks_than_there_are_marks_make_more_figures() -> None:
    many = [{**p, "task": f"t{i}"} for p in FOUND["points"][:1] for i in range(downstream.MOST_TASKS + 1)]
    frames = downstream.frames_of({"points": many})
    assert [f["family"].nunique() for f in frames] == [downstream.MOST_TASKS, 1]
