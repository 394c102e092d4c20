"""Which figures a report has: from the prepared table and the fits to titled, captioned figures with their data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ecgscale.reporting import (
    ReportInput,
    curves,
    downstream_figure,
    effects,
    effects_figure,
    efficiency_figure,
    figures,
    label_scaling,
    overfitting_figure,
    similar,
    similar_figure,
)
from ecgscale.reporting.picture import Figure, finish, parted, stamp
from ecgscale.reporting.rows import (
    PANEL,
    comparable,
    contestant,
    floor,
    forms,
    groups,
    largest,
    losses,
    measured,
    paired,
    panel_title,
    pretext,
    records_of,
)
from ecgscale.reporting.style import count, missing, ordered
from ecgscale.reporting.tables import FLOOR_NOTE

_AXES = {"N": ("parameters N", "D", "records"), "D": ("pre-training records D", "N", "parameters")}
_METRIC = {"loss": "loss (nats)", "auroc": "AUROC", "auprc": "AUPRC"}
_KEEP = [
    "study",
    "run",
    "seed",
    "kind",
    "family",
    "objective",
    "pretrain",
    "N",
    "D",
    "C",
    "split",
    "part",
    "metric",
    *PANEL,
]
_BETTER = {"loss (nats)": "lower is better", "AUROC": "higher is better", "AUPRC": "higher is better"}
_LINES = ["panel", "kind", "label", "value", *PANEL, "run"]


def gallery(report: ReportInput, table: pd.DataFrame) -> list[Figure]:
    """Return every figure that the table and the fits can fill, in the order of the page."""
    made: list[Figure] = []
    made += _standing(report, table)
    for split in ("id", "ood"):
        for axis in ("N", "D"):
            made += _scaling(report, table, losses(table, split), split, axis)
    for axis in ("N", "D"):
        made += _pretext(report, table, axis)
    made += _transfer(report, table)
    made += _labels(report, table)
    made += _exponents(report)
    made += _paired(report, table)
    made += _forms(report, table)
    made += downstream_figure.figures_of(report)
    made += overfitting_figure.figures_of(report, table)
    made += efficiency_figure.figures_of(report)
    made += _effects(report)
    made += _similar(report)
    return _with_floor_note(made)


def _with_floor_note(made: list[Figure]) -> list[Figure]:
    """Say once, under the first figure that draws a known floor, why a mark may lie below it."""
    for i, figure in enumerate(made):
        if (figure.frame["drawn"].eq("line") & figure.frame["kind"].eq("floor")).any():
            made[i] = replace(figure, caption=f"{figure.caption} {FLOOR_NOTE}")
            break
    return made


def _scaling(report: ReportInput, table: pd.DataFrame, rows: pd.DataFrame, split: str, axis: str) -> list[Figure]:
    points = _points(rows[rows["kind"] == "grid"], axis)
    if points["x"].nunique() < 2:
        return []
    fitted = _fitted(report, points, axis)
    lines = pd.concat([_floors(report, points), _baselines(rows, points)], ignore_index=True)
    label, other, unit = _AXES[axis]
    where = "in distribution" if split == "id" else "out of distribution"
    out = []
    for suffix, here in parted(points):
        drawn = figures.curves(
            here,
            fitted[fitted["panel"].isin(here["panel"])],
            lines[lines["panel"].isin(here["panel"])],
            salt=f"{split}-loss-vs-{axis}{suffix}",
            stamp=stamp(report),
            x_label=label,
            y_label="probe loss (nats)",
        )
        top = {count(v) for v in here.groupby("family")[other].max()}
        caption = (
            f"Loss of a linear probe on frozen features, {where}, against {label}. Full marks and curves: each "
            f"family's largest {other} ({', '.join(sorted(top))} {unit}), one mark a seed; faint marks: smaller "
            f"{other}. Bars: 95 % intervals of the measurement. Horizontal lines: the baselines, random weights "
            "at the size nearest to the grid's largest. Families are set apart sideways by a hair."
        )
        alt = f"{here['panel'].nunique()} panels, one per task and corpus; {len(here)} measured losses."
        title = f"Loss against {axis}, {where}" + (f" (part {suffix[1:]})" if suffix else "")
        out.append(finish(report, "scaling", f"{split}-loss-vs-{axis}{suffix}", title, caption, alt, drawn))
    return out


def _pretext(report: ReportInput, table: pd.DataFrame, axis: str) -> list[Figure]:
    points = _points(pretext(table), axis)
    if points["x"].nunique() < 2:
        return []
    rank = {family: i for i, family in enumerate(ordered(points["family"]))}
    points = points.sort_values("family", key=lambda f: f.map(rank), kind="stable")
    points["panel"] = points["objective"] + "\nown objective, " + points["eval_corpus"]
    label, other, _ = _AXES[axis]
    out = []
    for suffix, here in parted(points):
        name = f"pretext-vs-{axis}{suffix}"
        drawn = figures.curves(
            here,
            _fitted(report, here, axis),
            salt=name,
            stamp=stamp(report),
            x_label=label,
            y_label="pretext loss",
        )
        caption = (
            f"Held-out loss of the own objective against {label}. Comparable within a panel only: each "
            f"objective has its own scale. "
            f"Full marks: largest {other}; faint marks: smaller {other}."
        )
        alt = f"{here['panel'].nunique()} panels, one per objective; {len(here)} measured losses."
        out.append(finish(report, "pretext", name, f"Pretext loss against {axis}", caption, alt, drawn))
    return out


def _points(rows: pd.DataFrame, axis: str) -> pd.DataFrame:
    other = _AXES[axis][1]
    points = rows.reset_index(drop=True)
    protocols = points["protocol"].nunique()
    panel = [panel_title(r, protocols) for r in records_of(points)]
    top = points.groupby("family")[other].transform("max")
    frame = points[["value", "lo", "hi", *_KEEP]].assign(
        panel=panel, x=points[axis], full=(points[other] == top).astype(bool)
    )
    frame = frame[frame["x"] > 0]
    return frame.sort_values([*PANEL, "family", "x"], kind="stable").reset_index(drop=True)


def _fitted(report: ReportInput, points: pd.DataFrame, axis: str) -> pd.DataFrame:
    out = []
    other = {"N": "D", "D": "N"}.get(axis)
    for (panel, family), here in groups(points, ["panel", "family"]):
        where = {name: str(here[name].iloc[0]) for name in PANEL}
        fit = curves.choose(
            report.fits, axis, family=family.split(" ")[0], pretrain=str(here["pretrain"].iloc[0]), **where
        )
        full = here[here["full"].astype(bool)]
        low, high = full["x"].min(), full["x"].max()
        if fit is None or not low < high:
            continue
        held = {other: float(full[other].max())} if other else {}
        line = curves.curve(fit, axis, np.geomspace(low, high, 24), held)
        law_input = axis if axis in ("N", "D") else None
        fitted_floor = (
            (fit.get("params") or {}).get("E")
            if curves.scales(fit, law_input) and fit.get("status") == "converged"
            else None
        )
        extra = {
            "panel": panel,
            "family": family,
            "told": curves.told(fit, law_input),
            "law": curves.law_name(fit),
            **where,
            **held,
        }
        out.append(line.assign(**extra, E=np.nan if fitted_floor is None else float(fitted_floor)))
    columns = ["panel", "family", "x", "value", "lo", "hi", "told", "E", "law", *PANEL]
    return pd.concat(out, ignore_index=True) if out else pd.DataFrame(columns=columns)


def _floors(report: ReportInput, points: pd.DataFrame) -> pd.DataFrame:
    out = []
    for row in records_of(points.drop_duplicates("panel")):
        known = floor(report, row["eval_corpus"], row["task"])
        if known is not None:
            same = {name: row[name] for name in PANEL}
            out.append(
                {"panel": row["panel"], "kind": "floor", "label": "known floor", "value": known, **same, "run": None}
            )
    return pd.DataFrame(out, columns=_LINES)


def _baselines(rows: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    panels = {tuple(r[n] for n in PANEL): r["panel"] for r in records_of(points.drop_duplicates("panel"))}
    out = []
    top = largest(rows)
    for row in records_of(top[top["kind"].isin(["random", "handcrafted"])]):
        where = tuple(row[n] for n in PANEL)
        if where in panels:
            record = {"panel": panels[where], "kind": row["kind"], "label": row["backbone"], "value": row["value"]}
            out.append({**record, **dict(zip(PANEL, where, strict=True)), "run": row["run"]})
    return pd.DataFrame(out, columns=_LINES)


def _transfer(report: ReportInput, table: pd.DataFrame) -> list[Figure]:
    both = [losses(table, split) for split in ("id", "ood")]
    grid, ood = (rows[rows["kind"] == "grid"] for rows in both)
    if grid.empty or ood.empty:
        return []
    common = grid.groupby(PANEL)["run"].nunique().sort_index()
    place: Any = common.idxmax()
    corpus, task, protocol = place
    source = grid[(grid["eval_corpus"] == corpus) & (grid["task"] == task) & (grid["protocol"] == protocol)]
    points = (
        _points(ood, "N").drop(columns="x").merge(source[["run", "value"]].rename(columns={"value": "x"}), on="run")
    )
    points = points.assign(full=True, x_task=task, x_eval_corpus=corpus)
    if points.empty or points["x"].nunique() < 2:
        return []
    fitted, lines = _fitted(report, points, "loss"), _floors(report, points)
    out = []
    for suffix, here in parted(points):
        name = f"loss-to-loss{suffix}"
        drawn = figures.curves(
            here,
            fitted[fitted["panel"].isin(here["panel"])],
            lines[lines["panel"].isin(here["panel"])],
            salt=name,
            stamp=stamp(report),
            x_label="loss in distribution (nats)",
            y_label="loss out of distribution (nats)",
            counts=False,
        )
        caption = (
            f"Every mark is one run: its probe loss on {task} ({corpus}), the common axis of all families, and "
            f"its probe loss out of "
            "distribution. A lower line transfers better at equal in-distribution loss. Bars: 95 % intervals."
        )
        alt = f"{here['panel'].nunique()} panels, one per out-of-distribution task; {here['run'].nunique()} runs."
        out.append(
            finish(
                report, "transfer", name, "Loss to loss: in distribution to out of distribution", caption, alt, drawn
            )
        )
    return out


def _labels(report: ReportInput, table: pd.DataFrame) -> list[Figure]:
    points = label_scaling.points(table)
    if points["x"].nunique() < 2:
        return []
    fitted = label_scaling.fitted(report.fits, points)
    rows = measured(table)
    lines = _baselines(rows[(rows["kind"] == "random") & (rows["metric"] == "loss")], points)
    kept = points[["value", "lo", "hi", *_KEEP, "panel", "x", "full", "order", "plain"]]
    out = []
    for suffix, here in parted(kept):
        drawn = figures.curves(
            here,
            fitted[fitted["panel"].isin(here["panel"])],
            lines[lines["panel"].isin(here["panel"])],
            salt=f"labels{suffix}",
            stamp=stamp(report),
            x_label="labels in pre-training",
            y_label="probe loss (nats)",
        )
        alt = f"{here['panel'].nunique()} panels, one per task and corpus; {len(here)} measured losses."
        title = "Loss against the number of labels" + (f" (part {suffix[1:]})" if suffix else "")
        out.append(finish(report, "labels", f"labels{suffix}", title, label_scaling.CAPTION, alt, drawn))
    return out


def _exponents(report: ReportInput) -> list[Figure]:
    joint = any(curves.law_name(f) == "scaling" for f in report.fits)
    out = []
    for fit in label_scaling.without(report.fits):
        drawn = ("scaling", "transfer") if joint else ("scaling", "transfer", "power")
        if curves.is_pretext_transfer(fit) or curves.law_name(fit) not in drawn:
            continue
        for name in fit.get("params") or {}:
            if curves.input_of(fit, name) is None:
                continue
            value: Any = (fit.get("params") or {}).get(name)
            if missing(value):
                continue
            lo, hi = (fit.get("intervals") or {}).get(name) or (None, None)
            law, along = curves.law_name(fit), curves.input_of(fit, name)
            shown = f"{name}, loss to loss" if along == "L_ID" else f"{name}, along {along}"
            same = {
                "row": f"{fit.get('task')} · {fit.get('eval_corpus')}",
                "family": str(fit.get("family")),
                "kind": "grid",
            }
            where = {k: fit.get(k) for k in (*PANEL, "status", "verdict")}
            found = {"value": float(value), "lo": np.nan if lo is None else lo, "hi": np.nan if hi is None else hi}
            out.append(
                {
                    "panel": shown,
                    **same,
                    **found,
                    "told": curves.scales(fit, along),
                    "law": law,
                    "parameter": name,
                    **where,
                }
            )
    if not out:
        return []
    frame = pd.DataFrame(out).sort_values(["panel", "row", "family"], kind="stable")
    frame = frame.drop_duplicates(["panel", "row", "family", "protocol"])
    labels = {panel: f"exponent {panel.split(',')[0]}" for panel in frame["panel"].unique()}
    caption = (
        "Fitted exponents, 95 % bootstrap intervals over runs. Hollow: the fit cannot tell or finds no law, and the "
        "value is only where the optimiser stopped; an interval across the whole panel is the range that was searched."
    )
    return _forests(
        report, frame, "exponents", "Exponents", caption, "{} exponents; hollow ones cannot be read.", labels
    )


def _rows_chunks(frame: pd.DataFrame, most: int = 16) -> list[tuple[str, pd.DataFrame]]:
    rows = list(dict.fromkeys(frame["row"]))
    parts = [rows[i : i + most] for i in range(0, len(rows), most)]
    return [(f"-{i + 1}" if len(parts) > 1 else "", frame[frame["row"].isin(part)]) for i, part in enumerate(parts)]


def _standing(report: ReportInput, table: pd.DataFrame) -> list[Figure]:
    rows = comparable(table)
    rows = rows[rows["metric"].isin(list(_METRIC))]
    if not (rows["kind"] == "grid").any():
        return []
    names = [r["family"] if r["kind"] == "grid" else contestant(r) for r in records_of(rows)]
    frame = rows[["value", "lo", "hi", *[k for k in _KEEP if k != "family"]]].assign(
        panel=rows["metric"].map(_METRIC), row=_row_names(rows), family=names, told=True
    )
    order = {name: i for i, name in enumerate(_METRIC.values())}
    frame = frame.sort_values(["panel", "row"], key=lambda c: c.map(order) if c.name == "panel" else c, kind="stable")
    caption = "Every family at its largest N and D (lowest seed) beside the baselines. Bars: 95 % intervals."
    alt = "{} estimates; numbers in the tables below."
    return _forests(report, frame, "standing", "Where each family stands", caption, alt, _BETTER)


def _row_names(rows: pd.DataFrame) -> list[str]:
    several = rows["protocol"].nunique() > 1
    return [f"{r['task']} · {r['eval_corpus']}" + (f" · {r['protocol']}" if several else "") for r in records_of(rows)]


def _paired(report: ReportInput, table: pd.DataFrame) -> list[Figure]:
    rows = paired(table)
    if rows.empty:
        return []
    frame = rows[["value", "lo", "hi", *_KEEP]].assign(row=_row_names(rows), told=True)
    frame = frame.sort_values(["split", "row"], kind="stable").assign(panel="loss minus random weights")
    labels = {"loss minus random weights": "nats; left of zero: pre-training helped"}
    caption = "Probe loss minus that of random weights of the same size, same records; 95 % paired patient bootstrap."
    alt = "{} paired differences."
    return _forests(report, frame, "paired", "What pre-training adds", caption, alt, labels, zero=True)


def _forms(report: ReportInput, table: pd.DataFrame) -> list[Figure]:
    rows = forms(report, table)
    if rows.empty:
        return []
    where = rows["task"] + " · " + rows["place"] + ", " + rows["form"].astype(str)
    frame = rows[["value", "lo", "hi", *_KEEP]].assign(row=where, told=True, panel=rows["metric"].map(_METRIC))
    plain = frame["family"].str.partition(" (")[0]
    frame["family"] = plain.where(frame["kind"] == "arm", rows["who"])
    frame["kind"] = frame["kind"].replace("arm", "grid")
    frame = frame.sort_values("panel", key=lambda c: c.map(list(_METRIC.values()).index), kind="stable")
    names = " and ".join(dict.fromkeys(rows["form"].astype(str)))
    caption = (
        f"The same models, trained and probed on the same records, once per form of the signal ({names}); every seed "
        "is a mark. Bars: 95 % intervals. Compare the rows of one task with each other."
    )
    alt = "{} measured values."
    return _forests(report, frame, "forms", "What the form of the signal costs", caption, alt, _BETTER)


def _effects(report: ReportInput) -> list[Figure]:
    if not report.effects.get("rows"):
        return []
    title, caption = "Backbone and objective told apart", effects.caption_of(report.effects)
    drawn = effects_figure.draw(effects.frame_of(report.effects), salt="effects", stamp=stamp(report))
    names = ["effects"] if len(drawn) == 1 else [f"effects-{i + 1}" for i in range(len(drawn))]
    parts = [title + (f" (part {name[8:]})" if name[8:] else "") for name in names]
    return [
        finish(report, "effects", name, part, caption, f"{len(one.frame)} estimates; numbers in the tables below.", one)
        for name, part, one in zip(names, parts, drawn, strict=True)
    ]


def _similar(report: ReportInput) -> list[Figure]:
    if not report.similar.get("models"):
        return []
    drawn = similar_figure.draw(report.similar, salt="similar", stamp=stamp(report))
    caption = similar.caption_of(report.similar)
    alt = f"{len(report.similar['models'])} models, a number for every pair."
    made = [finish(report, "similar", "similar", "How alike the models' features are", caption, alt, drawn)]
    if report.similar.get("layers"):
        drawn = similar_figure.draw_layers(report.similar, salt="layers", stamp=stamp(report))
        caption = similar.layers_caption_of(report.similar)
        alt = f"{len(report.similar['layers'])} models, a number for every pair of layers."
        made.append(finish(report, "similar", "layers", "How alike the layers of a model are", caption, alt, drawn))
    return made


def _forests(
    report: ReportInput,
    frame: pd.DataFrame,
    name: str,
    title: str,
    caption: str,
    alt: str,
    labels: dict[str, str],
    zero: bool = False,
) -> list[Figure]:
    """Draw a forest, over several figures where it has many rows; `{}` in `alt` becomes the number of estimates."""
    made = []
    for suffix, here in _rows_chunks(frame):
        drawn = figures.forest(here, salt=f"{name}{suffix}", stamp=stamp(report), x_labels=labels, zero=zero)
        part = title + (f" (part {suffix[1:]})" if suffix else "")
        made.append(finish(report, name, f"{name}{suffix}", part, caption, alt.format(len(here)), drawn))
    return made
