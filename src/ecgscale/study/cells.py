"""The runs of a family that enter its laws, from the arms of a study as they are stored. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def cells_of(arms: Iterable[Mapping[str, Any]], family: str) -> tuple[list[float], list[float]]:
    """Return the N asked for and the D of every run of a family that enters its laws, seeds repeated.

    Args:
        arms: Dumps of `Arm`.
        family: `<backbone>-<objective>`.
    """
    runs = [
        (float(size), float(records))
        for arm in arms
        if arm["fit"] and (not arm["families"] or family in arm["families"])
        for size in arm["sizes"]
        for records in arm["records"]
        for _ in (*arm["seeds"], *(arm["extra_seeds"] if size in arm["extra_sizes"] else ()))
    ]
    return [n for n, _ in runs], [d for _, d in runs]
