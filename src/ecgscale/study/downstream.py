"""Whether lower loss on the own objective goes with lower loss on a task, family by family, from a study's table.

Only objectives whose loss can be compared between runs enter, and losses in nats with all labels. Seeds of a cell are
averaged before ranks are taken: they are no new points of the grid.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from ecgscale.fitting.rank_correlation import rank_correlation
from ecgscale.study.fits import PRETEXT, select

FEWEST = 3  # cells: two have an order whatever they measure
_FAMILY = ["backbone", "objective", "pretrain"]
_PLACE = ["eval_corpus", "task", "protocol", "split"]


def downstream_of(table: pd.DataFrame) -> dict[str, Any]:
    """Return the rank correlation of the own held-out loss with that of every task, as plain data.

    Args:
        table: The study's table.

    Returns:
        `rows` (backbone, objective, pretrain, eval_corpus, task, protocol, split; rho, lo, hi: None where there is
        none; n: cells of size and D) and `points` (the same names; run, N, D, own, value, lo, hi: every run) of
        families with three cells or more; {} where there is none with both losses.
    """
    rows = select(table)
    own = rows[rows["task"] == PRETEXT].set_index("run")["value"].rename("own")
    tasks = rows[(rows["task"] != PRETEXT) & (rows["unit"] == "nats") & (rows["label_fraction"] == 1)]
    points = tasks.join(own, on="run", how="inner")
    points = points[points.groupby(_FAMILY)["cell"].transform("nunique") >= FEWEST]
    if points.empty:
        return {}
    found = []
    for keys, here in points.groupby([*_FAMILY, *_PLACE], sort=False):
        cells = here.groupby("cell")[["own", "value"]].mean()
        numbers = rank_correlation(cells["own"], cells["value"])._asdict()
        named = dict(zip([*_FAMILY, *_PLACE], keys, strict=True))
        found.append(named | {k: None if math.isnan(v) else v for k, v in numbers.items()})
    columns = [*_FAMILY, *_PLACE, "run", "N", "D", "own", "value", "lo", "hi"]
    return {"rows": found, "points": points[columns].to_dict("records")}
