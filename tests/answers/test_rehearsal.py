"""A rehearsed grid says what it could have found: much on a wide one, little on a narrow one, nothing on two levels."""

from __future__ import annotations

import numpy as np
import pytest

from ecgscale.answers.families import AdviceError
from ecgscale.answers.rehearsal import Planted, planted_of, simulate


def runs(sizes: int, reach: float) -> tuple[list[float], list[float]]:
    n, d = np.meshgrid(np.geomspace(2e4, 2e4 * reach, sizes), np.geomspace(500, 64_000, 4))
    return n.ravel().tolist(), d.ravel().tolist()


def test_a_wide_grid_identifies_what_a_narrow_one_cannot() -> None:
    truth = Planted(0.4, 0.35, noise=0.03)
    wide, narrow = (simulate(*runs(4, reach), truth, simulations=5) for reach in (10_000, 2))
    assert wide.identified == 1
    assert narrow.identified < 0.5
    assert wide.factors["alpha"] < 1.5 < narrow.factors["alpha"]
    assert 1 < wide.factors["alpha"] < wide.detectable["alpha"] < narrow.detectable["alpha"]
    assert wide.held["alpha"] >= 0.6


def test_two_sizes_are_refused_and_exponents_come_from_the_papers_where_they_are_published() -> None:
    with pytest.raises(AdviceError, match="2 levels of N"):
        simulate(*runs(2, 100), Planted(0.4, 0.35))
    assert planted_of("resnet1d-supervised", 0.02, 0.3, None, None) == Planted(0.912, 0.39)
    with pytest.raises(AdviceError, match="no alpha was published for s4-cpc; give --alpha and --beta"):
        planted_of("s4-cpc", 0.02, 0.3, None, None)
