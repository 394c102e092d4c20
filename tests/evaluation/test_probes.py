"""The linear probe: the optimum it claims, chance and certainty, unknown labels, missing features, cross-validation."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from ecgscale.data import split
from ecgscale.evaluation import metrics, probes
from ecgscale.evaluation.directions import Features


def _data(
    records: int, width: int = 24, labels: int = 3, seed: int = 0, slope: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(records, 8)) * np.exp(-np.arange(8) / 3)
    mixing, truth = (
        np.random.default_rng(99).normal(size=(8, width)),
        np.random.default_rng(98).normal(size=(8, labels)),
    )
    x = 5 * (factors @ mixing + 0.1 * rng.normal(size=(records, width))) + 3
    return x, (rng.random((records, labels)) < expit(slope * factors @ truth - np.arange(labels))).astype(float)


@pytest.mark.parametrize("lam", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("records", [400, 20])
def test_agrees_with_scikit_learn_at_a_given_lambda(lam: float, records: int) -> None:
    x, y = _data(records, seed=1)
    probe = probes.linear_probe(x, y, x, y, [x], lambdas=[lam])
    k = x.shape[1]
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    assert probe.converged
    for i in range(y.shape[1]):
        reference = LogisticRegression(C=1 / (lam * k * records), tol=1e-10, max_iter=10_000).fit(z, y[:, i])
        expected = reference.predict_proba(z)[:, 1]
        np.testing.assert_allclose(probe.probabilities[0][:, i], expected, atol=1e-4)
        ours, theirs = (_objective(p, y[:, i], w, lam) for p, w in (
            (probe.probabilities[0][:, i], probe.weights[:, i]),
            (expected, reference.coef_[0] * np.sqrt(k)),
        ))  # fmt: skip
        assert ours == pytest.approx(theirs, rel=1e-6)


def _objective(p: np.ndarray, y: np.ndarray, w: np.ndarray, lam: float) -> float:
    return float(-(y * np.log(p) + (1 - y) * np.log1p(-p)).mean() + lam / 2 * (w @ w))


def test_the_path_equals_separate_fits() -> None:
    x, y = _data(150, seed=2)
    path = probes.fit_path(x, y, probes.grid(150))
    for i, lam in enumerate(probes.grid(150)):
        alone = probes.fit_path(x, y, np.array([lam]))
        np.testing.assert_allclose(path.predict(x)[i], alone.predict(x)[0], atol=1e-4)


def test_chance_for_random_labels_and_certainty_for_true_ones() -> None:
    rng = np.random.default_rng(3)
    x, _ = _data(3000, seed=3)
    noise = (rng.random((3000, 3)) < 0.3).astype(float)
    signal = (x[:, :3] > 3).astype(float)
    y = np.hstack([noise, signal])
    probe = probes.linear_probe(x[:1500], y[:1500], x[1500:2000], y[1500:2000], [x[2000:]])
    area = metrics.auroc(y[2000:], probe.probabilities[0])
    losses = metrics.label_losses(y[2000:], probe.probabilities[0])
    entropy = -(0.3 * np.log(0.3) + 0.7 * np.log(0.7))
    np.testing.assert_allclose(area[:3], 0.5, atol=0.08)
    assert (losses[:3] < entropy + 0.02).all()
    assert (area[3:] > 0.995).all()
    assert (probe.lambdas[:3] > probe.lambdas[3:]).all()


def test_the_test_part_chooses_nothing() -> None:
    x, y = _data(300, seed=4)
    one = probes.linear_probe(x[:200], y[:200], x[200:], y[200:], [x[:5]])
    two = probes.linear_probe(x[:200], y[:200], x[200:], y[200:], [x[5:50] * 9, x[:5]])
    np.testing.assert_array_equal(one.lambdas, two.lambdas)
    np.testing.assert_array_equal(one.probabilities[0], two.probabilities[1])
    np.testing.assert_allclose(one.predict(x[:5]), one.probabilities[0], rtol=1e-12)


def test_lambda_is_the_one_of_lowest_validation_loss_per_label() -> None:
    x, y = _data(400, seed=5)
    probe = probes.linear_probe(x[:300], y[:300], x[300:], y[300:])
    lambdas = probes.grid(300)
    np.testing.assert_array_equal(probe.lambdas, lambdas[probe.validation_losses.argmin(axis=0)])
    np.testing.assert_allclose(
        metrics.label_losses(y[300:], probe.predict(x[300:])), probe.validation_losses.min(axis=0), rtol=1e-9
    )


def test_a_path_in_single_precision_chooses_and_ends_as_one_in_double() -> None:
    x, y = _data(400, seed=12)
    y[300:, 0] = np.nan  # unknown to validation: follows the others
    probe = probes.linear_probe(x[:300], y[:300], x[300:], y[300:], [x])
    lambdas = probes.grid(300)
    exact = probes.fit_path(x[:300], y[:300], lambdas)
    losses = np.stack([metrics.label_losses(y[300:], p) for p in exact.predict(x[300:])])
    best = probes.best_of(losses)
    np.testing.assert_array_equal(probe.lambdas, lambdas[best])
    np.testing.assert_allclose(probe.probabilities[0], exact.predict(x)[best, :, np.arange(y.shape[1])].T, atol=2e-5)
    np.testing.assert_allclose(probe.validation_losses, losses, atol=2e-4)


def test_unknown_targets_are_as_absent_records() -> None:
    x, y = _data(200, seed=6)
    y[:80, 0] = np.nan
    masked = probes.fit_path(x, y, np.array([1e-2])).predict(x)[0]
    features, z = Features.fit(x)
    known = ~np.isnan(y[:, 0])
    reference = LogisticRegression(C=1 / (1e-2 * known.sum()), tol=1e-10, max_iter=10_000).fit(z[known], y[known, 0])
    np.testing.assert_allclose(masked[:, 0], reference.predict_proba(features(x))[:, 1], atol=1e-4)


def test_a_label_with_one_class_in_training_predicts_its_smoothed_prevalence() -> None:
    x, y = _data(100, seed=7)
    y[:, 1] = 0
    y[:, 2] = np.nan
    probe = probes.linear_probe(x, y, x, y, [x])
    np.testing.assert_allclose(probe.probabilities[0][:, 1], 1 / 102)
    np.testing.assert_allclose(probe.probabilities[0][:, 2], 0.5)
    assert np.isnan(probe.lambdas).tolist() == [False, True, True]


def test_no_useful_feature_leaves_the_prevalence() -> None:
    y = np.r_[np.ones(30), np.zeros(70)][:, None]
    probe = probes.linear_probe(np.full((100, 4), 7.0), y, np.full((100, 4), 7.0), y, [np.full((3, 4), 1e6)])
    np.testing.assert_allclose(probe.probabilities[0], 0.3, atol=1e-6)


def test_constant_and_repeated_features_change_nothing() -> None:
    x, y = _data(300, seed=8)
    padded = np.column_stack([x, np.full(300, 1e4), np.zeros(300)])
    lam = [1e-3]
    plain = probes.linear_probe(x, y, x, y, [x], lam).probabilities[0]
    np.testing.assert_allclose(
        probes.linear_probe(padded, y, padded, y, [padded], lam).probabilities[0], plain, atol=1e-8
    )
    twice = np.column_stack([x, x])
    np.testing.assert_allclose(probes.linear_probe(twice, y, twice, y, [twice], lam).probabilities[0], plain, atol=1e-4)


def test_missing_features_take_the_median_and_tell_that_they_were_missing() -> None:
    rng = np.random.default_rng(9)
    y = rng.integers(0, 2, (600, 1)).astype(float)
    x = rng.normal(size=(600, 5))
    x[(y[:, 0] == 1) & (rng.random(600) < 0.9), 0] = np.nan
    x[:, 4] = np.nan
    probe = probes.linear_probe(x[:300], y[:300], x[300:450], y[300:450], [x[450:]])
    assert metrics.auroc(y[450:], probe.probabilities[0])[0] > 0.9
    assert probe.features.standard.gaps.tolist() == [0, 4]
    assert probe.features.standard.kept.tolist() == [True, True, True, True, False, True, False]


def test_bad_features_are_one_sentence() -> None:
    x, y = _data(50)
    with pytest.raises(ValueError, match="feature 2 is infinite"):
        probes.linear_probe(np.where(np.arange(24) == 2, np.inf, x), y, x, y)
    with pytest.raises(ValueError, match="fitted on 24 features, found 3"):
        probes.linear_probe(x, y, x[:, :3], y)
    with pytest.raises(ValueError, match="features cover 50 records and targets 49"):
        probes.linear_probe(x, y[1:], x, y)


def _folds(patients: np.ndarray, y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return split.crossval(pd.DataFrame({"patient": patients.astype(str)}), y)


def test_cross_validation_predicts_every_record_once_per_repeat() -> None:
    x, y = _data(200, seed=10, slope=4.0)
    patients = np.arange(200) // 2
    rng = np.random.default_rng(0)
    y = np.hstack([y, (rng.random((200, 1)) < 0.5).astype(float)])
    result = probes.cross_validated_probe(x, y, patients, _folds(patients, y))
    assert len(result.probabilities) == 5 and result.lambdas.shape == (10, 4) and result.converged
    areas = np.array([metrics.auroc(y, p) for p in result.probabilities])
    assert (areas[:, :3] > 0.75).all()
    assert abs(areas[:, 3].mean() - 0.5) < 0.1
    assert not np.array_equal(result.probabilities[0], result.probabilities[1])


def test_tasks_that_share_a_call_get_what_separate_calls_give() -> None:
    x, y = _data(120, labels=5, seed=12, slope=4.0)
    y[:, 3] = np.arange(120) == 7  # in half of the folds the training part lacks its one positive
    y[::3, 4] = np.nan
    patients = np.arange(120) // 2
    folds = _folds(patients, y)
    shared = probes.cross_validated_probe(x, y, patients, folds)
    for labels in ([0], [1, 2, 3], [4]):
        alone = probes.cross_validated_probe(x, y[:, labels], patients, folds)
        np.testing.assert_array_equal(alone.lambdas, shared.lambdas[:, labels])
        np.testing.assert_allclose(alone.probabilities, np.stack(shared.probabilities)[:, :, labels], atol=2e-9)


def test_cross_validation_learns_nothing_from_the_test_part() -> None:
    x, y = _data(120, seed=11)
    patients = np.arange(120)
    folds = _folds(patients, y)[:2]
    changed = y.copy()
    changed[folds[0][1]] = 1 - changed[folds[0][1]]
    before = probes.cross_validated_probe(x, y, patients, folds).probabilities[0][folds[0][1]]
    after = probes.cross_validated_probe(x, changed, patients, folds).probabilities[0][folds[0][1]]
    np.testing.assert_array_equal(before, after)


def test_bad_folds_are_refused() -> None:
    x, y = _data(40)
    patients = np.arange(40)
    one, two = np.arange(20), np.arange(20, 40)
    with pytest.raises(ValueError, match="do not test every record"):
        probes.cross_validated_probe(x, y, patients, [(one, two)])
    with pytest.raises(ValueError, match="fold 1 tests a record twice"):
        probes.cross_validated_probe(x, y, patients, [(one, two), (one, two)])
    with pytest.raises(ValueError, match="fold 0 has a patient in both"):
        probes.cross_validated_probe(x, y, patients // 40, [(one, two), (two, one)])


def test_two_thousand_records_take_a_fraction_of_a_second() -> None:
    x, y = _data(2400, width=128, labels=6)
    start = time.process_time()
    probes.linear_probe(x[:2000], y[:2000], x[2000:], y[2000:], [x[2000:]])
    assert time.process_time() - start < 2.0  # 0.15 s on an idle core
