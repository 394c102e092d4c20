"""How the runs were trained: the learning rates that were searched, and whether self-supervised runs stayed alive."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from ecgscale.reporting import style
from ecgscale.reporting.rows import groups, title
from ecgscale.reporting.style import ordered
from ecgscale.reporting.tables import Cell, Table

COLLAPSED_RANK = 1.2  # features on one line have effective rank 1
COLLAPSED_SHARE = 0.25  # of the effective rank that the same network had before its first step
COLLAPSED_CODES = 2.0  # codes effectively in use

_PARTS = {
    "perplexity": "codes in use",
    "teacher_distance": "teacher – student",
}


def rates(tuning: list[dict[str, Any]]) -> Table:
    """Return every search of a learning rate: its trials with their scores, the best, and its distance from the edge.

    Args:
        tuning: `family`, `arm`, `size`, `D`, `criterion`, `trials` [[rate, score]], `lr`, `distance` and `at_edge`.
    """
    rows = []
    for search in tuning:
        trials = ", ".join(
            f"{lr:.2g}: {'failed' if score is None or not math.isfinite(score) else f'{score:.4f}'}"
            for lr, score in search["trials"]
        )
        place = (
            "at the edge: a better one may lie beyond" if search["at_edge"] else f"{search['distance']} from the edge"
        )
        best = "none" if search["lr"] is None else f"{search['lr']:.2g}"
        rows.append(
            (
                Cell(title(search["family"]), search["arm"] if search["arm"] != "main" else ""),
                Cell(style.count(search["size"]), sort=search["size"]),
                Cell(style.count(search["D"]), sort=search["D"]),
                Cell(best, place, search["lr"]),
                Cell(trials, f"{len(search['trials'])} trials, {search['criterion']}"),
            )
        )
    caption = (
        "Every family and size was given the same number of trials at the middle D; one whose best rate lay at the "
        "edge was given one more. The grid uses the best. Test parts chose nothing."
    )
    head = ("family", "N asked", "D (records)", "best rate", "rate: score (nats)")
    return Table("rates", "Learning rates", caption, head, tuple(rows), tuning)


def health(table: pd.DataFrame) -> Table:
    """Return the health of self-supervised families at their last step, the worst run of each size first."""
    rows, records = [], []
    for record in _families(table):
        collapsed = record["collapsed"]
        extra = ", ".join(f"{label} {record[name]:.3g}" for name, label in _PARTS.items() if name in record)
        rows.append(
            (
                Cell(title(record["family"]), "collapsed: " + collapsed if collapsed else ""),
                Cell(style.count(record["N"]), sort=record["N"]),
                Cell(str(record["runs"]), sort=record["runs"]),
                Cell(f"{record['rankme_start']:.1f} → {record['rankme']:.1f}", sort=record["rankme"]),
                Cell(f"{record['feature_std_start']:.3g} → {record['feature_std']:.3g}", sort=record["feature_std"]),
                Cell(extra or "–"),
            )
        )
        records.append(record)
    caption = (
        "Of the validation records' features: effective rank (RankMe, centred) and mean standard deviation, before the "
        "first and after the last step, in the run of each family and size whose rank is lowest. Collapsed: a rank "
        f"below {COLLAPSED_RANK:g} or below {COLLAPSED_SHARE:.0%} of the start's, or fewer than {COLLAPSED_CODES:g} "
        "codes in use."
    )
    head = ("family", "N (parameters)", "runs", "effective rank", "feature spread", "at the last step")
    return Table("health", "Health of self-supervised runs", caption, head, tuple(rows), records)


def collapses(table: pd.DataFrame) -> list[str]:
    """Return a sentence for every family and size of which a run collapsed."""
    return [
        f"{title(r['family'])} with {style.count(r['N'])} parameters collapsed in {r['collapsed_runs']} of "
        f"{style.plural(r['runs'], 'run')}: {r['collapsed']}."
        for r in _families(table)
        if r["collapsed"]
    ]


def _families(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return per family and size of the grid the health of its worst run, and how many collapsed."""
    rows = table[(table["protocol"] == "health") & (table["kind"] == "grid")]
    found = []
    place = {family: i for i, family in enumerate(ordered(rows["family"]))}
    for (family, N), here in sorted(groups(rows, ["family", "N"]), key=lambda g: (place[g[0][0]], g[0][1])):
        runs = here.pivot_table(index="run", columns="metric", values="value")
        health = {str(run): values for run, values in zip(runs.index, runs.to_dict("records"), strict=True)}
        reasons = {run: _collapse(values) for run, values in health.items()}
        bad = [run for run, reason in reasons.items() if reason]
        worst = min(bad or health, key=lambda run: health[run]["rankme"])
        kept = {str(name): value for name, value in health[worst].items() if not style.missing(value)}
        found.append(
            {"family": family, "N": N, "runs": len(runs), "run": worst, "collapsed": reasons[worst],
             "collapsed_runs": len(bad), **kept}
        )  # fmt: skip
    return found


def _collapse(values: Mapping[Hashable, float]) -> str:
    """Return why a run counts as collapsed, or nothing."""
    rank, start, codes = (values.get(name, math.nan) for name in ("rankme", "rankme_start", "perplexity"))
    if rank < COLLAPSED_RANK:
        return f"effective rank {rank:.2f}"
    if rank < COLLAPSED_SHARE * start:
        return f"effective rank {rank:.2f}, {start:.2f} before training"
    return f"{codes:.2f} codes in use" if codes < COLLAPSED_CODES else ""
