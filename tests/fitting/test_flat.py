"""Short, flat and noisy tables: nothing confident is said, nothing is infinite; a planted truth is still found."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ecgscale.fitting import LawFit, fit
from ecgscale.laws import Law
from ecgscale.laws.power import Power
from ecgscale.laws.scaling import Scaling
from ecgscale.laws.transfer import Transfer

LAWS = {"scaling": Scaling(), "power": Power(input="D"), "transfer": Transfer()}
SIZES = np.array([2e4, 6e4, 2e5])
DATA = np.array([250.0, 500.0, 1000.0, 2000.0, 4000.0])


def short(noise: float, seed: int = 0, beta: float = 0.0, seeds: int = 1) -> pd.DataFrame:
    """Return 15 points a seed, losses about 0.3 that fall as D^-beta, and in-distribution losses as noisy."""
    rng = np.random.default_rng(seed)
    n, d = (np.tile(a.ravel(), seeds) for a in np.meshgrid(SIZES, DATA))
    clean = 0.05 + 0.25 * (d / 250) ** -beta if beta else np.full(len(n), 0.3)
    value, near = (clean * np.exp(noise * rng.standard_normal(len(n))) for _ in range(2))
    return pd.DataFrame({"N": n, "D": d, "value": value, "L_ID": near, "seed": np.repeat(np.arange(seeds), 15)})


def sound(found: LawFit) -> None:
    assert all(np.isfinite(v) for v in found.params.values())
    assert all(np.isfinite(ends).all() and ends[0] <= ends[1] for ends in found.intervals.values())


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize("seed", range(3))
def test_fifteen_noisy_points_without_a_trend_give_no_exponent(law: Law, seed: int) -> None:
    found = fit(law, short(0.08, seed), bootstraps=100)
    sound(found)
    assert found.verdict != "scales"
    assert found.status in ("bound", "ill_conditioned")
    assert found.warnings


@pytest.mark.parametrize("law", [Scaling(), Power(input="N")], ids=["scaling", "power"])
def test_one_size_only_is_too_few(law: Law) -> None:
    found = fit(law, short(0.05).assign(N=2e4), bootstraps=100)
    sound(found)
    assert (found.status, found.verdict, found.intervals) == ("too_few", "cannot tell", {})


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_equal_values_are_no_law(law: Law) -> None:
    found = fit(law, short(0.05).assign(value=0.3), bootstraps=100)
    sound(found)
    assert found.verdict != "scales"
    assert found.status != "converged"
    assert found.predict(short(0.05)) == pytest.approx(0.3, rel=1e-6)


def test_seeds_that_disagree_more_than_cells_give_no_exponent() -> None:
    frame = short(0.005, beta=0.02, seeds=3)
    apart = frame.assign(value=frame["value"] * np.array([0.7, 1.0, 1.4])[frame["seed"]])
    for law in (Scaling(), Power(input="D")):
        found = fit(law, apart, bootstraps=100)
        sound(found)
        assert found.verdict != "scales"
        assert found.status != "converged"


def test_a_planted_exponent_is_found_on_as_few_points() -> None:
    found = fit(Power(input="D"), short(0.003, beta=0.8), bootstraps=200)
    sound(found)
    assert (found.status, found.verdict) == ("converged", "scales")
    assert found.intervals["alpha"][0] < 0.8 < found.intervals["alpha"][1]
    assert found.params["alpha"] == pytest.approx(0.8, abs=0.1)
