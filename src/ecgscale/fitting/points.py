"""From a table to a problem: which rows can be fitted, and one sentence about those that cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ecgscale.fitting.problem import Objective, Problem
from ecgscale.laws import Law

if TYPE_CHECKING:
    import pandas as pd


def problem_of(
    law: Law,
    frame: pd.DataFrame,
    output: str = "value",
    floor: float | None = None,
    objective: Objective = "huber_log",
) -> tuple[Problem, pd.DataFrame, list[str]]:
    """Return the problem, its rows in the order of its points, and warnings.

    Args:
        law: What to fit; its `inputs` are columns of the table.
        frame: The rows.
        output: The column of the loss.
        floor: Holds the law's constant term at this value; None fits it.
        objective: "huber_log", "ls_log" or "ls".

    Raises:
        ValueError: a column is missing, a value is not positive, no row is left, or the floor is not below the losses.
    """
    rows, warnings = _usable(law, frame, output, log=objective != "ls")
    x = {name: rows[name].to_numpy(np.float64) for name in law.inputs}
    held = _checked_floor(law, floor, rows[output])
    return Problem(law, x, rows[output].to_numpy(np.float64), objective, held), rows, warnings


def _usable(law: Law, frame: pd.DataFrame, output: str, log: bool) -> tuple[pd.DataFrame, list[str]]:
    wanted = (*law.inputs, output)
    if missing := [c for c in wanted if c not in frame]:
        raise ValueError(f"the table has no column {missing[0]!r}; the law {law.part_name()} needs {', '.join(wanted)}")
    finite = np.isfinite(frame[list(wanted)].to_numpy(np.float64)).all(axis=1)
    kept = frame[finite].reset_index(drop=True)
    if kept.empty:
        raise ValueError(f"no row of the table has finite {', '.join(wanted)}; nothing can be fitted")
    for column in law.inputs if not log else wanted:
        if (kept[column] <= 0).any():
            raise ValueError(
                f"column {column!r} must be positive, found {kept[column].min():g}; "
                "leave out baselines (N or D = 0) before a fit"
            )
    dropped = int((~finite).sum())
    return kept, [f"{dropped} row{'s' * (dropped != 1)} without a finite value left out"] if dropped else []


def _checked_floor(law: Law, floor: float | None, values: pd.Series) -> float | None:
    if floor is None:
        return None
    if law.floor is None:
        raise ValueError(f"the law {law.part_name()} has no constant term, so no floor can be held; leave `floor` out")
    if not 0 <= floor < float(values.median()):
        raise ValueError(
            f"the floor {floor:g} must be at least 0 and below the median loss {values.median():g}; give a lower one"
        )
    return floor
