"""The page and its twin print the rule, the facts, where the study says otherwise, and the other groupings."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema

from ecgscale.reporting import ReportInput, shift
from ecgscale.reporting.render import render

Build = Callable[..., ReportInput]


def task(name: str, corpus: str, shared: list[str], by_rule: str, stated: str | None) -> dict[str, Any]:
    facts = {"pretrain": "world_a", "eval_corpus": corpus, "task": name, "split": "ood", "source": corpus}
    labels = {"labels": ["AF", "pace"], "shared": shared, "supervised": [], "by_supervision": "unseen"}
    return {**facts, **labels, "population": [corpus], "same_population": False, "by_rule": by_rule, "stated": stated}


A, B = ["resnet1d", "supervised"], ["beat_transformer", "masked_beats"]
BOTH = [["world_b", "simulated_af"], ["world_b", "simulated_structural"]]
SHIFT: dict[str, Any] = {
    "tasks": [
        task("simulated_af", "world_b", ["AF"], "shifted", None),
        task("simulated_structural", "world_b", ["AF"], "shifted", "unseen"),
    ],
    "groupings": [
        {"name": "as the study groups them", "tasks": BOTH, "order": [A, B], "tied": 0, "tau": 1.0},
        {"name": "unseen only, as stated", "tasks": BOTH[1:], "order": [B, A], "tied": 1, "tau": -1.0},
    ],
    "left_out": [{"name": "unseen only, by the rule", "reason": "no task of the study is in it"}],
}


def test_the_page_and_the_twin_hold_the_rule_the_facts_and_the_groupings(
    bare_report: ReportInput, tmp_path: Path
) -> None:
    text = render(replace(bare_report, shift=SHIFT), tmp_path).read_text()
    twin = json.loads((tmp_path / "report.json").read_text())
    schema = json.loads((files("ecgscale.reporting") / "report.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(twin)
    assert twin["shift"] == SHIFT
    assert "The rule looks at no result" in text and "no task of the study is in it" in text
    said = " ".join(twin["findings"])
    assert (
        "resnet1d · supervised keeps the lowest mean loss under 0 of 1 other groupings of the tasks, without a tie "
        "under 0; not with unseen only, as stated." in said
    )
    assert "On 1 of 2 tasks the study states another shift than the rule finds: simulated_structural on" in said


def test_disagreements_and_another_family_in_front_are_marked(make_report: Build) -> None:
    facts, groupings = shift.tables_of(SHIFT, make_report(worlds=1, tasks=2).fits)
    assert [r[5].mark for r in facts.rows] == ["", "tie"] and facts.rows[0][2].text == "1 of 2"
    assert [(r[2].text, r[2].mark) for r in groupings.rows] == [
        ("resnet1d · supervised", ""),
        ("beat_transformer · masked_beats", "tie"),
    ]
    kappa = groupings.records[0]["kappa"]["resnet1d-supervised"]
    assert kappa == (1.0, 2)  # planted: 1 on both tasks


def test_where_nothing_is_known_nothing_is_said(bare_report: ReportInput, tmp_path: Path) -> None:
    text = render(bare_report, tmp_path).read_text()
    assert "Nothing is known of how the tasks stand to the pre-training corpus" in text
    assert shift.sentences({}) == [] and shift.tables_of({}, []) == []
