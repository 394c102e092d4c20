"""What the study's grid could have told apart: the smallest ratio of two exponents that it would have found."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecgscale.fitting.compare import log_spread, smallest_ratio
from ecgscale.reporting import style
from ecgscale.reporting.curves import Fit, law_name
from ecgscale.reporting.rows import title
from ecgscale.reporting.tables import Cell, Table

LARGEST = 100  # a ratio above it is no finding that anybody looks for
EXPONENTS = {"alpha": "parameters", "beta": "records"}


def tables_of(fits: list[Fit]) -> list[Table]:
    """Return the smallest detectable ratio of alpha and of beta for every L(N, D); nothing without such fits."""
    laws = [f for f in fits if law_name(f) == "scaling" and f.get("task") != "pretext"]
    place = {family: i for i, family in enumerate(style.ordered(str(f.get("family")) for f in laws))}
    laws.sort(key=lambda f: (place[str(f.get("family"))], str(f.get("eval_corpus")), str(f.get("task"))))
    records = [_record(fit) for fit in laws]
    if not records:
        return []
    body = tuple(
        (
            Cell(title(str(r["family"]))),
            Cell(str(r["task"]), f"{r['eval_corpus']}, {r['protocol']}"),
            *(_cell(r[name]) for name in EXPONENTS),
        )
        for r in records
    )
    caption = (
        "The smallest true ratio of two families' exponents that a comparison at 95 % finds in 80 % of studies like "
        "this one, if the other family is as uncertain; smaller differences were not to be seen here, and their "
        "absence says nothing. From the spread of the bootstrap over runs."
    )
    head = ("family", "task", *(f"{name} ({what})" for name, what in EXPONENTS.items()))
    return [Table("detectable", "What this grid could have detected", caption, head, body, records)]


def _record(fit: Fit) -> dict[str, Any]:
    where = {name: fit.get(name) for name in ("family", "eval_corpus", "task", "protocol", "status")}
    return where | {name: _ratio(fit, name) for name in EXPONENTS}


def _ratio(fit: Fit, name: str) -> float | None:
    """Return the ratio; None where the exponent was not identified, so that no ratio is."""
    samples = (fit.get("samples") or {}).get(name)
    spread = log_spread(None if samples is None else np.asarray(samples, float), str(fit.get("status")))
    ratio = smallest_ratio(float(np.sqrt(2)) * spread)
    return ratio if np.isfinite(ratio) else None


def _cell(ratio: float | None) -> Cell:
    if ratio is None:
        return Cell("none", "not identified", float("inf"), "cannot")
    if ratio > LARGEST:
        return Cell(f"above {LARGEST:g}-fold", sort=ratio, mark="cannot")
    return Cell(f"{ratio:.2f}-fold" if ratio < 10 else f"{ratio:.0f}-fold", sort=ratio)
