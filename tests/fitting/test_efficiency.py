"""A planted factor of labels is found, its interval covers it, and what the curves do not reach is said."""

from __future__ import annotations

import numpy as np
import pytest

from ecgscale.fitting.efficiency import falling, labels_saved
from ecgscale.fitting.resample import Measured, resample
from ecgscale.rng import generator

LABELS = 2000 * 2.0 ** np.arange(-7, 1)


def loss(labels: np.ndarray, floor: float = 0.1) -> np.ndarray:
    return floor + 2.0 * labels**-0.3


def saved(own: np.ndarray, scratch: np.ndarray, fewest: bool = False) -> tuple[float, str | None]:
    found = labels_saved(LABELS, own, own[None], LABELS, scratch, scratch[None], fewest)
    return found.value, found.bound


def test_a_factor_without_noise_is_exact_up_to_interpolation_and_turns_with_the_curves() -> None:
    assert saved(loss(8 * LABELS), loss(LABELS)) == (pytest.approx(8, rel=1e-9), None)
    assert saved(loss(LABELS), loss(8 * LABELS)) == (pytest.approx(1 / 8, rel=1e-9), None)
    assert saved(loss(3 * LABELS), loss(LABELS)) == (pytest.approx(3, rel=0.02), None)
    assert saved(loss(LABELS), loss(LABELS)) == (pytest.approx(1), None)


def test_curves_that_cross_save_labels_where_there_are_few_and_cost_them_where_there_are_many() -> None:
    early = 0.1 + 2.0 * (16 * LABELS) ** -0.3 + 0.2  # learns fast, to a higher floor
    few, many = saved(early, loss(LABELS), fewest=True), saved(early, loss(LABELS))
    assert few[0] > 2 and few[1] is None and many[0] < 0.7 and many[1] is None
    assert saved(loss(8 * LABELS), loss(LABELS), fewest=True) == (pytest.approx(8, rel=1e-9), None)
    assert saved(loss(LABELS), loss(8 * LABELS), fewest=True) == (pytest.approx(1 / 8, rel=1e-9), None)
    assert saved(loss(1000 * LABELS), loss(LABELS), fewest=True) == (pytest.approx(128), "at least")


def test_what_a_curve_does_not_reach_is_a_bound_or_cannot_be_told() -> None:
    assert saved(loss(1000 * LABELS), loss(LABELS)) == (pytest.approx(128), "at least")
    assert saved(loss(LABELS), loss(1000 * LABELS)) == (pytest.approx(1 / 128), "at most")
    value, bound = saved(loss(LABELS), np.full(8, 5.0))  # nothing is learned from scratch, however many labels
    assert np.isnan(value) and bound is None


def test_resamples_that_do_not_bound_the_factor_leave_the_interval_open() -> None:
    own, scratch = loss(100 * LABELS), loss(LABELS)
    drawn = own * np.linspace(0.8, 1.2, 41)[:, None]
    found = labels_saved(LABELS, own, drawn, LABELS, scratch, np.broadcast_to(scratch, drawn.shape))
    assert found.hi == np.inf and 1 < found.lo < 100


def test_neighbours_that_do_not_fall_are_pooled() -> None:
    x, y = falling(np.arange(5.0), np.array([4.0, 2.0, 3.0, 1.0, 1.0]))
    np.testing.assert_allclose(x, [0, 1.5, 3.5])
    np.testing.assert_allclose(y, [4, 2.5, 1])


def test_the_interval_covers_a_planted_factor_of_eight() -> None:
    """Both curves on the same 300 patients of two records, as hard as the patient; pre-trained: eight times the labels
    it has."""
    means = np.concatenate([loss(8 * LABELS), loss(LABELS)])
    covered, width = 0, []
    for draw in range(100):
        rng = generator(draw, "planted")
        hard = np.repeat(rng.gamma(4.0, 0.25, 300), 2)  # mean 1, of a patient
        noise = rng.gamma(2.0, 0.5, (16, 600))  # of a record and a model
        values = means[:, None] * hard * noise
        task = Measured("t", "s", values[:, :, None], np.arange(600) // 2)
        found = resample([task], 200, draw)["t"]
        losses, drawn = found.value, found.drawn
        got = labels_saved(LABELS, losses[:8], drawn[:, :8], LABELS, losses[8:], drawn[:, 8:])
        covered += got.lo <= 8 <= got.hi
        width.append(got.hi / got.lo)
    assert covered >= 88 and np.median(width) < 8  # the interval says something
