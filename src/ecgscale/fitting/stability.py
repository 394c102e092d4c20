"""Would the answer have been another one? Rollouts, leverage and refits on less, or with another loss or count of N."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ecgscale.fitting.diagnose import predict_ahead
from ecgscale.fitting.engine import Optimum, optimise
from ecgscale.fitting.points import Table, problem_of
from ecgscale.fitting.problem import Problem
from ecgscale.fitting.reading import Columns
from ecgscale.fitting.uncertainty import leverage, missing
from ecgscale.laws import Law

__all__ = ["leverages", "rollout", "sensitivity"]

LEVELS = 3  # a fit to fewer has no exponent to roll out


def rollout(problem: Problem, optimum: Optimum) -> pd.DataFrame:
    """Fit up to level k of each input and predict level k + 1, for every k from 3 on.

    Returns:
        A row per input and k: input, fitted_to (the largest level fitted), level (the one predicted), n, error (mean
        |predicted / measured - 1|), bias (mean signed error). Levels that leave too few points are left out.
    """
    rows: list[dict[str, Any]] = []
    for name, column in problem.x.items():
        levels = np.unique(column)
        for below, level in zip(levels[LEVELS - 1 :], levels[LEVELS:], strict=False):
            known = column <= below
            if known.sum() > len(problem.names):
                ahead = predict_ahead(problem, optimum, known, column == level)
                rows.append({"input": name, "fitted_to": float(below), "level": float(level), **ahead})
    return pd.DataFrame(rows, columns=["input", "fitted_to", "level", "n", "error", "bias"])


def leverages(problem: Problem, optimum: Optimum) -> pd.DataFrame:
    """Return the inputs of every point with its leverage (0 to 1), highest first; they sum to the free parameters."""
    table = pd.DataFrame(problem.x).assign(leverage=leverage(problem, optimum.z))
    return table.sort_values("leverage", ascending=False, kind="stable")


def sensitivity(
    law: Law,
    frame: Table,
    output: str = "value",
    floor: float | None = None,
    over: Sequence[str] = ("seed", "task"),
    total: str = "N_total",
) -> pd.DataFrame:
    """Fit again under each change that should not matter.

    Args:
        law, frame, output, floor: As for `fit`.
        over: Columns whose values are left out one by one, where there are several.
        total: The column of the other count of N (heads and teacher included).

    Returns:
        A row per change: change (in words), n, the law's parameters, and `shift`, the largest |log ratio| of an
        exponent to the first row, "as fitted" (Huber).
    """
    problem, rows, _ = problem_of(law, frame, output, floor)
    base = optimise(problem, starts=16)
    found = [_row("as fitted", problem, base)]
    for change, other in _changes(law, problem, rows, output, over, total):
        if len(other.y) > len(other.names) and all(len(np.unique(v)) >= LEVELS for v in other.x.values()):
            near = other.pack(problem.unpack(base.z))[None]
            found.append(_row(change, other, optimise(other, starts=8, extra=near)))
    table = pd.DataFrame(found)
    exponents = [name for name in law.nonlinear if name not in law.scales]
    logs = np.log(table[exponents].to_numpy())
    return table.assign(shift=np.abs(logs - logs[0]).max(axis=1))


def _changes(
    law: Law, problem: Problem, rows: Columns, output: str, over: Sequence[str], total: str
) -> Iterator[tuple[str, Problem]]:
    yield "least squares of log loss", replace(problem, objective="ls_log")
    yield "least squares of loss", replace(problem, objective="ls")
    for column in over:
        values = list(dict.fromkeys(v for v in rows[column].tolist() if not missing(v))) if column in rows else []
        for value in values if len(values) > 1 else []:
            yield f"without {column} {value}", problem.without(rows[column] != value)
    for name, levels in problem.x.items() if not law.measured_inputs else ():
        for level in np.unique(levels):
            yield f"without {name} = {level:g}", problem.without(levels != level)
    if "N" in problem.x and total in rows and (rows[total] > 0).all():
        yield f"N counted as {total}", problem_of(law, {**rows, "N": rows[total]}, output, problem.floor)[0]


def _row(change: str, problem: Problem, optimum: Optimum) -> dict[str, Any]:
    params = {name: float(value) for name, value in problem.unpack(optimum.z).items()}
    return {"change": change, "n": len(problem.y), **params}
