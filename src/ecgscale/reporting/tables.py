"""Tables as pure functions: a frame goes in; cells for the page and the records they came from come out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ecgscale.reporting import style
from ecgscale.reporting.curves import Fit, law_name, told
from ecgscale.reporting.rows import LOWER_IS_BETTER, PAIRED, contestant, floor, title

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
    """Return what was run: per family the sizes, data sizes, seeds, runs and compute; baselines and code-books below."""
    runs = table.drop_duplicates("run")
    bad = set(table.loc[~np.isfinite(table["value"]), "run"]) - set(table.loc[np.isfinite(table["value"]), "run"])
    order = {"grid": 0, "tune": 1, "codebook": 2, "random": 3, "handcrafted": 4}
    rows, records = [], []
    groups = sorted(runs.groupby(["kind", "family"]), key=lambda g: (order.get(g[0][0], 9), g[0][1]))
    for (kind, family), frame in groups:
        compute = table[table["run"].isin(frame["run"])].groupby("run")["C"].max().sum()
        name = title(family) if kind in ("grid", "tune", "codebook") else contestant(frame.iloc[0])
        steps = sorted({int(s) for s in frame["steps"] if not style.missing(s)})
        record = {
            **{"kind": kind, "family": family, "runs": len(frame), "failed": len(bad & set(frame["run"]))},
            **{"N": sorted(frame["N"].dropna().unique()), "D": sorted(frame["D"].dropna().unique())},
            **{"seeds": sorted(frame["seed"].dropna().unique()), "steps": steps, "C": float(compute)},
        }
        records.append(record)
        rows.append(
            (
                Cell(name, "" if kind in ("grid", "random", "handcrafted") else kind),
                Cell(_several(record["N"])),
                Cell(_several(record["D"])),
                Cell(str(len(record["seeds"])), sort=len(record["seeds"])),
                Cell(str(len(frame)), f"{record['failed']} failed" if record["failed"] else "", len(frame)),
                Cell(_several(steps) if steps else "–"),
                Cell(style.flop(compute) if compute else "–", sort=float(compute)),
            )
        )
    caption = "N: parameters of the encoder that is kept. D: unique pre-training records. Compute: measured, summed over runs."
    head = ("family", "N (parameters)", "D (records)", "seeds", "runs", "steps", "training compute")
    return Table("grid", "What was run", caption, head, tuple(rows), records)


def _several(values: list[Any]) -> str:
    values = [v for v in values if v]
    if len(values) > 6:
        return f"{style.count(values[0])} … {style.count(values[-1])} ({len(values)} values)"
    return ", ".join(dict.fromkeys(style.count(v) for v in values)) or "–"


def results(rows: pd.DataFrame, metric: str) -> Table:
    """Return one metric, tasks down and families and baselines across; `rows` holds one run per contestant.

    The best value of a task is marked `best`; those whose interval overlaps that of the best are marked `tie`.
    """
    rows = rows[rows["metric"] == metric].assign(who=lambda f: [contestant(r) for _, r in f.iterrows()])
    rows = rows.drop_duplicates(["eval_corpus", "task", "protocol", "who"])
    order = {"grid": 0, "random": 1, "handcrafted": 2}
    who = sorted(rows["who"].unique(), key=lambda w: (order.get(rows.loc[rows["who"] == w, "kind"].iloc[0], 9), w))
    body = []
    for (corpus, task, protocol), here in rows.groupby(["eval_corpus", "task", "protocol"], sort=True):
        marks = best_and_ties(here, metric)
        counts = "" if here["n"].isna().all() else f"{here['n'].max():.0f} records"
        positives = "" if here["n_pos"].isna().all() else f", {here['n_pos'].max():.0f} positive"
        by_name = {r["who"]: r for _, r in here.iterrows()}
        cells = [Cell(task, f"{corpus}, {protocol}" + (f" · {counts}{positives}" if counts else ""))]
        cells += [_value(by_name.get(w), marks.get(w, "")) for w in who]
        body.append(tuple(cells))
    better = "lower is better" if metric in LOWER_IS_BETTER else "higher is better"
    unit = " (nats)" if metric == "loss" else ""
    caption = (
        f"{metric.upper() if metric.startswith('au') else metric}{unit}, {better}; 95 % interval below the value. Bold: best of the row. "
        "≈: its interval overlaps that of the best, so the order is not settled. Every family at its largest N and D, lowest seed."
    )
    name = metric.upper() if metric.startswith("au") else metric.capitalize()
    return Table(f"ood-{metric}", f"{name} out of distribution", caption, ("task", *who), tuple(body), row_records(rows))


def winners(standings: pd.DataFrame, metric: str) -> Table:
    """Return which family wins where: best family, interval, the next one, and whether the order is settled."""
    name = metric.upper() if metric.startswith("au") else metric
    body = []
    for r in standings.to_dict("records"):
        rest = "no other family" if r["families"] < 2 else "settled" if r["settled"] else "cannot tell"
        tied = "" if r["settled"] else "overlaps " + ", ".join(title(t) for t in r["tied"])
        runner = Cell("–")
        if r["next_family"] is not None:
            runner = Cell(title(r["next_family"]), style.estimate(r["next_value"], r["next_lo"], r["next_hi"]))
        body.append(
            (
                Cell(r["task"], f"{r['eval_corpus']}, {r['protocol']}"),
                Cell(title(r["best"]), style.estimate(r["value"], r["lo"], r["hi"]), mark="best" if r["settled"] and r["families"] > 1 else ""),
                runner,
                Cell(rest, tied, mark="cannot" if rest == "cannot tell" else ""),
                Cell(r["beats_random"]),
                Cell(r["beats_handcrafted"]),
            )
        )
    head = ("task", f"best {name}", "next", "order", "ahead of random weights", "ahead of hand-crafted")
    caption = "Settled: the best interval lies apart from every other family's. Every family at its largest N and D, lowest seed."
    records = standings.to_dict("records")
    return Table(f"winners-{metric}", f"Which family wins where, by {name}", caption, head, tuple(body), records)


def best_and_ties(here: pd.DataFrame, metric: str) -> dict[str, str]:
    """Return, by the column `who`, "best" for the best value and "tie" where the 95 % interval overlaps its interval."""
    sign = 1.0 if metric in LOWER_IS_BETTER else -1.0
    best = here.loc[(sign * here["value"]).idxmin()]
    marks = {str(best["who"]): "best"}
    for _, row in here.drop(best.name).iterrows():
        apart = row["lo"] > best["hi"] or row["hi"] < best["lo"]
        if not apart:
            marks[str(row["who"])] = "tie"
    return marks


def _value(row: Any, mark: str = "") -> Cell:
    if row is None or style.missing(row["value"]):
        return Cell("–")
    note = "" if style.missing(row["lo"]) else f"({style.bounds(row['lo'], row['hi'])})"
    return Cell(style.number(row["value"]), note, float(row["value"]), mark)


def exponents(fits: list[Fit], corpora: list[dict[str, Any]]) -> Table:
    """Return every fit: parameters with intervals, the known floor beside E, status and verdict."""
    names = list(dict.fromkeys(n for f in fits for n in f.get("params") or {}))
    front = [n for n in ("alpha", "beta", "kappa", "E") if n in names]
    names = front + [n for n in names if n not in front]
    body = []
    for fit in fits:
        known = floor(corpora, str(fit.get("eval_corpus")), str(fit.get("task")))
        beside = "" if known is None else f"known floor {style.number(known)}"
        cells = [Cell(title(str(fit.get("family"))), "", str(fit.get("family")))]
        cells += [Cell(str(fit.get("task")), f"{fit.get('eval_corpus')}, {fit.get('protocol')}")]
        cells += [Cell(law_name(fit), f"along {fit.get('axis')}")]
        cells += [_parameter(fit, name, beside if name == "E" else "") for name in names]
        cells += [Cell(str(fit.get("n", "–")), sort=fit.get("n"))]
        cells += [Cell(str(fit.get("status", "–")), _holdout(fit))]
        reason = str(fit.get("verdict_reason") or "; ".join(map(str, fit.get("warnings") or [])))
        cells += [Cell(str(fit.get("verdict") or ("fitted" if told(fit) else "cannot tell")), reason, mark="" if told(fit) else "cannot")]
        body.append(tuple(cells))
    caption = (
        "95 % bootstrap intervals over runs, below the value. Grey: the fit cannot tell; its numbers are what the optimiser left, not a finding."
    )
    head = ("family", "task", "law", *names, "points", "status", "verdict")
    keys = ("law", "family", "backbone", "objective", "eval_corpus", "task", "protocol", "axis", "params", "intervals")
    keys += ("status", "verdict", "verdict_reason", "n", "holdout", "optimum", "warnings")
    records = [{k: f.get(k) for k in keys} for f in fits]
    return Table("exponents", "Fitted laws", caption, head, tuple(body), records)


def _parameter(fit: Fit, name: str, beside: str) -> Cell:
    value = (fit.get("params") or {}).get(name)
    if style.missing(value):
        return Cell("–", beside)
    lo, hi = (fit.get("intervals") or {}).get(name) or (None, None)
    notes = [f"({style.bounds(lo, hi)})" if not style.missing(lo) else "", beside]
    return Cell(style.number(value), " ".join(n for n in notes if n), float(value), "" if told(fit) else "cannot")


def _holdout(fit: Fit) -> str:
    found = fit.get("holdout")
    if isinstance(found, dict):
        return ", ".join(f"{k} {style.number(v) if isinstance(v, float) else v}" for k, v in found.items() if v is not None)
    return "" if style.missing(found) else f"hold-out error {style.number(found)}"


def paired(rows: pd.DataFrame) -> Table:
    """Return the paired loss differences to random weights of the same size; below zero the training helped."""
    rows = rows[rows["metric"] == PAIRED].assign(who=lambda f: [title(x) for x in f["family"]])
    rows = rows.drop_duplicates(["split", "eval_corpus", "task", "protocol", "who"])
    who = sorted(rows["who"].unique())
    body = []
    for (split, corpus, task, protocol), here in rows.groupby(["split", "eval_corpus", "task", "protocol"], sort=True):
        by_name = {r["who"]: r for _, r in here.iterrows()}
        cells = [Cell(task, f"{corpus}, {protocol}, {'in' if split == 'id' else 'out of'} distribution")]
        for name in who:
            row = by_name.get(name)
            cells.append(_value(row, "" if row is None else {"better": "best", "worse": "worse"}.get(side(row), "tie")))
        body.append(tuple(cells))
    caption = (
        "Probe loss minus that of random weights of the same size, on the same records (nats; negative: pre-training helped). "
        "95 % interval by a paired patient bootstrap. Bold: the interval lies below 0. ≈: it holds 0. ▲: it lies above 0."
    )
    return Table("paired", "Against random weights of the same size", caption, ("task", *who), tuple(body), row_records(rows))


def side(row: Any) -> str:
    """Say what a paired difference shows: "better", "worse" or "unclear"."""
    if style.missing(row["lo"]) or style.missing(row["hi"]):
        return "unclear"
    return "better" if row["hi"] < 0 else "worse" if row["lo"] > 0 else "unclear"


def row_records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows of the study's table as records, with the columns that identify them."""
    return rows[ROW_COLUMNS].to_dict("records")


