"""The next runs are those that a person would choose where it is obvious, and the expected interval is the real one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ecgscale.answers.families import AdviceError, Family
from ecgscale.answers.gap import gap_of
from ecgscale.answers.new_levels import new_levels
from ecgscale.answers.next_runs import HUBER, Cell, Design, cells_of, design_of, propose
from ecgscale.fitting import fit
from ecgscale.laws import Array
from ecgscale.laws.scaling import Scaling
from ecgscale.planning import loss

TRUTH = {"E": 0.2, "A": 3.0, "B": 5.0, "alpha": 0.3, "beta": 0.35}
NOISE = 0.01


def runs_at(sizes: Array, records: Array) -> pd.DataFrame:
    n, d = (a.ravel() for a in np.meshgrid(sizes, records))
    return pd.DataFrame({"N": n, "D": d})


def design(runs: pd.DataFrame, place: tuple[float, float] | None = None) -> Design:
    """Return the design of planted truths that scatter a little."""
    rng = np.random.default_rng(0)
    samples = {name: value * np.exp(0.05 * rng.standard_normal(200)) for name, value in TRUTH.items()}
    return Design(samples, runs, NOISE, place)


SMALL = runs_at(np.geomspace(2e4, 1e5, 3), np.geomspace(500, 64_000, 5))


def test_at_equal_cost_the_informative_cell_comes_first() -> None:
    """All sizes so far are small and N moves the loss: one large model says more than a sixteenth small one."""
    cells = [Cell("f", n, d, 1.0) for n in (2e4, 1e5, 2e6) for d in (500.0, 64_000.0)]
    found = propose({"f": design(SMALL)}, cells, 3.0)
    assert found.picks[0].cell == Cell("f", 2e6, 64_000.0, 1.0)
    assert found.after["f"]["alpha"] < found.before["f"]["alpha"]
    assert [p.spent for p in found.picks] == [1.0, 2.0, 3.0]


def test_cost_counts_and_no_cell_is_repeated_too_often() -> None:
    cells = [Cell("f", 2e6, 64_000.0, 1000.0), Cell("f", 1e5, 64_000.0, 1.0)]
    found = propose({"f": design(SMALL)}, cells, 100.0, repeats=4)
    assert [p.cell.N for p in found.picks] == [1e5] * 4
    with pytest.raises(AdviceError, match=r"no cell fits into 0\.5: the cheapest costs 1"):
        propose({"f": design(SMALL)}, cells, 0.5)


def test_the_family_and_the_place_that_are_not_known_get_the_runs() -> None:
    wide = runs_at(np.geomspace(2e4, 2e7, 8), np.geomspace(500, 5e5, 8))
    cells = [Cell(f, n, 64_000.0, 1.0) for f in ("known", "unknown") for n in (2e4, 2e6)]
    found = propose({"known": design(wide), "unknown": design(SMALL)}, cells, 2.0)
    assert {p.cell.family for p in found.picks} == {"unknown"}
    there = propose({"known": design(wide, (2e4, 64_000.0))}, cells[:2], 1.0)
    assert there.picks[0].cell.N == 2e4
    assert there.needed == 0


def study(name: str, seed: int, **truth: float) -> Family:
    """Return a family of a small grid whose runs took seconds in proportion to N D."""
    runs = runs_at(np.geomspace(2e4, 2e5, 4), np.geomspace(500, 8_000, 4))
    noise = np.exp(0.02 * np.random.default_rng(seed).standard_normal(len(runs)))
    frame = runs.assign(value=loss(TRUTH | truth, runs["N"], runs["D"]) * noise)
    return Family(name, fit(Scaling(), frame, bootstraps=100), runs=runs.assign(seconds=1e-7 * runs["N"] * runs["D"]))


GRID = ((2e4, 43_000, 93_000, 2e5), (500, 1260, 3175, 8_000))


def test_new_levels_are_the_grids_own_steps_with_a_price() -> None:
    family = study("f", 1)
    levels = {(x.axis, x.where): x for x in new_levels(family, design_of(family), *GRID)}
    assert set(levels) == {(a, w) for a in "ND" for w in ("above", "below")}  # no gap inside is wider than a step
    above = levels["N", "above"]
    assert above.value == pytest.approx(2e5 * 10 ** (1 / 3), rel=0.02)
    assert sorted(c.D for c in above.cells) == list(map(float, GRID[1]))
    assert above.cost == pytest.approx(1e-7 * above.value * sum(GRID[1]) / 3600, rel=0.05)
    assert above.factors["alpha"] < design_of(family).factors()["alpha"]
    order = [x.gain for x in new_levels(family, design_of(family), *GRID)]
    assert order == sorted(order, reverse=True)
    torn = new_levels(family, design_of(family), (2e4, 2e5), GRID[1])
    assert [x.value for x in torn if (x.axis, x.where) == ("N", "between")] == [63_000]


def test_a_gap_says_how_many_runs_would_tell_two_families_apart() -> None:
    best, near, far = study("best", 1), study("near", 2, A=3.06), study("far", 3, A=6.0)
    grids = dict.fromkeys(("best", "near", "far", "same"), GRID)
    clear = gap_of([far, best], grids)
    assert clear is not None and (clear.first, clear.second, clear.runs) == ("best", "far", 0)
    assert clear.place == (2e5, 8_000) and clear.interval[0] > 1
    close = gap_of([near, best], grids)
    assert close is not None and {close.first, close.second} == {"best", "near"}
    assert close.interval[0] < 1 < close.interval[1]
    assert close.runs > 0
    few = gap_of([near, best], grids, repeats=1)
    assert few is not None and few.runs >= close.runs
    assert gap_of([best], grids) is None


def test_expected_intervals_are_those_of_refits_and_hours_follow_measured_times() -> None:
    runs = pd.concat([runs_at(np.geomspace(2e4, 2e6, 5), np.geomspace(500, 64_000, 5))] * 2, ignore_index=True)
    noise = np.exp(NOISE * np.random.default_rng(1).standard_normal(len(runs)))
    fitted = fit(Scaling(), runs.assign(value=loss(TRUTH, runs["N"], runs["D"]) * noise), bootstraps=200)
    family = Family("f", fitted, runs=runs.assign(seconds=1e-3 * runs["N"] ** 0.9 * runs["D"] ** 0.1))
    for name, factor in design_of(family).factors().items():
        lo, hi = fitted.intervals[name]
        assert np.log(factor) == pytest.approx(np.log(hi / lo) / 2, rel=0.4)
    assert design_of(family).noise == pytest.approx(NOISE * HUBER, rel=0.3)
    (cell,) = cells_of(family, [4e6], [1e5])
    assert cell.cost == pytest.approx(1e-3 * 4e6**0.9 * 1e5**0.1 / 3600)
    (near,) = cells_of(family, [2.1e6], [1e5])
    assert pytest.approx(2e6) == near.N
