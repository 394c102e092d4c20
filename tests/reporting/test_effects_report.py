"""The section on architecture and objective: there where a study was crossed, absent otherwise, and read correctly."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from ecgscale.fitting.effects import Scores, two_way
from ecgscale.fitting.resample import Measured
from ecgscale.reporting import ReportInput, effects, effects_figure
from ecgscale.reporting.render import render

Build = Callable[..., ReportInput]
BACKBONES = {"beat_transformer": 0.0, "resnet1d": -0.03, "s4": 0.03}
OBJECTIVES = {"cmsc": 0.02, "mae": 0.0, "supervised": -0.02}


def make_effects(seeds: int = 3, tasks: int = 3, seed: int = 0) -> dict[str, Any]:
    """Effects of a made-up crossing, in which S4 and CMSC suit each other."""
    rng = np.random.default_rng(seed)
    runs = [(b, o) for b in BACKBONES for o in OBJECTIVES for _ in range(seeds)]
    level = [-0.1 + BACKBONES[b] + OBJECTIVES[o] - 0.04 * ((b, o) == ("s4", "cmsc")) for b, o in runs]
    level += rng.normal(0, 0.006, len(runs))
    measured = [
        Measured(f"t{i}", f"c{i}", level[:, None, None] + rng.normal(0, 0.08, (len(runs), 300, 1)), np.arange(300) // 2)
        for i in range(tasks)
    ]
    found = two_way(Scores(tuple(b for b, _ in runs), tuple(o for _, o in runs), tuple(measured)), resamples=200)
    rows = []
    for estimate in found.estimates:
        task = {"level": "task", "task": f"ludb_{estimate.task}", "eval_corpus": "ludb"}
        mean = {"level": "mean", "task": f"mean of {tasks} tasks", "eval_corpus": ""}
        where = mean if estimate.task == "mean" else task
        rows += [where | {"score": s} | {k: v for k, v in asdict(estimate).items() if k != "task"}
                 for s in ("loss_minus_random", "loss")]  # fmt: skip
    return {
        "setting": {"arm": "main", "pretrain": "code", "target": 83_000, "D": 4000, "split": "ood", "seeds": [0, 1, 2]},
        "backbones": list(found.backbones),
        "objectives": list(found.objectives),
        "rows": rows,
        "left_out": [{"backbone": "resnet1d", "objective": "cpc", "reason": "cpc needs a causal backbone"}],
        "notes": list(found.notes),
    }


@pytest.fixture(scope="module")
def made(make_report: Build, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any], Path]:
    report = replace(make_report(worlds=1, tasks=1, fits=[]), effects=make_effects())
    page = render(report, tmp_path_factory.mktemp("report"))
    return page.read_text(), json.loads((page.parent / "report.json").read_text()), page.parent


def test_section_figure_tables_and_twin_stand(made: tuple[str, dict[str, Any], Path]) -> None:
    text, twin, folder = made
    jsonschema.Draft202012Validator(
        json.loads((files("ecgscale.reporting") / "report.schema.json").read_text())
    ).validate(twin)
    assert '<section id="effects">' in text and "Architecture and objective" in text
    figure = next(f for f in twin["figures"] if f["id"] == "effects")
    panels = {r["panel"] for r in figure["frame"]["records"]}
    assert (folder / "figures" / "effects.svg").read_text().count(">simulated ECG</text>") == len(panels) == 5
    assert figure["caption"].startswith("Simulated ECG")
    assert {"effects", "effects-cells", "effects-left-out"} <= {t["id"] for t in twin["tables"]}
    assert "cpc needs a causal backbone" in text
    assert any(s.startswith("Backbone against objective, 3 × 3 crossed") for s in twin["findings"])
    given = [r for r in twin["effects"]["rows"] if r["score"] == "loss_minus_random"]
    assert len(given) == 4 * (3 + 3 + 9 + 9 + 4)


def test_every_mark_is_a_row_of_the_twin(made: tuple[str, dict[str, Any], Path]) -> None:
    keys = ("task", "score", "factor", "name", "value", "lo", "hi")
    twin = made[1]
    rows = {tuple(r[k] for k in keys) for r in twin["effects"]["rows"]}
    figure = next(f for f in twin["figures"] if f["id"] == "effects")
    assert all(tuple(r[k] for k in keys) in rows for r in figure["frame"]["records"])


def test_a_study_that_is_not_crossed_has_no_such_section(make_report: Build, tmp_path: Path) -> None:
    page = render(make_report(worlds=1, tasks=1, fits=[]), tmp_path)
    twin = json.loads((tmp_path / "report.json").read_text())
    assert 'id="effects"' not in page.read_text() and "Architecture and objective" not in page.read_text()
    assert twin["effects"] == {} and not [t for t in twin["tables"] if t["id"].startswith("effects")]


def test_a_lower_loss_reads_as_better_and_an_interval_with_zero_as_cannot_tell() -> None:
    table = effects.tables_of(make_effects())[0]
    reading = {(row[0].text, row[0].note): row[2].text for row in table.rows}
    assert reading["resnet1d", "backbone, by loss"] == "better than the mean"
    assert reading["s4 · cmsc", "interaction"] == "better together than apart"
    unsure = make_effects()
    for r in unsure["rows"]:
        r |= {"lo": -1.0, "hi": 1.0}
    words = {row[2].text for row in effects.tables_of(unsure)[0].rows}
    assert words == {"cannot tell", "–"}
    assert "cannot be told" in effects.sentences(unsure)[0]


def test_one_seed_says_why_no_share_between_seeds_is_given() -> None:
    single = make_effects(seeds=1)
    assert "between seeds" not in {r["name"] for r in single["rows"]}
    assert "Every cell has one seed: no share between seeds" in effects.tables_of(single)[0].caption


def test_many_tasks_are_spread_over_several_figures_and_one_task_is_drawn_once() -> None:
    parts = effects_figure.draw(effects.frame_of(make_effects(tasks=20)), salt="e", stamp="")
    assert len(parts) == 2
    assert [("interaction" in p.frame["factor"].unique()) for p in parts] == [True, False]
    frame = effects.frame_of(make_effects(tasks=1))
    assert set(frame.loc[frame["factor"] == "objective", "level"]) == {"task"}


def test_bold_stands_where_the_interval_lies_apart_from_zero() -> None:
    frame = effects.frame_of(make_effects())
    (drawn,) = effects_figure.draw(frame, salt="e", stamp="")
    cells = frame[frame["factor"] == "interaction"]
    bold = re.findall(r'style="[^"]*(?:bold|700)[^"]*"[^>]*>([−\d.]+)<', drawn.svg)
    assert len(bold) == int(cells["told"].sum()) > 0
    assert effects_figure.draw(frame, salt="e", stamp="")[0].svg == drawn.svg