def corpora(manifests: list[dict[str, Any]]) -> Table:
    """Return the corpora: size, people, licence, citation, digest."""
    body, records = [], []
    for m in manifests:
        licence, cite = str(m.get("licence") or "not stated"), str(m.get("citation") or "not stated")
        name = Cell(str(m.get("name", "?")), str(m.get("title") or ""), mark="simulated" if m.get("simulated") else "")
        held = quarantined(m)
        cells = (
            name,
            Cell(f"{m.get('records', 0):,}" if m.get("records") is not None else "–", sort=m.get("records")),
            Cell(f"{m.get('patients', 0):,}" if m.get("patients") is not None else "–", sort=m.get("patients")),
            Cell(str(held), sort=held),
            Cell(described(m.get("ages")), f"sex: {described(m.get('sex'))}"),
            Cell(licence, cite),
            Cell(str(m.get("digest") or "–")[:12]),
        )
        body.append(cells)
        records.append({k: v for k, v in m.items() if k != "quarantine"} | {"quarantined": held})
    head = ("corpus", "records", "patients", "quarantined", "age", "licence and citation", "digest")
    return Table("corpora", "Corpora", "Counts are of records that passed every check.", head, tuple(body), records)


def quarantined(manifest: dict[str, Any]) -> int:
    """Return how many records of a corpus were set aside."""
    held = manifest.get("quarantined")
    return int(held) if held is not None else len(manifest.get("quarantine") or [])


