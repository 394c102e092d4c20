"""Comparisons: Holm by its definition, honest p-values and seeds as an outer level; DeLong by its definition."""

from __future__ import annotations

from itertools import chain, combinations

import numpy as np
import pytest
from scipy.special import expit

from ecgscale.evaluation import bootstrap, comparisons, delong, metrics


def _case(seed: int, records: int = 200, labels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(records, labels))
    return (rng.random(latent.shape) < expit(2 * latent - 1)).astype(float), latent


def _noisy(latent: np.ndarray, seed: int, sigma: float = 1.0) -> np.ndarray:
    return expit(latent + sigma * np.random.default_rng(seed).normal(size=latent.shape))


def test_holm_is_bonferroni_over_all_subfamilies() -> None:
    p = np.array([0.01, 0.04, np.nan, 0.03, 0.005, 0.4])
    known = [i for i in range(6) if i != 2]
    subsets = list(chain.from_iterable(combinations(known, n) for n in range(1, 6)))
    expected = [max(min(1, len(s) * min(p[j] for j in s)) for s in subsets if i in s) if i in known else np.nan
                for i in range(6)]  # fmt: skip
    np.testing.assert_allclose(comparisons.holm(p), expected)
    np.testing.assert_allclose(comparisons.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


def test_a_better_model_is_told_and_equal_ones_are_not() -> None:
    y, latent = _case(1, 600)
    scores = {"good": _noisy(latent, 2, 0.3), "bad": _noisy(latent, 3, 3.0), "twin": _noisy(latent, 4, 3.0)}
    pairs = [("good", "bad"), ("bad", "twin"), ("good", "good")]
    found = comparisons.compare("auroc", y, scores, pairs, np.arange(600) // 2, resamples=400)
    told, tied, same = (found[pair] for pair in pairs)
    assert told.lo > 0 and told.p == 1 / 401 and told.p_holm == pytest.approx(3 * told.p)
    assert tied.lo < 0 < tied.hi and tied.p_holm > 0.05
    assert same[:3] == (0.0, 0.0, 0.0) and same.p == 1.0
    one = bootstrap.intervals(y, scores["good"], np.arange(600) // 2, ("auroc",), 400)["auroc"]
    assert comparisons.over_seeds("auroc", y, scores["good"], np.arange(600) // 2, 400) == one


def test_a_difference_of_losses_is_that_of_paired_difference() -> None:
    y, latent = _case(5)
    a, b = _noisy(latent, 6), _noisy(latent, 7)
    found = comparisons.compare("loss", y, {"a": a, "b": b}, [("a", "b")], np.arange(200) // 2, 200)["a", "b"]
    expected = bootstrap.paired_difference(
        metrics.record_losses(y, a), metrics.record_losses(y, b), np.arange(200) // 2, 200
    )
    np.testing.assert_allclose(found[:3], expected, rtol=1e-9)


def test_seeds_widen_the_interval_by_their_variance() -> None:
    y, latent = _case(8, 4000, 1)
    sigma = np.array([0.2, 0.8, 1.4, 2.0])
    scores = np.stack([_noisy(latent, 20 + i, s) for i, s in enumerate(sigma)])
    values = np.array([metrics.auroc(y, s)[0] for s in scores])
    pooled = comparisons.over_seeds("auroc", y, scores, np.arange(4000), 1000)
    fixed = comparisons.over_seeds("auroc", y, scores[:1], np.arange(4000), 1000)
    assert pooled.value == pytest.approx(values.mean())
    expected = np.hypot(values.std(ddof=1) / 2, (fixed.hi - fixed.lo) / (2 * 1.96))
    assert (pooled.hi - pooled.lo) / (2 * 1.96) == pytest.approx(expected, rel=0.1)


def test_a_family_that_no_resample_could_settle_is_refused() -> None:
    y, latent = _case(9)
    with pytest.raises(ValueError, match="10 comparisons need at least 200 resamples, not 100"):
        comparisons.compare("auroc", y, {"a": latent}, [("a", "a")] * 10, np.arange(200), 100)


def test_delong_is_its_definition_over_all_pairs() -> None:
    y, latent = _case(10, 90, 1)
    scores = np.round(np.stack([latent[:, 0], _noisy(latent, 11)[:, 0], -latent[:, 0]]), 1)
    y = y[:, 0]
    y[:7] = np.nan
    x, z = scores[:, y == 1], scores[:, y == 0]
    psi = (x[:, :, None] > z[:, None]) + (x[:, :, None] == z[:, None]) / 2  # scorer positive negative
    found = delong.areas(y, scores)
    np.testing.assert_allclose(found.auroc, psi.mean(axis=(1, 2)), rtol=1e-12)
    expected = np.cov(psi.mean(axis=2)) / x.shape[1] + np.cov(psi.mean(axis=1)) / z.shape[1]
    np.testing.assert_allclose(found.covariance, expected, rtol=1e-10, atol=1e-15)
    alone = delong.areas(y, scores[0])
    assert alone.covariance[0, 0] == pytest.approx(expected[0, 0])
    same = delong.paired_test(y, scores[0], 3 * scores[0] + 1)
    assert same.difference == 0 and np.isnan(same.p)
    with pytest.raises(ValueError, match="two records of each class, found 1 positive"):
        delong.areas([1, 0, 0], [0.3, 0.2, 0.1])


def test_delong_and_the_bootstrap_agree_on_independent_records_and_not_on_copies() -> None:
    y, latent = _case(12, 500, 1)
    a, b = _noisy(latent, 13, 0.5), _noisy(latent, 14, 1.0)
    test = delong.paired_test(y[:, 0], a[:, 0], b[:, 0])
    drawn = comparisons.compare("auroc", y, {"a": a, "b": b}, [("a", "b")], np.arange(500), 1000)["a", "b"]
    assert test.difference == pytest.approx(drawn.value, abs=1e-12)
    assert (drawn.hi - drawn.lo) / (2 * 1.96) == pytest.approx(test.error, rel=0.08)
    copied = delong.paired_test(*(np.tile(v[:, 0], 4) for v in (y, a, b)))
    assert copied.error == pytest.approx(test.error / 2, rel=0.02)  # too small: the patients are the same


def test_p_values_of_equal_models_are_uniform_enough() -> None:
    found = []
    for seed in range(120):
        y, latent = _case(100 + seed, 120, 1)
        scores = {"a": _noisy(latent, 1000 + seed), "b": _noisy(latent, 5000 + seed)}
        p = comparisons.compare("auroc", y, scores, [("a", "b")], np.arange(120), 100)["a", "b"].p
        found.append(p)
    assert np.mean(np.array(found) <= 0.05) < 0.12  # 0.05 + 3.5 standard errors of 120 sets
    assert 0.36 < np.mean(np.array(found) <= 0.5) < 0.66
