"""Tables as pure functions: a frame goes in; cells for the page and the records they came from come out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ecgscale.reporting import ReportInput, style
from ecgscale.reporting.curves import Fit, input_of, law_title, purpose, scales, told, verdict
from ecgscale.reporting.rows import FORM_KEYS, LOWER_IS_BETTER, PAIRED, contestant, floor, groups, records_of, title
from ecgscale.reporting.style import ordered

_KINDS = {"tune": "tuning run", "codebook": "code-book", "arm": "arm beside the grid, in no fit"}
_KINDS |= {"labels": "on fewer labels, in the law of labels alone"}
FLOOR_NOTE = (
    "Known floor: the irreducible loss of the simulator, an expectation over its whole population; "
    "in a small test set a measured loss may lie below it."
)
ROW_COLUMNS = ["study", "run", "seed", "kind", "family", "N", "D", "C", "eval_corpus", "task", "protocol", "split"]
ROW_COLUMNS += ["shift", "part", "metric", "unit", "value", "lo", "hi", "n", "n_pos"]


@dataclass(frozen=True)
class Cell:
    """What a cell shows: a text, a second line, a sort key, and `best`, `tie`, `cannot` or nothing."""

    text: str
    note: str = ""
    sort: float | str | None = None
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the page (`head`, `rows`; the first cell of a row is its header) and its records."""

    id: str
    title: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    records: list[dict[str, Any]] = field(default_factory=list)


def grid(table: pd.DataFrame) -> Table:
    """Return what was run: per family its N, D, seeds, runs and compute; baselines and code-books below."""
    runs = table.drop_duplicates("run")
    gaps = table[~table["run"].isin(table.loc[np.isfinite(table["value"]), "run"])]
    waiting = set(gaps.loc[gaps["status"] == "waiting", "run"])
    bad = set(gaps["run"]) - waiting
    order = {"grid": 0, "labels": 0.5, "tune": 1, "codebook": 2, "arm": 3, "random": 4, "handcrafted": 5, "external": 6}
    rows, records = [], []
    place = {family: i for i, family in enumerate(ordered(runs["family"]))}
    by_family = sorted(groups(runs, ["kind", "family"]), key=lambda g: (order.get(g[0][0], 9), place[g[0][1]]))
    for (kind, family), frame in by_family:
        compute = table[table["run"].isin(frame["run"])].groupby("run")["C"].max().sum()
        name = contestant(frame.iloc[0])
        steps = sorted({int(s) for s in frame["steps"] if not style.missing(s)})
        record = {
            "kind": kind,
            "family": family,
            "runs": len(frame),
            "failed": len(bad & set(frame["run"])),
            "N": sorted(frame["N"].dropna().unique()),
            "D": sorted(frame["D"].dropna().unique()),
            "seeds": sorted(frame["seed"].dropna().unique()),
            "steps": steps,
            "C": float(compute),
        }
        record["waiting"] = len(waiting & set(frame["run"]))
        said = [f"{record['failed']} failed"] * bool(record["failed"])
        said += [f"{record['waiting']} not run yet"] * bool(record["waiting"])
        records.append(record)
        rows.append(
            (
                Cell(name, _KINDS.get(kind, "")),
                Cell(_several(record["N"])),
                Cell(_several(record["D"])),
                Cell(str(len(record["seeds"])), sort=len(record["seeds"])),
                Cell(str(len(frame)), ", ".join(said), len(frame)),
                Cell(_several(steps) if steps else "–"),
                Cell(style.flop(compute) if compute else "–", sort=float(compute)),
            )
        )
    caption = (
        "A family is a backbone and the objective that pre-trains it. N: parameters of the encoder that is kept. "
        "D: unique pre-training records. Compute: measured, summed over the runs."
    )
    head = ("family", "N (parameters)", "D (records)", "seeds", "runs", "steps", "training compute")
    return Table("grid", "Runs", caption, head, tuple(rows), records)


def _several(values: list[Any]) -> str:
    values = [v for v in values if v]
    if len(values) > 6:
        return f"{style.count(values[0])} … {style.count(values[-1])} ({len(values)} values)"
    return ", ".join(dict.fromkeys(style.count(v) for v in values)) or "–"


