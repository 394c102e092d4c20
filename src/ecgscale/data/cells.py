"""What stands in a cell of a table: a number or a yes, or one sentence saying that it is neither."""

from __future__ import annotations

from typing import Any

_YES = {1: 1.0, "true": 1.0, "1": 1.0, "1.0": 1.0, 0: 0.0, "false": 0.0, "0": 0.0, "0.0": 0.0}


def number(column: str, value: Any) -> float | None:
    """Return the number of a cell, None of an empty one.

    Raises:
        ValueError: it is something else.
    """
    if value is None or value != value:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f'the {column} is "{value}"; expected a number') from None


def flag(column: str, value: Any) -> float:
    """Return 1 or 0, NaN of an empty cell; one odd word in a column turns all of its cells into text.

    Raises:
        ValueError: it is something else.
    """
    if value is None or value != value:
        return float("nan")
    key = value.strip().lower() if isinstance(value, str) else value
    if key not in _YES:
        raise ValueError(f'{column} is "{value}"; expected 0, 1, True, False or nothing')
    return _YES[key]
