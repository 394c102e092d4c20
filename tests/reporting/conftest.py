"""A made-up study with known exponents: its table, fits and manifests, in the shapes that a report reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ecgscale.reporting import COLUMNS, ReportInput

FAMILIES = {
    ("resnet1d", "supervised", "SL"): {"A": 3.0, "alpha": 0.40, "B": 3.0, "beta": 0.45},
    ("resnet1d", "cmsc", "SSL"): {"A": 2.0, "alpha": 0.25, "B": 2.5, "beta": 0.35},
    ("beat_transformer", "supervised", "SL"): {"A": 4.0, "alpha": 0.38, "B": 4.0, "beta": 0.42},
    ("beat_transformer", "masked_beats", "SSL"): {"A": 2.5, "alpha": 0.30, "B": 3.0, "beta": 0.33},
}
SIZES, RECORDS = (18_432, 43_210, 101_700), (250, 1000, 4000)
FLOORS = {"simulated_af": 0.031, "simulated_structural": 0.21, "simulated_source": 0.12}


def _row(**values: Any) -> dict[str, Any]:
    plain = {
        "study": "made_up",
        "step": 400,
        "status": "done",
        "checkpoint": "best",
        "part": "test",
        "protocol": "linear",
    }
    return {**dict.fromkeys(COLUMNS), **plain, **values}


def _measure(rng: np.random.Generator, value: float, spread: float) -> dict[str, float]:
    seen = value + rng.normal(0, spread / 3)
    return {"value": seen, "lo": seen - 1.96 * spread, "hi": seen + 1.96 * spread, "n": 600.0, "n_pos": 55.0}


def _excess(law: dict[str, float], N: float, D: float) -> float:
    return law["A"] * N ** -law["alpha"] + law["B"] * D ** -law["beta"]


def _evaluations(
    rng: np.random.Generator, same: dict[str, Any], excess: float, worlds: list[str], tasks: list[str]
) -> list[dict[str, Any]]:
    rows = [
        _row(
            **same,
            eval_corpus="world_a",
            split="id",
            task="simulated_source",
            metric="loss",
            unit="nats",
            **_measure(rng, 0.12 + excess, 0.006),
        )
    ]
    for i, (world, task) in enumerate(product(worlds, tasks)):
        where = {**same, "eval_corpus": world, "split": "ood", "shift": "shifted", "task": task}
        loss = FLOORS.get(task, 0.1) + (0.9 + 0.15 * i) * excess
        rows.append(_row(**where, metric="loss", unit="nats", **_measure(rng, loss, 0.008)))
        rows.append(_row(**where, metric="auroc", unit="", **_measure(rng, 0.98 - excess, 0.012)))
        rows.append(_row(**where, metric="auprc", unit="", **_measure(rng, 0.80 - excess, 0.03)))
    return rows


def make_table(
    worlds: list[str], tasks: list[str], sizes: tuple[int, ...] = SIZES, records: tuple[int, ...] = RECORDS
) -> pd.DataFrame:
    """Return a table of four families, two baselines, paired differences and one failed run."""
    rng = np.random.default_rng(7)
    rows: list[dict[str, Any]] = []
    for (backbone, objective, paradigm), law in FAMILIES.items():
        for N, D in product(sizes, records):
            for seed in (0, 1) if sizes[-1] != N else (0,):
                run = f"{backbone[:4]}{objective[:4]}{N}x{D}s{seed}"
                same = {
                    "run": run,
                    "cell": run[:-2],
                    "seed": seed,
                    "role": "grid",
                    "backbone": backbone,
                    "objective": objective,
                    "paradigm": paradigm,
                    "pretrain": "world_a",
                    "N": N,
                    "N_total": N * 2,
                    "D": D,
                    "seen": 64 * 400,
                    "C": 6.0 * N * 64 * 400,
                    "steps": 400,
                    "batch": 64,
                    "lr": 1e-3,
                }
                excess = _excess(law, N, D)
                part = {"eval_corpus": "world_a", "split": "id", "task": "pretext", "metric": "loss", "unit": "nats"}
                rows.append(
                    _row(
                        **same,
                        **part | {"protocol": "pretext", "part": "validation"},
                        **_measure(rng, 1 + 2 * excess, 0.01),
                    )
                )
                rows += _evaluations(rng, same, excess, worlds, tasks)
                if sizes[-1] == N and records[-1] == D:
                    for task in tasks:
                        gain = _measure(rng, -0.05 if objective != "cmsc" else 0.001, 0.01)
                        rows.append(
                            _row(
                                **same,
                                eval_corpus=worlds[0],
                                split="ood",
                                task=task,
                                metric="loss_minus_random",
                                unit="nats",
                                **gain,
                            )
                        )
    for backbone, N in product(("resnet1d", "beat_transformer"), sizes):
        same = {
            "run": f"random{backbone}{N}",
            "seed": 0,
            "role": "baseline",
            "backbone": backbone,
            "objective": "random",
            "paradigm": "",
            "N": N,
            "D": 0,
            "C": 0.0,
        }
        rows += _evaluations(rng, same, 0.42, worlds, tasks)
    same = {
        "run": "hand",
        "seed": 0,
        "role": "baseline",
        "backbone": "handcrafted",
        "objective": "none",
        "paradigm": "",
        "N": 0,
        "D": 0,
        "C": 0.0,
    }
    rows += _evaluations(rng, same, 0.33, worlds, tasks)
    rows.append(
        _row(
            run="broken",
            seed=1,
            role="grid",
            backbone="resnet1d",
            objective="cmsc",
            N=sizes[0],
            D=records[0],
            value=np.nan,
            status="failed",
            reason="loss became NaN at step 37",
        )
    )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def make_fits(worlds: list[str], tasks: list[str]) -> list[dict[str, Any]]:
    """Return a scaling fit per family and task, and a transfer fit per out-of-distribution task; CMSC's cannot tell."""
    rng = np.random.default_rng(3)
    places = [("world_a", "simulated_source", 1.0)] + [
        (w, t, 0.9 + 0.15 * i) for i, (w, t) in enumerate(product(worlds, tasks))
    ]
    fits = []
    for (backbone, objective, _), law in FAMILIES.items():
        sure = objective != "cmsc"
        verdict = {"status": "converged" if sure else "bound", "verdict": "scales" if sure else "cannot tell"}
        verdict["reason"] = "" if sure else "E is 0 in 40% of the resamples"
        for corpus, task, factor in places:
            base = {
                "schema": "ecgscale.lawfit/1",
                "family": f"{backbone}-{objective}",
                "backbone": backbone,
                "objective": objective,
                "eval_corpus": corpus,
                "task": task,
                "protocol": "linear",
                "n": 15,
                "holdout": {"N": {"error": 0.021}},
                "optimum": None,
                "warnings": [],
            }
            params = {
                "E": FLOORS.get(task, 0.1),
                "A": factor * law["A"],
                "B": factor * law["B"],
                "alpha": law["alpha"],
                "beta": law["beta"],
            }
            fits.append(base | verdict | _fit({"name": "scaling"}, "NxD", params, rng))
            if corpus != "world_a":
                params = {"E_ood": FLOORS.get(task, 0.1), "K": factor, "kappa": 1.0}
                shifted = {"name": "transfer", "E_id": FLOORS["simulated_source"]}
                fits.append(base | verdict | {"id_axis": "id-probe"} | _fit(shifted, "L_ID", params, rng))
    return fits