def results(rows: pd.DataFrame, metric: str) -> Table:
    """Return one metric, tasks down and families and baselines across; `rows` holds one run per contestant.

    Losses of regression, in variances, are left to the study's table. The best value of a task is marked `best`; those
    whose interval overlaps that of the best are marked `tie`.
    """
    rows = rows[(rows["metric"] == metric) & (rows["unit"] != "sd2")].assign(
        who=lambda f: [contestant(r) for r in records_of(f)]
    )
    rows = rows.drop_duplicates(["eval_corpus", "task", "protocol", "who"])
    order = {"grid": 0, "random": 1, "handcrafted": 2, "external": 3}
    first = rows.drop_duplicates("who")
    place = {family: i for i, family in enumerate(ordered(rows["family"]))}
    ranks = {str(r["who"]): (order.get(r["kind"], 9), place[r["family"]]) for r in records_of(first)}
    who = sorted(ranks, key=lambda name: ranks[name])
    body = []
    for (corpus, task, protocol), here in groups(rows, ["eval_corpus", "task", "protocol"]):
        marks = best_and_ties(here, metric)
        counts = "" if here["n"].isna().all() else f"{here['n'].max():.0f} records"
        positives = "" if here["n_pos"].isna().all() else f", {here['n_pos'].max():.0f} positive labels"
        by_name = {r["who"]: r for r in records_of(here)}
        cells = [Cell(task, f"{corpus}, {protocol}" + (f" · {counts}{positives}" if counts else ""))]
        cells += [_value(by_name.get(w), marks.get(w, "")) for w in who]
        body.append(tuple(cells))
    better = "lower is better" if metric in LOWER_IS_BETTER else "higher is better"
    unit = " (nats)" if metric == "loss" else ""
    caption = (
        f"{metric.upper() if metric.startswith('au') else metric}{unit}, {better}; 95 % interval below the "
        f"value. Bold: best of the row. "
        "≈: its interval overlaps that of the best, the order is not settled. "
        "Every family at its largest N and D, lowest seed."
    )
    name = metric.upper() if metric.startswith("au") else metric.capitalize()
    return Table(
        f"ood-{metric}", f"{name} out of distribution", caption, ("task", *who), tuple(body), row_records(rows)
    )


def winners(standings: pd.DataFrame, metric: str) -> Table:
    """Return which family wins where: best family, interval, the next one, and whether the order is settled."""
    name = metric.upper() if metric.startswith("au") else metric
    body = []
    for r in records_of(standings):
        rest = "no other family" if r["families"] < 2 else "settled" if r["settled"] else "cannot tell"
        tied = "" if r["settled"] else f"overlaps {len(r['tied'])} of {r['families'] - 1} others"
        runner = Cell("–")
        if r["next_family"] is not None:
            runner = Cell(title(r["next_family"]), style.estimate(r["next_value"], r["next_lo"], r["next_hi"]))
        body.append(
            (
                Cell(r["task"], f"{r['eval_corpus']}, {r['protocol']}"),
                Cell(
                    title(r["best"]),
                    style.estimate(r["value"], r["lo"], r["hi"]),
                    mark="best" if r["settled"] and r["families"] > 1 else "",
                ),
                runner,
                Cell(rest, tied, mark="cannot" if rest == "cannot tell" else ""),
                Cell(r["beats_random"]),
                Cell(r["beats_handcrafted"]),
            )
        )
    head = ("task", f"best {name}", "next", "order", "ahead of random weights", "ahead of hand-crafted")
    caption = (
        "Settled: the best interval lies apart from that of every other family. Every family at its largest N and D, "
        "lowest seed. Ahead of a baseline (of the better, if there are several): the intervals lie apart"
        + (
            "; of random weights of its own size: by the paired difference, where measured."
            if metric == "loss"
            else "."
        )
    )
    records = records_of(standings)
    return Table(f"winners-{metric}", f"By {name}", caption, head, tuple(body), records)


