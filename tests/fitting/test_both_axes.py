"""Errors on both axes: the exact answer of a line, no pull of kappa towards zero, and refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ecgscale.fitting import fit
from ecgscale.fitting.both_axes import fit_both_axes, seed_errors
from ecgscale.laws.transfer import Transfer


def runs(seed: int, noise: float, count: int = 60, kappa: float = 0.5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    true = np.linspace(0.5, 0.9, count)
    other = 0.1 + 0.6 * (true - 0.3) ** kappa
    frame = pd.DataFrame({"s_id": noise * true, "s_ood": noise * other})
    frame["L_ID"] = true + frame["s_id"] * rng.standard_normal(count)
    return frame.assign(value=other + frame["s_ood"] * rng.standard_normal(count))


def test_with_kappa_one_it_is_the_line_of_equal_errors() -> None:
    """Equal errors and a line: the slope is that of the first principal component (Deming)."""
    rng = np.random.default_rng(0)
    true = np.linspace(1, 3, 40)
    frame = pd.DataFrame({"L_ID": true + 0.1 * rng.standard_normal(40), "s": 0.1})
    frame["value"] = 0.5 * true + 0.1 * rng.standard_normal(40)
    x, y = frame["L_ID"].to_numpy(), frame["value"].to_numpy()
    found = fit_both_axes(frame, E_id=0.0, E_ood=0.0, errors=("s", "s"), bootstraps=0)
    k, kappa = found.params["K"], found.params["kappa"]
    t = np.linspace(0.5, 4.0, 20001)
    apart = np.hypot(x[:, None] - t, y[:, None] - k * t**kappa).min(axis=1)
    for other_k, other_kappa in ((k * 1.01, kappa), (k, kappa * 1.02), (k * 0.99, kappa * 1.01)):
        other = np.hypot(x[:, None] - t, y[:, None] - other_k * t**other_kappa).min(axis=1)
        assert (apart**2).sum() < (other**2).sum()
    assert found.scatter == pytest.approx(np.sqrt((apart**2).sum() / 38) / 0.1, rel=1e-3)


def test_noise_on_the_axis_does_not_pull_kappa_down() -> None:
    both, one = [], []
    for seed in range(12):
        frame = runs(seed, 0.06)
        frame = frame[frame["L_ID"] > 0.35]
        both.append(fit_both_axes(frame, 0.3, 0.1, errors=("s_id", "s_ood"), bootstraps=0).params["kappa"])
        one.append(fit(Transfer(E_id=0.3), frame, floor=0.1, bootstraps=0, objective="ls_log").params["kappa"])
    assert np.mean(both) == pytest.approx(0.5, abs=0.02)
    assert np.mean(one) < 0.47


def test_intervals_hold_the_truth_and_a_fitted_floor_is_found() -> None:
    frame = runs(1, 0.01)
    found = fit_both_axes(frame, 0.3, None, errors=("s_id", "s_ood"), bootstraps=40)
    assert found.fitted == ("E_ood",)
    for name, truth in (("kappa", 0.5), ("E_ood", 0.1)):
        assert found.intervals[name][0] < truth < found.intervals[name][1]
    assert found.scatter == pytest.approx(1.0, abs=0.25)
    assert found.status == "converged"
    loose = fit_both_axes(runs(1, 0.02, count=20), None, None, errors=("s_id", "s_ood"), bootstraps=0)
    assert loose.status in ("ill_conditioned", "bound")


def test_errors_come_from_seeds() -> None:
    rng = np.random.default_rng(0)
    cells = pd.DataFrame({"N": np.repeat(np.geomspace(1e4, 1e6, 50), 4), "D": 1e4})
    frame = cells.assign(
        L_ID=cells["N"] ** -0.1 * np.exp(0.02 * rng.standard_normal(200)),
        value=cells["N"] ** -0.05 * np.exp(0.03 * rng.standard_normal(200)),
    )
    assert seed_errors(frame) == (pytest.approx(0.02, rel=0.15), pytest.approx(0.03, rel=0.15))
    assert fit_both_axes(frame, 0.0, 0.0, bootstraps=0).params["kappa"] == pytest.approx(0.5, abs=0.03)
    with pytest.raises(ValueError, match="no cell has two seeds"):
        fit_both_axes(frame.drop_duplicates("N"))
    with pytest.raises(ValueError, match="not above the floor E_id"):
        fit_both_axes(frame, E_id=0.9)
