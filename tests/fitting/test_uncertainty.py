"""What a resample keeps: every level of N and D, trunks in one piece, and the spread that a formula gives."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ecgscale.fitting import uncertainty
from ecgscale.fitting.engine import optimise
from ecgscale.fitting.problem import Problem
from ecgscale.laws.power import Power
from ecgscale.laws.scaling import Scaling
from ecgscale.laws.transfer import Transfer
from ecgscale.rng import generator


def table(seeds: int, noise: float = 0.02, draw: int = 0) -> tuple[Problem, pd.DataFrame]:
    n, d = (a.ravel() for a in np.meshgrid(np.geomspace(2e4, 2e6, 4), np.geomspace(250, 64000, 5)))
    frame = pd.DataFrame({"N": np.tile(n, seeds), "D": np.tile(d, seeds), "seed": np.repeat(np.arange(seeds), 20)})
    clean = 0.2 + 3 * frame["N"] ** -0.3 + 5 * frame["D"] ** -0.35
    frame["value"] = clean * np.exp(noise * np.random.default_rng(draw).standard_normal(len(frame)))
    return Problem(Scaling(), {c: frame[c].to_numpy() for c in "ND"}, frame["value"].to_numpy()), frame


def moved(problem: Problem, frame: pd.DataFrame, draws: int = 4000) -> tuple[np.ndarray, list[str]]:
    strata = uncertainty.units_of(problem, frame)
    y, levels = uncertainty._move_targets(problem, optimise(problem), strata, draws, generator(0, "test"))
    return np.log(y * problem.scale), levels


def test_seeds_of_a_cell_give_the_standard_error_of_its_mean() -> None:
    problem, frame = table(seeds=3)
    y, levels = moved(problem, frame)
    assert levels == ["seed"]
    cell = (frame["N"] == frame["N"].min()) & (frame["D"] == frame["D"].max())
    logs = np.log(frame.loc[cell, "value"].to_numpy())
    means = y[:, np.flatnonzero(cell)].mean(axis=1)
    assert means.mean() == pytest.approx(logs.mean(), abs=3e-3)
    assert means.std() == pytest.approx(logs.std(ddof=1) / np.sqrt(3), rel=0.08)


def test_a_lone_run_moves_around_the_curve_by_its_residual() -> None:
    problem, frame = table(seeds=1)
    y, levels = moved(problem, frame)
    assert levels == ["run"]
    assert all(len(np.unique(y[:, i].round(9))) == 2 for i in range(y.shape[1]))
    assert np.abs(np.corrcoef(y.T) - np.eye(y.shape[1])).max() < 0.1


def test_points_of_one_trunk_move_together() -> None:
    problem, frame = table(seeds=1)
    frame["branch"] = frame["N"].rank(method="dense").map(lambda k: f"trunk{k:.0f}")
    y, _ = moved(problem, frame)
    together = np.abs(np.corrcoef(y.T))
    same = frame["branch"].to_numpy()[:, None] == frame["branch"].to_numpy()
    assert together[same].min() > 0.999
    assert together[~same].max() < 0.1


def test_trunks_of_two_seeds_are_redrawn_whole() -> None:
    problem, frame = table(seeds=2)
    frame["branch"] = frame["N"].astype(str) + "/" + frame["seed"].astype(str)
    strata = uncertainty.units_of(problem, frame)
    assert len(strata) == 4
    assert all(len(units) == 2 and all(len(points) == 5 for points in units) for units in strata)


def test_runs_with_measured_inputs_keep_every_level() -> None:
    _, frame = table(seeds=2)
    problem = Problem(Transfer(), {"L_ID": frame["value"].to_numpy()}, frame["value"].to_numpy() ** 0.5)
    weight = uncertainty._draw_units(uncertainty.units_of(problem, frame), frame, 50, generator(1))
    assert (weight.sum(axis=1) == len(frame)).all()
    for column in ("N", "D"):
        for level in frame[column].unique():
            assert (weight[:, (frame[column] == level).to_numpy()].sum(axis=1) > 0).all()


def test_the_patients_widen_the_floor_and_not_the_exponents() -> None:
    problem, frame = table(seeds=2, noise=0.005)
    best = optimise(problem)
    plain, levels = uncertainty.bootstrap(problem, best, frame, 300, 0)
    assert levels == ("seed",)
    scored = frame.assign(lo=frame["value"] * np.exp(-0.196), hi=frame["value"] * np.exp(0.196))
    wide, levels = uncertainty.bootstrap(problem, best, scored, 300, 0)
    assert levels == ("seed", "patient")
    assert wide["beta"].std() == pytest.approx(plain["beta"].std(), rel=0.3)
    assert wide["B"].std() > 1.5 * plain["B"].std()


@pytest.mark.parametrize("seeds", [1, 2])
def test_intervals_cover_the_truth_about_as_often_as_they_say(seeds: int) -> None:
    """Of 40 intervals at 95 %, fewer than 33 hold the truth in 0.1 % of cases by chance; half as wide, about 27 do."""
    covered = {"alpha": 0, "beta": 0}
    for draw in range(40):
        problem, frame = table(seeds, noise=0.01, draw=draw)
        samples, _ = uncertainty.bootstrap(problem, optimise(problem, starts=8), frame, 100, draw)
        for name, truth in (("alpha", 0.3), ("beta", 0.35)):
            lo, hi = np.percentile(samples[name], [2.5, 97.5])
            covered[name] += bool(lo <= truth <= hi)
    assert min(covered.values()) >= 33, covered


def test_levels_of_one_axis_are_counted() -> None:
    x = np.repeat([1e3, 1e4], 6)
    assert "2 levels of D" in str(uncertainty.too_few(Problem(Power(input="D"), {"D": x}, 1 + x**-0.2)))
    x = np.repeat([1e3, 1e4, 1e5], 4)
    assert uncertainty.too_few(Problem(Power(input="D"), {"D": x}, 1 + x**-0.2)) is None
