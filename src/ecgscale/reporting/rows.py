"""Which rows of the table a report looks at: families, baselines, panels and the one cell families are compared at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ecgscale.reporting import COLUMNS, REQUIRED, ReportError, ReportInput
from ecgscale.reporting.style import ordered

PAIRED = "loss_minus_random"
LOWER_IS_BETTER = ("loss", "mae", "mse", "ece", "brier")
PANEL = ["eval_corpus", "task", "protocol"]
FORM_KEYS = ["metric", "split", "place", "task", "protocol", "who"]

_UNITS = {"z_record_lead": "z-score", "z_global": "global z-score"}
_PARTS = {"test": 0, "validation": 1}
_NUMBERS = ("N", "D", "C", "seed", "step", "value", "lo", "hi", "n", "n_pos")


def prepare(report: ReportInput) -> pd.DataFrame:
    """Return the table with every column of `COLUMNS`, and `family` ("resnet1d-supervised") and `kind`.

    `kind` is grid, labels (on a subset of its family's labels), tune, codebook, arm (trained, but in no fit), random
    (random weights: D = 0) or handcrafted (N = 0).

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
    table["kind"] = _kind(table)
    table["family"] = _family(table)
    return table


def _kind(table: pd.DataFrame) -> pd.Series:
    kind = table["role"].astype(object)
    baseline = table["role"] == "baseline"
    kind[baseline & (table["N"] == 0)] = "handcrafted"
    kind[baseline & (table["N"] != 0)] = "random"  # also where N is unknown, because the run has not been measured
    kind[baseline & (table["D"] > 0)] = "arm"
    kind[baseline & (table["objective"] == "external")] = "external"
    return kind


def _family(table: pd.DataFrame) -> pd.Series:
    """Name families by backbone and objective; arms and those of a second pre-training corpus carry its name."""
    family = table["backbone"].astype(str) + "-" + table["objective"].astype(str)
    family = family.where(table["kind"] != "arm", family + " (" + table["pretrain"].astype(str) + ")")
    grid = table[table["kind"].isin(["grid", "tune"])].drop_duplicates("run")
    main = grid["pretrain"].value_counts()
    if len(main) < 2:
        return family
    other = table["kind"].isin(["grid", "tune"]) & table["pretrain"].notna() & (table["pretrain"] != main.index[0])
    return family.where(~other, family + " (" + table["pretrain"].astype(str) + ")")


def families(table: pd.DataFrame) -> list[str]:
    """Return the families of the grid, in the order of legends and tables."""
    return ordered(table.loc[table["kind"] == "grid", "family"])


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
    chosen: pd.DataFrame = rows.loc[order.index].drop_duplicates(keys).sort_index()
    return chosen


def losses(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return the probe losses of grid and baselines on one split ("id" or "ood"), in nats: not those of regression."""
    rows = measured(table)
    nats = (rows["metric"] == "loss") & (rows["unit"] != "sd2")
    return rows[nats & (rows["protocol"] != "pretext") & (rows["split"] == split)]


def pretext(table: pd.DataFrame) -> pd.DataFrame:
    """Return every grid run's loss on its own objective."""
    rows = measured(table)
    return rows[(rows["protocol"] == "pretext") & (rows["metric"] == "loss") & (rows["kind"] == "grid")]


def largest(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep, of every family, the run of largest N, then largest D, then lowest seed: a rule that looks at no result.

    Random weights keep the run whose N is nearest to that of the grid's largest run of the same backbone; external
    checkpoints are all kept.
    """
    runs = rows.assign(minus_seed=-rows["seed"].fillna(0)).drop_duplicates("run")
    runs = runs.sort_values(["N", "D", "minus_seed"], kind="stable")
    grid, random = runs[runs["kind"] == "grid"], runs[runs["kind"] == "random"]
    size = grid.groupby("backbone")["N"].max()
    gap = (random["N"] - random["backbone"].map(size).astype(float)).abs()
    random = random.assign(near=-gap.fillna(0)).sort_values("near", kind="stable")
    handcrafted = runs[runs["kind"] == "handcrafted"]
    keep = [
        *grid.drop_duplicates("family", keep="last")["run"],
        *random.drop_duplicates("backbone", keep="last")["run"],
        *runs.loc[runs["kind"] == "external", "run"],
    ]
    return rows[rows["run"].isin([*keep, *handcrafted.drop_duplicates("backbone", keep="last")["run"]])]


def comparable(table: pd.DataFrame) -> pd.DataFrame:
    """Return the out-of-distribution rows at every contestant's largest cell, probes only.

    Where a grid was measured, only the panels on which it was: a baseline alone has nobody to be compared with.
    """
    rows = measured(table)
    rows = largest(rows[(rows["split"] == "ood") & (rows["protocol"] != "pretext")])
    met = pd.MultiIndex.from_frame(rows.loc[rows["kind"] == "grid", PANEL])
    return rows[pd.MultiIndex.from_frame(rows[PANEL]).isin(met)] if len(met) else rows


def forms(report: ReportInput, table: pd.DataFrame) -> pd.DataFrame:
    """Return the probes measured on one corpus in several forms of its signal, such as z-scored and in mV.

    Rows of arms and of the hand-crafted baseline, with `who`, `place` (the corpus without its form) and `form`
    (the unit, or the form's name where the units are the same); the form of the study itself comes first.
    """
    rows = measured(table)
    rows = rows[rows["kind"].isin(["arm", "handcrafted"]) & rows["metric"].isin(["loss", "auroc"])]
    rows = rows[rows["protocol"] != "pretext"]
    if rows.empty:
        return rows.assign(**dict.fromkeys(("who", "place", "form"), ""))
    named = rows["eval_corpus"].astype(str).str.partition(".")
    who = [contestant(r).partition(" (")[0] if r["kind"] == "arm" else contestant(r) for r in records_of(rows)]
    rows = rows.assign(who=who, place=named[0], form=named[2])
    rows = rows[rows.groupby([*FORM_KEYS, "N", "D"])["form"].transform("nunique") > 1]
    rows = rows.sort_values([*FORM_KEYS, "form", "seed"], kind="stable")
    units = {str(m.get("name")): _UNITS.get(str(m.get("unit")), m.get("unit")) for m in report.corpora}
    unit = rows["eval_corpus"].map(units)
    by_unit = unit.nunique() > 1 and unit.notna().all()
    return rows.assign(form=unit if by_unit else rows["form"].replace("", "plain"))


def paired(table: pd.DataFrame) -> pd.DataFrame:
    """Return the paired differences to random weights at every family's largest cell."""
    rows = measured(table)
    return largest(rows[(rows["metric"] == PAIRED) & (rows["kind"] == "grid")])


def contestant(row: Any) -> str:
    """Write who a row belongs to: a family, "random weights (resnet1d)" or "hand-crafted features"."""
    if row["kind"] == "random":
        return f"random weights ({row['backbone']})"
    if row["kind"] == "external":
        return f"{row['backbone']} (external)"
    if row["kind"] == "handcrafted":
        plain = str(row["backbone"]).replace("-", "").replace("_", "") == "handcrafted"
        return "hand-crafted features" if plain else f"hand-crafted features ({row['backbone']})"
    return title(row["family"])


def panel_title(row: Any, protocols: int = 1) -> str:
    """Write where a row was measured: the task, its corpus, and the protocol where several exist."""
    protocol = f", {row['protocol']}" if protocols > 1 else ""
    return f"{row['task']}\n{row['eval_corpus']}{protocol}"


def floor(report: ReportInput, eval_corpus: str, task: str) -> float | None:
    """Return the known irreducible loss of a task on a corpus, in nats, from a fit or the manifest, or None."""
    for fit in report.fits:
        if fit.get("known_floor") is not None and (fit.get("eval_corpus"), fit.get("task")) == (eval_corpus, task):
            return float(fit["known_floor"])
    for corpus in report.corpora:
        known = (corpus.get("facts") or {}).get("irreducible_loss") or {}
        if corpus.get("name") == eval_corpus and known.get(task) is not None:
            return float(known[task])
    return None


def groups(frame: pd.DataFrame, by: str | list[str]) -> list[tuple[Any, pd.DataFrame]]:
    """Return the groups of a frame in the order of their keys; with a list, a key is a tuple."""
    return list(frame.groupby(by, sort=True))


def records_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame as dictionaries."""
    return [{str(k): v for k, v in record.items()} for record in frame.to_dict("records")]


def failed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows without a number."""
    gaps: pd.DataFrame = table[~np.isfinite(table["value"])]
    return gaps
