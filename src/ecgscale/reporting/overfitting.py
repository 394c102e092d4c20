"""Overfitting: how far a finite D holds a model back, by its fitted law, and the gap between training and validation.

O = (L(N, D) - L(N, inf)) / L(N, inf) against X = D L(N, inf)^(1 / beta): where L = E + A N^-alpha + B D^-beta holds,
all sizes lie on one curve, O = B X^-beta (arXiv:2605.17276, appendix B.6; `planning.overfitting`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ecgscale import planning
from ecgscale.reporting import ReportInput, style
from ecgscale.reporting.curves import Fit, law_name, scales
from ecgscale.reporting.rows import losses, pretext, records_of, title
from ecgscale.reporting.style import ordered
from ecgscale.reporting.tables import Cell, Table

SMALL = 0.1  # the extent of which the table says how many records it takes


def readable(report: ReportInput) -> list[Fit]:
    """Return the fits of L(N, D) in distribution whose data term can be read."""
    return [
        f for f in report.fits
        if law_name(f) == "scaling" and f.get("split") == "id" and f.get("params") and scales(f, "D")
    ]  # fmt: skip


def points_of(report: ReportInput, table: pd.DataFrame) -> pd.DataFrame:
    """Return every run's measured extent: panel, family, kind, x (X), value (O), lo, hi, full, N, D, run."""
    rows = pd.concat([losses(table, "id"), pretext(table)])
    rows = rows[rows["kind"] == "grid"]
    out = []
    for fit in readable(report):
        params = fit["params"]
        same = all_of(rows, fit)
        for r in records_of(rows[same]):
            limit = params["E"] + params["A"] * r["N"] ** -params["alpha"]
            x = float(planning.overfitting(params, r["N"], r["D"])[1])
            extent = {name: (r[name] - limit) / limit for name in ("value", "lo", "hi")}
            out.append({"panel": _panel(fit), "family": r["family"], "kind": "grid", "x": x, **extent, "full": True,
                        **{k: r[k] for k in ("run", "N", "D", "eval_corpus", "task", "protocol")}})  # fmt: skip
    return pd.DataFrame(out)


def all_of(rows: pd.DataFrame, fit: Fit) -> pd.Series:
    """Return which rows a fit is of."""
    keys = ("backbone", "objective", "pretrain", "eval_corpus", "task", "protocol")
    return pd.DataFrame({k: rows[k] == fit[k] for k in keys if k in fit}).all(axis=1)


def _panel(fit: Fit) -> str:
    own = fit.get("task") == "pretext"
    return f"{fit['objective']}\nown objective, {fit['eval_corpus']}" if own else f"{fit['task']}\n{fit['eval_corpus']}"


def fitted_of(report: ReportInput, points: pd.DataFrame) -> pd.DataFrame:
    """Return the curve O = B X^-beta of every fit over the X that was measured."""
    out = []
    for fit in readable(report):
        family, panel, params = str(fit["family"]), _panel(fit), fit["params"]
        x = points.loc[(points["panel"] == panel) & (points["family"].str.partition(" (")[0] == family), "x"]
        if len(x) and x.min() < x.max():
            at = np.geomspace(x.min(), x.max(), 24)
            line = {"x": at, "value": params["B"] * at ** -params["beta"], "lo": np.nan, "hi": np.nan}
            out.append(pd.DataFrame(line).assign(panel=panel, family=family, told=True, E=np.nan))
    columns = ["panel", "family", "x", "value", "lo", "hi", "told", "E"]
    return pd.concat(out, ignore_index=True) if out else pd.DataFrame(columns=columns)


def tables_of(report: ReportInput, table: pd.DataFrame) -> list[Table]:
    """Return the extents by the fitted laws, and the gap at the end of the runs."""
    made = [_extents(report, table)] if readable(report) else []
    return made + ([_gaps(report.overfitting["runs"])] if report.overfitting.get("runs") else [])


def _extents(report: ReportInput, table: pd.DataFrame) -> Table:
    rows = table[table["kind"] == "grid"]
    records = [_extent(fit, rows[all_of(rows, fit)]) for fit in readable(report)]
    records = [r for r in records if r]
    body = tuple(
        (
            Cell(title(r["family"])),
            Cell(r["task"], r["eval_corpus"]),
            Cell(style.count(r["N"]), sort=r["N"]),
            Cell(style.number(r["limit"]), sort=r["limit"]),
            *(Cell(f"{100 * r[k][0]:.3g} %", f"({_percent(r[k][1])}–{_percent(r[k][2])} %)", r[k][0])
              for k in ("smallest", "largest")),
            Cell(style.count(r["enough"][0]), f"({style.count(r['enough'][1])}–{style.count(r['enough'][2])})"),
        )
        for r in records
    )  # fmt: skip
    caption = (
        "By the fitted L(N, D), in distribution, at each family's largest N: how much higher the loss is than with "
        "endless data, O = (L(N, D) − L(N, ∞)) / L(N, ∞), at the smallest and at the largest D of the study, and the D "
        f"at which {SMALL:.0%} are left, which may lie far beyond what was measured. 95 % intervals over the samples "
        "of the fit. Fits whose data term cannot be read are left out."
    )
    head = ("family", "task", "N", "L(N, ∞)", "O at the smallest D", "O at the largest D", f"D for O = {SMALL:.0%}")
    return Table("overfitting", "Overfitting extent", caption, head, body, records)


