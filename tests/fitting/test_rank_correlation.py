"""The interval of a rank correlation covers the truth, and says nothing where there is nothing to say."""

from __future__ import annotations

import numpy as np
import pytest

from ecgscale.fitting.rank_correlation import rank_correlation


@pytest.mark.parametrize("r", [0.0, 0.6])
def test_the_interval_covers_the_truth_of_normal_pairs(r: float) -> None:
    truth = 6 / np.pi * np.arcsin(r / 2)  # Spearman's of a normal pair
    rng = np.random.default_rng(4)
    pairs = rng.multivariate_normal([0, 0], [[1, r], [r, 1]], size=(400, 20))
    found = [rank_correlation(*pair.T) for pair in pairs]
    assert 0.92 <= np.mean([c.lo <= truth <= c.hi for c in found]) <= 0.985


def test_order_is_all_that_counts_and_few_or_equal_points_say_nothing() -> None:
    x = np.arange(1, 10.0)
    assert rank_correlation(x, np.exp(x))[0] == pytest.approx(1) and rank_correlation(x, -(x**3))[0] == pytest.approx(
        -1
    )
    assert rank_correlation(x, x).lo > 0.9
    few = rank_correlation(x[:7], x[:7])
    assert few.rho == pytest.approx(1) and np.isnan(few.lo) and few.n == 7
    assert np.isnan(rank_correlation(x, np.ones(9)).rho) and np.isnan(rank_correlation([1, 2], [1, 2]).rho)
    with pytest.raises(ValueError, match="as many x as y"):
        rank_correlation([1, 2], [1])
