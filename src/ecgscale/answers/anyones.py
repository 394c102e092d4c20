"""Laws of anybody's results: a table whose columns are named, fitted as a whole or group by group."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ecgscale.fitting import LawFit, fit
from ecgscale.fitting.compare import Difference, differences
from ecgscale.fitting.points import Table
from ecgscale.fitting.reading import Columns, read_columns, with_roles
from ecgscale.fitting.uncertainty import missing
from ecgscale.laws import Law
from ecgscale.spec import Explained, part, part_class


class TableError(Explained, ValueError):
    """A table cannot be read or fitted as asked; the message says which column and what to do."""


def law_named(name: str, columns: Mapping[str, str]) -> Law:
    """Return the law of a name; one that may stand on several columns takes the one that is named.

    Raises:
        SpecError: no such law.
    """
    field = part_class("laws", name).model_fields.get("input")
    choices = getattr(field.annotation, "__args__", ()) if field else ()
    named = [c for c in choices if c in columns]
    law: Law = part("laws", {"name": name, **({"input": named[0]} if len(named) == 1 else {})}, "law")
    return law


def load(path: Path | str, columns: Mapping[str, str] | None = None) -> Columns:
    """Read a table and give its columns the names that laws use.

    Args:
        path: A .csv or .parquet file.
        columns: {role: column}; a role is an input of a law ("N", "D", "seen", "labelled", "L_ID", ...) or "value",
            the loss. N, D, C and value are looked for under their usual names where they are not given.

    Raises:
        TableError: the file cannot be read, or a named column is not there.
    """
    try:
        return with_roles(read_columns(path), columns or {}, path)
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise TableError(str(error)) from None


def fit_groups(
    frame: Table,
    law: Law | str = "scaling",
    group: str | None = None,
    floor: float | None = None,
    bootstraps: int = 1000,
    seed: int = 0,
) -> dict[str, LawFit]:
    """Fit a law to every group of a table, or to all of it.

    Args:
        frame: Rows with the law's inputs and `value`, the loss: a DataFrame or {column: values}.
        law: A law, or the name of one.
        group: The column whose values are fitted apart (a family, a task); None for one fit, called "".
        floor, bootstraps, seed: As of `fit`.

    Raises:
        TableError: a column is missing or holds what cannot be fitted.
    """
    columns = {str(name): np.asarray(column) for name, column in frame.items()}
    chosen = law_named(law, dict.fromkeys(columns, "")) if isinstance(law, str) else law
    fits = {}
    for name, rows in _parts(columns, group).items():
        try:
            fits[name] = fit(chosen, rows, floor=floor, bootstraps=bootstraps, seed=seed)
        except ValueError as error:
            raise TableError(f"{group} {name}: {error}" if group else str(error)) from None
    return fits


def _parts(columns: Columns, group: str | None) -> dict[str, Columns]:
    """Return the rows of each group, in the order of their names; rows without one are left out."""
    if group is None:
        return {"": columns}
    names = column_to_group_by(columns, group)
    there = np.array([not missing(name) for name in names], bool)
    labels = names.astype(str)
    return {
        str(name): {column: values[there & (labels == str(name))] for column, values in columns.items()}
        for name in np.unique((labels if names.dtype == object else names)[there])
    }


def column_to_group_by(frame: Table, group: str) -> npt.NDArray[Any]:
    """Return a column [row].

    Raises:
        TableError: the table does not have it.
    """
    if group not in frame:
        raise TableError(f"no column {group!r} to group by; the table has {', '.join(map(str, frame))}")
    return np.asarray(frame[group])


def compared(fits: Mapping[str, LawFit]) -> dict[str, list[Difference]]:
    """Return, for each exponent, the comparison of every pair of groups, corrected for their number."""
    law = next(iter(fits.values())).law
    return {name: differences(fits, name) for name in law.nonlinear if name not in law.scales}
