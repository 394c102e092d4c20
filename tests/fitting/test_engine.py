"""The engine against brute force, against the direct engine, and on sub-models."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls

from ecgscale.fitting.direct import disagree, fit_direct
from ecgscale.fitting.engine import exponent_grid, optimise, project, resolve
from ecgscale.fitting.polish import polish
from ecgscale.fitting.problem import Problem
from ecgscale.laws.scaling import Scaling

TRUTH = {"E": 0.2, "A": 3.0, "B": 5.0, "alpha": 0.3, "beta": 0.35}


def problem(noise: float = 0.01, seed: int = 0, objective: str = "huber_log", **other: float) -> Problem:
    n, d = (a.ravel() for a in np.meshgrid(np.geomspace(2e4, 2e7, 6), np.geomspace(250, 256000, 10)))
    x = {"N": n, "D": d}
    y = Scaling().predict(x, {**TRUTH, **other})
    y = y * np.exp(noise * np.random.default_rng(seed).standard_normal(len(y)))
    return Problem(Scaling(), x, y, objective)  # type: ignore[arg-type]


def test_inner_problem_equals_scipy_nnls() -> None:
    p = problem(noise=0.3, seed=5)
    theta, y = exponent_grid(p, 30), (p.y / p.scale)[None]
    coefficients, error = project(p, theta, y)
    weight = p.scale / p.y
    for g in range(len(theta)):
        terms = p.terms(theta[g]).value.T * weight[:, None]
        expected, norm = nnls(terms, y[0] * weight)
        assert coefficients[g, 0] == pytest.approx(expected, abs=1e-8)
        assert error[g, 0] == pytest.approx(norm**2, rel=1e-8)


def test_inner_problem_with_weights_equals_repeated_points() -> None:
    p = problem(noise=0.1)
    times = np.random.default_rng(1).integers(1, 4, len(p.y))
    again = Problem(p.law, {k: np.repeat(v, times) for k, v in p.x.items()}, np.repeat(p.y, times))
    theta = np.array([[0.3, 0.35]])
    z = np.concatenate([project(p, theta, (p.y / p.scale)[None], times[None] * 1.0)[0][:, 0], theta], axis=1)
    other = np.concatenate([project(again, theta, (again.y / again.scale)[None])[0][:, 0], theta], axis=1)
    ours, theirs = p.unpack(z), again.unpack(other)
    for name in p.names:
        assert ours[name] == pytest.approx(theirs[name])


@pytest.mark.parametrize("objective", ["huber_log", "ls_log", "ls"])
def test_optimum_beats_its_neighbours_and_has_no_gradient(objective: str) -> None:
    p = problem(noise=0.02, objective=objective)
    best = optimise(p)
    y = p.y / p.scale
    rng = np.random.default_rng(2)
    near = best.z * np.exp(1e-3 * rng.standard_normal((500, len(best.z))))
    assert (p.value(near, y) >= p.value(best.z, y)).all()
    assert best.gradient < 1e-6
    assert best.spread < 1e-9


@pytest.mark.parametrize("objective", ["huber_log", "ls_log", "ls"])
def test_the_direct_engine_finds_the_same_minimum(objective: str) -> None:
    p = problem(noise=0.02, seed=3, objective=objective)
    best, check = optimise(p), fit_direct(p)
    value = float(p.value(best.z, p.y / p.scale))
    assert check.value == pytest.approx(value, rel=1e-4)
    assert check.z[3:] == pytest.approx(best.z[3:], rel=5e-3)
    assert not disagree(value, check.value)
    assert disagree(value * 1.01, check.value)


@pytest.mark.parametrize("absent", ["E", "A", "B"])
def test_an_absent_term_is_found_to_be_zero(absent: str) -> None:
    found = optimise(problem(noise=0.0, **{absent: 0.0}))
    params = problem(noise=0.0, **{absent: 0.0}).unpack(found.z)
    assert params[absent] == pytest.approx(0.0, abs=1e-6)
    for name in {"A": ("beta",), "B": ("alpha",), "E": ("alpha", "beta")}[absent]:
        assert params[name] == pytest.approx(TRUTH[name], rel=1e-4)


def test_a_floor_that_wants_to_be_negative_stops_at_zero() -> None:
    p = problem(noise=0.0)
    bent = Problem(p.law, p.x, p.y - 0.24)
    found = optimise(bent)
    assert found.z[0] == 0.0
    assert "E" in found.at_limit


def test_a_held_floor_stays() -> None:
    p = problem(noise=0.02)
    held = Problem(p.law, p.x, p.y, floor=0.15)
    found = optimise(held)
    params = held.unpack(found.z)
    assert params["E"] == pytest.approx(0.15, rel=1e-12)
    assert found.at_limit == ()
    assert found.value > optimise(p).value


def test_resamples_reach_the_minimum_that_many_starts_reach() -> None:
    p = problem(noise=0.02)
    best = optimise(p)
    y = p.y / p.scale * np.exp(0.03 * np.random.default_rng(4).standard_normal((12, len(p.y))))
    value = p.value(resolve(p, y, best.z), y)
    theta = exponent_grid(p, 64)
    for i in range(len(y)):
        start = np.concatenate([project(p, theta, y[i : i + 1])[0][:, 0], theta], axis=1)
        many = polish(p, np.repeat(y[i : i + 1], len(start), axis=0), start)
        assert value[i] == pytest.approx(many.value.min(), rel=1e-9)
