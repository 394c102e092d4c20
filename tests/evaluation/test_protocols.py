"""Ridge and Adam probes against references and planted truths; few labels are nested; tasks of regression have rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit
from sklearn.linear_model import Ridge

from ecgscale.data.corpus import Corpus
from ecgscale.data.split import SplitRule, crossval, parts
from ecgscale.evaluation import adam, few_labels, metrics, probes, ridge
from ecgscale.evaluation.evaluate import EvalSpec, evaluate
from ecgscale.spec import SpecError, part


def _data(records: int, seed: int = 0, targets: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = 5 * rng.normal(size=(records, 6)) @ np.random.default_rng(99).normal(size=(6, 20)) + 3
    x += rng.normal(size=x.shape)
    mixing = np.random.default_rng(98).normal(size=(20, targets))
    return x, 50 + x @ mixing / 5 + 2 * rng.normal(size=(records, targets))


@pytest.mark.parametrize("records", [300, 15])
def test_the_ridge_is_scikit_learn_s_also_with_unknown_targets(records: int) -> None:
    x, y = _data(records)
    y[: records // 3, 1] = np.nan
    y[::2, 2] = np.nan
    lambdas = np.array([1.0, 1e-2, 1e-4])
    found = ridge.fit_ridge(x, y, lambdas).predict(x)
    z = (x - x.mean(axis=0)) / x.std(axis=0) / np.sqrt(20)
    for i, lam in enumerate(lambdas):
        for j in range(3):
            known = ~np.isnan(y[:, j])
            reference = Ridge(alpha=lam * known.sum(), solver="svd").fit(z[known], y[known, j])
            np.testing.assert_allclose(found[i, :, j], reference.predict(z), rtol=1e-8)


def test_ridge_explains_what_can_be_explained_and_only_validation_chooses() -> None:
    x, y = _data(900, seed=1)
    y[:, 2] = np.random.default_rng(2).normal(size=900)
    probe = ridge.ridge_probe(x[:400], y[:400], x[400:600], y[400:600], [x[600:]])
    r2 = metrics.explained(y[600:], probe.predictions[0])
    noise = 1 - 4 / y[600:, :2].var(axis=0)  # the planted noise has deviation 2
    np.testing.assert_allclose(r2[:2], noise, atol=0.02)
    assert abs(r2[2]) < 0.03
    grid = probes.grid(400)
    np.testing.assert_array_equal(probe.lambdas, grid[probe.validation_losses.argmin(axis=0)])
    assert probe.lambdas[2] > probe.lambdas[:2].max()


def test_the_unit_of_a_regression_target_changes_nothing_but_its_own_unit() -> None:
    x, y = _data(300, seed=3)
    one, two = (ridge.ridge_probe(x[:200], t[:200], x[200:], t[200:], [x]) for t in (y, 1000 * y - 7))
    np.testing.assert_allclose(two.predictions[0], 1000 * one.predictions[0] - 7, rtol=1e-8)
    np.testing.assert_allclose(one.validation_losses, two.validation_losses, rtol=1e-8)


def test_adam_is_torch_s_adam_on_a_linear_layer() -> None:
    x, _ = _data(60, seed=4)
    y = (np.random.default_rng(5).random((60, 2)) < 0.4).astype(float)
    probe = adam.adam_probe(x, y, x, y, [x], epochs=20)
    layer = torch.nn.Linear(20, 2)
    torch.nn.init.zeros_(layer.weight), torch.nn.init.zeros_(layer.bias)
    optimiser = torch.optim.Adam(layer.parameters(), lr=1e-3)
    z = torch.from_numpy((x - x.mean(axis=0)) / x.std(axis=0)).float()
    for _ in range(20):
        optimiser.zero_grad()
        torch.nn.BCEWithLogitsLoss()(layer(z), torch.from_numpy(y).float()).backward()
        optimiser.step()
    np.testing.assert_allclose(probe.predictions[0], layer(z).sigmoid().detach().numpy(), atol=1e-5)
    assert probe.epoch == 20 and len(probe.validation_losses) == 21


def test_adam_comes_near_the_optimum_keeps_its_best_epoch_and_sees_no_test_part() -> None:
    x, values = _data(1500, seed=6)
    y = (np.random.default_rng(7).random(values.shape) < expit(values - 50)).astype(float)
    y[:500, 2] = 0  # one class in training
    train, held, test = slice(0, 500), slice(500, 900), slice(900, None)
    known = (x[train], y[train], x[held], y[held])
    probe, exact = adam.adam_probe(*known, [x[test]]), probes.linear_probe(*known, [x[test]])
    loss, optimum = (metrics.label_losses(y[test], p.probabilities[0] if p is exact else p.predictions[0])[:2]
                     for p in (probe, exact))  # fmt: skip
    assert (loss > optimum - 0.01).all() and (loss < 0.75 * np.log(2)).all()
    np.testing.assert_allclose(probe.predictions[0][:, 2], 1 / 502)
    assert probe.validation_losses[probe.epoch] == probe.validation_losses.min()
    assert metrics.macro(metrics.label_losses(y[held], probe.validated)) == pytest.approx(
        probe.validation_losses.min(), rel=1e-5
    )
    again = adam.adam_probe(*known, [x[test][::-1] * 9, x[test]])
    np.testing.assert_array_equal(again.predictions[1], probe.predictions[0])


@dataclass(eq=False)
class Indexed:
    """As much of a corpus as an evaluation reads."""

    index: pd.DataFrame
    path: Path
    digest: str = "0"


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, np.ndarray]:
    """600 records of 300 patients: ages and sexes that features tell, three labels of which one is rare."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 6))
    age = 60 + 10 * x[:, 0] + 5 * rng.normal(size=600)
    age[::50] = np.nan
    rows = np.arange(600)
    frame = pd.DataFrame(
        {"patient": [f"p{i // 2}" for i in rows], "fold": rows // 2 % 10 + 1, "age": age,
         "sex": np.where(x[:, 1] + rng.normal(size=600) > 0, "F", "M"),
         **{f"label.{n}": (x[:, i] + rng.normal(size=600) > t) * 1.0 for i, (n, t) in
            enumerate({"a": 0.0, "b": 1.0, "rare": 3.2}.items())}}
    )  # fmt: skip
    return cast(Corpus, Indexed(frame, tmp_path_factory.mktemp("corpus"))), x


