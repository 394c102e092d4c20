"""The answer first: plain sentences made from the numbers, and silence where the numbers say nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from ecgscale.reporting import ReportInput, style
from ecgscale.reporting.curves import Fit, told
from ecgscale.reporting.rows import LOWER_IS_BETTER, PAIRED, contestant, families, largest, measured, title
from ecgscale.reporting.tables import best_and_ties, side

PANEL = ["eval_corpus", "task", "protocol"]


def origin(manifests: list[dict[str, Any]]) -> str:
    """Say where the ECGs come from: "simulated", "partly simulated", "real" or "unknown"."""
    flags = {bool(m.get("simulated")) for m in manifests}
    if not flags:
        return "unknown"
    return "simulated" if flags == {True} else "real" if flags == {False} else "partly simulated"


def comparable(table: pd.DataFrame) -> pd.DataFrame:
    """Return the out-of-distribution rows at every contestant's largest cell, probes only."""
    rows = measured(table)
    rows = rows[(rows["split"] == "ood") & (rows["protocol"] != "pretext")]
    return largest(rows)


def standings(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return, per out-of-distribution task, the best family and whether its interval lies apart from the others'.

    Returns:
        Frame with eval_corpus, task, protocol, best, value, lo, hi, settled, tied (names), next, next_value, next_lo, next_hi,
        beats_random and beats_handcrafted ("yes", "no", "cannot tell" or "not measured").
    """
    rows = comparable(table)
    rows = rows[rows["metric"] == metric]
    out = []
    for keys, here in rows.groupby(PANEL, sort=True):
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
        row["beats_random"] = _beats(best, here[here["kind"] == "random"], sign)
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
    found = [*_winners(table), *_baselines(table), *_paired(table), *_laws(report.fits), _origin(report), *_scope(report, table)]
    return [s for s in found if s]


def _origin(report: ReportInput) -> str:
    text = {
        "simulated": "All ECGs are simulated: the ranking and the exponents describe the simulator, not patients.",
        "partly simulated": "Some of the ECGs are simulated: results on them describe the simulator, not patients.",
        "real": "All ECGs are recordings of real patients.",
        "unknown": "No corpus manifest came with the table, so this report cannot say whether the ECGs are real or simulated.",
    }
    return text[origin(report.corpora)]


def _winners(table: pd.DataFrame) -> list[str]:
    metric = "loss" if "loss" in set(comparable(table)["metric"]) else "auroc"
    won = standings(table, metric)
    if won.empty:
        return ["No out-of-distribution result was measured, so no family can be preferred."]
    if won["families"].max() < 2:
        return [f"Only {title(won['best'].iloc[0])} was measured out of distribution; there is no other family to compare it with."]
    word = "lowest loss" if metric == "loss" else "highest AUROC"
    settled = won[won["settled"]]
    if settled.empty:
        found = Counter(title(f) for f in won["best"]).most_common(1)[0]
        return [
            f"Which family is best cannot be told: on none of the {_tasks(len(won))} does the best family's interval lie apart "
            f"from all others (most often in front: {found[0]}, {found[1]} of {len(won)})."
        ]
    out = []
    for family, rows in sorted(settled.groupby("best"), key=lambda g: -len(g[1])):
        example = rows.iloc[0]
        out.append(
            f"{title(family)} has the {word} on {len(rows)} of {_tasks(len(won))}, with an interval apart from every other family's; "
            f"e.g. {example['task']} on {example['eval_corpus']}: {style.estimate(example['value'], example['lo'], example['hi'])} "
            f"against {style.estimate(example['next_value'], example['next_lo'], example['next_hi'])} for {title(example['next_family'])}."
        )
    open_tasks = won[~won["settled"]]
    if len(open_tasks):
        named = [f"{r.task} on {r.eval_corpus}" for r in open_tasks.itertuples()][:3]
        more = f" and {len(open_tasks) - 3} more" if len(open_tasks) > 3 else ""
        names = ", ".join(named) + more if more else style.listed(named)
        out.append(f"On {len(open_tasks)} of {_tasks(len(won))} the best family cannot be told from the next ({names}).")
    return out


def _tasks(n: int) -> str:
    return f"{n} out-of-distribution task{'s' if n != 1 else ''}"


def _baselines(table: pd.DataFrame) -> list[str]:
    metric = "loss" if "loss" in set(comparable(table)["metric"]) else "auroc"
    won = standings(table, metric)
    out = []
    for column, name in (("beats_handcrafted", "hand-crafted features"), ("beats_random", "random weights")):
        known = won[won[column] != "not measured"] if len(won) else won
        if len(known) == 0:
            out.append(f"No baseline of {name} was measured.")
            continue
        n = Counter(known[column])
        rest = [f"behind on {n['no']}" if n["no"] else "", f"cannot be told on {n['cannot tell']}" if n["cannot tell"] else ""]
        tail = "; " + ", ".join(r for r in rest if r) if any(rest) else ""
        out.append(f"Against {name}, the best family of each task is ahead on {n['yes']} of {len(known)}{tail}.")
    return out


def _paired(table: pd.DataFrame) -> list[str]:
    rows = paired_rows(table)
    if rows.empty:
        return []
    out = []
    for family, here in rows.groupby("family"):
        n = Counter(side(r) for _, r in here.iterrows())
        if n["better"] == 0:
            out.append(f"{title(family)} beats random weights of its own size on none of {len(here)} tasks: look for a defect before reading on.")
    helped = rows.groupby("family").apply(lambda f: sum(side(r) == "better" for _, r in f.iterrows()), include_groups=False)
    counts = [f"{title(f)} {k} of {(rows['family'] == f).sum()}" for f, k in helped.items() if k]
    if counts:
        out.insert(0, f"Tasks on which pre-training beats random weights of the same size, paired on the same patients: {'; '.join(counts)}.")
    return out


def paired_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the paired differences to random weights at every family's largest cell."""
    rows = measured(table)
    return largest(rows[(rows["metric"] == PAIRED) & (rows["kind"] == "grid")])


def _laws(fits: list[Fit]) -> list[str]:
    if not fits:
        return ["No law was fitted, so nothing can be said about larger models or more data."]
    good = [f for f in fits if told(f)]
    if not good:
        why = Counter(str(f.get("verdict_reason") or f.get("status")) for f in fits).most_common(1)[0][0]
        return [f"Whether loss follows a scaling law cannot be told at this size: none of {style.plural(len(fits), 'fit')} is identified (mostly: {why})."]
    out = [f"{len(good)} of {style.plural(len(fits), 'fitted law')} can be read; the others say “cannot tell”." if len(good) < len(fits) else
           f"All {style.plural(len(fits), 'fitted law')} can be read."]
    for name, what in (("alpha", "parameters (alpha)"), ("beta", "data (beta)"), ("kappa", "loss to loss (kappa)")):
        here = [f for f in good if style.missing((f.get("params") or {}).get(name)) is False]
        if here:
            top = max(here, key=lambda f: f["params"][name])
            lo, hi = (top.get("intervals") or {}).get(name) or (None, None)
            out.append(
                f"Steepest in {what}: {title(str(top.get('family')))} on {top.get('task')} ({top.get('eval_corpus')}), "
                f"exponent {style.estimate(top['params'][name], lo, hi)}."
            )
    return out


def _scope(report: ReportInput, table: pd.DataFrame) -> list[str]:
    grid = table[table["kind"] == "grid"]
    runs = grid.drop_duplicates("run")
    if runs.empty:
        return ["The table holds no run of the grid."]
    compute = grid.groupby("run")["C"].max().sum()
    seconds = report.environment.get("seconds")
    text = (
        f"{style.plural(len(families(table)), 'family')}, {len(runs)} runs, N {_range(runs['N'])}, D {_range(runs['D'])} records, "
        f"{style.flop(compute)} of training" + (f", {style.duration(seconds)} of wall time." if not style.missing(seconds) else ".")
    )
    failed = table[~np.isfinite(table["value"])]
    if len(failed):
        text += f" {style.plural(failed['run'].nunique(), 'run')} left a gap; see “Failed and left out”."
    seeds = runs.groupby(["family", "N", "D"])["seed"].nunique()
    if (seeds < 2).any():
        text += f" {int((seeds < 2).sum())} of {len(seeds)} cells have one seed only: their intervals hold patients, not training luck."
    return [text]


def _range(values: pd.Series) -> str:
    low, high = style.count(values.min()), style.count(values.max())
    return low if low == high else f"{low}–{high}"


def contestants(rows: pd.DataFrame) -> pd.Series:
    """Return the name of who each row belongs to."""
    return pd.Series([contestant(r) for _, r in rows.iterrows()], index=rows.index, dtype=object)