def best_and_ties(here: pd.DataFrame, metric: str) -> dict[str, str]:
    """Return, by the column `who`, "best" for the best value and "tie" where the interval overlaps its own."""
    sign = 1.0 if metric in LOWER_IS_BETTER else -1.0
    best, *others = sorted(records_of(here), key=lambda r: sign * r["value"])
    near = [r for r in others if not (r["lo"] > best["hi"] or r["hi"] < best["lo"])]
    return {str(best["who"]): "best"} | {str(r["who"]): "tie" for r in near}


def _value(row: Any, mark: str = "") -> Cell:
    if row is None or style.missing(row["value"]):
        return Cell("–")
    note = "" if style.missing(row["lo"]) else f"({style.bounds(row['lo'], row['hi'])})"
    return Cell(style.number(row["value"]), note, float(row["value"]), mark)


def laws(report: ReportInput, fits: list[Fit], name: str) -> Table:
    """Return the fits of one law: verdict with its reason, exponents, floors and status.

    The records hold the coefficients too.
    """
    place = {family: i for i, family in enumerate(ordered(str(f.get("family")) for f in fits))}
    fits = sorted(fits, key=lambda f: (place[str(f.get("family"))], str(f.get("eval_corpus")), str(f.get("task"))))
    names = list(dict.fromkeys(n for f in fits for n in f.get("params") or {}))
    exponents = [n for n in names if any(input_of(f, n) is not None for f in fits)]
    constant = [n for n in names if n in ("E", "E_ood", "c")]
    floors = [fit.get("known_floor", floor(report, str(fit.get("eval_corpus")), str(fit.get("task")))) for fit in fits]
    floored = not all(map(style.missing, floors))
    body = []
    for fit, known in zip(fits, floors, strict=True):
        where = f"{fit.get('eval_corpus')}, {fit.get('protocol')}"
        cells = [Cell(title(str(fit.get("family")))), Cell(str(fit.get("task")), where)]
        cells.append(Cell(verdict(fit), why(fit), mark="" if told(fit) else "cannot"))
        cells += [parameter(fit, n) for n in (*exponents, *constant)]
        cells += [Cell(style.number(known), sort=known)] * floored
        cells += [Cell(str(fit.get("n", "–")), sort=fit.get("n")), Cell(str(fit.get("status", "–")), _holdout(fit))]
        body.append(tuple(cells))
    head = ("family", "task", "verdict and why", *exponents, *constant, *(("known floor",) * floored))
    head += ("runs", "status")
    formula = next((f"{f['formula']}. " for f in fits if f.get("formula")), "")
    caption = (
        f"{purpose(fits[0])} {formula}95 % bootstrap intervals over runs. Grey: cannot be read; it is what the "
        "optimiser left, not a finding, and an interval may be the whole range that was searched. Status: how the "
        "optimiser ended (“bound”: at a limit); hold-out: error at the largest level, fitted without it. Why: how much "
        "the loss changes along each input over the measured range, with the p of a trend (permutation test)."
    )
    caption += f" {FLOOR_NOTE}" if floored and len(exponents) > 1 else ""
    records = [{k: v for k, v in f.items() if k != "samples"} for f in fits]
    return Table(f"law-{name}", law_title(fits[0]), caption, head, tuple(body), records)


def why(fit: Fit) -> str:
    """Write the evidence of a verdict: per input the change of the loss, else the reason that came with the fit."""
    found = []
    verdicts = fit.get("verdicts") or {}
    for axis in sorted(verdicts, key=list(fit.get("inputs") or verdicts).index):
        one = verdicts[axis]
        if style.missing(one.get("gain")) or not one.get("interval"):
            break
        low, high = (100 * bound for bound in one["interval"])
        trend = "" if style.missing(one.get("trend_p")) else f", p {one['trend_p']:.2g}"
        found.append(f"{axis} {one['verdict']}: {100 * one['gain']:.1f} % ({low:.1f}–{high:.1f}{trend})")
    else:
        if found:
            return "; ".join(found)
    reason = str(fit.get("reason") or fit.get("verdict_reason") or "; ".join(map(str, fit.get("warnings") or [])))
    return reason.removeprefix("cannot tell: ")