def _spec(task: dict[str, Any], **more: Any) -> EvalSpec:
    return EvalSpec(corpus="0", task=part("tasks", task), split=SplitRule(), resamples=200, **more)


@pytest.mark.parametrize(("protocol", "split"), [("linear", "folds"), ("linear", "crossval"), ("linear_adam", "folds")])
def test_age_is_measured_in_years_and_in_variances(known: tuple[Corpus, np.ndarray], protocol: Any, split: str) -> None:
    corpus, x = known
    spec = _spec({"name": "age", "split": split}, protocol=protocol)
    found = evaluate([spec], corpus, x.__getitem__)[spec]
    rows = {row["metric"]: row for row in found.rows if row["part"] == "test"}
    assert {m: r["unit"] for m, r in rows.items()} == {"loss": "sd2", "r2": "1", "mae": "years"}
    years = np.sqrt(rows["loss"]["value"]) * np.nanstd(corpus.index["age"])
    if protocol == "linear":
        assert years == pytest.approx(5, abs=1.3) and rows["r2"]["value"] == pytest.approx(0.8, abs=0.1)
        assert rows["mae"]["value"] == pytest.approx(5 * np.sqrt(2 / np.pi), abs=1.1)  # of normal noise
    assert all(r["lo"] < r["value"] < r["hi"] for r in rows.values())
    assert rows["loss"]["value"] == pytest.approx(np.nanmean(found.losses), rel=1e-9)
    assert rows["mae"]["n"] == int(np.isfinite(found.losses).sum()) and rows["mae"]["n_pos"] is None


def test_losses_of_regression_have_one_unit_for_every_fraction(known: tuple[Corpus, np.ndarray]) -> None:
    corpus, x = known
    age = part("tasks", "age").targets(corpus.index).to_numpy()
    for fraction in (1.0, 1 / 16):
        spec = _spec({"name": "age"}, fraction=fraction)
        rows = spec.rows(corpus)
        found = evaluate([spec], corpus, x.__getitem__)[spec]
        fit = ridge.ridge_probe(*(a[rows[p]] for p in ("train", "validation") for a in (x, age)), [x[rows["test"]]])
        error = (age[rows["test"]] - fit.predictions[0]) ** 2
        unit = np.nanvar(age[parts(corpus.index, SplitRule(), 0)["train"]])
        np.testing.assert_allclose(found.losses, error / unit)


