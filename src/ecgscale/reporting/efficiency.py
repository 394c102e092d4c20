"""Labels that pre-training saves against training from scratch: the rows of `study.efficiency` in words."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ecgscale.reporting import style
from ecgscale.reporting.rows import title
from ecgscale.reporting.tables import Cell, Table


def tables_of(efficiency: dict[str, Any]) -> list[Table]:
    """Return the factor of every family, task and protocol; nothing without rows."""
    rows = efficiency.get("rows")
    if not rows:
        return []
    body = tuple(
        (
            Cell(title(family(r)), style.plural(r["n_seeds"], "seed")),
            Cell(r["task"], f"{r['eval_corpus']}, {r['protocol']}"),
            _cell(r["few"]),
            _cell(r),
            Cell(_reading(r)),
            Cell(f"{style.count(r['own'][0][0])}–{style.count(r['own'][-1][0])}", sort=r["own"][-1][0]),
        )
        for r in rows
    )
    head = ("family", "task", "factor, few labels", "factor, many labels", "reading", "labelled records")
    return [Table("efficiency", "Factor of labels saved", caption_of(efficiency), head, body, rows)]


def caption_of(efficiency: dict[str, Any]) -> str:
    """Return what the factor is and how its interval was made."""
    s = efficiency["setting"]
    return (
        f"{style.count(s['target'])} parameters, D = {style.count(s['D'])} records of {s['pretrain']}. Labels that "
        "training from scratch (“finetune” on random weights of the same size, all of it at one rate, fine-tuning at "
        "the rates of its settings) needs over labels that the pre-trained model needs, for one loss: 8 × is an eighth "
        "of the labels. Few labels: the loss of the better curve's first point; many: the lowest loss that both reach, "
        "by which findings go. Curves are made to fall and are straight between points in log-log. 95 % intervals: "
        "tested patients resampled for both curves alike, and seeds where there are several; which training patients "
        "kept their labels and the one draw of random weights are in none. At least, at most: the other curve does not "
        "come to that loss. Validation labels, by which epochs and penalties are chosen, are not counted."
    )


def sentences(efficiency: dict[str, Any]) -> list[str]:
    """Say for how many comparisons labels are saved, and the largest factor; nothing without rows."""
    rows = efficiency.get("rows")
    if not rows:
        return []
    saves = [r for r in rows if verdict(r) == "saves labels"]
    costs = sum(verdict(r) == "costs labels" for r in rows)
    counts = (
        f"Against training from scratch at the same size, pre-training saves labels in {len(saves)} of "
        f"{style.plural(len(rows), 'comparison')}, costs labels in {costs}, and {len(rows) - len(saves) - costs} "
        "cannot tell"
    )
    if not saves:
        return [f"{counts}."]
    top = max(saves, key=lambda r: r["lo"])
    return [
        f"{counts}; surest: {title(family(top))} on {top['task']} ({top['eval_corpus']}, {top['protocol']}), "
        f"{_factor(top)} ({_interval(top)})."
    ]


def verdict(row: dict[str, Any]) -> str:
    """Return "saves labels", "costs labels" or "cannot tell", by the interval."""
    if row["value"] is None:
        return "cannot tell"
    if row["lo"] is not None and row["lo"] > 1:
        return "saves labels"
    return "costs labels" if row["hi"] is not None and row["hi"] < 1 else "cannot tell"


def _reading(r: dict[str, Any]) -> str:
    few, many = verdict(r["few"]), verdict(r)
    return (
        many
        if few == many
        else f"few labels: {few.split()[0]}, many: {many.split()[0]}".replace("cannot", "cannot tell")
    )


def _cell(r: dict[str, Any]) -> Cell:
    note = "" if r["value"] is None else f"({_interval(r)})"
    return Cell(_factor(r), note, r["value"], mark="" if verdict(r) != "cannot tell" else "cannot")


def _factor(r: dict[str, Any]) -> str:
    if r["value"] is None:
        return "–"
    return f"{r['bound']} {_times(r['value'])}" if r["bound"] else _times(r["value"])


def _interval(r: dict[str, Any]) -> str:
    if r["lo"] is None and r["hi"] is None:
        return "not bounded"
    if r["lo"] is None:
        return f"below {_times(r['hi'])}"
    return f"above {_times(r['lo'])}" if r["hi"] is None else f"{_times(r['lo'])[:-2]}–{_times(r['hi'])}"


def _times(factor: float) -> str:
    return f"{factor:.2g} ×" if factor < 10 else f"{factor:.0f} ×"


def family(row: dict[str, Any]) -> str:
    """Return the family as the table of a study names it."""
    return f"{row['backbone']}-{row['objective']}"


def frame_of(efficiency: dict[str, Any]) -> pd.DataFrame:
    """Return the points of every curve: panel, family, kind (grid or scratch), x labelled records, value, lo, hi, full,
    factor."""
    out = []
    for r in efficiency["rows"]:
        panel = f"{r['task']}, {r['protocol']}\n{r['eval_corpus']}"
        same = {"panel": panel, **{k: r[k] for k in ("eval_corpus", "task", "protocol")}, "lo": None, "hi": None}
        for name, kind, points in (
            (family(r), "grid", r["own"]),
            (f"from scratch ({r['variant']})", "scratch", r["scratch"]),
        ):
            factor = r["value"] if kind == "grid" else None
            out += [{**same, "family": name, "kind": kind, "x": x, "value": y, "full": True, "factor": factor}
                    for x, y in points]  # fmt: skip
    return pd.DataFrame(out).drop_duplicates(["panel", "family", "x"]).astype({"lo": float, "hi": float})
