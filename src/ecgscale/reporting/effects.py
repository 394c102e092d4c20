"""Architecture and objective, told apart: the rows of `study.effects` as tables, a sentence and a frame to draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ecgscale.reporting import style
from ecgscale.reporting.rows import records_of
from ecgscale.reporting.tables import Cell, Table

GAIN, LOSS, MEAN = "loss_minus_random", "loss", "mean"
PANELS = {  # (score, factor) → its panel; what is alike in both scores is drawn once
    (GAIN, "backbone"): "backbone\nloss minus random",
    (LOSS, "backbone"): "backbone\nloss",
    (GAIN, "objective"): "objective\neither score",
    (GAIN, "interaction"): "interaction\nmean over tasks, nats",
    (GAIN, "share"): "variance\nloss minus random",
}
INTERVALS = (
    "95 % intervals: patients resampled for all runs alike, seeds within cells; each holds for itself, not for all at "
    "once."
)


def frame_of(effects: dict[str, Any]) -> pd.DataFrame:
    """Return what the figure draws: main effects of every task, and interactions and shares of the mean over tasks.

    Columns panel, row, family (the level), kind, value, lo, hi, told (the interval lies apart from zero), and all
    of the rows' own.
    """
    rows = pd.DataFrame(effects["rows"])
    rows = rows[[key in PANELS for key in zip(rows["score"], rows["factor"], strict=True)]]
    mean = rows["level"] == MEAN
    rows = rows[mean | rows["factor"].isin(["backbone", "objective"])]
    panel = [PANELS[key] for key in zip(rows["score"], rows["factor"], strict=True)]
    one = rows.loc[rows["level"] != MEAN, "task"].nunique() == 1
    where = [str(r["task"]) + (f" · {r['eval_corpus']}" if r["eval_corpus"] else "") for r in records_of(rows)]
    frame = rows.assign(panel=panel, row=where, family=rows["name"], kind="effect", told=_apart(rows))
    order = {name: i for i, name in enumerate(PANELS.values())}
    frame = frame.sort_values("panel", key=lambda c: c.map(order), kind="stable")
    main = frame["factor"].isin(["backbone", "objective"])
    return frame[~(one & main & (frame["level"] == MEAN))].reset_index(drop=True)


def caption_of(effects: dict[str, Any]) -> str:
    """Return what a reader must know to read the figure."""
    where = "out of distribution" if effects["setting"]["split"] == "ood" else "in distribution"
    return (
        f"{_setting(effects)} Every cell of the table is a backbone pre-trained with an objective, scored by the probe "
        f"loss on held-out patients {where}. Main effect: the mean of a row or column minus the mean of all cells. "
        "Interaction: what is left of a cell when both main effects are taken away; blue lower, orange higher than the "
        "parts say. Subtracting random weights of the same backbone asks what pre-training adds; one draw of random "
        "weights stands for all, and its luck is in no interval. Variance: each part's share of a run's. "
        f"{INTERVALS} Hollow, or not bold: the interval holds zero."
    )


def _apart(rows: pd.DataFrame) -> pd.Series:
    lo, hi = rows["lo"].astype(float), rows["hi"].astype(float)
    return (lo > 0) | (hi < 0)


def tables_of(effects: dict[str, Any]) -> list[Table]:
    """Return the table of effects, the cells they come from and what is outside; nothing without rows."""
    if not effects.get("rows"):
        return []
    return [_effects(effects), _cells(effects), *([_left_out(effects)] if effects["left_out"] else [])]


def _effects(effects: dict[str, Any]) -> Table:
    rows = pd.DataFrame(effects["rows"])
    names = {(GAIN, "backbone"): "backbone, by loss minus random weights", (LOSS, "backbone"): "backbone, by loss",
             (GAIN, "objective"): "objective", (GAIN, "interaction"): "interaction",
             (GAIN, "share"): "share of the variance, by loss minus random weights"}  # fmt: skip
    body = []
    for (score, factor), what in names.items():
        here = rows[(rows["score"] == score) & (rows["factor"] == factor)]
        by_task = here[here["level"] != MEAN]
        for r in records_of(here[here["level"] == MEAN]):
            tasks = by_task[by_task["name"] == r["name"]]
            same = tasks[_apart(tasks) & (np.sign(tasks["value"]) == np.sign(r["value"]))]
            share = factor == "share"
            value = _percent(r) if share else style.number(r["value"])
            note = "" if share or style.missing(r["lo"]) else f"({style.bounds(r['lo'], r['hi'])})"
            body.append(
                (
                    Cell(r["name"].replace(" × ", " · "), what),
                    Cell(value, note, float(r["value"])),
                    Cell("–") if share else _reading(r, factor),
                    Cell("–") if share else Cell(f"{len(same)} of {len(tasks)}", sort=len(same)),
                    Cell(str(r["n_seeds"]), sort=r["n_seeds"]),
                    Cell(style.count(r["n_patients"]), sort=r["n_patients"]),
                )
            )
    head = ("what", "effect, mean over tasks", "reading", "tasks that say the same", "seeds", "patients")
    caption = (
        f"{_setting(effects)} {INTERVALS} Effects in nats. A task says the same when its own interval lies apart from "
        f"zero on the same side. Seeds: the fewest of a cell.{_notes(effects)}"
    )
    return Table("effects", "Effects of backbone and objective", caption, head, tuple(body), effects["rows"])


def _reading(r: dict[str, Any], factor: str) -> Cell:
    better = {"interaction": "better together than apart"}.get(factor, "better than the mean")
    worse = {"interaction": "worse together than apart"}.get(factor, "worse than the mean")
    if style.missing(r["lo"]) or r["lo"] <= 0 <= r["hi"]:
        return Cell("cannot tell", mark="cannot")
    return Cell(better if r["hi"] < 0 else worse)


def _cells(effects: dict[str, Any]) -> Table:
    rows = pd.DataFrame(effects["rows"])
    cells = rows[(rows["factor"] == "cell") & (rows["level"] == MEAN) & (rows["score"] == GAIN)]
    by_name = {r["name"]: r for r in records_of(cells)}
    body = []
    for backbone in effects["backbones"]:
        found = [by_name[f"{backbone} × {objective}"] for objective in effects["objectives"]]
        values = [Cell(style.number(r["value"]), f"({style.bounds(r['lo'], r['hi'])})", r["value"]) for r in found]
        body.append((Cell(backbone), *values))
    caption = (
        "Probe loss minus that of random weights of the same backbone, nats, mean over tasks and seeds; below zero: "
        f"pre-training helped. {INTERVALS}"
    )
    head = ("backbone", *effects["objectives"])
    return Table("effects-cells", "The cells behind the effects", caption, head, tuple(body), records_of(cells))


def _left_out(effects: dict[str, Any]) -> Table:
    body = tuple((Cell(f"{r['backbone']} · {r['objective']}"), Cell(r["reason"])) for r in effects["left_out"])
    caption = "Main effects need a complete table: the rows and columns that leave the most cells were taken."
    return Table(
        "effects-left-out", "Pairs outside the complete table", caption, ("pair", "reason"), body, effects["left_out"]
    )


def sentences(effects: dict[str, Any]) -> list[str]:
    """Return what the shares say: which of backbone, objective and their interaction the score hangs on."""
    rows = [r for r in effects.get("rows") or [] if (r["level"], r["score"]) == (MEAN, GAIN)]
    shares = {r["name"]: r for r in rows if r["factor"] == "share"}
    if not shares:
        return []
    said = [
        f"{'the ' if name in ('backbone', 'objective') else ''}{_SAID[name]} {_percent(r)}"
        for name, r in shares.items()
    ]
    backbone, objective = shares["backbone"], shares["objective"]
    unclear = any(style.missing(r["lo"]) for r in (backbone, objective)) or not (
        backbone["lo"] > objective["hi"] or objective["lo"] > backbone["hi"]
    )
    larger = "backbone" if backbone["value"] > objective["value"] else "objective"
    verdict = "which of the two weighs more cannot be told" if unclear else f"the {larger} weighs more"
    pairs = [r for r in rows if r["factor"] == "interaction"]
    apart = sum(not style.missing(r["lo"]) and not r["lo"] <= 0 <= r["hi"] for r in pairs)
    return [
        f"Backbone against objective, {len(effects['backbones'])} × {len(effects['objectives'])} crossed: of the "
        f"variance of what pre-training adds, {style.listed(said)}; {verdict}. "
        f"{apart} of {len(pairs)} pairs differ from the sum of their parts."
    ]


_SAID = {"backbone": "backbone explains", "objective": "objective", "interaction": "their interaction",
         "between seeds": "the luck of the seed"}  # fmt: skip


def _percent(r: dict[str, Any]) -> str:
    text = f"{100 * r['value']:.0f} %"
    return text if style.missing(r["lo"]) else f"{text} ({100 * r['lo']:.0f}–{100 * r['hi']:.0f} %)"


def _setting(effects: dict[str, Any]) -> str:
    s = effects["setting"]
    return f"{style.count(s['target'])} parameters, D = {style.count(s['D'])} records of {s['pretrain']}."


def _notes(effects: dict[str, Any]) -> str:
    return "".join(f" {note[:1].upper()}{note[1:]}." for note in effects["notes"])
