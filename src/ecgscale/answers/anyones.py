"""Laws of anybody's results: a table whose columns are named, fitted as a whole or group by group."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ecgscale.fitting import LawFit, fit, read_points
from ecgscale.fitting.compare import Difference, differences
from ecgscale.laws import Law
from ecgscale.spec import Explained, part, part_class

if TYPE_CHECKING:
    import pandas as pd

READ = ("N", "D", "C", "value")  # roles that `read_points` looks for


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


def load(path: Path | str, columns: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Read a table and give its columns the names that laws use.

    Args:
        path: A .csv or .parquet file.
        columns: {role: column}; a role is an input of a law ("N", "D", "seen", "labelled", "L_ID", ...) or "value",
            the loss. N, D, C and value are looked for under their usual names where they are not given.

    Raises:
        TableError: the file cannot be read, or a named column is not there.
    """
    columns = dict(columns or {})
    try:
        frame = read_points(path, {role: column for role, column in columns.items() if role in READ})
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise TableError(str(error)) from None
    for role, column in columns.items():
        if column not in frame:
            raise TableError(f"{path}: no column {column!r} for {role}; it has {', '.join(map(str, frame.columns))}")
        frame[role] = frame[column]
    return frame


def fit_groups(
    frame: pd.DataFrame,
    law: Law | str = "scaling",
    group: str | None = None,
    floor: float | None = None,
    bootstraps: int = 1000,
    seed: int = 0,
) -> dict[str, LawFit]:
    """Fit a law to every group of a table, or to all of it.

    Args:
        frame: Rows with the law's inputs and `value`, the loss.
        law: A law, or the name of one.
        group: The column whose values are fitted apart (a family, a task); None for one fit, called "".
        floor, bootstraps, seed: As of `fit`.

    Raises:
        TableError: a column is missing or holds what cannot be fitted.
    """
    chosen = law_named(law, dict.fromkeys(map(str, frame.columns), "")) if isinstance(law, str) else law
    if group is not None and group not in frame:
        raise TableError(f"no column {group!r} to group by; the table has {', '.join(map(str, frame.columns))}")
    parts = {"": frame} if group is None else {str(name): rows for name, rows in frame.groupby(group, sort=True)}
    fits = {}
    for name, rows in parts.items():
        try:
            fits[name] = fit(chosen, rows.reset_index(drop=True), floor=floor, bootstraps=bootstraps, seed=seed)
        except ValueError as error:
            raise TableError(f"{group} {name}: {error}" if group else str(error)) from None
    return fits


def compared(fits: Mapping[str, LawFit]) -> dict[str, list[Difference]]:
    """Return, for each exponent, the comparison of every pair of groups, corrected for their number."""
    law = next(iter(fits.values())).law
    return {name: differences(fits, name) for name in law.nonlinear if name not in law.scales}
