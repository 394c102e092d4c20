"""The section on the number of labels: every loss and verdict has its row; no other section reads its runs or fits."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pandas as pd
import pytest

from ecgscale.reporting import ReportInput, label_scaling
from ecgscale.reporting.render import Page, compose, html, json_twin
from ecgscale.reporting.rows import prepare

TASKS = {"simulated_tail": "id", "simulated_code": "ood"}
CURVE = {"backbone": "resnet1d", "objective": "supervised", "pretrain": "registry", "eval_corpus": "registry"}
CURVE |= {"protocol": "linear"}


def loss(count: int, task: str) -> float:
    return 0.1 + (0.6 if task == "simulated_tail" else 0.0) * count**-0.5


def rows() -> list[dict[str, Any]]:
    """Return the runs of one family on 9 to 72 labels in two orders, two seeds, and random weights."""
    base = {**CURVE, "study": "x", "N": 20_000, "D": 4000, "C": 1e10, "part": "test", "checkpoint": "best", "n": 900,
            "metric": "loss", "unit": "nats", "status": "ok"}  # fmt: skip
    found = []
    for seed, (order, count), (task, split) in product(
        (0, 1), [("", 72), *product(("frequency", "random"), (9, 18, 36))], TASKS.items()
    ):
        value = loss(count, task) * (1 + 0.002 * seed)
        run = {
            "run": f"{order}{count}s{seed}",
            "cell": f"{order}{count}",
            "branch": f"{order}{count}s{seed}",
            "seed": seed,
        }
        what = {
            "role": "labels" if order else "grid",
            "label_order": order,
            "labels": count,
            "task": task,
            "split": split,
        }
        found.append({**base, **run, **what, "value": value, "lo": 0.98 * value, "hi": 1.02 * value})
    weights = {"role": "baseline", "objective": "random", "D": 0, "run": "random", "seed": 0, "labels": 0}
    return found + [base | weights | {"task": task, "split": split, "value": 0.4} for task, split in TASKS.items()]


def fits() -> list[dict[str, Any]]:
    """Return the law of every curve as `fit_all` dumps it."""
    found = []
    for order, (task, split) in product(("frequency", "random"), TASKS.items()):
        falls = task == "simulated_tail"
        found.append(
            {**CURVE, "law": {"name": "label_scaling"}, "law_name": f"label_scaling-{order}", "inputs": ["labels"],
             "label_order": order, "family": "resnet1d-supervised", "task": task, "split": split, "n": 8,
             "params": {"E": 0.1, "A": 0.6, "gamma": 0.5}, "intervals": {"gamma": [0.4, 0.6]}, "known_floor": 0.0031,
             "status": "converged", "verdict": "scales" if falls else "does not", "ranges": {"labels": [9, 72]}}
        )  # fmt: skip
    return found


def report() -> ReportInput:
    corpora = [{"name": "registry", "simulated": True}]
    return ReportInput({"name": "x", "title": "X"}, "ecgscale run x", pd.DataFrame(rows()), fits(), corpora)


@pytest.fixture(scope="module")
def page() -> Page:
    return compose(report())


def test_the_figure_draws_every_run_in_its_order_and_the_fitted_law(page: Page) -> None:
    figure = next(f for f in page.figures if f.id == "labels")
    points, curve = (figure.frame[figure.frame["drawn"] == kind] for kind in ("point", "curve"))
    assert len(points) == 2 * 2 * 2 * 4  # tasks, orders, seeds, numbers of labels
    assert set(points["family"]) == {"resnet1d, frequent first", "resnet1d, random"}
    tail = curve[(curve["task"] == "simulated_tail") & (curve["family"] == "resnet1d, random")]
    assert tail["told"].all() and tail["value"].iloc[0] == pytest.approx(loss(9, "simulated_tail"))
    assert not curve.loc[curve["task"] == "simulated_code", "told"].any()
    lines = figure.frame[figure.frame["drawn"] == "line"]
    assert set(lines["value"]) == {0.4} and "simulated ECG" in figure.svg


def test_tables_say_the_verdict_the_floor_and_the_losses(page: Page) -> None:
    tables = {t.id: t for t in page.tables}
    law, losses = tables["labels-law"], tables["labels-loss"]
    assert [row[2].text for row in law.rows] == ["falls", "falls", "does not fall", "does not fall"]  # ID first
    assert {row[5].text for row in law.rows} == {"0.0031"}
    assert losses.head == ("backbone and order", "task", "9 labels", "18 labels", "36 labels", "72 labels")
    first = losses.rows[0]
    assert first[2].text == "0.300" and first[2].note == "(0.300–0.301)"
    assert "falls on 2 of 2 curves" in next(s for s in page.findings if s.startswith("From 9 to 72 labels"))


def test_a_fall_without_an_exponent_is_a_fall_and_a_chance_one_is_none() -> None:
    def told(p: float, low: float) -> dict[str, Any]:
        along = {"verdict": "cannot tell", "gain": 0.12, "interval": [low, 0.14], "trend_p": p}
        return fits()[0] | {"verdict": "cannot tell", "verdicts": {"labels": along}}

    assert label_scaling.answer(told(0.006, 0.09)) == "falls"
    assert label_scaling.answer(told(0.02, 0.09)) == label_scaling.answer(told(0.006, 0.0)) == "cannot tell"
    table, _ = label_scaling.tables_of([told(0.006, 0.09)], prepare(report()))
    assert table.rows[0][2].note == "12.0 % (9.0–14.0), p 0.006"


def test_no_other_section_reads_subsets_of_labels(page: Page) -> None:
    assert not [t.id for t in page.tables if t.id.startswith("law-")]
    ids = {f.id for f in page.figures}
    assert not any(name.startswith("exponents") for name in ids)
    drawn = pd.concat([f.frame for f in page.figures if f.id != "labels"])
    assert set(drawn.loc[drawn["kind"] != "random", "run"].dropna()) <= {"72s0", "72s1"}
    grid = next(t for t in page.tables if t.id == "grid")
    assert [(r["kind"], r["runs"]) for r in grid.records] == [("grid", 2), ("labels", 12), ("random", 1)]
    assert '<section id="labels">' in html(page) and json_twin(page)["figures"]


def test_a_study_without_subsets_has_no_such_section() -> None:
    table = pd.DataFrame([row for row in rows() if row["role"] != "labels"])
    assert label_scaling.tables_of([], table) == [] and label_scaling.sentences([]) == []
    assert '<section id="labels">' not in html(compose(replace(report(), table=table, fits=[])))
