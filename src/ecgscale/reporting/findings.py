"""The answer first: plain sentences made from the numbers, and silence where the numbers say nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from ecgscale.reporting import ReportInput, style
from ecgscale.reporting.curves import Fit, input_of, law_name, scales, verdict
from ecgscale.reporting.rows import (
    LOWER_IS_BETTER,
    PAIRED,
    PANEL,
    comparable,
    families,
    forms,
    groups,
    paired,
    records_of,
    title,
)
from ecgscale.reporting.style import ordered
from ecgscale.reporting.tables import best_and_ties, form_pairs, side
from ecgscale.reporting.training import collapses

_SIDES = {"better": "yes", "worse": "no", "unclear": "cannot tell"}


def origin(manifests: list[dict[str, Any]]) -> str:
    """Say where the ECGs come from: "simulated", "partly simulated", "real" or "unknown"."""
    flags = {bool(m.get("simulated")) for m in manifests}
    if not flags:
        return "unknown"
    return "simulated" if flags == {True} else "real" if flags == {False} else "partly simulated"


def standings(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return, per out-of-distribution task, the best family and whether its interval lies apart from the others'.

    Args:
        rows: What `rows.comparable` returns.
        metric: "loss", "auroc", ...

    Returns:
        Frame with eval_corpus, task, protocol, best, value, lo, hi, settled, tied (names), next_family, next_value,
        next_lo, next_hi, beats_random and beats_handcrafted ("yes", "no", "cannot tell" or "not measured").
    """
    gains, rows = rows[rows["metric"] == PAIRED], rows[rows["metric"] == metric]
    out = []
    for keys, here in groups(rows, PANEL):
        grid = here[here["kind"] == "grid"].assign(who=lambda f: f["family"])
        if grid.empty:
            continue
        marks = best_and_ties(grid, metric)
        sign = 1.0 if metric in LOWER_IS_BETTER else -1.0
        order = grid.iloc[np.argsort(sign * grid["value"].to_numpy(), kind="stable")]
        best, after = order.iloc[0], order.iloc[1] if len(order) > 1 else None
        row = {**dict(zip(PANEL, keys, strict=True)), "best": best["family"], "settled": "tie" not in marks.values()}
        row |= {"run": best["run"], "value": best["value"], "lo": best["lo"], "hi": best["hi"], "families": len(grid)}
        row["tied"] = [w for w, m in marks.items() if m == "tie"]
        row |= {f"next_{k}": None if after is None else after[k] for k in ("family", "value", "lo", "hi")}
        gain = gains[(gains["run"] == best["run"]) & (gains[PANEL] == list(keys)).all(axis=1)]
        known = metric == "loss" and len(gain) > 0
        row["beats_random"] = (
            _SIDES[side(gain.iloc[0])] if known else _beats(best, here[here["kind"] == "random"], sign)
        )
        row["beats_handcrafted"] = _beats(best, here[here["kind"] == "handcrafted"], sign)
        out.append(row)
    return pd.DataFrame(out)


def _beats(best: Any, baseline: pd.DataFrame, sign: float) -> str:
    if baseline.empty:
        return "not measured"
    row = baseline.iloc[int(np.argmin(sign * baseline["value"].to_numpy()))]
    if row["lo"] > best["hi"] or row["hi"] < best["lo"]:
        return "yes" if sign * best["value"] < sign * row["value"] else "no"
    return "cannot tell"


def sentences(report: ReportInput, table: pd.DataFrame) -> list[str]:
    """Return the summary of the report, the most important sentence first."""
    rows = comparable(table)
    metric = "loss" if "loss" in set(rows["metric"]) else "auroc"
    won = standings(rows, metric)
    found = [*_winners(won, metric), *_baselines(won), *_ahead(rows, metric), *_paired(paired(table))]
    found += [*collapses(table), *_forms(forms(report, table), metric), *_laws(report.fits)]
    return [*found, _origin(report), _scope(report, table)]


def _origin(report: ReportInput) -> str:
    text = {
        "simulated": "All ECGs are simulated: the ranking and the exponents describe the simulator, not patients.",
        "partly simulated": "Some of the ECGs are simulated: results on them describe the simulator, not patients.",
        "real": "All ECGs are recordings of real patients.",
        "unknown": "No corpus manifest came with the table: whether the ECGs are real or simulated is unknown.",
    }
    return text[origin(report.corpora)]


