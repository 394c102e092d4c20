"""Published numbers with where they stand and how sure that is: `published.csv`, one value a row.

Columns: study (an arXiv number), quantity, family (of a ratio: numerator/denominator), task, value, unit ("" for a pure
number), source, grade. Families of arXiv:2605.17276 carry this project's names (`beat_transformer-masked_beats` is its
Transformer-SSL, `resnet1d-cmsc` its ResNet-SSL), other models their own.

Grades:
    P: the paper's abstract, or a fragment of its text.
    B: second hand but exact: a public account that quotes the full paper, or the authors' released result files.
    I, D: arithmetic on the others; a check of formulae, no evidence.

Not here because the papers state them nowhere that could be read: exponents per task, intervals, crossing points.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("study", "quantity", "family", "task", "value", "unit", "source", "grade")


@cache
def _table() -> pd.DataFrame:
    import pandas as pd  # here, so that listing the package stays quick

    with resources.files(__name__).joinpath("published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False, dtype={"study": str, "family": str, "task": str})


def published(
    study: str | None = None, quantity: str | None = None, family: str | None = None, task: str | None = None
) -> pd.DataFrame:
    """Return the published values that match [row, COLUMNS]; None matches everything, no match gives no row."""
    table = _table()
    for column, wanted in (("study", study), ("quantity", quantity), ("family", family), ("task", task)):
        if wanted is not None:
            table = table[table[column] == wanted]
    return table.reset_index(drop=True)
