"""Families with parameters in common: one planted exponent is found once, two are told apart, and Holm's correction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ecgscale.fitting import LawFit, fit
from ecgscale.fitting.compare import detectable, differences, mean_ratio
from ecgscale.fitting.joint import joint
from ecgscale.fitting.problem import Problem
from ecgscale.holm import holm
from ecgscale.laws.power import Power

X = np.tile(np.geomspace(1e3, 1e6, 6), 3)


def family(alpha: float, seed: int, floor: float = 0.2, noise: float = 0.01) -> Problem:
    clean = floor + 0.5 * (X / X.min()) ** -alpha
    return Problem(Power(), {"N": X}, clean * np.exp(noise * np.random.default_rng(seed).standard_normal(len(X))))


def fitted(alpha: float, seed: int) -> LawFit:
    problem = family(alpha, seed)
    return fit(Power(), pd.DataFrame({"N": X, "value": problem.y}), bootstraps=200, seed=3)


def test_a_shared_exponent_is_a_compromise_and_is_not_refused() -> None:
    found = joint({"a": family(0.4, 0), "b": family(0.4, 1), "c": family(0.4, 2)}, ("alpha",))
    alone = [found.separate[name]["alpha"] for name in "abc"]
    assert min(alone) <= found.shared["alpha"] <= max(alone)
    assert found.shared["alpha"] == pytest.approx(0.4, abs=0.05)
    assert found.degrees == 2
    assert found.p > 0.05
    assert all(found.params[name]["alpha"] == pytest.approx(found.shared["alpha"]) for name in "abc")


def test_exponents_and_floors_that_differ_are_told_apart() -> None:
    assert joint({"a": family(0.3, 0), "b": family(0.8, 1)}, ("alpha",)).p < 1e-3
    floors = joint({"a": family(0.8, 0, floor=0.2), "b": family(0.8, 1, floor=0.3)}, ("E",))
    assert floors.p < 1e-3
    assert [p["E"] for p in floors.params.values()] == pytest.approx([floors.shared["E"]] * 2)


def test_two_parameters_are_shared_together() -> None:
    found = joint({"a": family(0.6, 0), "b": family(0.6, 1)}, ("alpha", "E"))
    assert (found.shared["alpha"], found.shared["E"]) == (pytest.approx(0.6, abs=0.1), pytest.approx(0.2, abs=0.03))
    assert found.degrees == 2
    assert found.p > 0.01


def test_the_test_is_right_as_often_as_it_says() -> None:
    """Of 12 tests at 5 % of what is true, more than 3 refuse it in 0.2 % of cases by chance."""
    p = [joint({"a": family(0.5, 2 * k), "b": family(0.5, 2 * k + 1)}, ("alpha",)).p for k in range(100, 112)]
    assert sum(v < 0.05 for v in p) <= 3
    assert np.mean(p) > 0.3


def test_what_cannot_be_shared_is_refused() -> None:
    a, b = family(0.3, 0), family(0.3, 1)
    with pytest.raises(ValueError, match="cannot share A; choose from alpha, E"):
        joint({"a": a, "b": b}, ("A",))
    with pytest.raises(ValueError, match="two families or more and one law, found 2 and 2"):
        joint({"a": a, "b": replace(b, law=Power(input="D"), x={"D": X})}, ("alpha",))


def test_pairs_are_compared_and_corrected_together() -> None:
    fits = {"a": fitted(0.3, 0), "b": fitted(0.3, 1), "c": fitted(0.9, 2)}
    ab, ac, bc = differences(fits, "alpha")
    assert ab.lo < 1 < ab.hi
    assert (ac.first, ac.second) == ("a", "c")
    assert ac.hi < 1
    assert ac.corrected == pytest.approx(min(1, 3 * ac.p), rel=0.5)
    assert bc.corrected < 0.05 < ab.corrected
    few = replace(fits["c"], status="too_few")
    assert [(d.first, d.second) for d in differences({**fits, "c": few}, "alpha")] == [("a", "b")]
    smallest = detectable(fits["a"], "alpha", fits["c"])
    assert 1 < detectable(fits["a"], "alpha", fits["c"], power=0.5) < smallest < 0.9 / 0.3
    assert detectable(replace(fits["a"], status="ill_conditioned"), "alpha") == np.inf


def test_one_task_that_makes_a_ratio_of_means_is_seen() -> None:
    a, b = fitted(0.3, 0), fitted(0.9, 2)
    found = mean_ratio({"t": a, "u": a, "v": b, "w": a}, {"t": a, "u": a, "v": a}, "alpha")
    assert found.tasks == ("t", "u", "v")
    alpha = {"a": a.params["alpha"], "b": b.params["alpha"]}
    assert found.ratio == pytest.approx((2 * alpha["a"] + alpha["b"]) / (3 * alpha["a"]))
    assert found.lo < found.ratio < found.hi
    assert found.without["v"] == pytest.approx(1.0)
    assert found.without["t"] > found.ratio
    with pytest.raises(ValueError, match="no task has resamples of beta"):
        mean_ratio({"t": a}, {"t": b}, "beta")


def test_holm_steps_down() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]).tolist() == []
