"""What stands beside a family's law: the planted form predicts best, what was planted apart differs."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgscale.lab import Lab
from ecgscale.study import diagnosis
from ecgscale.study.diagnosis import Diagnosis, diagnosed

ALPHAS = {"slow": 0.2, "quick": 0.6}


def table(sizes: tuple[float, ...] = (2e4, 6e4, 2e5, 6e5)) -> pd.DataFrame:
    """Return two families on a grid with two seeds; their alphas differ, their betas do not."""
    rng = np.random.default_rng(0)
    cells = list(product(ALPHAS, sizes, (250.0, 1000.0, 4000.0, 16000.0), (0, 1)))
    rows = pd.DataFrame(cells, columns=["backbone", "N", "D", "seed"]).assign(
        run=range(len(cells)), role="grid", metric="loss", part="test", objective="supervised", pretrain="code",
        eval_corpus="code", task="all", protocol="linear", checkpoint="best", unit="nats", split="id",
        label_fraction=1.0,
    )  # fmt: skip
    alpha = rows["backbone"].map(ALPHAS)
    truth = 0.2 + 0.3 * (rows["N"] / 2e4) ** -alpha + 0.3 * (rows["D"] / 250) ** -0.4
    return rows.assign(N_total=rows["N"] + 5e3, value=truth * np.exp(0.004 * rng.standard_normal(len(rows))))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def found(lab: Lab) -> Diagnosis:
    return diagnosed(table(), lab, "x")


def test_the_planted_form_predicts_best(found: Diagnosis) -> None:
    joint = [r for r in found["forms"] if r["along"] == "N and D" and r["status"] == "compared"]
    for family in ("slow-supervised", "quick-supervised"):
        assert min((r for r in joint if r["family"] == family), key=lambda r: r["error"])["form"] == "scaling"
    few = {r["form"]: r["reason"] for r in found["forms"] if r["status"] == "too_few"}
    assert few == {"broken": "4 levels of D, 6 are needed"}


def test_only_the_exponent_that_was_planted_apart_differs(found: Diagnosis) -> None:
    shared = {r["exponent"]: r for r in found["shared"]}
    assert shared["alpha"]["corrected"] < 1e-3
    assert shared["beta"]["corrected"] > 0.05
    assert shared["beta"]["shared"] == pytest.approx(0.4, rel=0.15)


def test_exponents_are_fitted_again_with_the_other_count_of_size(found: Diagnosis) -> None:
    changes = {r["change"]: r for r in found["sensitivity"] if r["family"] == "quick-supervised"}
    assert {"as fitted", "without seed 0", "N counted as N_total"} <= set(changes)
    assert changes["N counted as N_total"]["alpha"] > changes["as fitted"]["alpha"]  # a head bends small sizes


def test_what_is_known_is_not_made_again(lab: Lab, found: Diagnosis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "compare_forms", None)
    assert diagnosed(table(), lab, "x") == found


def test_a_grid_that_is_too_small_is_said(tmp_path: Path) -> None:
    small = diagnosed(table(sizes=(2e4, 6e4)), Lab(tmp_path), "x")
    assert small["sensitivity"] == small["shared"] == []
    assert {r["status"] for r in small["forms"] if r["along"] == "N and D"} == {"too_few"}
