"""The files of a study's fits: one each, with the pre-training corpus in the name only where there are several."""

from __future__ import annotations

from itertools import product

import pandas as pd

from ecgscale.study.fits import wanted


def table(*corpora: str) -> pd.DataFrame:
    """Return the test losses of one arm on 3 sizes and 3 data sizes, pre-trained on each corpus."""
    rows = [
        {
            "run": f"{corpus}-{n}-{d}", "cell": f"{n}-{d}", "branch": f"{corpus}-{n}", "seed": 0, "role": "grid",
            "metric": "loss", "part": "test", "value": 0.5 + 1 / n, "backbone": "s4", "objective": "supervised",
            "pretrain": corpus, "eval_corpus": ood or "simulated", "task": "simulated_all", "protocol": "linear",
            "checkpoint": "best", "unit": "nats", "split": "ood" if ood else "id", "N": float(n), "D": float(d),
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
