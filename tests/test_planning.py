"""Closed forms against brute force, and every relation that the published numbers obey."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgscale import planning
from ecgscale.planning import Cost, PlanError
from ecgscale.reference import COLUMNS, published

PARAMS = st.fixed_dictionaries(
    {
        "E": st.floats(0, 2),
        "A": st.floats(0.1, 1e3),
        "B": st.floats(0.1, 1e3),
        "alpha": st.floats(0.05, 1.5),
        "beta": st.floats(0.05, 1.5),
    }
)
COST = st.builds(Cost, st.floats(1, 1e4), st.floats(0.5, 1.5), st.floats(1, 50))


def value(quantity: str, family: str, task: str) -> float:
    return float(published("2605.17276", quantity, family, task)["value"].item())


@given(PARAMS, COST, st.floats(1e12, 1e20))
def test_the_optimum_spends_all_and_beats_its_neighbours(params: dict[str, float], cost: Cost, compute: float) -> None:
    size, data = planning.optimal(params, compute, cost)
    assert cost.flops(size, data) == pytest.approx(compute, rel=1e-9)
    near = size * np.exp(np.array([-0.3, -0.01, 0.01, 0.3]))
    best = planning.loss(params, size, data)
    assert (planning.loss(params, near, cost.records(near, compute)) >= best * (1 - 1e-12)).all()


@given(PARAMS, COST, st.floats(1e12, 1e20), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_the_answer_does_not_depend_on_units(
    params: dict[str, float], cost: Cost, compute: float, n: float, d: float
) -> None:
    """N counted in n parameters and D in d records: the same N* and D*, the same split."""
    size, data = planning.optimal(params, compute, cost)
    other = params | {"A": params["A"] * n ** -params["alpha"], "B": params["B"] * d ** -params["beta"]}
    there = planning.optimal(other, compute, Cost(cost.factor * n**cost.exponent * d, cost.exponent, cost.passes))
    assert (there[0] * n, there[1] * d) == (pytest.approx(size, rel=1e-8), pytest.approx(data, rel=1e-8))


@given(PARAMS, st.floats(1e3, 1e9), st.floats(1e2, 1e8))
def test_overfitting_extent_is_a_power_of_x(params: dict[str, float], size: float, data: float) -> None:
    extent, x = planning.overfitting(params, size, data)
    limit = planning.loss(params, size, np.inf)
    assert extent == pytest.approx((planning.loss(params, size, data) - limit) / limit, rel=1e-6, abs=1e-12)
    assert extent == pytest.approx(params["B"] * x ** -params["beta"], rel=1e-9)


def test_the_exponents_of_the_optimum_are_the_split() -> None:
    params = {"E": 0.1, "A": 5.0, "B": 20.0, "alpha": 0.4, "beta": 0.3}
    cost = Cost(2.0, 0.8, 3.0)
    (n1, n2), (d1, d2) = planning.optimal(params, np.array([1e15, 1e16]), cost)
    model, data = planning.split(params, cost.exponent)
    assert np.log10(d2 / d1) == pytest.approx(data)
    assert cost.exponent * np.log10(n2 / n1) == pytest.approx(model)


@pytest.mark.parametrize(
    "family", ["beat_transformer-supervised", "resnet1d-supervised", "beat_transformer-masked_beats"]
)
def test_published_splits_follow_from_their_exponents(family: str) -> None:
    ratio = value("alpha_over_beta", family, "cpsc2018")
    model, data = planning.split({"alpha": ratio, "beta": 1.0})
    assert round(float(data), 2) == value("data_share", family, "cpsc2018")
    assert round(float(model), 2) == value("model_share", family, "cpsc2018")


@pytest.mark.parametrize("family", ["beat_transformer-supervised", "resnet1d-supervised"])
def test_published_exponents_in_distribution_give_data_the_larger_share(family: str) -> None:
    _, data = planning.split({"alpha": value("alpha", family, "id"), "beta": value("beta", family, "id")})
    assert data == pytest.approx(value("data_share", family, "id"), abs=5e-4)


@pytest.mark.parametrize(
    ("first", "other"),
    [("resnet1d-supervised", "beat_transformer-supervised"), ("resnet1d-cmsc", "beat_transformer-masked_beats")],
)
def test_published_equal_gain_factors_follow_from_unrounded_ratios(first: str, other: str) -> None:
    ratio = value("alpha_ratio_unrounded", f"{first}/{other}", "mean_ood")
    factor = value("equal_gain", f"{other}/{first}", "mean_ood")
    assert round(float(planning.equal_gain(10, ratio, 1.0))) == factor
    assert round(ratio, 1) == value("alpha_ratio", f"{first}/{other}", "mean_ood")
    assert round(float(planning.equal_gain(10, round(ratio, 1), 1.0))) != factor


@pytest.mark.parametrize(
    ("first", "other", "task"),
    [
        ("beat_transformer-masked_beats", "beat_transformer-supervised", "mean_ood"),
        ("resnet1d-cmsc", "resnet1d-supervised", "mean_ood"),
        ("beat_transformer-masked_beats", "beat_transformer-supervised", "echonext"),
    ],
)
def test_published_transfer_ratios_follow_from_their_kappas(first: str, other: str, task: str) -> None:
    ratio = planning.efficiency(value("kappa", first, task), value("kappa", other, task))
    assert round(float(ratio), 2) == value("kappa_ratio", f"{first}/{other}", task)


def test_the_flat_region_ends_where_the_loss_is_one_percent_above_the_best() -> None:
    samples = {k: np.array(v) for k, v in zip("EAB", ([0.1, 0.5], [5.0, 9.0], [20.0, 3.0]), strict=True)}
    samples |= {"alpha": np.array([0.4, 0.2]), "beta": np.array([0.3, 0.5])}
    cost, compute = Cost(6.0), 1e15
    best = planning.loss(samples, *planning.optimal(samples, compute, cost))
    for edge in planning.flat_region(samples, compute, cost):
        assert planning.loss(samples, edge, cost.records(edge, compute)) == pytest.approx(1.01 * best)
    low, high = planning.flat_region(samples, compute, cost)
    assert (low < high).all()


def test_curves_cross_where_they_are_equal() -> None:
    a, b = np.array([[4.0], [4.0], [1.0]]), np.array([[2.0], [1.0], [2.0]])
    found = planning.crossing(lambda x: 0.1 + a * x**-0.5, lambda x: 0.2 + b * x**-0.5, 1.0, 1e6)
    assert found == pytest.approx([400.0, 900.0, np.nan], nan_ok=True)
    assert planning.interval(found) == pytest.approx((412.5, 887.5))
    assert np.isnan(planning.interval([1.0, np.nan, np.nan])[0])


def test_unpaired_samples_keep_their_draws_together() -> None:
    samples = {"alpha": np.arange(500.0), "beta": np.arange(500.0) ** 2}
    moved = planning.unpaired(samples)
    assert (moved["alpha"] ** 2 == moved["beta"]).all()
    assert sorted(moved["alpha"]) == samples["alpha"].tolist()
    assert abs(np.corrcoef(moved["alpha"], samples["alpha"])[0, 1]) < 0.2


def test_a_cost_is_measured_and_several_passes_are_refused() -> None:
    n, d = np.array([1e4, 1e5, 1e6]), np.array([1e3, 2e3, 5e3])
    cost = planning.measured_cost(n, 7.0 * n**0.9 * 4 * d, 4 * d, d)
    assert (cost.factor, cost.exponent, cost.passes) == pytest.approx((7.0, 0.9, 4.0))
    assert cost.error < 1e-9
    with pytest.raises(PlanError, match=r"1 to 4 passes.*fit data_constrained"):
        planning.measured_cost(n, n * d, d * [1, 2, 4], d)
    with pytest.raises(PlanError, match="at least 2 sizes"):
        planning.measured_cost(n[:1], n[:1], d[:1], d[:1])


def test_an_allocation_has_intervals_and_names_its_rule() -> None:
    params = {"E": 0.1, "A": 5.0, "B": 20.0, "alpha": 0.4, "beta": 0.3}
    rng = np.random.default_rng(0)
    samples = {k: v * np.exp(0.05 * rng.standard_normal(200)) for k, v in params.items()}
    found = planning.allocate(params, samples, 1e15, Cost(6.0, 1.0, 2.0))
    for name, (lo, hi) in found.intervals.items():
        assert lo < getattr(found, name) < hi
    assert found.flat[0] < found.size < found.flat[1]
    assert found.rule == "C = 6 N^1 x 2 passes x D"
    with pytest.raises(PlanError, match="no effect of parameters"):
        planning.allocate(params | {"A": 0.0}, {}, 1e15, Cost(6.0))


def test_published_values_have_a_source_and_a_grade() -> None:
    table = published()
    assert tuple(table.columns) == COLUMNS
    assert set(table["grade"]) == {"P", "B", "I", "D"}
    assert (table["source"].str.len() > 3).all()
    assert np.isfinite(table["value"]).all()
    assert not table.duplicated(["study", "quantity", "family", "task", "unit"]).any()
    one = published("2509.25095", "auroc", "ECG-CPC, finetuned", "EchoNext")
    assert one["value"].tolist() == [0.8310]
    tasks = published("2509.25095", "auroc", "ECG-CPC, finetuned")
    mean = tasks["task"] == "mean of 21"
    assert tasks.loc[~mean, "value"].mean() == pytest.approx(tasks.loc[mean, "value"].item(), abs=5e-5)
    assert published(task="no such task").empty
