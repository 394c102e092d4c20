"""AUROC, average precision and bootstrap against scikit-learn and the golden vectors of the original benchmark code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from ecgscale.evaluation import bootstrap, metrics


@pytest.fixture(scope="module")
def golden(shared_golden: Path) -> Path:
    return shared_golden / "metrics"


@pytest.mark.parametrize("decimals", [1, 2, 8])
def test_scikit_learn_agrees(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    y = (rng.random((300, 6)) < np.linspace(0.05, 0.9, 6)).astype(float)
    p = np.clip(np.round(0.2 * y + 0.6 * rng.random(y.shape), decimals), 1e-6, 1 - 1e-6)
    np.testing.assert_allclose(metrics.auroc(y, p), roc_auc_score(y, p, average=None), rtol=1e-12)
    np.testing.assert_allclose(metrics.auprc(y, p), average_precision_score(y, p, average=None), rtol=1e-12)
    expected = [log_loss(y[:, i], p[:, i]) for i in range(6)]
    np.testing.assert_allclose(metrics.label_losses(y, p), expected, rtol=1e-12)


def test_golden_macro_auroc_over_defined_labels(golden: Path) -> None:
    case = json.loads((golden / "manifest.json").read_text())["cases"]["macro_auroc"]
    with np.load(golden / "macro_auroc.npz") as stored:
        y, scores = stored["labels"], stored["scores"]
        np.testing.assert_allclose(metrics.auroc(y, scores), stored["per_label_auroc_nan_undefined"], atol=1e-12)
    assert metrics.macro(metrics.auroc(y, scores)) == pytest.approx(case["macro_defined_labels_only"], abs=1e-12)
    for i, expected in case["average_precision"].items():
        if metrics.has_both_classes(y)[int(i)]:
            assert metrics.auprc(y, scores)[int(i)] == pytest.approx(expected, abs=1e-12)


def test_golden_bootstrap_with_its_own_draws(golden: Path) -> None:
    with np.load(golden / "bootstrap.npz") as stored:
        y, scores, drawn = stored["labels"], stored["scores"], stored["resample_index"]
        expected = stored["per_label_samples_nan"]
    weights = np.stack([np.bincount(row, minlength=len(y)) for row in drawn])
    ours = bootstrap.weighted("auroc", y, scores, np.arange(len(y)), weights)
    np.testing.assert_allclose(ours, expected, atol=2e-6)
