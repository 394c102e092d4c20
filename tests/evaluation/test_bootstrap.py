"""The patient bootstrap: exact under given draws, patients stay whole, honest coverage, bounded time."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.special import expit

from ecgscale.evaluation import bootstrap, metrics


def _case(
    seed: int, patients: int = 60, labels: int = 4, ties: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    of = rng.integers(patients, size=2 * patients)
    latent = rng.normal(size=(patients, labels))[of]
    y = (rng.random(latent.shape) < expit(latent - np.linspace(0, 2, labels))).astype(float)
    y[rng.random(y.shape) < 0.1] = np.nan
    p = expit(latent + rng.normal(size=latent.shape))
    return y, np.round(p, 2) if ties else p, of


@pytest.mark.parametrize("name", list(metrics.PER_LABEL))
@pytest.mark.parametrize("ties", [True, False])
def test_weights_mean_repetition(name: str, ties: bool) -> None:
    y, p, patients = _case(1, ties=ties)
    weights = np.random.default_rng(2).multinomial(60, np.full(60, 1 / 60), size=20)
    fast = bootstrap.weighted(name, y, p, patients, weights)
    for row, draw in zip(fast, weights, strict=True):
        rows = np.repeat(np.arange(len(y)), draw[patients])
        np.testing.assert_allclose(row, metrics.named(name)(y[rows], p[rows]), rtol=1e-5)


def test_one_of_each_patient_is_the_plain_metric() -> None:
    y, p, patients = _case(3)
    for name in metrics.PER_LABEL:
        np.testing.assert_allclose(
            bootstrap.weighted(name, y, p, patients, np.ones((1, 60)))[0], metrics.named(name)(y, p), rtol=1e-6
        )


def test_the_value_is_exact_and_inside() -> None:
    y, p, patients = _case(4)
    result = bootstrap.intervals(y, p, patients, resamples=300)
    exact = metrics.evaluate(y, p)
    for name, (value, lo, hi) in result.items():
        assert value == exact[name]
        assert lo < value < hi


def test_draws_do_not_depend_on_chunks_and_follow_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    y, p, patients = _case(5)
    whole = bootstrap.intervals(y, p, patients, resamples=200)
    other = bootstrap.intervals(y, p, patients, resamples=200, seed=1)
    monkeypatch.setattr(bootstrap, "CHUNK_BYTES", 2**12)
    assert bootstrap.intervals(y, p, patients, resamples=200) == whole
    assert other["auroc"].lo != whole["auroc"].lo


def test_patients_are_the_unit_not_records() -> None:
    y, p, _ = _case(6)
    once = bootstrap.intervals(y, p, np.arange(len(y)), resamples=500)
    copied = bootstrap.intervals(np.tile(y, (4, 1)), np.tile(p, (4, 1)), np.tile(np.arange(len(y)), 4), resamples=500)
    for name in ("loss", "auroc"):
        np.testing.assert_allclose(copied[name], once[name], rtol=1e-5)


def test_repeats_are_averaged() -> None:
    y, p, patients = _case(7)
    single = bootstrap.intervals(y, p, patients, resamples=100)
    twice = bootstrap.intervals(y, np.stack([p, p]), patients, resamples=100)
    mixed = bootstrap.intervals(y, np.stack([p, 1 - p]), patients, ("auroc",), resamples=100)
    assert twice == single
    assert mixed["auroc"].value == pytest.approx(0.5)


def test_one_patient_has_no_interval() -> None:
    value, lo, hi = bootstrap.intervals([1, 0], [0.7, 0.2], ["a", "a"], ("loss",))["loss"]
    assert value > 0
    assert np.isnan([lo, hi]).all()


def test_nothing_to_average_is_nan_without_a_warning() -> None:
    result = bootstrap.intervals(np.ones((5, 2)), np.full((5, 2), 0.4), np.arange(5), resamples=50)
    assert np.isnan(result["auroc"]).all()
    assert result["loss"].value == pytest.approx(-np.log(0.4))


def test_intervals_of_a_chance_scorer_hold_its_average_precision() -> None:
    """A positive drawn twice ties with itself: without the correction the whole interval lies above the estimate."""
    rng = np.random.default_rng(8)
    y = (rng.random((1000, 30)) < 0.1).astype(float)
    p = rng.random(y.shape)
    value, lo, hi = bootstrap.intervals(y, p, np.arange(1000), ("auprc",), resamples=200)["auprc"]
    draws = rng.multinomial(1000, np.full(1000, 1 / 1000), size=200)
    drawn = bootstrap.weighted("auprc", y, p, np.arange(1000), draws).mean(axis=1)
    assert np.quantile(drawn, 0.1) > value
    assert lo < value < hi


def test_paired_difference_knows_a_better_model_from_an_equal_one() -> None:
    rng = np.random.default_rng(9)
    base = rng.gamma(2.0, 0.2, size=(300, 3))
    base[rng.random(base.shape) < 0.1] = np.nan
    patients = np.repeat(np.arange(100), 3)
    better = bootstrap.paired_difference(base - 0.05 + 0.01 * rng.normal(size=base.shape), base, patients)
    equal = bootstrap.paired_difference(base + 0.3 * rng.normal(size=base.shape), base, patients)
    assert better.hi < 0 and better.value == pytest.approx(-0.05, abs=5e-3)
    assert equal.lo < 0 < equal.hi
    assert bootstrap.paired_difference(base[:, 0], base[:, 0], patients)[:] == (0.0, 0.0, 0.0)


def test_paired_losses_must_cover_the_same_targets() -> None:
    with pytest.raises(ValueError, match="same targets"):
        bootstrap.paired_difference([0.1, np.nan], [0.1, 0.2], [0, 1])
    with pytest.raises(ValueError, match="a patient for each of 2 records, found 1"):
        bootstrap.intervals([1, 0], [0.1, 0.2], ["a"])


def _simulated(seed: int, patients: int) -> list[tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray]]:
    """Six labels and as many values of patients with two records each, and what a model says of them, by metrics."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(patients), 2)
    latent = 0.7 * (rng.normal(size=(patients, 6))[of] + rng.normal(size=(2 * patients, 6)))
    y = (rng.random(latent.shape) < expit(1.5 * latent - np.linspace(1, 3, 6))).astype(float)
    value = 2 * latent + rng.normal(size=latent.shape)
    p = expit(value - 2)
    return [
        (("loss", "auroc", "auprc", "brier", "ece"), y, p, of),
        (("f1",), y, (p > 0.3) * 1.0, of),
        (("mse", "mae", "r2"), 1.5 * latent, value, of),
    ]


