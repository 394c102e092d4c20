"""Own losses meet the tasks' run by run; seeds are no points of their own, incomparable objectives stay out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from ecgscale.lab import COLUMNS
from ecgscale.study.downstream import downstream_of


def rows(objective: str, sign: float, checkpoint: str = "best") -> list[dict[str, Any]]:
    """Nine cells of two seeds: a task that follows the own loss, or runs against it."""
    rng, out = np.random.default_rng(0), []
    for cell in range(9):
        for seed in (0, 1):
            own = 2.0 - 0.1 * cell + 0.001 * rng.normal()
            run = {"run": f"{objective}{cell}s{seed}", "cell": f"{objective}{cell}", "seed": seed, "role": "grid",
                   "backbone": "resnet1d", "objective": objective, "pretrain": "code", "N": 10.0**cell, "D": 9.0,
                   "checkpoint": checkpoint, "part": "test", "metric": "loss", "unit": "nats",
                   "label_fraction": 1.0}  # fmt: skip
            task = {"eval_corpus": "hospital", "task": "t", "protocol": "linear", "split": "ood"}
            out.append({**run, "eval_corpus": "code", "task": "pretext", "protocol": "pretext", "split": "id",
                        "value": own})  # fmt: skip
            out.append({**run, **task, "value": 1.0 + sign * own + 0.02 * rng.normal()})
            out.append({**run, **task, "protocol": "linear-1of8", "label_fraction": 0.125, "value": 3.0})
    return out


def table(*parts: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame([row for part in parts for row in part], columns=list(COLUMNS))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_planted_direction_is_found_over_cells(sign: float) -> None:
    found = downstream_of(table(rows("cmsc", 0.5 * sign)))
    (row,) = found["rows"]
    assert (row["task"], row["protocol"], row["split"], row["n"]) == ("t", "linear", "ood", 9)
    assert sign * row["rho"] > 0.9 and sign * row["lo"] > 0 and sign * row["hi"] > 0
    assert len(found["points"]) == 18 and found["points"][0].keys() >= {"run", "own", "value", "N", "D"}


def test_objectives_whose_losses_cannot_be_compared_are_left_out() -> None:
    found = downstream_of(table(rows("cmsc", 0.5), rows("data2vec", 0.5, "last")))
    assert {r["objective"] for r in found["rows"]} == {"cmsc"}
    assert downstream_of(table(rows("data2vec", 0.5, "last"))) == {} == downstream_of(table([]))


def test_few_cells_have_no_interval() -> None:
    few = [r for r in rows("cmsc", 0.5) if r["N"] < 1e5]
    (row,) = downstream_of(table(few))["rows"]
    assert row["n"] == 5 and row["lo"] is row["hi"] is None and row["rho"] > 0.8


def test_two_cells_have_no_order_to_speak_of() -> None:
    two = [r for r in rows("cmsc", 0.5) if r["N"] < 1e2]
    assert downstream_of(table(two)) == {}
    assert {r["objective"] for r in downstream_of(table(two, rows("supervised", 0.5)))["rows"]} == {"supervised"}
