"""The checklist passes what is sound and names each planted fault, and only it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from ecgscale.answers.anyones import TableError
from ecgscale.answers.audit import CHECKS, audit, curves
from ecgscale.laws.scaling import Scaling

TRUTH = {"E": 0.2, "A": 3.0, "B": 5.0, "alpha": 0.3, "beta": 0.35}


def sound() -> pd.DataFrame:
    """Return a table in which nothing is missing: 4 sizes, 5 data sizes, 2 seeds, a baseline, a validation row."""
    mesh = np.meshgrid(np.geomspace(2e4, 2e6, 4), np.geomspace(500, 32_000, 5))
    n, d = (np.tile(a.ravel(), 2) for a in mesh)
    rng = np.random.default_rng(0)
    value = Scaling().predict({"N": n, "D": d}, TRUTH) * np.exp(0.003 * rng.standard_normal(len(n)))
    grid = pd.DataFrame({"N": n, "D": d, "value": value, "seed": np.repeat([0, 1], len(n) // 2)})
    grid["part"], grid["split"], grid["shift"], grid["status"] = "test", "ood", "shifted", "ok"
    grid["lr"], grid["seen"], grid["N_total"], grid["C"] = 10 / n**0.5, 4 * d, n + 100, 7 * n**0.9 * 4 * d
    grid["lo"], grid["hi"] = value * 0.99, value * 1.01
    baseline = grid.iloc[[0]].assign(D=0.0, C=0.0)
    validation = grid.iloc[[0]].assign(part="validation", D=0.0)
    return pd.concat([grid, baseline, validation], ignore_index=True)


def test_a_sound_table_passes_every_check() -> None:
    checks, fits = audit(sound(), bootstraps=0)
    assert {c.name: c.verdict for c in checks} == dict.fromkeys(CHECKS, "pass")
    assert fits[""].params["alpha"] == pytest.approx(0.3, abs=0.05)


FAULTS: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "enough levels": (lambda t: t[t["N"].isin(sorted(t["N"].unique())[::3])], "fail"),
    "long enough axes": (lambda t: t[t["N"] > 2e5], "fail"),
    "several seeds": (lambda t: t[t["seed"] == 0], "fail"),
    "no run counted twice": (lambda t: pd.concat([t, t.iloc[[3]]]), "fail"),
    "a loss, no score": (lambda t: t.assign(value=1 - t["value"] / 2), "fail"),
    "largest level held out": (lambda t: t.assign(value=t["value"] * np.where(t["N"] > 1e6, 1.3, 1)), "fail"),
    "N defined": (lambda t: t.drop(columns="N_total"), "unknown"),
    "D unique": (lambda t: t.assign(seen=4e4), "fail"),
    "compute measured": (lambda t: t.assign(C=6 * t["N"] * t["seen"]), "fail"),
    "baselines present": (lambda t: t[t["D"] > 0], "fail"),
    "shift stated": (lambda t: t.drop(columns="shift"), "fail"),
    "nothing chosen on the test": (lambda t: t[t["part"] == "test"], "fail"),
    "learning rates tuned": (lambda t: t.assign(lr=1e-3), "fail"),
    "intervals of patients": (lambda t: t.drop(columns="lo"), "fail"),
    "failures shown": (lambda t: t.drop(columns="status"), "unknown"),
    "exponents identified": (lambda t: t.assign(value=t["value"].mean()), "fail"),
    "a grid, no diagonal": (lambda t: t.assign(D=t["N"] / 40), "fail"),
}
FITTED = ("largest level held out", "exponents identified", "a grid, no diagonal")


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named(name: str) -> None:
    spoil, verdict = FAULTS[name]
    table = spoil(sound())
    if name in FITTED:
        found = {c.name: c.verdict for c in audit(table, bootstraps=0)[0]}[name]
    else:
        found = CHECKS[name](curves(table))[0]
    assert found == verdict


def test_every_check_has_a_planted_fault() -> None:
    assert set(FAULTS) == set(CHECKS)


def test_a_table_without_losses_is_refused() -> None:
    with pytest.raises(TableError, match="no column for value; name it with --n, --d, --loss"):
        audit(sound().drop(columns="value"))
