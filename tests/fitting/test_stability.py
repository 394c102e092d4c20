"""Rollouts, leverage, refits under changes and the comparison of forms, on points whose law is planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ecgscale.fitting.engine import optimise
from ecgscale.fitting.forms import compare_forms, usual_forms
from ecgscale.fitting.points import problem_of
from ecgscale.fitting.stability import leverages, rollout, sensitivity
from ecgscale.laws.broken import Broken
from ecgscale.laws.kaplan import Kaplan
from ecgscale.laws.power import Power
from ecgscale.laws.scaling import Scaling


def grid(noise: float = 0.0, law: str = "scaling") -> pd.DataFrame:
    n, d = (np.tile(a.ravel(), 2) for a in np.meshgrid(np.geomspace(2e4, 2e7, 5), np.geomspace(250, 256000, 5)))
    x = {"N": n, "D": d}
    if law == "kaplan":
        clean = Kaplan().predict(x, {"A": 8.0, "balance": 4.0, "alpha": 0.25, "beta": 0.3})
    else:
        clean = Scaling().predict(x, {"E": 0.2, "A": 3.0, "B": 5.0, "alpha": 0.3, "beta": 0.35})
    value = clean * np.exp(noise * np.random.default_rng(0).standard_normal(len(n)))
    return pd.DataFrame({**x, "value": value, "seed": np.repeat([0, 1], 25)})


def test_a_rollout_of_exact_points_predicts_every_next_level() -> None:
    problem = problem_of(Scaling(), grid())[0]
    table = rollout(problem, optimise(problem))
    assert table.groupby("input").size().to_dict() == {"D": 2, "N": 2}
    assert (table["level"] > table["fitted_to"]).all()
    assert table["n"].tolist() == [10] * 4
    assert table["error"].max() < 1e-6


def test_a_law_of_the_wrong_form_is_biased_ahead() -> None:
    x = np.geomspace(1e3, 1e7, 8)
    params = {"E": 0.0, "A": 2.0, "alpha": 0.1, "alpha_after": 0.6, "x_break": 3e5}
    frame = pd.DataFrame({"N": x, "value": Broken().predict({"N": x}, params)})
    problem = problem_of(Power(), frame)[0]
    table = rollout(problem, optimise(problem))
    assert table.loc[table["level"] > 1e6, "bias"].min() > 0.2


def test_leverages_sum_to_the_parameters_and_corners_pull_most() -> None:
    problem = problem_of(Scaling(), grid(0.01), objective="ls_log")[0]
    table = leverages(problem, optimise(problem))
    assert table["leverage"].sum() == pytest.approx(5.0)
    assert table["leverage"].between(0, 1).all()
    top = table.iloc[0]
    assert top["N"] in (2e4, pytest.approx(2e7))
    assert top["D"] in (250, pytest.approx(256000))


def test_every_change_is_named_and_none_moves_exact_points() -> None:
    table = sensitivity(Scaling(), grid().assign(N_total=lambda f: 2 * f["N"]))
    changes = table["change"].tolist()
    assert changes[:3] == ["as fitted", "least squares of log loss", "least squares of loss"]
    assert {"without seed 0", "without seed 1", "without N = 20000", "without D = 250", "N counted as N_total"} <= set(
        changes
    )
    assert len(changes) == 3 + 2 + 5 + 5 + 1
    assert table["shift"].max() < 1e-4
    assert table["A"].iloc[-1] == pytest.approx(3.0 * 2**0.3, rel=1e-4)


def test_one_wild_seed_shows_in_the_refit_without_it() -> None:
    frame = grid(0.001)
    wild = frame["seed"] == 1
    frame.loc[wild, "value"] *= (frame.loc[wild, "N"] / 2e4) ** 0.05
    table = sensitivity(Scaling(), frame).set_index("change")
    assert table.loc["without seed 1", "alpha"] == pytest.approx(0.3, abs=0.02)
    assert table.loc["without seed 1", "shift"] > 0.1


@pytest.mark.parametrize("law", ["scaling", "kaplan"])
def test_the_planted_form_wins(law: str) -> None:
    table = compare_forms(grid(0.002, law).query("seed == 0"), usual_forms("N", "D"))
    assert sorted(table["form"]) == ["kaplan", "scaling", "scaling, no floor"]
    assert table["form"].iloc[0] == law
    assert table.set_index("form").loc[law, "bic"] == 0
    assert sorted(table["aicc"])[1] > 4


def test_forms_of_one_input_are_four() -> None:
    x = np.geomspace(1e3, 1e6, 9)
    frame = pd.DataFrame({"D": x, "value": (0.3 + 9 * x**-0.5) * np.exp(0.002 * np.sin(np.arange(9) * 2.5))})
    table = compare_forms(frame, usual_forms("D"))
    assert len(table) == 4
    assert table.set_index("form").loc["power, no floor", "aicc"] > 4
    assert table.set_index("form").loc["power", "parameters"] == 3
    with pytest.raises(ValueError, match="no usual forms"):
        usual_forms("labels")
