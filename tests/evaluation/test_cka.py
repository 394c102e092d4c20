"""CKA equals values computed elsewhere, knows what it must not see, and does not depend on widths."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ecgscale.evaluation.cka import similarity


def test_it_equals_the_golden_values(shared_golden: Path) -> None:
    folder = shared_golden / "metrics"
    a = np.load(folder / "linear_cka.npz")
    values = json.loads((folder / "manifest.json").read_text())["cases"]["linear_cka"]["values"]
    x, y, z = a["X"], a["Y"], a["Z"]
    found = similarity([x, 2.5 * x @ a["Q"] + 7, y, z])
    expected = [values[k]["cka_debiased"] for k in ("X_rotated_scaled_shifted", "X_Y", "X_Z_independent")]
    np.testing.assert_allclose(found[0, 1:], expected, atol=1e-10)
    np.testing.assert_allclose(similarity([z[:6], y[:6]])[0, 1], values["wide_features"]["cka_debiased"], atol=1e-10)


def test_independent_representations_are_unlike_however_wide_they_are() -> None:
    rng = np.random.default_rng(0)
    wide, wider = rng.standard_normal((300, 400)), rng.standard_normal((300, 800))
    assert abs(similarity([wide, wider])[0, 1]) < 0.02


def test_minibatches_say_what_the_whole_says() -> None:
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((2048, 6))
    a, b = shared @ rng.standard_normal((6, 30)), shared[:, :3] @ rng.standard_normal((3, 20))
    whole, parts = similarity([a, b], batch=2048), similarity([a, b], batch=128)
    assert 0.2 < whole[0, 1] < 0.95
    np.testing.assert_allclose(parts, whole, atol=0.01)


def test_a_constant_representation_is_like_nothing() -> None:
    x = np.random.default_rng(0).standard_normal((50, 3))
    found = similarity([x, np.ones((50, 2))])
    assert found[0, 0] == pytest.approx(1.0) and np.isnan(found[0, 1])


def test_different_records_are_refused() -> None:
    with pytest.raises(ValueError, match="the same four or more records, found"):
        similarity([np.ones((5, 2)), np.ones((6, 2))])
