"""Decisions: the threshold of highest F1 on other records, and F1, Brier and calibration against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, f1_score, mean_absolute_error, r2_score

from ecgscale.evaluation import bootstrap, metrics
from ecgscale.evaluation.thresholds import best_thresholds, decide


def _case(seed: int, decimals: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = (rng.random((200, 4)) < np.array([0.05, 0.3, 0.6, 0.9])).astype(float)
    return y, np.round(np.clip(0.3 * y + 0.7 * rng.random(y.shape), 0, 1), decimals)


@pytest.mark.parametrize("decimals", [1, 8])
def test_no_threshold_has_a_higher_f1(decimals: int) -> None:
    y, p = _case(1, decimals)
    found = best_thresholds(y, p)
    for i in range(4):
        said = p[:, i] >= np.unique(p[:, i])[:, None]  # threshold record
        best = (2 * (said & (y[:, i] == 1)).sum(axis=1) / (said.sum(axis=1) + y[:, i].sum())).max()
        assert f1_score(y[:, i], p[:, i] >= found[i]) == pytest.approx(best, abs=1e-12)
        assert not np.isin(found[i], p[:, i])


def test_scikit_learn_agrees_on_f1_brier_calibration_and_regression() -> None:
    y, p = _case(2)
    said = decide(p, best_thresholds(*_case(3)))
    np.testing.assert_allclose(metrics.f1(y, said), [f1_score(a, b) for a, b in zip(y.T, said.T, strict=True)])
    np.testing.assert_allclose(metrics.brier(y, p), [brier_score_loss(a, b) for a, b in zip(y.T, p.T, strict=True)])
    for i in range(4):
        true, said_p = calibration_curve(y[:, i], p[:, i], n_bins=metrics.BINS)
        share = np.bincount((p[:, i] * metrics.BINS).astype(int))
        expected = (np.abs(true - said_p) * share[share > 0]).sum() / 200
        assert metrics.calibration_error(y, p)[i] == pytest.approx(expected, rel=1e-10)
    values = np.random.default_rng(4).normal(50, 9, size=y.shape)
    guess = values + np.random.default_rng(5).normal(0, 3, size=y.shape)
    np.testing.assert_allclose(metrics.explained(values, guess), r2_score(values, guess, multioutput="raw_values"))
    expected = mean_absolute_error(values, guess, multioutput="raw_values")
    np.testing.assert_allclose(metrics.absolute_error(values, guess), expected)


def test_a_calibrated_model_has_no_calibration_error_and_a_bold_one_has() -> None:
    rng = np.random.default_rng(6)
    p = rng.random((200_000, 2))
    y = (rng.random(p.shape) < p).astype(float)
    assert metrics.calibration_error(y, p).max() < 0.006
    np.testing.assert_allclose(metrics.calibration_error(y, (p > 0.5) * 1.0), 0.25, atol=0.005)


def test_a_label_without_two_classes_is_left_out_of_every_metric_that_needs_them_also_under_the_bootstrap() -> None:
    y, p = _case(7)
    y[:, 0], y[:, 3] = 0, np.nan
    y[:150, 1] = np.nan
    said = decide(p, [0.5, 0.5, np.nan, 0.5])
    patients = np.arange(200) // 2
    draws = np.random.default_rng(8).multinomial(100, np.full(100, 0.01), size=30)
    draws[0, 75:] = 0  # nobody who knows label 1
    for name, scores, out in (("auroc", p, [0, 3]), ("auprc", p, [0, 3]), ("f1", said, [0, 2, 3]), ("loss", p, [3]),
                              ("brier", p, [3]), ("ece", p, [3]), ("r2", p, [0, 3]), ("mae", p, [3])):  # fmt: skip
        assert np.flatnonzero(np.isnan(metrics.named(name)(y, scores))).tolist() == out
        drawn = bootstrap.weighted(name, y, scores, patients, draws)
        assert np.flatnonzero(np.isnan(drawn[5])).tolist() == out
        assert np.flatnonzero(np.isnan(drawn[0])).tolist() == sorted({*out, 1})
        for row, draw in zip(drawn, draws, strict=True):
            rows = np.repeat(np.arange(200), draw[patients])
            np.testing.assert_allclose(row, metrics.named(name)(y[rows], scores[rows]), rtol=1e-5)


def test_without_both_classes_on_validation_there_is_no_threshold_and_no_f1() -> None:
    y, p = _case(9)
    y[:, 0], y[50:, 2] = 0, np.nan
    found = best_thresholds(y, p)
    assert np.isnan(found).tolist() == [True, False, False, False]
    assert found[2] == best_thresholds(y[:50, 2], p[:50, 2])[0]
    with pytest.raises(ValueError, match="decisions must be 0, 1 or NaN"):
        metrics.f1(y, p)
