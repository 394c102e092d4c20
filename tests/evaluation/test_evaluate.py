"""Evaluations on one corpus: tasks that share folds, parts that are divided once, metrics averaged over repeats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from ecgscale.data.corpus import Corpus
from ecgscale.data.split import SplitRule, crossval, parts
from ecgscale.evaluation import evaluate as module
from ecgscale.evaluation import metrics, probes
from ecgscale.evaluation.evaluate import EvalSpec, evaluate
from ecgscale.spec import part


@dataclass(eq=False)
class Indexed:
    """As much of a corpus as an evaluation reads."""

    index: pd.DataFrame


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(120, 6))


@pytest.fixture
def corpus(features: np.ndarray) -> Corpus:
    """120 records of 60 patients; three diagnoses that features 0 to 2 tell with noise."""
    noise = np.random.default_rng(1).normal(size=(120, 3))
    present = (features[:, :3] + noise > 0.4).astype(np.float32)
    names = ("lvh", "la_hypertrophy", "axis_left")
    labels = {f"label.{name}": present[:, i] for i, name in enumerate(names)}
    rows = np.arange(120)
    return cast(
        Corpus, Indexed(pd.DataFrame({"patient": [f"p{i // 2}" for i in rows], "fold": rows // 2 % 10 + 1, **labels}))
    )


def _spec(labels: str, **more: Any) -> EvalSpec:
    task = part("tasks", {"name": "ludb", "labels": labels})
    return EvalSpec(corpus="0", task=task, split=SplitRule(), resamples=200, **more)


def test_tasks_on_the_same_folds_share_one_probe_and_keep_their_numbers(
    corpus: Corpus, features: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    probe = probes.cross_validated_probe
    monkeypatch.setattr(probes, "cross_validated_probe", lambda *a: calls.append(a[1].shape) or probe(*a))
    specs = [_spec("lvh"), _spec("la_hypertrophy"), _spec("axis"), _spec("lvh", order=1)]
    together = evaluate(specs, corpus, features.__getitem__)
    assert sorted(calls) == [(120, 1), (120, 3)]
    for spec in specs:
        alone = evaluate([spec], corpus, features.__getitem__)[spec]
        np.testing.assert_allclose(alone.losses, together[spec].losses, atol=5e-9)
        for a, b in zip(alone.rows, together[spec].rows, strict=True):
            assert a == pytest.approx(b, abs=5e-9)


def test_metrics_are_averaged_over_repeats(corpus: Corpus, features: np.ndarray) -> None:
    spec = _spec("lvh")
    found = evaluate([spec], corpus, features.__getitem__)[spec]
    y = corpus.index[["label.lvh"]].to_numpy(np.float64)
    folds = crossval(corpus.index, corpus.index.filter(regex="label"), 2, 5, 0)
    repeats = probes.cross_validated_probe(features, y, np.arange(120) // 2, folds).probabilities
    value = {row["metric"]: row["value"] for row in found.rows}
    assert value["auroc"] == pytest.approx(np.mean([metrics.auroc(y, p)[0] for p in repeats]), abs=1e-6)
    assert value["auroc"] != pytest.approx(metrics.auroc(np.tile(y, (5, 1)), np.concatenate(repeats))[0], abs=1e-6)
    assert found.losses.shape == (120, 1)
    assert value["loss"] == pytest.approx(found.losses.mean(), rel=1e-12)
    assert {row["n"] for row in found.rows} == {120}
    assert {row["n_pos"] for row in found.rows} == {int(y.sum())}


def test_a_corpus_is_divided_once(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(module, "corpus_parts", lambda c, *how: calls.append(how) or parts(c.index, *how))
    task = part("tasks", {"name": "ptbxl", "labels": "super"})
    specs = [EvalSpec(corpus="0", task=task, split=SplitRule(), order=order, test=test)
             for order in (0, 1) for test in (None, 5)]  # fmt: skip
    for spec in specs:
        divided = parts(corpus.index, spec.split, spec.order)
        for name, rows in spec.rows(corpus).items():
            np.testing.assert_array_equal(rows, divided[name][: getattr(spec, name)])
        assert set(spec.tested(corpus)) <= set(spec.needed(corpus))
    assert calls == [(SplitRule(), 0), (SplitRule(), 1)]
