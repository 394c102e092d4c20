"""Every report with laws says what its grid could have detected, and sets published numbers beside its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ecgscale.reporting import detectable, published


def fit(family: str, split: str, task: str, spread: float = 0.1, **params: float) -> dict[str, Any]:
    rng = np.random.default_rng(len(family) + len(task))
    samples = {name: (value * np.exp(spread * rng.standard_normal(2000))).tolist() for name, value in params.items()}
    law = "transfer" if "kappa" in params else "scaling"
    return {
        "family": family, "eval_corpus": "ludb", "task": task, "protocol": "linear", "split": split, "params": params,
        "samples": samples, "status": "converged", "verdict": "scales", "law": {"name": law}, "id_axis": "id-probe",
    }  # fmt: skip


def test_the_ratio_grows_with_the_spread_and_is_absent_where_nothing_was_identified() -> None:
    fits = [fit("a-b", "id", "x", 0.1, alpha=0.3, beta=0.4), fit("a-c", "id", "x", 0.2, alpha=0.3, beta=0.4)]
    fits += [fit("a-d", "id", "x", alpha=0.3, beta=0.4) | {"status": "too_few"}]
    (table,) = detectable.tables_of(fits)
    ratios = [r["alpha"] for r in table.records]
    assert np.log(ratios[0]) == pytest.approx((1.96 + 0.84) * np.sqrt(2) * 0.1, rel=0.1)
    assert np.log(ratios[1]) == pytest.approx(2 * np.log(ratios[0]), rel=0.15)
    assert ratios[2] is None
    assert table.rows[2][2].mark == "cannot"
    assert detectable.tables_of([fit("a-b", "ood", "x", kappa=0.4)]) == []


def test_published_values_meet_the_study_s_own() -> None:
    one, other = "resnet1d-supervised", "beat_transformer-supervised"
    fits = [fit(one, "id", "super", alpha=0.912, beta=0.1), fit(one, "ood", "lvh", alpha=0.6, beta=0.2)]
    fits += [fit(other, "ood", "lvh", alpha=0.3, beta=0.2), fit(other, "ood", "cpsc2018_all", alpha=0.9, beta=0.1)]
    fits += [fit(other, "ood", "lvh", kappa=0.128)]
    (table,) = published.tables_of(fits)
    found = {(r["quantity"], r["family"], r["task"]): r for r in table.records}
    inside = {key for key, r in found.items() if r["lo"] <= r["published"] <= r["hi"]}
    assert ("alpha", one, "id") in inside
    assert ("kappa", other, "mean_ood") in inside
    assert ("data_share", other, "cpsc2018") in inside
    assert ("beta", one, "id") not in inside
    assert found["alpha_ratio", f"{one}/{other}", "mean_ood"]["here"] == pytest.approx(2.0)
    assert ("alpha", other, "id") not in found
    assert published.tables_of(fits[1:2]) == []