def quarantine(manifests: list[dict[str, Any]]) -> Table:
    """Return the reasons for which records were set aside, counted, with examples."""
    body, records = [], []
    for m in manifests:
        entries = m.get("quarantine") or []
        for reason, n in Counter(str(e.get("reason")) for e in entries).most_common():
            names = [str(e.get("record")) for e in entries if str(e.get("reason")) == reason]
            shown = ", ".join(names[:5]) + (" …" if n > 5 else "")
            body.append((Cell(str(m.get("name"))), Cell(str(n), sort=n), Cell(reason), Cell(shown)))
            records.append({"corpus": m.get("name"), "reason": reason, "count": n, "records": names})
    head = ("corpus", "records", "reason", "which")
    return Table("quarantine", "Quarantine", "Records set aside at ingest; no run has seen them.", head, tuple(body), records)


def prevalence(manifests: list[dict[str, Any]]) -> Table:
    """Return the fraction of positive records per label and corpus."""
    known = [m for m in manifests if m.get("prevalence")]
    labels = sorted({label for m in known for label in m["prevalence"]})
    body = []
    for label in labels:
        values = [m["prevalence"].get(label) for m in known]
        body.append((Cell(label), *(Cell("–" if style.missing(v) else f"{100 * v:.2g} %", sort=v) for v in values)))
    records = [{"corpus": m["name"], "label": k, "prevalence": v} for m in known for k, v in m["prevalence"].items()]
    head = ("label", *(str(m["name"]) for m in known))
    return Table("prevalence", "Prevalence", "Positive records among those with a known label.", head, tuple(body), records)


