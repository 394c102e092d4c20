"""What the packaged published exponents say: splits of compute, gains and transfer, but no loss.

The papers' coefficients (E, A, B) stand nowhere that could be read, so families cannot be ranked by an expected loss
from them; what follows from exponents alone is given, every number with its source and grade (`reference`).
"""

from __future__ import annotations

from typing import Any

from ecgscale.answers.families import AdviceError
from ecgscale.reference import published

STUDY = "2605.17276"
SAYS = {
    "alpha": "exponent of parameters",
    "beta": "exponent of records",
    "kappa": "exponent of the transfer from in-distribution to out-of-distribution loss",
    "data_share": "share of the next unit of log compute that belongs to records",
    "model_share": "share of the next unit of log compute that belongs to parameters",
    "equal_gain": "growth of the first family that equals a tenfold growth of the second",
    "alpha_ratio": "ratio of the exponents of parameters",
    "beta_ratio": "ratio of the exponents of records",
    "kappa_ratio": "ratio of the exponents of transfer",
}


def exponents(task: str | None = None) -> list[dict[str, Any]]:
    """Return the published exponents, splits, gains and ratios of a task, each with what it says, source and grade.

    Args:
        task: One of the published tasks; None for all.

    Raises:
        AdviceError: nothing was published on the task.
    """
    table = published(STUDY)
    table = table[table["quantity"].isin(SAYS)]
    tasks = sorted(table["task"].unique())
    if task is not None and task not in tasks:
        raise AdviceError(f"nothing was published on the task {task!r}; choose one of {', '.join(tasks)}")
    rows = table if task is None else table[table["task"] == task]
    columns = ["quantity", "family", "task", "value", "source", "grade"]
    found: list[dict[str, Any]] = rows[columns].to_dict("records")  # type: ignore[assignment]  # keys are strings
    return [{**row, "says": SAYS[row["quantity"]]} for row in found]
