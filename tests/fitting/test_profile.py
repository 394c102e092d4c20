"""Profile intervals: exact where the model is a straight line, and open where the points set no limit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ecgscale.fitting.problem import Problem
from ecgscale.fitting.profile import profile
from ecgscale.laws.power import Power
from ecgscale.laws.saturation import Saturation


def test_without_a_floor_the_interval_is_that_of_a_regression_line() -> None:
    """With E held at 0 log loss is a line in log x, whose t-interval is exact."""
    x = np.geomspace(1e3, 1e6, 10)
    y = 5 * x**-0.3 * np.exp(0.05 * np.random.default_rng(0).standard_normal(10))
    found = profile(Problem(Power(), {"N": x}, y, floor=0.0), "alpha")
    line = stats.linregress(np.log(x), np.log(y))
    reach = stats.t.ppf(0.975, 8) * line.stderr
    assert found.estimate == pytest.approx(-line.slope, rel=1e-6)
    assert (found.lo, found.hi) == pytest.approx((-line.slope - reach, -line.slope + reach), rel=2e-4)


def test_an_exponent_that_the_points_do_not_limit_has_an_open_interval() -> None:
    rng = np.random.default_rng(1)
    x = np.repeat(np.geomspace(1e3, 1e4, 4), 3)
    y = (0.5 + x**-0.2) * np.exp(0.05 * rng.standard_normal(12))
    found = profile(Problem(Power(), {"N": x}, y), "alpha")
    assert found.lo == -np.inf or found.hi == np.inf
    assert found.rises.min() >= -1e-6


def test_a_scale_has_no_profile() -> None:
    with pytest.raises(ValueError, match="no exponent 'x0'; choose one of alpha"):
        profile(Problem(Saturation(), {"N": np.arange(1.0, 9.0)}, np.ones(8)), "x0")
