"""Loss against the number of labels in pre-training: the fits of the law as a table and sentences, the runs as a frame.

Every task is probed on the same labels, whatever a run was trained on; a curve is a family, a task and an order in
which its subsets of labels grow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ecgscale.fitting.diagnose import ALPHA
from ecgscale.reporting import style
from ecgscale.reporting.curves import Fit, curve, law_name, scales, verdict
from ecgscale.reporting.rows import PANEL, groups, measured, panel_title, records_of
from ecgscale.reporting.tables import FLOOR_NOTE, Cell, Table, parameter, row_records, why

LAW = "label_scaling"
SAID = {"frequency": "frequent first", "random": "random"}
CAPTION = (
    "Loss of a linear probe on frozen features against the number of labels in pre-training, at the largest N and D, "
    "one mark a seed. Every panel is probed on the same labels throughout. Subsets grow by the most frequent labels "
    "first, or at random; the runs on all labels, at the right end, belong to both. Horizontal lines: random weights; "
    "known floors, far below, are in the table. Bars: 95 % intervals of the measurement. Families are set apart "
    "sideways by a hair."
)
ANSWERS = {"scales": "falls", "does not": "does not fall", "cannot tell": "cannot tell"}


def answer(fit: Fit) -> str:
    """Return whether the loss falls with more labels: "falls", "does not fall" or "cannot tell".

    It falls by the trend test and the interval of its change alone; whether the exponent can be read is the law's own
    question.
    """
    along = (fit.get("verdicts") or {}).get("labels") or {}
    falls = along.get("interval") and along["trend_p"] < ALPHA and along["interval"][0] > 0
    return "falls" if falls else ANSWERS[verdict(fit, "labels")]


def without(fits: list[Fit]) -> list[Fit]:
    """Return the fits of all other laws."""
    return [fit for fit in fits if law_name(fit) != LAW]


def of_labels(fits: list[Fit]) -> list[Fit]:
    """Return the fits of this law, tasks in distribution first."""
    chosen = [fit for fit in fits if law_name(fit) == LAW]
    keys = ("eval_corpus", "task", "protocol", "family", "label_order")
    return sorted(chosen, key=lambda f: (f.get("split") != "id", *(str(f.get(key)) for key in keys)))


def points(table: pd.DataFrame) -> pd.DataFrame:
    """Return the losses at every family's largest N and D, a row for each run and order, all labels in every order.

    Columns of the table and panel, family (the backbone and the order), x (the number of labels), full, order and plain
    (the family).
    """
    rows = measured(table)
    rows = rows[rows["kind"].isin(["grid", "labels"]) & (rows["metric"] == "loss") & (rows["unit"] == "nats")]
    rows = rows[(rows["protocol"] != "pretext") & rows["family"].isin(rows.loc[rows["kind"] == "labels", "family"])]
    for axis in ("N", "D"):
        rows = rows[rows[axis] == rows.groupby("family")[axis].transform("max")]
    found = []
    for order in sorted(set(rows.loc[rows["kind"] == "labels", "label_order"])):
        here = rows[(rows["kind"] == "grid") | (rows["label_order"] == order)]
        called = here["backbone"].astype(str) + f", {SAID[order]}"
        found.append(here.assign(order=order, plain=here["family"], family=called))
    if not found:
        return rows.assign(panel="", x=0.0, full=True, order="", plain="")
    drawn = pd.concat(found, ignore_index=True)
    protocols = drawn["protocol"].nunique()
    drawn = drawn.assign(
        panel=[panel_title(r, protocols) for r in records_of(drawn)], x=drawn["labels"].astype(float), full=True
    )
    ordered: pd.DataFrame = drawn.sort_values(["split", *PANEL, "family", "x"], kind="stable").reset_index(drop=True)
    return ordered


def fitted(fits: list[Fit], points: pd.DataFrame) -> pd.DataFrame:
    """Return the fitted curve of every panel and family of `points`, as `figures.curves` draws it."""
    out = []
    for (panel, family), here in groups(points, ["panel", "family"]):
        row = records_of(here)[0]
        fit, low, high = _fit_of(fits, row), here["x"].min(), here["x"].max()
        if fit is None or not low < high:
            continue
        told = scales(fit, "labels")
        floor = (fit.get("params") or {}).get("E") if told else None
        line = curve(fit, "labels", np.geomspace(low, high, 24), {})
        where = {name: row[name] for name in PANEL}
        named = {"panel": panel, "family": family, "told": told, "law": LAW, "E": np.nan if floor is None else floor}
        out.append(line.assign(**named, **where))
    columns = ["panel", "family", "x", "value", "lo", "hi", "told", "E", "law", *PANEL]
    return pd.concat(out, ignore_index=True) if out else pd.DataFrame(columns=columns)


def _fit_of(fits: list[Fit], row: dict[str, Any]) -> Fit | None:
    """Return the fit of the curve that a row of `points` stands on."""
    where = {**{key: row[key] for key in PANEL}, "family": row["plain"], "pretrain": row["pretrain"]}
    same = [f for f in of_labels(fits) if f.get("label_order") == row["order"]]
    return next((f for f in same if all(str(f.get(key, value)) == str(value) for key, value in where.items())), None)


def tables_of(fits: list[Fit], table: pd.DataFrame) -> list[Table]:
    """Return the verdict on every curve, and the losses behind them; nothing without such fits."""
    chosen = of_labels(fits)
    return [_verdicts(chosen), _losses(points(table))] if chosen else []


def _verdicts(fits: list[Fit]) -> Table:
    body = []
    for fit in fits:
        where = f"{fit.get('eval_corpus')}, {'in' if fit.get('split') == 'id' else 'out of'} distribution"
        found, known = answer(fit), fit.get("known_floor")
        body.append(
            (
                Cell(f"{fit['backbone']}, {SAID[fit['label_order']]}"),
                Cell(str(fit.get("task")), where),
                Cell(found, _change(fit), mark="cannot" if "cannot" in found else ""),
                *(parameter(fit, name) for name in ("gamma", "E")),
                Cell(style.number(known), sort=known),
                Cell(str(fit.get("n", "–")), str(fit.get("status", "–")), fit.get("n")),
            )
        )
    head = ("backbone and order", "task", "loss with more labels", "gamma", "E", "known floor", "runs and status")
    caption = (
        "Falls: the trend over all runs is significant at 1 % (permutation test) and the 95 % interval of the change "
        "lies apart from zero; no correction for the number of curves. Below: the fitted change from the fewest to all "
        "labels, never negative, as the law can only fall, and the one-sided p. "
        "Law: L = E + A labels^−gamma at the largest N and D, 95 % bootstrap intervals over runs; grey: unidentified. "
        "The probe of a task is fitted to all its labels at every number of labels that pre-training had. In the order "
        "of frequency the number of labels and the rarity of the last one are one variable: gamma is of that order. "
        f"{FLOOR_NOTE}"
    )
    records = [{k: v for k, v in f.items() if k != "samples"} for f in fits]
    return Table("labels-law", "Loss against the number of labels", caption, head, tuple(body), records)


def _change(fit: Fit) -> str:
    along = (fit.get("verdicts") or {}).get("labels") or {}
    if not along.get("interval"):
        return why(fit)
    low, high = (100 * end for end in along["interval"])
    return f"{100 * along['gain']:.1f} % ({low:.1f}–{high:.1f}), p {along['trend_p']:.2g}"


def _losses(rows: pd.DataFrame) -> Table:
    counts = sorted(set(rows["x"].astype(int)))
    body = []
    for (_, corpus, task, protocol, family), here in groups(rows, ["split", *PANEL, "family"]):
        cells = [Cell(str(family)), Cell(str(task), f"{corpus}, {protocol}")]
        for count in counts:
            runs = here[here["x"] == count]
            cells.append(_mean(runs))
        body.append(tuple(cells))
    caption = (
        "Probe loss, nats: the mean over seeds; below, the lowest and highest seed. All labels together are the same "
        "runs in both orders."
    )
    head = ("backbone and order", "task", *(f"{count} labels" for count in counts))
    return Table("labels-loss", "Loss by number of labels", caption, head, tuple(body), row_records(rows))


def _mean(runs: pd.DataFrame) -> Cell:
    if runs.empty:
        return Cell("–")
    low, mean, high = runs["value"].min(), runs["value"].mean(), runs["value"].max()
    note = f"({style.bounds(low, high)})" if len(runs) > 1 else ""
    return Cell(style.number(mean), note, float(mean))


def sentences(fits: list[Fit]) -> list[str]:
    """Return what more labels do, in distribution and out of it; nothing without such fits."""
    chosen = of_labels(fits)
    if not chosen:
        return []
    low, high = (f"{end:g}" for end in _range(chosen))
    parts = []
    for where, split in (("in distribution", "id"), ("out of distribution", "ood")):
        found = [answer(f) for f in chosen if f.get("split") == split]
        if found:
            parts.append(
                f"{where} the loss falls on {found.count('falls')} of {len(found)} curves, does not on "
                f"{found.count('does not fall')}, and cannot be told on {found.count('cannot tell')}"
            )
    return [
        f"From {low} to {high} labels in pre-training, a curve for every family, task and order: {'; '.join(parts)}."
    ]


def _range(fits: list[Fit]) -> tuple[float, float]:
    ends = [fit["ranges"]["labels"] for fit in fits if (fit.get("ranges") or {}).get("labels")]
    return min(e[0] for e in ends), max(e[1] for e in ends)
