"""The page and its twin: valid, offline, deterministic, honest about simulation, and every number has a row."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest

from ecgscale.reporting import ReportError, ReportInput
from ecgscale.reporting.inventory import overlaps
from ecgscale.reporting.render import render
from ecgscale.reporting.rows import families, prepare

Build = Callable[..., ReportInput]
SCHEMA = json.loads((files("ecgscale.reporting") / "report.schema.json").read_text())


@pytest.fixture(scope="module")
def made(make_report: Build, tmp_path_factory: pytest.TempPathFactory) -> tuple[ReportInput, Path]:
    report = make_report()
    return report, render(report, tmp_path_factory.mktemp("report") / "new" / "report")


@pytest.fixture(scope="module")
def twin(made: tuple[ReportInput, Path]) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((made[1].parent / "report.json").read_text())
    return loaded


def validate(twin: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(twin)


class Elements(HTMLParser):
    """Collects start tags with their attributes, and complains about tags that do not match."""

    VOID = frozenset({"meta", "link", "input", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()


@pytest.fixture(scope="module")
def elements(made: tuple[ReportInput, Path]) -> list[tuple[str, dict[str, str | None]]]:
    return Elements(made[1].read_text()).found


def test_twin_is_valid_and_holds_every_figure_and_table(twin: dict[str, Any]) -> None:
    validate(twin)
    ids = [f["id"] for f in twin["figures"]]
    expected = ["standing", "id-loss-vs-N", "id-loss-vs-D", "ood-loss-vs-N", "ood-loss-vs-D", "pretext-vs-N"]
    assert ids == [*expected, "pretext-vs-D", "loss-to-loss", "exponents", "paired"]
    assert {
        "grid",
        "winners-loss",
        "ood-auroc",
        "paired",
        "law-scaling",
        "detectable",
        "corpora",
        "overlaps",
        "quarantine",
        "failed",
    } <= {t["id"] for t in twin["tables"]}


def test_schema_refuses_a_figure_without_its_frame(twin: dict[str, Any]) -> None:
    broken = {k: v for k, v in twin["figures"][0].items() if k != "frame"}
    with pytest.raises(jsonschema.ValidationError, match="'frame' is a required property"):
        validate(twin | {"figures": [broken]})


def test_page_loads_nothing(elements: list[tuple[str, dict[str, str | None]]], made: tuple[ReportInput, Path]) -> None:
    for tag, attributes in elements:
        assert tag not in ("img", "iframe", "object", "embed", "audio", "video", "base")
        for name in ("src", "href", "srcset", "action", "poster"):
            target = attributes.get(name) or "#"
            assert target.startswith(("#", "data:")), (tag, name, target)
    text = made[1].read_text()
    assert "@import" not in text and "fetch(" not in text
    assert not re.findall(r"url\((?!#)", text)


def test_page_identifiers_are_unique_and_links_resolve(elements: list[tuple[str, dict[str, str | None]]]) -> None:
    ids = [a["id"] for _, a in elements if a.get("id")]
    assert len(ids) == len(set(ids))
    links = {a["href"][1:] for t, a in elements if t == "a" and (a.get("href") or "").startswith("#")}
    assert len(links) >= 12 and links <= set(ids)


def test_pictures_have_names_and_headers_have_scope(elements: list[tuple[str, dict[str, str | None]]]) -> None:
    pictures = [a for t, a in elements if t == "svg"]
    assert len(pictures) == 10 and all(a["role"] == "img" and a["aria-label"] for a in pictures)
    heads = [a for t, a in elements if t == "th"]
    assert heads and all(a.get("scope") in ("col", "row") for a in heads)


def test_same_input_same_bytes(made: tuple[ReportInput, Path], tmp_path: Path) -> None:
    again = render(made[0], tmp_path)
    names = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert len(names) == 12
    for name in names:
        assert (made[1].parent / name).read_bytes() == (again.parent / name).read_bytes(), name


def test_simulated_ecg_says_so_everywhere(made: tuple[ReportInput, Path], twin: dict[str, Any]) -> None:
    assert twin["simulated"] and twin["origin"] == "simulated"
    for figure in twin["figures"]:
        picture = (made[1].parent / "figures" / f"{figure['id']}.svg").read_text()
        panels = {r["panel"] for r in figure["frame"]["records"]}
        assert picture.count(">simulated ECG</text>") == len(panels)
        assert figure["caption"].startswith("Simulated ECG")
    assert "SIMULATED ECG." in made[1].read_text()


def test_real_ecg_carries_no_mark(make_report: Build, tmp_path: Path) -> None:
    page = render(make_report(simulated=False, worlds=1, tasks=1, fits=[]), tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["origin"] == "real"
    assert "simulated ECG" not in page.read_text() and "All ECGs are recordings of real patients." in page.read_text()


def test_every_point_is_a_row_of_the_table(made: tuple[ReportInput, Path], twin: dict[str, Any]) -> None:
    table = prepare(made[0])
    keys = ["run", "eval_corpus", "task", "protocol", "metric", "value"]
    rows = set(table[keys].itertuples(index=False, name=None))
    pairs = set(table.loc[table["metric"] == "loss", ["run", "value"]].itertuples(index=False, name=None))
    checked = 0
    for figure in twin["figures"]:
        for record in figure["frame"]["records"]:
            if record["drawn"] == "point" and figure["id"] != "exponents":
                assert tuple(record[k] for k in keys) in rows, figure["id"]
                checked += 1
            if record["drawn"] == "point" and figure["id"] == "loss-to-loss":
                assert (record["run"], record["x"]) in pairs
    assert checked > 500


def test_pretext_points_stand_in_the_panel_of_their_objective(twin: dict[str, Any]) -> None:
    figure = next(f for f in twin["figures"] if f["id"] == "pretext-vs-N")
    assert figure["frame"]["records"]
    for record in figure["frame"]["records"]:
        assert record["panel"].split("\n")[0] == record["family"].split("-", 1)[1]


def test_every_exponent_is_that_of_a_fit(made: tuple[ReportInput, Path], twin: dict[str, Any]) -> None:
    figure = next(f for f in twin["figures"] if f["id"] == "exponents")
    known = {(f["family"], f["eval_corpus"], f["task"], k, v) for f in made[0].fits for k, v in f["params"].items()}
    keys = ("family", "eval_corpus", "task", "parameter", "value")
    assert all(tuple(r[k] for k in keys) in known for r in figure["frame"]["records"])
    unread = {r["family"] for r in figure["frame"]["records"] if not r["told"]}
    assert unread == {"resnet1d-cmsc"}


def test_known_floor_stands_beside_the_fitted_one(made: tuple[ReportInput, Path], twin: dict[str, Any]) -> None:
    figure = next(f for f in twin["figures"] if f["id"] == "ood-loss-vs-N")
    floors = {r["panel"]: r["value"] for r in figure["frame"]["records"] if r.get("kind") == "floor"}
    assert floors == {"simulated_af\nworld_b": 0.031, "simulated_structural\nworld_b": 0.21}
    assert "known floor" in next(t for t in twin["tables"] if t["id"] == "law-scaling")["head"]


def test_failure_and_quarantine_are_shown_with_their_reasons(made: tuple[ReportInput, Path]) -> None:
    text = made[1].read_text()
    for words in (
        "loss became NaN at step 37",
        "flat lead V3",
        "no data bound to ludb",
        "CC BY 4.0",
        "tuned at D = 1K",
    ):
        assert words in text, words


def test_names_are_escaped(make_report: Build, tmp_path: Path) -> None:
    study = {"name": "made_up", "title": "<script>alert(1)</script>", "description": "a & b"}
    page = render(make_report(study=study, worlds=1, tasks=1, fits=[]), tmp_path).read_text()
    assert "<script>alert" not in page and "a &amp; b" in page


def _only_failures(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(value=np.nan, status="failed", reason="killed")


THINNED: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "one data size": lambda t: t[(t["D"] == 4000) | (t["role"] == "baseline")],
    "one family": lambda t: t[(t["objective"] == "cmsc") & t["value"].notna()],
    "no baselines": lambda t: t[t["role"] == "grid"],
    "only baselines": lambda t: t[t["role"] == "baseline"],
    "only in distribution": lambda t: t[t["split"] == "id"],
    "no intervals": lambda t: t.assign(lo=np.nan, hi=np.nan),
    "nothing but failures": _only_failures,
    "required columns only": lambda t: t.drop(
        columns=["C", "lo", "hi", "part", "checkpoint", "step", "status", "reason", "n"]
    ),
}


@pytest.mark.parametrize("name", THINNED)
def test_thin_tables_still_make_a_valid_report(make_report: Build, tmp_path: Path, name: str) -> None:
    report = make_report(
        worlds=1,
        tasks=1,
        fits=[],
        corpora=[],
        overlaps=[],
        skipped=[],
        environment={},
        notes=[],
        study={"name": "made_up"},
    )
    page = render(replace(report, table=THINNED[name](report.table)), tmp_path)
    twin = json.loads((tmp_path / "report.json").read_text())
    validate(twin)
    assert twin["origin"] == "unknown" and "Origin unknown." in page.read_text()
    ids = {f["id"] for f in twin["figures"]}
    expected = {
        "one data size": "id-loss-vs-D",
        "only in distribution": "standing",
        "nothing but failures": "id-loss-vs-N",
    }
    assert expected.get(name) not in ids


def test_dozens_of_tasks_are_spread_over_several_figures(make_report: Build, tmp_path: Path) -> None:
    report = make_report(worlds=1, tasks=14, fits=[])
    small = report.table[(report.table["seed"] == 0) & (report.table["objective"].isin(["cmsc"]))]
    render(replace(report, table=small), tmp_path)
    twin = json.loads((tmp_path / "report.json").read_text())
    validate(twin)
    parts = [f for f in twin["figures"] if f["id"].startswith("ood-loss-vs-N")]
    assert [f["id"] for f in parts] == ["ood-loss-vs-N-1", "ood-loss-vs-N-2"]
    assert len({r["panel"] for f in parts for r in f["frame"]["records"]}) == 14


def test_families_of_the_twin_have_the_colours_of_the_figures(
    made: tuple[ReportInput, Path], twin: dict[str, Any]
) -> None:
    assert [f["name"] for f in twin["families"]] == families(prepare(made[0]))
    picture = (made[1].parent / "figures" / "id-loss-vs-N.svg").read_text()
    assert all(f["colour"] in picture for f in twin["families"])


def test_old_figures_do_not_stay(make_report: Build, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "gone.svg").write_text("old")
    report = make_report(fits=[])
    render(replace(report, table=report.table[report.table["split"] == "id"]), tmp_path)
    assert not (tmp_path / "figures" / "gone.svg").exists()


def test_unchanged_report_is_left_alone_and_a_changed_or_broken_one_is_not(make_report: Build, tmp_path: Path) -> None:
    report = make_report(worlds=1, tasks=1, fits=[])
    report = replace(report, table=report.table[report.table["split"] == "id"])
    page = render(report, tmp_path)
    page.write_text("left alone")
    assert render(report, tmp_path).read_text() == "left alone"
    render(replace(report, notes=["another"]), tmp_path)
    assert "another" in page.read_text() and "left alone" not in page.read_text()
    next((tmp_path / "figures").glob("*.svg")).unlink()
    page.write_text("stale")
    assert render(replace(report, notes=["another"]), tmp_path).read_text() != "stale"


def test_unwritable_folder_is_one_sentence(make_report: Build, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    report = make_report(fits=[])
    report = replace(report, table=report.table[report.table["role"] == "baseline"])
    with pytest.raises(ReportError, match=r"cannot write the report to .*file"):
        render(report, tmp_path / "file")


def test_torch_is_never_imported() -> None:
    code = "import sys, ecgscale.reporting.render; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_why_a_loss_may_lie_below_the_known_floor_is_said_once_per_place(twin: dict[str, Any]) -> None:
    words = "a measured loss may lie below it"
    drawn = [f["id"] for f in twin["figures"] if words in f["caption"]]
    assert drawn == ["id-loss-vs-N"]
    assert [t["id"] for t in twin["tables"] if words in t["caption"]] == ["law-scaling"]
    floors = [any(r.get("kind") == "floor" for r in f["frame"]["records"]) for f in twin["figures"]]
    assert twin["figures"][floors.index(True)]["id"] == drawn[0]


def test_tasks_of_a_corpus_share_a_row_of_the_overlaps() -> None:
    same = {"a": "w (training)", "shared_patients": 0, "verdict": "no patient stands on both sides"}
    pairs = [same | {"b": f"v: {task} (test)"} for task in ("af", "mi")]
    table = overlaps([*pairs, same | {"b": "v: st (test)", "shared_patients": 3, "verdict": "refused"}])
    assert [(row[0].text, row[0].note) for row in table.rows] == [
        ("w (training) × v (test)", "af, mi"),
        ("w (training) × v (test)", "st"),
    ]
    assert len(table.records) == 3
