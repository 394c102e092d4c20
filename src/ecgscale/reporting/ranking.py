"""The order of the families over all tasks together: the rows of `study.ranking` as a table and a sentence."""

from __future__ import annotations

from typing import Any

from ecgscale.reporting import style
from ecgscale.reporting.tables import Cell, Table


def tables_of(ranking: dict[str, Any]) -> list[Table]:
    """Return the order of the families; nothing without rows."""
    rows = ranking.get("rows")
    if not rows:
        return []
    body = tuple(
        (
            Cell(called(r, rows)),
            Cell(_ranks(r), sort=float(r["rank"]), mark="best" if r["worst"] == 1 else "tie" if r["best"] == 1 else ""),
            Cell(style.number(r["value"]), f"({style.bounds(r['lo'], r['hi'])})", float(r["value"])),
            Cell(style.number(r["gain"]), f"({style.bounds(r['gain_lo'], r['gain_hi'])})", float(r["gain"])),
            Cell(str(r["n_seeds"]), sort=r["n_seeds"]),
        )
        for r in rows
    )
    s = ranking["setting"]
    where = "out of distribution" if s["split"] == "ood" else "in distribution"
    caption = (
        f"{style.count(s['target'])} parameters, D = {style.count(s['D'])} records of {s['pretrain']}. Probe loss, "
        f"nats: the mean over {_tasks(s)} {where} and over seeds. 95 % intervals: patients resampled for all families "
        "alike, and the luck of the seed, pooled over families. Ranks: those that pairwise differences, corrected for "
        "their number, do not exclude; families whose ranks reach the first place are ties for it. The random "
        f"weights are one draw each, whose luck is in no interval.{_missing(s)}"
    )
    head = ("family", "rank", "mean loss", "minus random weights", "seeds")
    return [Table("ranking", "Order over all tasks together", caption, head, body, rows)]


def sentences(ranking: dict[str, Any]) -> list[str]:
    """Return who is first over all tasks out of distribution together, and how many others may be."""
    rows = ranking.get("rows")
    if not rows or ranking["setting"]["split"] != "ood":
        return []
    first, ties = rows[0], sum(r["best"] == 1 for r in rows) - 1
    missing = _missing(ranking["setting"])
    helped = sum(r["gain_hi"] < 0 for r in rows)
    could = "no other family may be first" if not ties else f"{ties} of the other {len(rows) - 1} may be first too"
    return [
        f"Over {_tasks(ranking['setting'])} together {called(first, rows)} has the lowest mean loss, "
        f"{style.estimate(first['value'], first['lo'], first['hi'])}; {could}. "
        f"{helped} of {len(rows)} families are ahead of random weights of their size in the mean."
        f"{missing}"
    ]


def called(r: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Write the family, with the fields in brackets only where names alone would be ambiguous."""
    short = [(_short(x["backbone"]), _short(x["objective"])) for x in rows]
    mine = (_short(r["backbone"]), _short(r["objective"]))
    return " · ".join(mine if short.count(mine) == 1 else (r["backbone"], r["objective"]))


def _short(level: str) -> str:
    return level.split(" (")[0]


def _ranks(r: dict[str, Any]) -> str:
    return str(r["rank"]) if r["best"] == r["worst"] else f"{r['best']} to {r['worst']}"


def _missing(setting: dict[str, Any]) -> str:
    n = setting["missing"]
    return f" {n} run{'s are' if n != 1 else ' is'} missing: failed, or not measured on every task." if n else ""


def _tasks(setting: dict[str, Any]) -> str:
    return f"{setting['tasks']} task{'s' if setting['tasks'] != 1 else ''}"