def overlaps(pairs: list[dict[str, Any]]) -> Table:
    """Return the patient overlap of every pair of corpora."""
    body = tuple(
        (Cell(f"{p.get('a')} × {p.get('b')}"), Cell(str(p.get("shared_patients", "–")), sort=p.get("shared_patients")), Cell(str(p.get("verdict", "–"))))
        for p in pairs
    )
    caption = "Patients found in both corpora, by patient identifier and by signal fingerprint."
    return Table("overlaps", "Patient overlap", caption, ("pair", "shared patients", "verdict"), body, list(pairs))


def failures(rows: pd.DataFrame) -> Table:
    """Return the runs and evaluations that left no number, with the reason each gave."""
    keys = ["kind", "family", "N", "D", "seed", "run", "eval_corpus", "task", "protocol", "metric", "status", "reason"]
    whole = rows[keys].drop_duplicates(["run", "eval_corpus", "task", "status", "reason"])
    body = []
    for r in whole.to_dict("records"):
        where = " · ".join(str(r[k]) for k in ("task", "eval_corpus", "metric") if not style.missing(r[k])) or "training"
        size = f"N {style.count(r['N'])}, D {style.count(r['D'])}, seed {style.count(r['seed'])}"
        reason = "no reason given" if style.missing(r["reason"]) else str(r["reason"])
        body.append((Cell(title(r["family"]), size), Cell(where), Cell(str(r["status"])), Cell(reason), Cell(str(r["run"]))))
    head = ("what", "where", "status", "reason", "run")
    caption = "They are in no figure and in no fit."
    return Table("failed", "Failed", caption, head, tuple(body), whole.to_dict("records"))


def left_out(skipped: list[dict[str, Any]]) -> Table:
    """Return what the plan left out, one column per key, the reason last."""
    keys = list(dict.fromkeys(k for s in skipped for k in s))
    keys = [k for k in keys if k != "reason"] + (["reason"] if "reason" in keys else [])
    body = tuple(tuple(Cell(described(s.get(k))) for k in keys) for s in skipped)
    return Table("left-out", "Left out by the plan", "Decided before any run started.", tuple(keys), body, list(skipped))


def described(value: Any) -> str:
    """Write a small value of unknown shape in words: {"F": 0.51, "M": 0.49} is "F 0.51, M 0.49"."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {described(v)}" for k, v in value.items()) or "–"
    if isinstance(value, (list, tuple)):
        return ", ".join(described(v) for v in value) or "–"
    if isinstance(value, float):
        return "–" if style.missing(value) else f"{value:.3g}"
    return "–" if value is None else str(value)
