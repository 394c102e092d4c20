"""Learning rates are searched alike for every family, the edge is widened once, and the trials stand in the table."""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgscale import api
from ecgscale.study.study import Study, StudyError
from ecgscale.study.tuning import search

SMOKE = (files("ecgscale") / "studies" / "smoke.toml").read_text()
FACTORS = (0.25, 1.0, 4.0)


def bowl(best: float):
    """A score whose lowest rate is `best`, in powers of four of 1e-3."""
    return lambda lr: (math.log(lr / best)) ** 2


def test_the_best_rate_inside_the_grid_is_taken() -> None:
    found = search(1e-3, FACTORS, bowl(1e-3))
    assert found.lr == 1e-3 and found.distance == 1 and not (found.extended or found.at_edge or found.waiting)
    assert list(found.trials) == [0.25e-3, 1e-3, 4e-3]


@pytest.mark.parametrize(("best", "lr"), [(0.25e-3, 0.25e-3), (4e-3, 4e-3)])
def test_a_best_rate_at_the_edge_widens_the_grid_by_one_trial(best: float, lr: float) -> None:
    found = search(1e-3, FACTORS, bowl(best))
    assert found.lr == pytest.approx(lr) and found.extended and len(found.trials) == 4
    assert found.distance == 1 and not found.at_edge


def test_a_best_rate_that_stays_at_the_edge_is_flagged() -> None:
    found = search(1e-3, FACTORS, bowl(1.0))
    assert found.lr == pytest.approx(16e-3) and found.at_edge and len(found.trials) == 4


def test_nothing_is_chosen_before_every_trial_has_a_score() -> None:
    found = search(1e-3, FACTORS, lambda lr: None if lr > 2e-3 else 1.0)
    assert found.waiting and found.lr is None and len(found.trials) == 3


def test_a_failed_trial_is_never_chosen_and_all_failed_choose_nothing() -> None:
    found = search(1e-3, FACTORS, lambda lr: math.inf if lr > 2e-3 else -lr)
    assert found.lr == 1e-3 and not found.waiting
    nothing = search(1e-3, FACTORS, lambda lr: math.inf)
    assert nothing.lr is None and not nothing.waiting


@given(st.floats(1e-5, 1.0), st.floats(-3, 3), st.integers(3, 6))
def test_the_rate_chosen_has_the_lowest_score(lr: float, away: float, trials: int) -> None:
    found = search(lr, tuple(3.0 ** (i - trials // 2) for i in range(trials)), bowl(lr * 3.0**away))
    scored = {k: v for k, v in found.trials.items() if v is not None}
    assert found.lr == min(scored, key=lambda k: scored[k])


TUNED = """
rates = "tuned"

[tune]
factors = [0.01, 1.0, 100.0]

[data]"""


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """The smoke study with two families and its rates searched."""
    folder = tmp_path_factory.mktemp("tuned")
    text = SMOKE.replace('rates = "packaged"\n', "").replace("\n[data]", TUNED, 1)
    text = text.replace(
        "sizes = [20_000, 30_000]", 'sizes = [20_000]\nfamilies = ["resnet1d-supervised", "resnet1d-mae"]'
    )
    text = text.replace('objective = { name = "cmsc" }', 'objective = { name = "mae" }')
    (folder / "study.toml").write_text(text)
    return folder, api.run(folder / "study.toml", folder / "lab", workers=2)


def test_every_family_has_the_same_trials_at_the_middle_D_and_the_grid_takes_the_best(
    tuned: tuple[Path, pd.DataFrame],
) -> None:
    folder, frame = tuned
    trials, grid = (frame[(frame["role"] == role) & (frame["task"] == "pretext")] for role in ("tune", "grid"))
    assert set(trials["D"]) == {160.0} and set(frame["status"]) == {"ok"}
    for family, here in trials[(trials["part"] == "validation") & (trials["checkpoint"] == "best")].groupby(
        "objective"
    ):
        assert here["lr"].nunique() in (3, 4)
        assert set(grid.loc[grid["objective"] == family, "lr"]) == {here.loc[here["value"].idxmin(), "lr"]}
    assert not frame.loc[frame["role"] == "tune", "metric"].eq("loss_minus_random").any()
    page = (folder / "lab" / "studies" / "smoke" / "report" / "index.html").read_text()
    assert "Learning rates" in page and "searched by this study" in page


def test_a_second_call_trains_nothing(tuned: tuple[Path, pd.DataFrame], capsys: pytest.CaptureFixture[str]) -> None:
    folder, frame = tuned
    again = api.run(folder / "study.toml", folder / "lab", workers=1)
    pd.testing.assert_frame_equal(frame, again)
    assert "trained 0 runs" in capsys.readouterr().err.replace("\n", " ")


def test_a_rate_that_no_rule_knows_is_refused(tmp_path: Path) -> None:
    text = SMOKE.replace("lr = 4e-3", 'lr = "published"').replace('{ name = "cmsc" }', '{ name = "mae" }')
    (tmp_path / "study.toml").write_text(text)
    with pytest.raises(StudyError, match=r"no published learning rate for resnet1d-mae"):
        api.run(tmp_path / "study.toml", tmp_path / "lab", workers=1)


def test_a_rule_must_be_known(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(SMOKE.replace("lr = 4e-3", 'lr = "guessed"'))
    with pytest.raises(StudyError, match="lr"):
        Study.load(tmp_path / "study.toml")
