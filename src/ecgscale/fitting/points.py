"""From a table to a problem: which rows can be fitted, and one sentence about those that cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ecgscale.fitting.problem import Objective, Problem
from ecgscale.fitting.reading import Columns, numbers
from ecgscale.laws import Array, Law

if TYPE_CHECKING:
    import pandas as pd

Table: TypeAlias = "pd.DataFrame | Mapping[str, Any]"  # columns by name, all of one length


def problem_of(
    law: Law,
    frame: Table,
    output: str = "value",
    floor: float | None = None,
    objective: Objective = "huber_log",
) -> tuple[Problem, Columns, list[str]]:
    """Return the problem, its columns in the order of its points, and warnings.

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
    held = _checked_floor(law, floor, rows[output])
    return Problem(law, {name: rows[name] for name in law.inputs}, rows[output], objective, held), rows, warnings


def _usable(law: Law, frame: Table, output: str, log: bool) -> tuple[Columns, list[str]]:
    wanted = (*law.inputs, output)
    if missing := [c for c in wanted if c not in frame]:
        raise ValueError(f"the table has no column {missing[0]!r}; the law {law.part_name()} needs {', '.join(wanted)}")
    values = {name: numbers(frame[name], name) for name in wanted}
    finite = np.isfinite(list(values.values())).all(axis=0)
    if not finite.any():
        raise ValueError(f"no row of the table has finite {', '.join(wanted)}; nothing can be fitted")
    kept = {str(name): np.asarray(column)[finite] for name, column in frame.items()}
    kept |= {name: column[finite] for name, column in values.items()}
    for column in law.inputs if not log else wanted:
        if (kept[column] <= 0).any():
            raise ValueError(
                f"column {column!r} must be positive, found {kept[column].min():g}; "
                "leave out baselines (N or D = 0) before a fit"
            )
    dropped = int((~finite).sum())
    return kept, [f"{dropped} row{'s' * (dropped != 1)} without a finite value left out"] if dropped else []


def _checked_floor(law: Law, floor: float | None, values: Array) -> float | None:
    if floor is None:
        return None
    if law.floor is None:
        raise ValueError(f"the law {law.part_name()} has no constant term, so no floor can be held; leave `floor` out")
    if not 0 <= floor < float(np.median(values)):
        raise ValueError(
            f"the floor {floor:g} must be at least 0 and below the median loss {np.median(values):g}; give a lower one"
        )
    return floor
