"""Metrics: unknown targets, labels without both classes, ties, and clear errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgscale.evaluation import metrics


def _case(seed: int = 0, records: int = 80, labels: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = (rng.random((records, labels)) < 0.3).astype(float)
    y[rng.random(y.shape) < 0.2] = np.nan
    return y, np.round(rng.random(y.shape), 1)


def test_unknown_targets_do_not_count() -> None:
    y, scores = _case()
    for name, per_label in metrics.PER_LABEL.items():
        together = per_label(y, scores)
        for i in range(y.shape[1]):
            known = ~np.isnan(y[:, i])
            alone = per_label(y[known, i], scores[known, i])
            assert together[i] == pytest.approx(alone[0], rel=1e-12), name


def test_a_label_with_one_class_is_left_out_and_counted() -> None:
    y = np.array([[1, 0, 1], [0, 0, np.nan], [1, 0, 1]], dtype=float)
    scores = np.array([[0.9, 0.1, 0.2], [0.2, 0.5, 0.5], [0.8, 0.1, 0.6]])
    assert np.isnan(metrics.auroc(y, scores)).tolist() == [False, True, True]
    assert np.isnan(metrics.auprc(y, scores)).tolist() == [False, True, True]
    assert metrics.counts(y) == metrics.Counts(n=3, n_pos=4, left_out=2)
    assert metrics.evaluate(y, scores)["auroc"] == 1.0
    assert np.isnan(metrics.macro([np.nan, np.nan]))


def test_loss_is_the_mean_over_labels_of_the_mean_over_known_records() -> None:
    y = np.array([[1.0, 0.0], [0.0, np.nan]])
    p = np.array([[0.5, 0.25], [0.5, 0.9]])
    expected = (np.log(2) - np.log(0.75)) / 2
    assert metrics.evaluate(y, p, ("loss",))["loss"] == pytest.approx(expected)
    assert np.isnan(metrics.record_losses(y, p)[1, 1])
    assert metrics.label_losses([1.0], [0.0])[0] == pytest.approx(-np.log(metrics.CLIP))


def test_a_label_that_nobody_knows_has_no_loss() -> None:
    y = np.array([[1.0, np.nan], [0.0, np.nan]])
    assert np.isnan(metrics.label_losses(y, np.full((2, 2), 0.5))).tolist() == [False, True]
    assert metrics.evaluate(y, np.full((2, 2), 0.5), ("loss",))["loss"] == pytest.approx(np.log(2))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_auroc_is_the_probability_that_a_positive_scores_higher(seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    y = np.r_[1.0, 0.0, rng.integers(0, 2, 30)]
    s = np.round(rng.random(32), decimals)
    difference = s[y == 1][:, None] - s[y == 0][None]
    assert metrics.auroc(y, s)[0] == pytest.approx(((difference > 0) + (difference == 0) / 2).mean(), abs=1e-12)


@pytest.mark.parametrize(
    ("y", "p", "sentence"),
    [
        ([[1.0], [2.0]], [[0.1], [0.2]], "targets must be 0, 1 or NaN"),
        ([[1.0], [0.0]], [[0.1], [np.nan]], "scores must be finite"),
        ([[1.0], [0.0]], [[0.1]], "must both be"),
        ([[1.0], [0.0]], [[0.1], [1.2]], r"probabilities must lie in \[0, 1\]"),
    ],
)
def test_bad_input_is_one_sentence(y: list, p: list, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        metrics.record_losses(y, p)


def test_an_unknown_metric_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match='unknown metric "f2"; choose from loss, auroc, auprc'):
        metrics.evaluate([1, 0], [0.1, 0.2], ("f2",))
