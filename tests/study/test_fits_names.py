"""The files of a study's fits: one each, with the pre-training corpus in the name only where there are several."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pandas as pd

from ecgscale.lab import Lab
from ecgscale.study.fits import fit_all, wanted


def table(*corpora: str) -> pd.DataFrame:
    """Return the test losses of one arm on 3 sizes and 3 data sizes, pre-trained on each corpus."""
    rows = [
        {
            "run": f"{corpus}-{n}-{d}", "cell": f"{n}-{d}", "branch": f"{corpus}-{n}", "seed": 0, "role": "grid",
            "metric": "loss", "part": "test", "value": 0.5 + 1 / n, "backbone": "s4", "objective": "supervised",
            "pretrain": corpus, "eval_corpus": ood or "simulated", "task": "simulated_all", "protocol": "linear",
            "checkpoint": "best", "unit": "nats", "split": "ood" if ood else "id", "N": float(n), "D": float(d),
            "seen": 1000.0,
        }
        for corpus, n, d, ood in product(corpora, (10, 20, 40), (100, 200, 400), ("", "ludb"))
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_one_corpus_keeps_the_short_names() -> None:
    names = {want.file for want in wanted(table("ptbxl"), {})}
    assert "scaling.s4-supervised.ludb.simulated_all.linear.json" in names
    assert "transfer-id-probe.s4-supervised.ludb.simulated_all.linear.json" in names


def test_two_corpora_have_files_of_their_own() -> None:
    fits = wanted(table("ptbxl", "code15"), {})
    names = [want.file for want in fits]
    assert len(set(names)) == len(names) == 2 * len(wanted(table("ptbxl"), {}))
    assert "scaling.s4-supervised-code15.ludb.simulated_all.linear.json" in names
    assert all(want.meta["pretrain"] in want.file for want in fits)


def test_a_corpus_of_rows_that_no_law_reads_leaves_names_alone() -> None:
    other = table("code15").assign(role="tune")
    names = {want.file for want in wanted(pd.concat([table("ptbxl"), other]), {})}
    assert names == {want.file for want in wanted(table("ptbxl"), {})}


def test_a_fit_names_the_familys_objective_apart_from_its_own(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.study("x").mkdir(parents=True, exist_ok=True)
    rows = table("ptbxl")
    dumps = fit_all(rows[rows["eval_corpus"] == "simulated"], {}, lab, "x", 40, None)
    assert {d["pretraining"] for d in dumps} == {"supervised"}
    assert {d["objective"] for d in dumps} == {"huber_log"}
    assert {d["family"] for d in dumps} == {"s4-supervised"}


def test_repeats_are_asked_for_where_records_drawn_have_levels_of_their_own() -> None:
    rows = table("ptbxl")
    ends = [rows.assign(seen=float(s), role="grid" if s == 800 else "branch") for s in (200, 400, 800)]
    several = pd.concat(ends)
    names = [want.file for want in wanted(several, {}) if want.meta["law_name"] == "data_constrained"]
    assert names == ["data_constrained.s4-supervised.simulated.simulated_all.linear.json"]  # once a family
    assert not [want for want in wanted(rows, {}) if want.meta["law_name"] == "data_constrained"]
    one = several.assign(D=several["seen"])  # one pass each: new records and no repeats
    assert not [want for want in wanted(one, {}) if want.meta["law_name"] == "data_constrained"]


def test_learning_curves_are_of_the_largest_runs_and_of_random_weights() -> None:
    few = [
        table("ptbxl").assign(label_fraction=f, labelled=80 * f, protocol=name)
        for f, name in ((1.0, "linear"), (0.5, "linear-1of2"), (0.25, "linear-1of4"))
    ]
    rows = pd.concat(few)
    random = rows[rows["D"] == 100].assign(role="baseline", objective="random", pretrain="", D=0.0)
    fits = [w for w in wanted(pd.concat([rows, random]), {}) if w.meta["law_name"] == "learning_curve"]
    assert [w.family for w in fits] == ["s4-random", "s4-random", "s4-supervised", "s4-supervised"]
    assert {w.meta["protocol"] for w in fits} == {"linear"}
    for want in fits:
        assert sorted(want.frame["labelled"]) == [20.0, 40.0, 80.0]
        assert (want.frame["value"] == 0.5 + 1 / 40).all()
