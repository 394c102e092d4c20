"""Fit a law to any table: point estimate, bootstrap intervals, a status, a hold-out error and a plain verdict.
Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ecgscale.fitting.diagnose import hold_out_largest, identified, judge
from ecgscale.fitting.direct import disagree, fit_direct
from ecgscale.fitting.engine import Optimum, optimise
from ecgscale.fitting.points import Table, problem_of
from ecgscale.fitting.problem import Objective, Problem
from ecgscale.fitting.reading import DERIVED, read_columns, with_roles
from ecgscale.fitting.result import LawFit, Status
from ecgscale.fitting.uncertainty import bootstrap, too_few
from ecgscale.laws import Array, Law
from ecgscale.laws.scaling import Scaling
from ecgscale.rng import generator

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DERIVED", "LawFit", "fit", "fit_file", "read_points"]

REVISION = 4  # bumped when the numbers of a fit change: stored fits are then made anew


def fit(
    law: Law,
    frame: Table,
    output: str = "value",
    floor: float | None = None,
    bootstraps: int = 1000,
    seed: int = 0,
    objective: Objective = "huber_log",
    unit: str = "branch",
) -> LawFit:
    """Fit a law to a table, one row per measured loss.

    Args:
        law: What to fit; its `inputs` are columns of the table.
        frame: The rows, a DataFrame or {column: values}. Used where present: `unit` (trunk), `N`, `D`, `lo`, `hi`
            (see `uncertainty`).
        output: The column of the loss.
        floor: Holds the law's constant term at this value (a known irreducible loss); None fits it.
        bootstraps: Resamples of the runs; 0 for none.
        seed: Of the bootstrap.
        objective: "huber_log" (delta 1e-3 on log loss), "ls_log" or "ls".
        unit: The column whose equal values mark points of one trunk.

    Raises:
        ValueError: a column is missing, a value is not positive, no row is left, or the floor is not below the losses.
    """
    problem, rows, warnings = problem_of(law, frame, output, floor, objective)
    few = too_few(problem)
    optimum = optimise(problem, starts=32 if few is None else 8)
    value = float(problem.value(optimum.z, problem.y / problem.scale))
    check = fit_direct(problem).value if few is None else float("nan")  # nothing is concluded from too few points
    samples: dict[str, Array] = {}
    levels: tuple[str, ...] = ()
    if few is None and bootstraps:
        samples, levels = bootstrap(problem, optimum, rows, bootstraps, seed, unit)
    status, why = _status(problem, optimum, samples, few, disagree(value, check))
    verdict, reason, verdicts = judge(problem, optimum, samples, status, generator(seed, "trend"))
    direct = check if problem.log else check * problem.scale**2
    return LawFit(
        law=law,
        params={name: float(v) for name, v in problem.unpack(optimum.z).items()},
        intervals={name: _interval(s) for name, s in samples.items()},
        status=status,
        samples=samples,
        objective=objective,
        n=len(problem.y),
        holdout=hold_out_largest(problem, optimum) if few is None else {},
        optimum={
            "value": optimum.value,
            "gradient": optimum.gradient,
            "spread": optimum.spread,
            "starts": optimum.starts,
            "condition": optimum.condition,
            "direct": direct,
        },
        warnings=(*warnings, *why),
        verdict=verdict,
        reason=reason,
        verdicts=verdicts,
        ranges={name: (float(v.min()), float(v.max())) for name, v in problem.x.items()},
        floor=floor,
        levels=levels,
        noise=_noise(problem, optimum),
    )


def read_points(path: Path | str, columns: dict[str, str] | None = None) -> pd.DataFrame:
    """Read points from a .csv or .parquet file.

    Args:
        path: The file.
        columns: {role: column}, see `reading.with_roles`.

    Returns:
        The file's table with the columns N, D, C, value that could be found.

    Raises:
        ValueError: the file is no such table, or a named column is not there.
    """
    import pandas as pd  # here, so that whoever only fits does not wait for it

    return pd.DataFrame(with_roles(read_columns(path), columns or {}, path))


def fit_file(
    path: Path | str,
    law: Law | None = None,
    columns: dict[str, str] | None = None,
    floor: float | None = None,
    bootstraps: int = 1000,
    seed: int = 0,
) -> LawFit:
    """Fit a law (L(N, D) if none is given) to anybody's table; see `read_points` for its columns and `fit` for the
    rest."""
    table = with_roles(read_columns(path), columns or {}, path)
    return fit(law or Scaling(), table, floor=floor, bootstraps=bootstraps, seed=seed)


def _status(
    problem: Problem, optimum: Optimum, samples: dict[str, Array], few: str | None, disagreement: bool
) -> tuple[Status, list[str]]:
    if few:
        return "too_few", [few]
    if disagreement:
        return "engines_disagree", [
            "variable projection and the direct fit found different minima of the same objective"
        ]
    why = identified(problem, samples, optimum.condition)
    if optimum.at_limit:
        limits = f"at a limit: {', '.join(optimum.at_limit)}"
        return "bound", [limits, why] if why else [limits]
    return ("ill_conditioned", [why]) if why else ("converged", [])


def _interval(samples: Array) -> tuple[float, float]:
    lo, hi = np.percentile(samples, [2.5, 97.5])
    return float(lo), float(hi)


def _noise(problem: Problem, optimum: Optimum) -> float:
    residual = problem.residual(problem.fitted(optimum.z), problem.y / problem.scale)
    free = len(residual) - len(problem.names) + (problem.held is not None)
    if free < 1:
        return float("nan")
    return float(np.sqrt((residual**2).sum() / free)) * (1.0 if problem.log else problem.scale)