def _winners(won: pd.DataFrame, metric: str) -> list[str]:
    if won.empty:
        return ["No out-of-distribution result was measured, so no family can be preferred."]
    if won["families"].max() < 2:
        return [
            f"Only {title(won['best'].iloc[0])} was measured out of distribution; there is no other family to "
            f"compare it with."
        ]
    word = "lowest loss" if metric == "loss" else "highest AUROC"
    settled = won[won["settled"]]
    if settled.empty:
        found = Counter(title(f) for f in won["best"]).most_common(1)[0]
        return [
            f"Which family is best cannot be told: on none of the {_tasks(len(won))} does the best family's "
            f"interval lie apart "
            f"from all others (most often in front: {found[0]}, {found[1]} of {len(won)})."
        ]
    out = []
    for family, rows in sorted(groups(settled, "best"), key=lambda g: -len(g[1])):
        example = rows.iloc[0]
        out.append(
            f"{title(family)} has the {word} on {len(rows)} of {_tasks(len(won))}, with an interval apart from "
            f"every other family's; "
            f"e.g. {example['task']} on {example['eval_corpus']}: "
            f"{style.estimate(example['value'], example['lo'], example['hi'])} "
            f"against {style.estimate(example['next_value'], example['next_lo'], example['next_hi'])} for "
            f"{title(example['next_family'])}."
        )
    open_tasks = won[~won["settled"]]
    if len(open_tasks):
        named = [f"{r.task} on {r.eval_corpus}" for r in open_tasks.itertuples()][:3]
        more = f" and {len(open_tasks) - 3} more" if len(open_tasks) > 3 else ""
        names = ", ".join(named) + more if more else style.listed(named)
        out.append(
            f"On {len(open_tasks)} of {_tasks(len(won))} the best family cannot be told from the next ({names})."
        )
    return out


def _tasks(n: int) -> str:
    return f"{n} out-of-distribution task{'s' if n != 1 else ''}"


def _baselines(won: pd.DataFrame) -> list[str]:
    parts, unmeasured = [], []
    for column, name in (("beats_handcrafted", "hand-crafted features"), ("beats_random", "random weights")):
        known = won[won[column] != "not measured"] if len(won) else won
        if len(known) == 0:
            unmeasured.append(name)
            continue
        n = Counter(known[column])
        rest = [f"behind on {n['no']}"] * bool(n["no"]) + [f"not to be told on {n['cannot tell']}"] * bool(
            n["cannot tell"]
        )
        parts.append(f"ahead of {name} on {n['yes']} of {len(known)}" + (f" ({', '.join(rest)})" if rest else ""))
    out = [f"The best family of each task is {style.listed(parts)}."] if parts else []
    return out + ([f"Not measured: {style.listed(unmeasured)}."] if unmeasured else [])


def _ahead(rows: pd.DataFrame, metric: str) -> list[str]:
    """Say where a baseline has the best value of all: silence about it would flatter the families."""
    rows = rows[rows["metric"] == metric]
    if not (rows["kind"] == "grid").any():
        return []
    sign = 1.0 if metric in LOWER_IS_BETTER else -1.0
    best = [here.iloc[int(np.argmin(sign * here["value"].to_numpy()))]["kind"] for _, here in groups(rows, PANEL)]
    names = {"handcrafted": "hand-crafted features", "random": "random weights", "external": "an external checkpoint"}
    said = [f"{name} on {best.count(kind)} of {_tasks(len(best))}" for kind, name in names.items() if kind in best]
    return [f"A baseline has the best {_word(metric)} of all, whatever the intervals: {style.listed(said)}."] * bool(
        said
    )


def _word(metric: str) -> str:
    return metric.upper() if metric.startswith("au") else metric


def _forms(rows: pd.DataFrame, metric: str) -> list[str]:
    """Say what another form of the signal changes for the same models on the same records."""
    pairs = form_pairs(rows[rows["metric"] == metric])
    if not pairs:
        return []
    a, b = (str(pairs[0][k]["form"]) for k in ("first", "second"))
    n = Counter(p["better"] for p in pairs)
    top = max(pairs, key=lambda p: (p["better"] is not None, abs(p["gaps"][0])))
    one, two = (style.estimate(r["value"], r["lo"], r["hi"]) for r in (top["first"], top["second"]))
    return [
        f"{b} against {a}, same models and records: of {len(pairs)} comparisons by {_word(metric)}, {b} is better "
        f"in {n[b]}, {a} in {n[a]}, and {n[None]} cannot tell; the largest: {top['task']} on {top['place']}, "
        f"{top['who']}, {two} in {b} against {one} in {a}."
    ]


