"""The study beside published numbers: exponents, their ratios and splits of compute, where both exist.

A published value and one of this study meet under the same family names and the same quantity. "In distribution" is the
probe on the source labels; a mean over out-of-distribution tasks is a mean over this study's own tasks, which are not
the paper's: a difference may be one of tasks, sizes or data as well as of the finding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ecgscale.reference import published
from ecgscale.reporting import style
from ecgscale.reporting.curves import Fit, is_pretext_transfer, law_name, told
from ecgscale.reporting.rows import title
from ecgscale.reporting.tables import Cell, Table

EXPONENTS = {"alpha": "scaling", "beta": "scaling", "kappa": "transfer"}  # and the law that has it
Values = dict[str, Any]  # parameter: number, or samples [draw]


def tables_of(fits: list[Fit]) -> list[Table]:
    """Return published values with what this study found for them; nothing where it measured none of them."""
    clear = [f for f in fits if f.get("samples") and told(f)]
    usable = [f for f in clear if f.get("task") != "pretext" and not is_pretext_transfer(f)]
    records = []
    for row in published("2605.17276").to_dict("records"):
        found = _here(usable, str(row["quantity"]), str(row["family"]), str(row["task"]))
        if found is not None:
            value, lo, hi = found
            records.append({k: row[k] for k in ("quantity", "family", "task", "grade", "source")}
                           | {"published": float(row["value"]), "here": value, "lo": lo, "hi": hi})  # fmt: skip
    if not records:
        return []
    body = tuple(
        (
            Cell(" over ".join(title(f) for f in str(r["family"]).split("/"))),
            Cell(str(r["quantity"]).replace("_", " "), str(r["task"]).replace("_", " ")),
            Cell(style.number(r["published"]), f"grade {r['grade']}", r["published"]),
            Cell(style.number(r["here"]), f"({style.bounds(r['lo'], r['hi'])})", r["here"]),
            Cell("inside the interval" if r["lo"] <= r["published"] <= r["hi"] else "outside the interval"),
        )
        for r in records
    )
    caption = (
        "Values of arXiv:2605.17276 that this study measured, too, by the same family names. 95 % bootstrap intervals "
        "over runs; fits that cannot tell are left out. The paper's corpora, sizes and tasks are others, so a value "
        "outside the interval is a difference, not a refutation; one inside a wide interval is no confirmation. "
        "Grades: P the paper's own text, B a public account that quotes it, I arithmetic on these."
    )
    head = ("family", "quantity", "published", "here", "the published value lies")
    return [Table("published", "Beside published numbers", caption, head, body, records)]


def _here(fits: list[Fit], quantity: str, family: str, task: str) -> tuple[float, float, float] | None:
    """Return this study's value of a published quantity with its 95 % interval, or None where it has none."""
    first, _, second = family.partition("/")
    if quantity in EXPONENTS and not second:
        return _reduced([_mean(_on(fits, first, EXPONENTS[quantity], task), quantity)], lambda v: v)
    if quantity in ("data_share", "model_share"):
        chosen = _on(fits, first, "scaling", task)
        share: Callable[..., Any] = (
            (lambda a, b: a / (a + b)) if quantity == "data_share" else (lambda a, b: b / (a + b))
        )
        return _reduced([_mean(chosen, "alpha"), _mean(chosen, "beta")], share, paired=True)
    name = quantity.removesuffix("_ratio")
    if quantity.endswith("_ratio") and name in EXPONENTS:
        sides = [_on(fits, f, EXPONENTS[name], task) for f in (first, second)]
        tasks = {_where(f) for f in sides[0]} & {_where(f) for f in sides[1]}
        return _reduced([_mean([f for f in side if _where(f) in tasks], name) for side in sides], lambda a, b: a / b)
    return None


def _on(fits: list[Fit], family: str, law: str, task: str) -> list[Fit]:
    """Return the fits of a family that a published task means."""
    own = [f for f in fits if f.get("family") == family and law_name(f) == law]
    if task == "id":
        return [f for f in own if f.get("split") == "id"]
    if task == "mean_ood":
        return [f for f in own if f.get("split") == "ood"]
    return [f for f in own if str(f.get("task")).startswith(task)]


def _where(fit: Fit) -> tuple[str, ...]:
    return tuple(str(fit.get(k)) for k in ("eval_corpus", "task", "protocol"))


def _mean(fits: list[Fit], name: str) -> tuple[float, Any] | None:
    """Return the mean over fits of a parameter and of its samples [draw]; None without fits."""
    if not fits:
        return None
    draws = min(len(f["samples"][name]) for f in fits)
    samples = np.mean([np.asarray(f["samples"][name][:draws], float) for f in fits], axis=0)
    return float(np.mean([f["params"][name] for f in fits])), samples


def _reduced(
    parts: list[tuple[float, Any] | None], of: Callable[..., Any], paired: bool = False
) -> tuple[float, float, float] | None:
    """Return a function of means with its interval; samples of two families are drawn apart unless `paired`."""
    known = [p for p in parts if p is not None]
    if len(known) < len(parts):
        return None
    draws = min(len(p[1]) for p in known)
    samples = [p[1][:draws] if paired or i == 0 else p[1][:draws][::-1] for i, p in enumerate(known)]
    lo, hi = np.percentile(of(*samples), [2.5, 97.5])
    return float(of(*(p[0] for p in known))), float(lo), float(hi)
