"""Tables on a terminal or in a file, and JSON that any reader accepts."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def print_whole(grid: Table) -> None:
    """Print a table without cutting a cell: as wide as it is in a file or pipe, folded in a narrow terminal."""
    for column in grid.columns:
        column.overflow = "fold"
    out = Console(highlight=False)
    wide = Console(highlight=False, width=10_000)
    out.width = out.width if out.is_terminal else max(out.width, wide.measure(grid).maximum)
    out.print(grid)


def print_json(value: Any) -> None:
    """Print JSON data; a number that is not finite is null."""
    print(json.dumps(finite(value), indent=1))


def finite(value: Any) -> Any:
    """Return JSON data for plain, NumPy and pandas values: null for what is missing or not finite, else the text of
    what JSON does not know."""
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if hasattr(value, "tolist"):  # arrays and numbers of NumPy, series
        return finite(value.tolist())
    return None if str(value) in ("<NA>", "NaT") else str(value)  # of pandas, which is not imported for them


def between(lo: float, hi: float, form: str = ".3g") -> str:
    """Return `[lo, hi]`, or that no interval is known."""
    return f"[{lo:{form}}, {hi:{form}}]" if math.isfinite(lo) and math.isfinite(hi) else "(no interval)"


def print_fits(dumps: Sequence[dict[str, Any]], as_json: bool, out: Path | None = None) -> None:
    """Print dumped fits as a table or as JSON without their samples, or write them, samples and all, to a file."""
    if out is not None:
        out.write_text(json.dumps(finite(list(dumps)), indent=1))
        print(f"{len(dumps)} fits written to {out}")
        return
    if as_json:
        print(json.dumps([{k: v for k, v in d.items() if k != "samples"} for d in dumps], indent=1))
        return
    grid = Table("law", "family", "on", "status", "verdict", "parameters [95 % interval]")
    for d in dumps:
        values = "  ".join(f"{k} {v:.4g}{_interval(d['intervals'].get(k))}" for k, v in d["params"].items())
        grid.add_row(d.get("law_name", d["law"]["name"]), d.get("family", ""),
                     f"{d.get('eval_corpus', '')} {d.get('task', '')}", d["status"], d.get("verdict", ""),
                     values)  # fmt: skip
    print_whole(grid)


def _interval(pair: Sequence[float] | None) -> str:
    return f" [{pair[0]:.3g}, {pair[1]:.3g}]" if pair else ""
