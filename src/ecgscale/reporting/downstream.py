"""The own held-out loss against each task's loss: the rows of `study.downstream` in words."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ecgscale.reporting import style
from ecgscale.reporting.rows import title
from ecgscale.reporting.tables import Cell, Table

MOST_TASKS = 8  # of one figure: as many as there are marks
CAPTION = (
    "Spearman's rank correlation over the cells of the grid (size and D, seeds averaged) between a family's held-out "
    "loss on its own objective and its probe loss on a task; 1: whichever run is better on the one is better on the "
    "other. 95 % interval of Bonett and Wright (2000), which takes cells for independent; fewer than 8 cells have "
    "none. Size and D move both losses, so a correlation is no cause. Objectives with a moving teacher, whose own "
    "losses cannot be compared between runs, are left out."
)


def tables_of(downstream: dict[str, Any]) -> list[Table]:
    """Return the correlation of every family and task; nothing without rows."""
    rows = downstream.get("rows")
    if not rows:
        return []
    body = tuple(
        (
            Cell(title(_family(r)), r["pretrain"]),
            Cell(r["task"], f"{r['eval_corpus']}, {r['protocol']}, {'in' if r['split'] == 'id' else 'out of'} "
                            "distribution"),
            Cell(style.number(r["rho"]), f"({style.bounds(r['lo'], r['hi'])})", r["rho"],
                 "cannot" if verdict(r) == "cannot tell" else ""),
            Cell(verdict(r), mark="cannot" if verdict(r) == "cannot tell" else ""),
            Cell(str(r["n"]), sort=r["n"]),
        )
        for r in rows
    )  # fmt: skip
    head = ("family", "task", "rank correlation", "lower own loss", "cells")
    return [Table("downstream", "Own loss and tasks: rank correlation", CAPTION, head, body, rows)]


def sentences(downstream: dict[str, Any]) -> list[str]:
    """Say on how many tasks out of distribution lower own loss goes with lower error, family by family."""
    rows = [r for r in downstream.get("rows", []) if r["split"] == "ood"]
    said = []
    for family in style.ordered(_family(r) for r in rows):
        found = [verdict(r) for r in rows if _family(r) == family]
        with_, against = found.count("lower error"), found.count("higher error")
        more = f", against on {against}" if against else ""
        said.append(f"{title(family)} on {with_} of {len(found)}{more}")
    if not said:
        return []
    return [
        "Measurements out of distribution on which a lower held-out loss on the own objective goes with a lower error "
        f"(rank correlation over the grid): {'; '.join(said)}; elsewhere it cannot be told."
    ]


def verdict(row: dict[str, Any]) -> str:
    """Return what lower own loss goes with, by the interval: "lower error", "higher error" or "cannot tell"."""
    if row["lo"] is None:
        return "cannot tell"
    return "lower error" if row["lo"] > 0 else "higher error" if row["hi"] < 0 else "cannot tell"


def _family(row: dict[str, Any]) -> str:
    return f"{row['backbone']}-{row['objective']}"


def frames_of(downstream: dict[str, Any]) -> list[pd.DataFrame]:
    """Return the points, a frame for every `MOST_TASKS` tasks: panel (family), family (task), kind, x, value, …"""
    points = pd.DataFrame(downstream["points"])
    several, pretrains = points["protocol"].nunique() > 1, points["pretrain"].nunique() > 1
    where = points["task"] + ", " + points["eval_corpus"] + (", " + points["protocol"] if several else "")
    below = "pre-trained on " + points["pretrain"] if pretrains else "own objective"
    place = {family: i for i, family in enumerate(style.ordered(points["backbone"] + "-" + points["objective"]))}
    rank = (points["backbone"] + "-" + points["objective"]).map(place)
    frame = points.drop(columns=["backbone"]).assign(
        panel=points["backbone"] + " · " + points["objective"] + "\n" + below, family=where, kind="grid", full=True,
        x=points["own"], rank=rank,
    ).sort_values("rank", kind="stable").drop(columns=["rank", "own"])  # fmt: skip
    tasks = sorted(set(where))
    parts = [tasks[i : i + MOST_TASKS] for i in range(0, len(tasks), MOST_TASKS)]
    return [frame[frame["family"].isin(part)] for part in parts]