def _coverage(sets: int, patients: int, resamples: int, population: int = 100_000) -> dict[str, float]:
    """Share of test sets whose 95 % interval holds the population's metric, or the mean ECE of sets of that size."""
    truth = {n: v for names, y, p, _ in _simulated(12345, population) for n, v in metrics.evaluate(y, p, names).items()}
    found = [
        {n: i for names, y, p, of in _simulated(seed, patients) for n, i in
         bootstrap.intervals(y, p, of, names, resamples).items()}
        for seed in range(sets)
    ]  # fmt: skip
    truth["ece"] = float(np.mean([f["ece"].value for f in found]))
    return {name: float(np.mean([f[name].lo <= truth[name] <= f[name].hi for f in found])) for name in truth}


@pytest.mark.slow
def test_coverage_on_500_simulated_test_sets() -> None:
    found = _coverage(500, 350, 500)
    assert all(0.92 <= share <= 0.98 for share in found.values()), found


def test_coverage_on_a_few_simulated_test_sets() -> None:
    found = _coverage(60, 100, 100, 30_000)
    assert all(share > 0.8 for share in found.values()), found  # intervals half as wide hold 0.67


def test_six_labels_take_a_fraction_of_a_second() -> None:
    rng = np.random.default_rng(10)
    y = (rng.random((700, 6)) < 0.1).astype(float)
    start = time.process_time()
    bootstrap.intervals(y, rng.random(y.shape), np.arange(700))
    assert time.process_time() - start < 1.0  # 0.1 s on an idle core
