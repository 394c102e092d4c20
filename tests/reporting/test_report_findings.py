"""What a report says in words and tables follows from the rows, and says so when the rows cannot tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ecgscale.reporting import ReportError, ReportInput, curves, rows, tables
from ecgscale.reporting.findings import sentences, standings

Build = Callable[..., ReportInput]


def said(report: ReportInput) -> str:
    return " ".join(sentences(report, rows.prepare(report)))


def test_planted_winner_is_named_with_its_interval(make_report: Build) -> None:
    report = make_report()
    text = sentences(report, rows.prepare(report))[0]
    table = rows.prepare(report)
    top = table[(table["family"] == "resnet1d-supervised") & (table["N"] == 101_700) & (table["D"] == 4000)]
    value = top[(top["task"] == "simulated_af") & (top["eval_corpus"] == "world_b") & (top["metric"] == "loss")][
        "value"
    ].iloc[0]
    assert text.startswith("resnet1d · supervised has the lowest loss on 4 of 4")
    assert f"{value:.3f} (" in text


def test_overlapping_intervals_cannot_tell(make_report: Build) -> None:
    report = make_report()
    wide = report.table.assign(lo=report.table["value"] - 9, hi=report.table["value"] + 9)
    report = replace(report, table=wide)
    assert "Which family is best cannot be told" in said(report)
    won = standings(rows.comparable(rows.prepare(report)), "loss")
    assert not won["settled"].any() and set(won["beats_random"]) == {"cannot tell"}


def test_family_that_never_beats_random_weights_is_called_out(make_report: Build) -> None:
    assert "resnet1d · cmsc beats random weights of the same size on no task" in said(make_report())


def test_seed_and_cell_of_the_comparison_are_chosen_without_results(make_report: Build) -> None:
    table = rows.prepare(make_report())
    chosen = rows.comparable(table)
    grid = chosen[chosen["kind"] == "grid"].drop_duplicates("run")
    assert (grid[["N", "D", "seed"]].to_numpy() == [101_700, 4000, 0]).all() and len(grid) == 4
    assert set(chosen.loc[chosen["kind"] == "random", "N"]) == {101_700}
    reversed_scores = table.assign(value=-table["value"])
    assert set(rows.comparable(reversed_scores)["run"]) == set(chosen["run"])


def test_best_is_marked_and_ties_are_those_that_overlap() -> None:
    here = pd.DataFrame(
        {"who": ["a", "b", "c"], "value": [0.5, 0.6, 0.9], "lo": [0.4, 0.55, 0.85], "hi": [0.58, 0.65, 0.95]}
    )
    assert tables.best_and_ties(here, "loss") == {"a": "best", "b": "tie"}
    assert tables.best_and_ties(here, "auroc") == {"c": "best"}


def test_test_part_and_best_checkpoint_come_first() -> None:
    base = dict.fromkeys(rows.COLUMNS) | {
        "run": "r",
        "eval_corpus": "w",
        "task": "t",
        "protocol": "linear",
        "split": "id",
    }
    base |= {
        "metric": "loss",
        "step": 1.0,
        "role": "grid",
        "backbone": "b",
        "objective": "o",
        "N": 1,
        "D": 1,
        "seed": 0,
    }
    variants = [("validation", "best", 1.0), ("test", "last", 2.0), ("test", "best", 3.0), ("train", "best", 4.0)]
    frame = pd.DataFrame([base | {"part": p, "checkpoint": c, "value": v} for p, c, v in variants])
    table = rows.prepare(ReportInput(study={"name": "s"}, command="", table=frame))
    assert list(rows.measured(table)["value"]) == [3.0]


def test_second_pretraining_corpus_is_a_family_of_its_own(make_report: Build) -> None:
    report = make_report()
    arm = report.table[(report.table["objective"] == "supervised") & (report.table["D"] == 250)]
    arm = arm.assign(pretrain="world_a.mV", run=arm["run"] + "mV")
    table = rows.prepare(replace(report, table=pd.concat([report.table, arm], ignore_index=True)))
    names = rows.families(table)
    assert "resnet1d-supervised" in names and "resnet1d-supervised (world_a.mV)" in names and len(names) == 6


def test_exponents_are_read_only_where_their_input_scales() -> None:
    fit = {"law": {"name": "scaling"}, "params": {}, "status": "converged", "verdict": "scales"}
    fit["verdicts"] = {"N": {"verdict": "cannot tell"}, "D": {"verdict": "scales"}}
    assert (
        curves.input_of(fit, "alpha") == "N"
        and curves.input_of(fit, "beta") == "D"
        and curves.input_of(fit, "E") is None
    )
    assert not curves.scales(fit, "N") and curves.scales(fit, "D") and curves.scales(fit)
    flat = {"verdict": "does not"}
    assert curves.told(flat) and not curves.scales(flat)


def test_curve_and_band_are_those_of_the_law() -> None:
    params = {"E": 0.1, "A": 2.0, "B": 3.0, "alpha": 0.3, "beta": 0.4}
    samples = {k: [v] * 50 for k, v in params.items()}
    x = np.array([100.0, 1000.0])
    fit = {"law": {"name": "scaling"}, "params": params, "samples": samples}
    line = curves.curve(fit, "D", x, {"N": 5e4})
    expected = 0.1 + 2.0 * 5e4**-0.3 + 3.0 * x**-0.4
    np.testing.assert_allclose(line[["value", "lo", "hi"]].to_numpy(), np.stack([expected] * 3, axis=1), rtol=1e-12)
    few = curves.curve(fit | {"samples": {k: v[:5] for k, v in samples.items()}}, "D", x, {"N": 5e4})
    assert few["lo"].isna().all() and few["value"].notna().all()


def test_unknown_law_draws_no_curve() -> None:
    assert curves.curve({"law": {"name": "nowhere"}, "params": {}}, "N", np.array([1.0]), {}).empty


def test_no_law_no_claim(make_report: Build) -> None:
    assert "No law was fitted" in said(make_report(fits=[]))


def test_waiting_runs_are_not_called_failed(make_report: Build) -> None:
    report = make_report()
    status = report.table["status"].where(report.table["value"].notna(), "waiting")
    report = replace(report, table=report.table.assign(status=status))
    assert "1 not run yet" in said(report) and "1 failed" not in said(report)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"study": {"title": "x"}}, "has no `name`"),
        ({"table": pd.DataFrame({"run": ["a"]})}, 'the table of study "made_up" lacks seed, role'),
    ],
)
def test_bad_input_is_one_sentence(make_report: Build, change: dict, message: str) -> None:
    with pytest.raises(ReportError, match=message) as error:
        rows.prepare(replace(make_report(), **change))
    assert "\n" not in str(error.value)


def test_empty_table_and_text_where_a_number_belongs(make_report: Build) -> None:
    report = make_report()
    with pytest.raises(ReportError, match="has no rows; run `ecgscale run made_up` first"):
        rows.prepare(replace(report, table=report.table.iloc[:0]))
    with pytest.raises(ReportError, match="column N of the table"):
        rows.prepare(replace(report, table=report.table.assign(N="many")))


def with_arms(report: ReportInput, better: float) -> ReportInput:
    """The report with two trained arms beside the grid, on world_b as it is and in mV; in mV the loss is `better`."""
    grid = report.table[(report.table["N"] == 43_210) & (report.table["D"] == 1000) & (report.table["role"] == "grid")]
    grid = grid[(grid["objective"] == "supervised") & (grid["eval_corpus"] == "world_b")]
    plain = grid.assign(role="baseline", run=grid["run"] + "z", pretrain="world_b")
    moved = {name: plain[name] - better for name in ("value", "lo", "hi")}
    other = plain.assign(run=plain["run"] + "mV", pretrain="world_b.mV", eval_corpus="world_b.mV", **moved)
    corpora = [*report.corpora[:1], {**report.corpora[1], "unit": "z_record_lead"}]
    corpora.append({**report.corpora[1], "name": "world_b.mV", "unit": "mV"})
    table = pd.concat([report.table, plain, other], ignore_index=True)
    return replace(report, table=table, corpora=corpora)


@pytest.mark.parametrize(("better", "reading"), [(0.3, "mV better"), (-0.3, "z-score better"), (0.001, "cannot tell")])
def test_forms_of_the_signal_are_compared_on_the_same_models(make_report: Build, better: float, reading: str) -> None:
    report = with_arms(make_report(), better)
    found = rows.forms(report, rows.prepare(report))
    assert set(found["form"]) == {"z-score", "mV"} and set(found["kind"]) == {"arm"}
    loss, _ = tables.forms(found)
    assert loss.head[2:4] == ("loss, z-score", "loss, mV") and len(loss.rows) == 4
    assert {row[-1].text for row in loss.rows} == {reading}
    assert loss.rows[0][-2].text.count(",") == 1  # a difference by seed
    assert "mV against z-score, same models and records: of 4 comparisons by loss" in said(report)


def test_arms_are_neither_random_weights_nor_contestants(make_report: Build) -> None:
    report = with_arms(make_report(), 0.3)
    table = rows.prepare(report)
    assert set(table.loc[table["kind"] == "random", "objective"]) == {"random"}
    assert set(rows.comparable(table)["run"]) == set(rows.comparable(rows.prepare(make_report()))["run"])
    named = {row[0].text for row in tables.grid(table).rows}
    assert {"resnet1d · supervised (world_b)", "resnet1d · supervised (world_b.mV)"} <= named


def test_a_baseline_with_the_best_loss_is_said(make_report: Build) -> None:
    report = make_report()
    hand = report.table["backbone"] == "handcrafted"
    lower = report.table.assign(value=report.table["value"].where(~hand, report.table["value"] - 0.5))
    assert "A baseline has the best loss of all" not in said(report)
    assert "hand-crafted features on 4 of 4" in said(replace(report, table=lower))


def test_ahead_of_random_weights_is_the_paired_difference(make_report: Build) -> None:
    report = make_report()
    worse = (report.table["metric"] == rows.PAIRED) & (report.table["backbone"] == "resnet1d")
    table = report.table.assign(**{k: report.table[k].where(~worse, 0.2) for k in ("value", "lo", "hi")})
    won = standings(rows.comparable(rows.prepare(replace(report, table=table))), "loss")
    seen = won.set_index("eval_corpus")["beats_random"]
    assert set(seen["world_b"]) == {"no"} and set(seen["world_c"]) == {"yes"}  # the paired rows are of world_b
