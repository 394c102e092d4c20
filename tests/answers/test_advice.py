"""Advice on planted laws: the better family wins, a tie is called a tie, and what cannot be known is refused."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgscale.answers.advice import Budget, advise
from ecgscale.answers.families import AdviceError, Family, Question, grid, read
from ecgscale.answers.few_labels import curves_of, expected
from ecgscale.fitting import fit
from ecgscale.lab import write_json
from ecgscale.laws.learning_curve import LearningCurve
from ecgscale.laws.scaling import Scaling
from ecgscale.planning import Cost, crossing, loss, optimal

BASE = {"E": 0.2, "A": 3.0, "B": 5.0, "alpha": 0.3, "beta": 0.35}
COST = Cost(6.0, 0.9, 4.0)


@cache
def family(name: str, seed: int = 0, **truth: float) -> Family:
    """Return a family whose runs obey BASE but for `truth`, with 1 % noise."""
    mesh = np.meshgrid(np.geomspace(2e4, 2e6, 5), np.geomspace(500, 64_000, 6))
    n, d = (np.tile(a.ravel(), 2) for a in mesh)
    noise = np.exp(0.01 * np.random.default_rng(seed).standard_normal(len(n)))
    frame = pd.DataFrame({"N": n, "D": d, "value": loss(BASE | truth, n, d) * noise})
    runs = pd.DataFrame({"N": n, "D": d, "seen": 4 * d, "C": COST.flops(n, d)})
    return Family(name, fit(Scaling(), frame, bootstraps=100, seed=seed), name.startswith("supervised"), runs, 1e9)


def test_the_planted_best_family_wins_and_its_interval_holds_its_loss() -> None:
    found = advise([family("worse", A=3.6), family("better", 1)], Budget(params=1e6, records=32_000))
    assert [o.family for o in found.options] == ["better", "worse"]
    for option, truth in zip(found.options, (BASE, BASE | {"A": 3.6}), strict=True):
        assert option.interval[0] <= float(loss(truth, 1e6, 32_000)) <= option.interval[1]
    assert found.options[0].best > 0.99
    assert found.gap[1] > 0


def test_equal_families_are_a_tie() -> None:
    same = family("one", 1)
    found = advise([same, replace(same, name="other")], Budget(params=1e6, records=32_000))
    assert found.options[0].best == pytest.approx(0.5, abs=0.1)
    assert found.gap[1] < 0 < found.gap[2]
    assert any("not settled" in note for note in found.notes)


def test_a_crossing_in_parameters_changes_the_advice_where_the_curves_cross() -> None:
    """The family with the smaller alpha wins at small N only."""
    truth = BASE | {"A": 0.6, "alpha": 0.15}
    found = advise([family("small", 2, A=0.6, alpha=0.15), family("large", 1)], Budget(params=1e6, records=32_000))
    change = next(c for c in found.changes if c.axis == "N")
    planted = (3.0 / 0.6) ** (1 / 0.15)
    here = crossing(lambda x: loss(BASE, x, 1e5), lambda x: loss(truth, x, 1e5), 2e4, 1e6)[0]
    assert here == pytest.approx(planted)
    assert change.at == pytest.approx(planted, rel=0.3)
    assert change.interval[0] < change.at < change.interval[1]
    assert (found.options[0].family, change.winner) == ("large", "small")
    assert change.at < 1e6


def test_compute_is_spent_at_the_optimum_within_the_other_limits() -> None:
    size, data = optimal(BASE, 1e14, COST)
    option = advise([family("better", 1)], Budget(flops=1e14)).options[0]
    assert option.allocation is not None
    assert option.allocation.intervals["size"][0] <= size <= option.allocation.intervals["size"][1]
    assert COST.flops(option.size, option.data) == pytest.approx(1e14, rel=1e-6)
    few = advise([family("better", 1)], Budget(flops=1e14, records=1000)).options[0]
    assert (few.data, few.size > option.size) == (pytest.approx(1000), True)
    small = advise([family("better", 1)], Budget(hours=1e14 / 3600 / 1e9, params=1e5)).options[0]
    assert (small.size, small.data > data) == (1e5, True)


def test_compute_buys_size_where_every_run_drew_the_same_number_of_records() -> None:
    steps = family("better", 1)
    assert steps.runs is not None
    drawn = steps.runs.assign(seen=100_000.0, C=6.0 * steps.runs["N"] ** 0.9 * 100_000.0)
    option = advise([replace(steps, runs=drawn)], Budget(flops=6.0 * 1e6**0.9 * 1e5, records=32_000)).options[0]
    assert (option.size, option.data) == (pytest.approx(1e6), 32_000)
    assert option.allocation is None and "whatever D" in option.notes[-1]
    assert option.loss == pytest.approx(float(loss(BASE, 1e6, 32_000)), rel=0.02)
    plenty = advise([replace(steps, runs=drawn)], Budget(flops=6.0 * 1e6**0.9 * 1e5, records=1e6)).options[0]
    assert plenty.data == pytest.approx(100_000)  # no more than are drawn
    mixed = drawn.assign(seen=drawn["D"] * drawn["N"] / 1e4)
    with pytest.raises(AdviceError, match="--passes"):
        advise([replace(steps, runs=mixed)], Budget(flops=1e14))


def test_what_lies_below_the_smallest_is_extrapolated_too() -> None:
    option = advise([family("better", 1)], Budget(params=2e3, records=32_000)).options[0]
    assert option.beyond["N"] == pytest.approx(10)
    assert "N lies 10 times outside" in option.notes[-1]


def test_a_learning_curve_says_what_labels_of_the_task_are_worth(tmp_path: Path) -> None:
    labels = np.tile(np.geomspace(20, 2000, 6), 2)
    folder = tmp_path / "studies" / "toy" / "fits"
    folder.mkdir(parents=True)
    where = {"eval_corpus": "ludb", "task": "rhythm", "protocol": "linear", "pretrain": ""}
    for name, floor in (("s4-cpc", 0.1), ("s4-random", 0.3)):
        noise = np.exp(0.002 * np.random.default_rng(0).standard_normal(len(labels)))
        frame = pd.DataFrame({"labelled": labels, "value": (floor + labels**-0.5) * noise})
        made = fit(LearningCurve(), frame, bootstraps=50).dump()
        write_json(folder / f"learning_curve.{name}.ludb.rhythm.linear.json", {**made, **where, "family": name})
    found = expected(curves_of(tmp_path, Question("toy", "ludb", "rhythm", "linear")), 100)
    assert [e.family for e in found] == ["s4-cpc", "s4-random"]
    assert [e.loss for e in found] == pytest.approx([0.2, 0.4], rel=0.02)
    assert found[0].interval[0] < 0.2 < found[0].interval[1] and not found[0].far
    assert expected(curves_of(tmp_path, Question("toy", "ludb", "other", "linear")), 100) == ()


def test_labels_limit_supervised_families_only() -> None:
    both = [family("supervised", 1), family("self-supervised", 1)]
    found = advise(both, Budget(params=1e6, records=32_000, labels=1000))
    assert {o.family: o.data for o in found.options} == {"supervised": 1000, "self-supervised": 32_000}


def test_what_was_not_identified_is_not_extrapolated_and_far_answers_say_so() -> None:
    flat = family("flat", 3, A=0.0)
    flat = replace(flat, fit=replace(flat.fit, status="ill_conditioned"))
    with pytest.raises(AdviceError, match="not identified, and N lies 5 times beyond"):
        advise([flat], Budget(params=1e7, records=32_000))
    found = advise([flat, family("better", 1)], Budget(params=1e7, records=32_000))
    assert set(found.left_out) == {"flat"}
    assert "extrapolated" in found.options[0].notes[-1]
    with pytest.raises(AdviceError, match="compute was not measured"):
        advise([replace(flat, runs=None)], Budget(flops=1e14))


def test_the_lab_gives_the_families_and_names_the_tasks(tmp_path: Path) -> None:
    known = family("better", 1)
    assert known.runs is not None
    folder, run = tmp_path / "studies" / "toy", known.runs.assign(run=[f"r{i}" for i in range(len(known.runs))])
    (folder / "fits").mkdir(parents=True)
    same = {"backbone": "s4", "objective": "cpc", "pretrain": "code"}
    run.assign(role="grid", paradigm="SSL", checkpoint="last", **same).to_parquet(folder / "table.parquet")
    for corpus in ("ludb", "ptbxl"):
        where = {"eval_corpus": corpus, "task": "rhythm", "protocol": "linear", "family": "s4-cpc", "pretrain": "code"}
        write_json(folder / "fits" / f"scaling.s4-cpc.{corpus}.json", {**where, "backbone": "s4", **known.fit.dump()})
    arm = {
        "sizes": [3, 1],
        "records": [2],
        "fit": True,
        "families": [],
        "seeds": [0],
        "extra_seeds": [],
        "extra_sizes": [],
    }
    write_json(folder / "study.json", {"arm": [arm]})
    (tmp_path / "runs" / "r59").mkdir(parents=True)
    write_json(tmp_path / "runs" / "r59" / "result.json", {"seconds": 2.0})
    with pytest.raises(AdviceError, match=r"'rhythm' means several; choose with --task .* ludb/rhythm, ptbxl/rhythm"):
        read(tmp_path, "toy", "rhythm")
    with pytest.raises(AdviceError, match="'age' is unknown"):
        read(tmp_path, "toy", "age")
    with pytest.raises(AdviceError, match="holds no law of other"):
        read(tmp_path, "other")
    question, (found,) = read(tmp_path, "toy", "ptbxl/rhythm")
    assert (question.label, found.name, found.supervised) == ("ptbxl/rhythm", "s4-cpc", False)
    assert found.flops_per_second == pytest.approx(run["C"].iloc[59] / 2)
    assert found.fit.params == known.fit.params
    assert grid(tmp_path, "toy", "s4-cpc") == ([1, 3], [2])