def parameter(fit: Fit, name: str) -> Cell:
    value: Any = (fit.get("params") or {}).get(name)
    if style.missing(value):
        return Cell("–")
    lo, hi = (fit.get("intervals") or {}).get(name) or (None, None)
    note = "" if style.missing(lo) else f"({style.bounds(lo, hi)})"
    return Cell(style.number(value), note, float(value), "" if scales(fit, input_of(fit, name)) else "cannot")


def _holdout(fit: Fit) -> str:
    """Write the error at the largest level that was left out, per input."""
    found: Any = fit.get("holdout")
    if not isinstance(found, dict):
        return "" if style.missing(found) else f"hold-out {100 * float(found):.2g} %"
    errors = [
        f"{k} {100 * v['error']:.2g} %"
        for k, v in found.items()
        if isinstance(v, dict) and not style.missing(v.get("error"))
    ]
    return f"hold-out {', '.join(errors)}" if errors else ""


def paired(rows: pd.DataFrame) -> Table:
    """Return the paired loss differences to random weights of the same size; below zero the training helped."""
    rows = rows[rows["metric"] == PAIRED].assign(who=lambda f: [title(x) for x in f["family"]])
    rows = rows.drop_duplicates(["split", "eval_corpus", "task", "protocol", "who"])
    who = [title(family) for family in ordered(rows["family"])]
    body = []
    for (split, corpus, task, protocol), here in groups(rows, ["split", "eval_corpus", "task", "protocol"]):
        by_name = {r["who"]: r for r in records_of(here)}
        cells = [Cell(task, f"{corpus}, {protocol}, {'in' if split == 'id' else 'out of'} distribution")]
        for name in who:
            row = by_name.get(name)
            cells.append(_value(row, "" if row is None else {"better": "best", "worse": "worse"}.get(side(row), "tie")))
        body.append(tuple(cells))
    caption = (
        "Probe loss minus that of random weights of the same size, same records (nats; negative: pre-training helped). "
        "95 % paired patient bootstrap. Bold: the interval lies below 0. ≈: it holds 0. ▲: it lies above 0."
    )
    return Table(
        "paired", "Against random weights of the same size", caption, ("task", *who), tuple(body), row_records(rows)
    )


def forms(rows: pd.DataFrame) -> list[Table]:
    """Return, per metric, the same models on the same records in two forms of the signal; `rows` from `rows.forms`."""
    return [_forms(here, str(metric)) for metric, here in groups(rows, "metric")][::-1]  # loss before AUROC


def _forms(rows: pd.DataFrame, metric: str) -> Table:
    name = metric.upper() if metric.startswith("au") else metric
    pairs = form_pairs(rows)
    body = []
    for r in pairs:
        first, second = r["first"], r["second"]
        gaps = ", ".join(f"{gap:+.3f}".replace("-", "−") for gap in r["gaps"])
        reading = "cannot tell" if r["better"] is None else f"{r['better']} better"
        cells = [Cell(r["task"], f"{r['place']}, {'in' if r['split'] == 'id' else 'out of'} distribution")]
        cells += [Cell(r["who"], _size(first)), _value(first), _value(second), Cell(gaps)]
        body.append((*cells, Cell(reading, mark="cannot" if r["better"] is None else "")))
    a, b = (pairs[0][k]["form"] for k in ("first", "second")) if pairs else ("", "")
    head = ("task", "who", f"{name}, {a}", f"{name}, {b}", f"{b} minus {a}, by seed", "reading")
    caption = (
        f"{name}, the same models on the same records, {a} against {b}; lowest seed, 95 % interval below. "
        "A form is called better when the intervals lie apart and every seed agrees."
    )
    return Table(
        f"forms-{metric}", f"{name[0].upper()}{name[1:]} by form", caption, head, tuple(body), row_records(rows)
    )