def _fit(law: dict[str, Any], axis: str, params: dict[str, float], rng: np.random.Generator) -> dict[str, Any]:
    samples = {k: [float(v * np.exp(d)) for d in rng.normal(0, 0.01, 60)] for k, v in params.items()}
    intervals = {k: [min(draws), max(draws)] for k, draws in samples.items()}
    return {"law": law | {"revision": 1}, "axis": axis, "params": params, "intervals": intervals, "samples": samples}


def make_corpora(simulated: bool = True) -> list[dict[str, Any]]:
    """Return two manifests, one with quarantined records."""
    common = {
        "licence": "CC BY 4.0",
        "citation": "Made, U. P. (2026)",
        "simulated": simulated,
        "ages": {"mean": 54.2, "sd": 16.0},
        "sex": {"F": 0.51, "M": 0.49},
    }
    facts = {"irreducible_loss": FLOORS} if simulated else {}
    held = [{"record": f"r{i}", "reason": "flat lead V3" if i % 2 else "NaN in lead II"} for i in range(7)]
    return [
        dict(
            common,
            name="world_a",
            title="Clinic",
            records=4800,
            patients=3200,
            quarantined=7,
            quarantine=held,
            digest="a1b2c3d4e5f6a7b8",
            prevalence={"af": 0.08, "structural": 0.21},
            facts=facts,
        ),
        dict(
            common,
            name="world_b",
            title="Screening",
            records=800,
            patients=610,
            quarantined=0,
            quarantine=[],
            digest="0011223344556677",
            prevalence={"af": 0.11, "structural": 0.17},
            facts=facts,
        ),
    ]


@pytest.fixture(scope="session")
def make_report() -> Callable[..., ReportInput]:
    """A builder of report inputs; keyword arguments replace fields, `worlds` and `tasks` set the evaluation."""

    def build(simulated: bool = True, worlds: int = 2, tasks: int = 2, **replaced: Any) -> ReportInput:
        where = ["world_b", "world_c", "world_d", *(f"world_{i}" for i in range(4, 99))][:worlds]
        what = ["simulated_af", "simulated_structural", *(f"label_{i}" for i in range(2, 99))][:tasks]
        fields: dict[str, Any] = {
            "study": {
                "name": "made_up",
                "title": "Four families on a made-up clinic",
                "description": "A table with planted exponents.",
            },
            "command": "ecgscale report made_up --lab lab",
            "table": make_table(where, what),
            "fits": make_fits(where, what),
            "corpora": make_corpora(simulated),
            "overlaps": [
                {"a": "world_a", "b": "world_b", "shared_patients": 0, "verdict": "no patient stands on both sides"}
            ],
            "skipped": [{"what": "ludb tasks", "reason": "no data bound to ludb"}],
            "environment": {"machine": "x86_64, 2 cores", "torch": "2.13.0", "threads": 1, "seconds": 431.0},
            "notes": ["Learning rates: packaged, tuned at D = 1K."],
        }
        return ReportInput(**fields | replaced)

    return build


@pytest.fixture(scope="session")
def bare_report(make_report: Callable[..., ReportInput]) -> ReportInput:
    """A report input of one size and D in distribution, of which next to nothing is drawn: for the words of a part."""
    whole = make_report(worlds=1, tasks=2)
    table = whole.table[(whole.table["split"] == "id") & (whole.table["N"] == SIZES[0])]
    return replace(whole, table=table[table["D"] == RECORDS[0]], fits=[])