def _paired(rows: pd.DataFrame) -> list[str]:
    if rows.empty:
        return []
    sides = rows.assign(side=[side(r) for r in records_of(rows)])
    helped = {f: int((sides.loc[sides["family"] == f, "side"] == "better").sum()) for f in ordered(sides["family"])}
    counts = [f"{title(f)} {k} of {(sides['family'] == f).sum()}" for f, k in helped.items() if k]
    never = [title(f) for f, k in helped.items() if not k]
    out = []
    if counts:
        out.append(
            "Tasks on which pre-training beats random weights of the same size, paired on the same patients: "
            f"{'; '.join(counts)}."
        )
    if never:
        out.append(
            f"{style.listed(never)} beat{'s' if len(never) == 1 else ''} random weights of the same size on no task: "
            "look for a defect, or for training too short to learn anything, before reading on."
        )
    return out


def _laws(fits: list[Fit]) -> list[str]:
    if not fits:
        return ["No law was fitted, so nothing can be said about larger models or more data."]
    joint = [f for f in fits if law_name(f) == "scaling" and f.get("task") != "pretext"]
    name = "L(N, D), one per family and task" if joint else "all laws"
    found = Counter(
        "cannot tell" if "cannot" in v else "does not" if "not" in v else "scales" for v in map(verdict, joint or fits)
    )
    total = len(joint or fits)
    if found["cannot tell"] == total:
        why = Counter(str(f.get("status")) for f in joint or fits).most_common(1)[0][0]
        return [
            f"Whether loss follows a scaling law cannot be told at this size: none of the {total} fits ({name}) "
            f"is identified; most common status: {why}."
        ]
    out = [
        f"Of {total} fits ({name}), {found['scales']} scale along N or D, {found['does not']} do not, "
        f"{found['cannot tell']} cannot tell."
    ]
    wanted = [(joint, "alpha", "parameters"), (joint, "beta", "data")] if joint else []
    wanted.append(([f for f in fits if law_name(f) == "transfer"], "kappa", "loss to loss"))
    steepest = {f"{name} ({what})": _steepest(some, name, what) for some, name, what in wanted if some}
    unread = [name for name, text in steepest.items() if text is None]
    return [
        *out,
        *filter(None, steepest.values()),
        *[f"Exponents that cannot be read: {style.listed(unread)}."] * bool(unread),
    ]


def _steepest(fits: list[Fit], name: str, what: str) -> str | None:
    """Name the largest exponent that can be read, and the families it does not lie apart from on the same task."""
    good = [f for f in fits if scales(f, input_of(f, name)) and not style.missing((f.get("params") or {}).get(name))]
    if not good:
        return None
    top = max(good, key=lambda f: f["params"][name])
    lo, hi = (top.get("intervals") or {}).get(name) or (None, None)
    rivals = [
        f for f in good if f is not top and all(f.get(k) == top.get(k) for k in ("eval_corpus", "task", "protocol"))
    ]
    near = [
        title(str(f["family"]))
        for f in rivals
        if lo is None or ((f.get("intervals") or {}).get(name) or (0, np.inf))[1] >= lo
    ]
    tail = (
        f"; not apart from {style.listed(sorted(set(near)))}"
        if near
        else ""
        if rivals
        else "; no other family's can be read there"
    )
    return (
        f"Largest exponent in {what}, {name}: {title(str(top.get('family')))} on {top.get('task')} "
        f"({top.get('eval_corpus')}), "
        f"{style.estimate(top['params'][name], lo, hi)}{tail}."
    )


def _scope(report: ReportInput, table: pd.DataFrame) -> str:
    grid = table[table["kind"] == "grid"]
    runs = grid.drop_duplicates("run")
    if runs.empty:
        return "The table holds no run of the grid."
    compute, seconds = grid.groupby("run")["C"].max().sum(), report.environment.get("seconds")
    parts = [style.plural(len(families(table)), "family"), f"{len(runs)} runs"]
    parts += [f"{axis} {_range(runs[axis])}" for axis in ("N", "D") if runs[axis].notna().any()]
    parts += [f"{style.flop(compute)} of training"] * bool(compute)
    parts += [] if style.missing(seconds) else [f"{style.duration(seconds)} of wall time"]
    text = ", ".join(parts) + "."
    gaps = table[~np.isfinite(table["value"]) & (table["status"] != "skipped")].drop_duplicates("run")
    if len(gaps):
        waiting = int((gaps["status"] == "waiting").sum())
        said = [f"{len(gaps) - waiting} failed"] * (len(gaps) > waiting) + [f"{waiting} not run yet"] * bool(waiting)
        text += f" Runs without a number: {style.listed(said)}; see “Failed and left out”."
    seeds = runs.groupby(["family", "N", "D"])["seed"].nunique()
    if (seeds < 2).any():
        single = f" {int((seeds < 2).sum())} of {len(seeds)} combinations of family, N and D have one seed"
        text += f"{single}: their intervals hold patients, not the luck of training."
    return text


def _range(values: pd.Series) -> str:
    low, high = style.count(values.min()), style.count(values.max())
    return low if low == high else f"{low}–{high}"