def form_pairs(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the comparisons of `rows.forms`: `first` and `second` row (lowest seed), `gaps` by seed, `better` or None.

    A metric of which the study has more than two forms is compared with the study's own, the first.
    """
    out = []
    for keys, here in groups(rows, FORM_KEYS):
        by_form = {form: here[here["form"] == form] for form in dict.fromkeys(here["form"])}
        own, *others = by_form.values()
        for other in others:
            both = own.merge(other, on="seed", suffixes=("", "_b"), how="inner") if own["seed"].notna().all() else None
            a, b = records_of(own)[0], records_of(other)[0]
            gaps = [b["value"] - a["value"]] if both is None else list(both["value_b"] - both["value"])
            out.append({**dict(zip(FORM_KEYS, keys, strict=True)), "first": a, "second": b, "gaps": gaps})
            out[-1]["better"] = _better_form(a, b, gaps)
    return out


def _better_form(first: Any, second: Any, gaps: list[float]) -> str | None:
    apart = first["lo"] > second["hi"] or first["hi"] < second["lo"]
    sign = -1.0 if first["metric"] in LOWER_IS_BETTER else 1.0
    if apart and (all(sign * g > 0 for g in gaps) or all(sign * g < 0 for g in gaps)):
        return str((second if sign * gaps[0] > 0 else first)["form"])
    return None


def _size(row: Any) -> str:
    return f"N {style.count(row['N'])}, D {style.count(row['D'])}" if row["N"] > 0 else ""


def side(row: Any) -> str:
    """Say what a paired difference shows: "better", "worse" or "unclear"."""
    if style.missing(row["lo"]) or style.missing(row["hi"]):
        return "unclear"
    return "better" if row["hi"] < 0 else "worse" if row["lo"] > 0 else "unclear"


def row_records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows of the study's table as records, with the columns that identify them."""
    return records_of(rows[ROW_COLUMNS])


def failures(rows: pd.DataFrame) -> Table:
    """Return the runs and evaluations that left no number, with the reason of each; equal ones together."""
    keys = ["kind", "family", "N", "D", "seed", "run", "eval_corpus", "task", "metric", "status", "reason"]
    whole = rows[keys].drop_duplicates(["run", "eval_corpus", "task", "status", "reason"])
    together: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for r in records_of(whole):
        where = " · ".join(str(r[k]) for k in ("task", "eval_corpus") if not style.missing(r[k])) or "training"
        reason = "no reason given" if style.missing(r["reason"]) else str(r["reason"])
        together.setdefault((r["family"], where, str(r["status"]), reason), []).append(r)
    body = []
    for (family, where, status, reason), alike in together.items():
        first = alike[0]
        sizes = [f"{axis} {_several(sorted({r[axis] for r in alike if r[axis] > 0}))}" for axis in ("N", "D")]
        seed = f"seed {style.count(first['seed'])}" if len(alike) == 1 else style.plural(len(alike), "run")
        runs = str(first["run"]) + (" …" if len(alike) > 1 else "")
        cells = (Cell(title(family), ", ".join([*(s for s in sizes if "–" not in s), seed])), Cell(where), Cell(status))
        body.append((*cells, Cell(reason), Cell(runs)))
    head = ("what", "where", "status", "reason", "run")
    caption = "They are in no figure and in no fit. Runs that wait are trained by running the study again."
    return Table("failed", "Without a number", caption, head, tuple(body), records_of(whole))


def left_out(skipped: list[dict[str, Any]]) -> Table:
    """Return what the plan left out, one column per key, the reason last."""
    keys = list(dict.fromkeys(k for s in skipped for k in s))
    keys = [k for k in keys if k != "reason"] + (["reason"] if "reason" in keys else [])
    body = tuple(tuple(Cell(described(s.get(k))) for k in keys) for s in skipped)
    return Table(
        "left-out", "Left out by the plan", "Decided before any run started.", tuple(keys), body, list(skipped)
    )


def described(value: Any) -> str:
    """Write a small value of unknown shape in words: {"F": 0.51, "M": 0.49} is "F 0.51, M 0.49"."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {described(v)}" for k, v in value.items()) or "–"
    if isinstance(value, (list, tuple)):
        return ", ".join(described(v) for v in value) or "–"
    if isinstance(value, float):
        return "–" if style.missing(value) else f"{value:.3g}"
    return "–" if value is None else str(value)