def _percent(value: float) -> str:
    return f"{100 * value:.3g}"


def _extent(fit: Fit, rows: pd.DataFrame) -> dict[str, Any]:
    if rows.empty:
        return {}
    N, low, high = float(rows["N"].max()), float(rows["D"].min()), float(rows["D"].max())
    given = fit.get("samples") or {}
    names = ("E", "A", "B", "alpha", "beta")
    if isinstance(given, list):
        given = {k: [s[k] for s in given] for k in names}
    samples = {k: np.asarray(given[k], float) for k in names} if given else None
    found: dict[str, Any] = {"family": fit["family"], "task": fit["task"], "eval_corpus": fit["eval_corpus"], "N": N}
    found["limit"] = float(fit["params"]["E"] + fit["params"]["A"] * N ** -fit["params"]["alpha"])
    for name, D in (("smallest", low), ("largest", high)):
        values = [np.asarray(planning.overfitting(p, N, D)[0]) for p in (fit["params"], samples) if p]
        found[name] = [float(values[0]), *(planning.interval(values[1]) if samples else (np.nan, np.nan))]
    enough = [_enough(p, N) for p in (fit["params"], samples) if p]
    found["enough"] = [float(enough[0]), *(planning.interval(enough[1]) if samples else (np.nan, np.nan))]
    return found


def _enough(params: Any, N: float) -> Any:
    """Return the D at which the extent is `SMALL`."""
    limit = params["E"] + params["A"] * N ** -np.asarray(params["alpha"])
    return (params["B"] / (SMALL * limit)) ** (1 / np.asarray(params["beta"]))


def _gaps(runs: list[dict[str, Any]]) -> Table:
    frame = pd.DataFrame(runs).assign(family=lambda f: f["backbone"] + "-" + f["objective"])
    place = {family: i for i, family in enumerate(ordered(frame["family"]))}
    cells = frame.groupby(["family", "pretrain", "size", "D"], sort=False)
    means = cells[["passes", "train", "validation", "gap", "best", "best_step", "steps"]].mean().reset_index()
    means["seeds"] = cells.size().to_numpy()
    means = means.sort_values(["size", "D"], kind="stable")
    means = means.sort_values("family", key=lambda f: f.map(place), kind="stable")
    body = tuple(
        (
            Cell(title(r["family"]), r["pretrain"]),
            Cell(style.count(r["size"]), sort=r["size"]),
            Cell(style.count(r["D"]), f"{r['passes']:.3g} passes", r["D"]),
            Cell(style.number(r["train"]), sort=r["train"]),
            Cell(style.number(r["validation"]), style.plural(int(r["seeds"]), "seed"), r["validation"]),
            Cell(style.number(r["gap"]), f"{100 * r['gap'] / r['validation']:.0f} %".replace("-", "−"), r["gap"]),
            Cell(style.number(r["validation"] - r["best"]), f"lowest at {100 * r['best_step'] / r['steps']:.0f} %"),
        )
        for r in records_of(means)
    )
    caption = (
        "On the own objective, means over seeds. Training loss: of the batches since the validation before, with "
        "dropout and masks drawn anew, so the gap may lie below zero. A contrastive loss grows with the records of a "
        "batch, and validation batches (64) may be larger than training batches: that is then in the gap, too. Risen: "
        "validation at the last step above its lowest, and where in training that was; the checkpoint there enters the "
        "laws where the objective's losses can be compared. Every run stands in report.json."
    )
    head = ("family", "N asked", "D (records)", "training", "validation", "gap", "risen since its lowest")
    return Table("gaps", "Training and validation at the last step", caption, head, body, runs)


def sentences(report: ReportInput) -> list[str]:
    """Say in how many runs validation rose after its lowest; nothing without runs."""
    runs = report.overfitting.get("runs", [])
    if not runs:
        return []
    risen = [r for r in runs if r["validation"] > 1.02 * r["best"]]
    if not risen:
        return [f"In none of {len(runs)} runs of the grid did validation loss end more than 2 % above its lowest."]
    most = max(risen, key=lambda r: r["validation"] / r["best"])
    name = title(f"{most['backbone']}-{most['objective']}")
    return [
        f"In {len(risen)} of {len(runs)} runs of the grid validation loss ended more than 2 % above its lowest; "
        f"furthest: {name} at {style.count(most['size'])} parameters, D = {style.count(most['D'])}, "
        f"{100 * (most['validation'] / most['best'] - 1):.0f} % after {most['passes']:.3g} passes."
    ]


def curves_frame(overfitting: dict[str, Any]) -> pd.DataFrame:
    """Return the shown curves: panel, family (part and D), kind (the part), x (step), value, lo, hi, full."""
    shown = overfitting["curves"]
    out = []
    for c in shown:
        panel = f"{c['backbone']} · {c['objective']}\n{style.count(c['size'])} parameters, {c['pretrain']}"
        own = [x["D"] for x in shown if all(x[k] == c[k] for k in ("backbone", "objective", "pretrain"))]
        which = "largest D" if c["D"] == max(own) else "smallest D"
        for step, train, validation in c["points"]:
            for part, value in (("training", train), ("validation", validation)):
                out.append({"panel": panel, "family": f"{part}, {which}", "kind": part, "x": step, "value": value,
                            "full": True, **{k: c[k] for k in ("run", "D", "seed")}})  # fmt: skip
    return pd.DataFrame(out).assign(lo=np.nan, hi=np.nan)
