"""The order of the families over all tasks: a table, a sentence and data; absent where nothing can be compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema

from ecgscale.reporting import ReportInput, ranking
from ecgscale.reporting.render import render

Build = Callable[..., ReportInput]


def row(backbone: str, objective: str, value: float, ranks: tuple[int, int, int], gain: float = -0.1) -> dict[str, Any]:
    numbers = {"value": value, "lo": value - 0.02, "hi": value + 0.02, "n_seeds": 2, "n_patients": 300}
    places = dict(zip(("rank", "best", "worst"), ranks, strict=True))
    gains = {"gain": gain, "gain_lo": gain - 0.05, "gain_hi": gain + 0.05}
    return {"backbone": backbone, "objective": objective, **numbers, **places, **gains}


ROWS = [
    row("s4 (causal True)", "cpc", 0.30, (1, 1, 2)),
    row("resnet1d", "supervised", 0.31, (2, 1, 2)),
    row("s4 (causal False)", "mae", 0.40, (3, 3, 3), gain=0.0),
]
RANKING: dict[str, Any] = {
    "setting": {
        "arm": "main",
        "pretrain": "code",
        "target": 20_000,
        "D": 2000,
        "split": "ood",
        "tasks": 4,
        "missing": 0,
    },
    "rows": ROWS,
}


def test_the_table_the_sentence_and_the_twin_stand(make_report: Build, tmp_path: Path) -> None:
    page = render(replace(make_report(worlds=1, tasks=1, fits=[]), ranking=RANKING), tmp_path)
    twin = json.loads((tmp_path / "report.json").read_text())
    schema = json.loads((files("ecgscale.reporting") / "report.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(twin)
    assert "Order over all tasks together" in page.read_text()
    assert twin["findings"][0] == (
        "Over 4 tasks together s4 · cpc has the lowest mean loss, 0.300 (0.280–0.320); 1 of the other 2 may be first "
        "too. 2 of 3 families are ahead of random weights of their size in the mean."
    )
    assert twin["ranking"] == RANKING


def test_without_an_order_there_is_no_table(make_report: Build, tmp_path: Path) -> None:
    page = render(make_report(worlds=1, tasks=1, fits=[]), tmp_path)
    twin = json.loads((tmp_path / "report.json").read_text())
    assert twin["ranking"] == {} and "Order over all tasks together" not in page.read_text()


def test_ties_for_the_first_place_are_marked_and_settled_ranks_are_one_number() -> None:
    (table,) = ranking.tables_of(RANKING)
    assert [(r[0].text, r[1].text, r[1].mark) for r in table.rows] == [
        ("s4 · cpc", "1 to 2", "tie"),
        ("resnet1d · supervised", "1 to 2", "tie"),
        ("s4 · mae", "3", ""),
    ]
    alone = {**RANKING, "rows": [row("s4", "cpc", 0.3, (1, 1, 1)), row("s4", "mae", 0.4, (2, 2, 2))]}
    assert ranking.tables_of(alone)[0].rows[0][1].mark == "best"
    assert "no other family may be first" in ranking.sentences(alone)[0]
    gap = {**RANKING, "setting": {**RANKING["setting"], "missing": 2}}
    assert ranking.sentences(gap)[0].endswith("2 runs are missing: failed, or not measured on every task.")
    inside = {**RANKING, "setting": {**RANKING["setting"], "split": "id"}}
    assert ranking.sentences(inside) == [] and "4 tasks in distribution" in ranking.tables_of(inside)[0].caption


def test_fields_are_named_only_where_names_alone_would_be_ambiguous() -> None:
    twice = {**RANKING, "rows": [*ROWS, row("s4 (causal False)", "cpc", 0.5, (4, 4, 4))]}
    names = [r[0].text for r in ranking.tables_of(twice)[0].rows]
    assert names == ["s4 (causal True) · cpc", "resnet1d · supervised", "s4 · mae", "s4 (causal False) · cpc"]