def test_f1_is_at_the_threshold_of_validation(known: tuple[Corpus, np.ndarray]) -> None:
    corpus, x = known
    spec = _spec({"name": "sex"})
    found = evaluate([spec], corpus, x.__getitem__)[spec]
    row = next(r for r in found.rows if r["metric"] == "f1")
    y = part("tasks", "sex").targets(corpus.index).to_numpy()
    p = spec.rows(corpus)
    fit = probes.linear_probe(x[p["train"]], y[p["train"]], x[p["validation"]], y[p["validation"]], [x[p["test"]]])
    said = fit.probabilities[0] >= fit.thresholds
    assert row["value"] == pytest.approx(metrics.f1(y[p["test"]], said * 1.0)[0])
    assert row["left_out"] == 0 and row["protocol"] == "linear" and row["label_fraction"] == 1.0


def test_few_labels_are_nested_whole_patients_of_the_training_part_and_keep_their_labels(
    known: tuple[Corpus, np.ndarray],
) -> None:
    corpus, x = known
    task = {"name": "columns", "labels": "three", "columns": ["a", "b", "rare"], "split": "folds"}
    full = parts(corpus.index, SplitRule(), 0)
    held = {k: v.tolist() for k, v in full.items() if k != "train"}
    patients = corpus.index["patient"].to_numpy()
    larger = set(full["train"])
    for fraction in few_labels.FRACTIONS:
        rows = _spec(task, fraction=fraction).rows(corpus)
        kept, people = set(rows["train"]), set(patients[rows["train"]])
        assert {k: rows[k].tolist() for k in held} == held and not people & set(patients[held["test"]])
        assert len(people) == int(np.ceil(240 * fraction)) and kept <= larger
        assert kept == {r for r in full["train"] if patients[r] in people}
        larger = kept
    assert set(_spec(task, fraction=0.5, order=1).rows(corpus)["train"]) != set(
        few_labels.labelled(corpus.index, full["train"], 0.5)
    )
    spec = _spec(task, fraction=1 / 128)
    y = spec.task.targets(corpus.index).to_numpy()
    rows = spec.rows(corpus)
    assert y[rows["train"], 2].sum() == 0 and y[full["train"], 2].sum() > 0
    found = evaluate([spec], corpus, x.__getitem__)[spec]
    expected = metrics.record_losses(y[rows["test"]][:, 2], np.full(len(rows["test"]), 1 / (len(rows["train"]) + 2)))
    np.testing.assert_allclose(found.losses[:, 2], expected[:, 0])
    assert {r["protocol"] for r in found.rows} == {"linear-1of128"}


def test_few_labels_under_cross_validation_train_on_fewer_and_test_all(known: tuple[Corpus, np.ndarray]) -> None:
    corpus, x = known
    specs = [_spec({"name": "columns", "labels": "two", "columns": ["a"], "split": "crossval"}, fraction=f)
             for f in (1.0, 1 / 32)]  # fmt: skip
    found = evaluate(specs, corpus, x.__getitem__)
    full, few = ({r["metric"]: r["value"] for r in found[s].rows} for s in specs)
    assert full["loss"] < few["loss"] and full["auroc"] > few["auroc"]
    assert found[specs[1]].losses.shape == (600, 1) and np.isfinite(found[specs[1]].losses).all()


def test_a_fraction_that_is_no_power_of_a_half_is_refused() -> None:
    with pytest.raises(SpecError, match="a fraction of labels is 1, 1/2, 1/4"):
        EvalSpec.parse({"corpus": "0", "task": {"name": "sex"}, "split": {}, "fraction": 0.3})


def test_adam_out_of_fold_learns_nothing_from_the_test_part(known: tuple[Corpus, np.ndarray]) -> None:
    corpus, x = known
    y = corpus.index[["label.a"]].to_numpy().copy()
    patients = np.arange(600) // 2
    folds = crossval(corpus.index, y)[:2]
    before = adam.cross_validated_adam(x, y, patients, folds)
    y[folds[0][1]] = 1 - y[folds[0][1]]
    after = adam.cross_validated_adam(x, y, patients, folds)
    for a, b in ((before.probabilities, after.probabilities), (before.decisions, after.decisions)):
        np.testing.assert_array_equal(a[0][folds[0][1]], b[0][folds[0][1]])
