"""Tables of points out of files, as columns by name; pandas, which takes longer to import than a fit, is not needed."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Columns = dict[str, npt.NDArray[Any]]  # name: [row]; whole numbers, numbers with NaN, or objects with NaN where empty

MISSING = frozenset(("", "nan", "na", "n/a", "#n/a", "null", "none", "<na>"))  # in lower case
DERIVED = "D = C / 6N"  # a column of a table whose D was not given

ALIASES = {  # role: names a column may have, the first one found is taken
    "N": ("N", "params", "Model Size"),
    "D": ("D", "records", "tokens"),
    "C": ("C", "flops", "Training FLOP"),
    "value": ("value", "loss", "L"),
}


def read_columns(path: Path | str) -> Columns:
    """Read a .csv file (comma, quotes as in RFC 4180, UTF-8 with or without a byte order mark) or a .parquet file.

    Raises:
        ValueError: another suffix, no text in UTF-8, no header, a name twice, a row longer than the header.
        OSError: the file cannot be opened.
    """
    path = Path(path)
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"{path}: a table to fit must end in .csv or .parquet, found {path.suffix or 'no suffix'!r}")
    return _read_csv(path) if path.suffix == ".csv" else _read_parquet(path)


def with_roles(columns: Mapping[str, npt.NDArray[Any]], roles: Mapping[str, str], path: Path | str) -> Columns:
    """Return the columns, and those that play a role under its name.

    Args:
        columns: Of the file.
        roles: {role: column}; N, D, C and value are looked for under their usual names ("Model Size", "Training FLOP",
            "loss", ...) where they are not given. Without D but with N and C, D = C / (6 N), the rule of thumb for
            dense models, and the column `DERIVED` says so.
        path: Of the file, for messages.

    Raises:
        ValueError: a named column is not there.
    """
    table = dict(columns)
    for role, column in roles.items():
        if column not in table:
            raise ValueError(f"{path}: no column {column!r} for {role}; it has {', '.join(table)}")
    for role, aliases in (dict.fromkeys(roles, ()) | ALIASES).items():
        names = [roles[role]] if role in roles else [a for a in aliases if a in table]
        if names:
            table[role] = columns[names[0]]
    if "D" not in table and {"N", "C"} <= table.keys():
        table["D"] = numbers(table["C"], "C") / (6 * numbers(table["N"], "N"))
        table[DERIVED] = np.ones(len(table["D"]), bool)
    return table


def numbers(column: Any, name: str) -> npt.NDArray[np.float64]:
    """Return a column [row] as float64.

    Raises:
        ValueError: it holds what is no number.
    """
    try:
        return np.asarray(column, np.float64)
    except (TypeError, ValueError):
        strange = next(v for v in np.asarray(column, object) if isinstance(v, str) or np.ndim(v))
        raise ValueError(f"column {name!r} must hold numbers, found {strange!r}") from None


def _read_csv(path: Path) -> Columns:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            head = next(lines, [])
            rows = [(lines.line_num, row) for row in lines if row]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text (byte {error.start}); save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{path}: line {lines.line_num}: {error}") from None
    if not head:
        raise ValueError(f"{path} is empty; its first line must name the columns")
    if len(head) == 1 and (other := next((c for c in ";\t|" if c in head[0]), None)):
        raise ValueError(f"{path}: fields must be separated by commas, found {other!r} in the header")
    if twice := [name for name in head if head.count(name) > 1]:
        raise ValueError(f"{path}: two columns are called {twice[0]!r}; give each a name of its own")
    if long := [line for line, row in rows if len(row) > len(head)]:
        raise ValueError(f"{path}: line {long[0]} has more fields than the {len(head)} of the header")
    whole = (row + [""] * (len(head) - len(row)) for _, row in rows)
    cells = list(zip(*whole, strict=True)) or [()] * len(head)
    return {name: _typed(column) for name, column in zip(head, cells, strict=True)}


def _typed(cells: tuple[str, ...]) -> npt.NDArray[Any]:
    """Return whole numbers, else numbers, else the texts; `float` alone would read 1_000 as a number."""
    known = [cell.strip().lower() not in MISSING for cell in cells]
    if not any("_" in cell for cell in cells):
        for kind in (int, float) if all(known) else (float,):
            try:
                return np.array([kind(c) if k else np.nan for c, k in zip(cells, known, strict=True)], kind)
            except (ValueError, OverflowError):
                continue
    return np.array([c if k else np.nan for c, k in zip(cells, known, strict=True)], object)


def _read_parquet(path: Path) -> Columns:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is no Parquet file: {error}") from None
    return {name: _plain(column) for name, column in zip(table.column_names, table.columns, strict=True)}


def _plain(column: Any) -> npt.NDArray[Any]:
    from pyarrow import types

    values = column.cast(column.type.value_type) if types.is_dictionary(column.type) else column
    found: npt.NDArray[Any] = values.to_numpy()
    if found.dtype == object:
        found = np.array([np.nan if v is None else v for v in found], object)
    return found
