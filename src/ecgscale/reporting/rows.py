"""Which rows of the table a report looks at: families, baselines, panels and the one cell families are compared at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ecgscale.reporting import COLUMNS, REQUIRED, ReportError, ReportInput

PAIRED = "loss_minus_random"
LOWER_IS_BETTER = ("loss", "mae", "mse", "ece", "brier")
PANEL = ["eval_corpus", "task", "protocol"]

_PARTS = {"test": 0, "validation": 1}
_NUMBERS = ("N", "D", "C", "seed", "step", "value", "lo", "hi", "n", "n_pos")


def prepare(report: ReportInput) -> pd.DataFrame:
    """Return the table with every column of `COLUMNS`, and `family` ("resnet1d-supervised") and `kind`.

    `kind` is grid, tune, codebook, random (random weights: D = 0) or handcrafted (N = 0).

    Raises:
        ReportError: no rows, or a column that the report cannot do without is absent.
    """
    name = report.study.get("name")
    if not name:
        raise ReportError("the study of the report has no `name`; expected study = {name, title, description}")
    absent = [c for c in REQUIRED if c not in report.table.columns]
    if absent:
        raise ReportError(f'the table of study "{name}" lacks {", ".join(absent)}; run `ecgscale run {name}` again')
    if report.table.empty:
        raise ReportError(f'the table of study "{name}" has no rows; run `ecgscale run {name}` first')
    table = report.table.reset_index(drop=True).reindex(columns=list(COLUMNS))
    for column in _NUMBERS:
        try:
            table[column] = pd.to_numeric(table[column]).astype(float)
        except (ValueError, TypeError) as error:
            raise ReportError(f'column {column} of the table of study "{name}" must hold numbers: {error}') from None
    table["family"] = table["backbone"].astype(str) + "-" + table["objective"].astype(str)
    table["kind"] = _kind(table)
    return table


def _kind(table: pd.DataFrame) -> pd.Series:
    kind = table["role"].astype(object)
    baseline = table["role"] == "baseline"
    kind[baseline & (table["N"] > 0)] = "random"
    kind[baseline & ~(table["N"] > 0)] = "handcrafted"
    return kind


def families(table: pd.DataFrame) -> list[str]:
    """Return the families of the grid, in order."""
    return sorted(table.loc[table["kind"] == "grid", "family"].unique())


def title(family: str) -> str:
    """Write a family for a reader: "resnet1d · supervised"."""
    return family.replace("-", " · ", 1)


def measured(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that hold a number on held-out records, one per run and quantity.

    Test before validation, the checkpoint of lowest validation loss before the last, later steps before earlier.
    """
    rows = table[np.isfinite(table["value"]) & (table["part"].isna() | table["part"].isin(_PARTS))]
    order = pd.DataFrame(
        {
            "part": rows["part"].map(_PARTS).fillna(2),
            "checkpoint": (rows["checkpoint"] != "best").astype(int),
            "step": -rows["step"].fillna(0),
        }
    ).sort_values(["part", "checkpoint", "step"], kind="stable")
    keys = ["run", *PANEL, "split", "metric"]
    return rows.loc[order.index].drop_duplicates(keys).sort_index()


def losses(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return the probe losses of grid and baselines on one split ("id" or "ood")."""
    rows = measured(table)
    return rows[(rows["metric"] == "loss") & (rows["protocol"] != "pretext") & (rows["split"] == split)]


def pretext(table: pd.DataFrame) -> pd.DataFrame:
    """Return every grid run's loss on its own objective."""
    rows = measured(table)
    return rows[(rows["protocol"] == "pretext") & (rows["metric"] == "loss") & (rows["kind"] == "grid")]


def largest(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep, of every family, the run of largest N, then largest D, then lowest seed: a rule that looks at no result.

    Random weights keep the run whose N is nearest to that of the grid's largest run of the same backbone.
    """
    grid = rows[rows["kind"] == "grid"]
    keep = []
    for _, family in grid.groupby("family"):
        keep.append(_top(family))
    size = {backbone: runs["N"].max() for backbone, runs in grid.groupby("backbone")}
    for backbone, runs in rows[rows["kind"] == "random"].groupby("backbone"):
        nearest = (runs["N"] - size.get(backbone, runs["N"].max())).abs()
        keep.append(_top(runs[nearest == nearest.min()]))
    for _, runs in rows[rows["kind"] == "handcrafted"].groupby("backbone"):
        keep.append(_top(runs))
    return rows[rows["run"].isin(keep)]


def _top(rows: pd.DataFrame) -> Any:
    order = rows.assign(minus_seed=-rows["seed"].fillna(0)).sort_values(["N", "D", "minus_seed"], kind="stable")
    return order["run"].iloc[-1]


def contestant(row: Any) -> str:
    """Write who a row belongs to: a family, "random weights (resnet1d)" or "hand-crafted features"."""
    if row["kind"] == "random":
        return f"random weights ({row['backbone']})"
    if row["kind"] == "handcrafted":
        plain = str(row["backbone"]).replace("-", "").replace("_", "") == "handcrafted"
        return "hand-crafted features" if plain else f"hand-crafted features ({row['backbone']})"
    return title(row["family"])


def panel_title(row: Any, protocols: int = 1) -> str:
    """Write where a row was measured: the task, its corpus, and the protocol where several exist."""
    protocol = f", {row['protocol']}" if protocols > 1 else ""
    return f"{row['task']}\n{row['eval_corpus']}{protocol}"


def floor(corpora: list[dict[str, Any]], eval_corpus: str, task: str) -> float | None:
    """Return the known irreducible loss of a task on a corpus, in nats, or None."""
    for corpus in corpora:
        known = (corpus.get("facts") or {}).get("irreducible_loss") or {}
        if corpus.get("name") == eval_corpus:
            names = [task, task.removeprefix(f"{eval_corpus}_"), task.removeprefix("simulated_")]
            return next((float(known[name]) for name in names if known.get(name) is not None), None)
    return None


def failed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows without a number."""
    return table[~np.isfinite(table["value"])]
