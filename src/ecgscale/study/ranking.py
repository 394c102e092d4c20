"""The families of a study in order, over all its tasks together: read from the lab (`fitting.ranking`).

One setting enters: the arm, size and D at which the most families are measured; of equal ones the largest size, then
the largest D. Scores are means over held-out records of tasks out of distribution (of all, where a study has none).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ecgscale.fitting.ranking import ranking
from ecgscale.lab import Lab
from ecgscale.study.compared import SCORES, cells_of, compared, scored
from ecgscale.study.plan import Plan


def ranking_of(plan: Plan, lab: Lab, seed: int = 0) -> dict[str, Any]:
    """Return the order of the families as plain data, or {} where no two of them can be compared.

    Args:
        plan: The study's plan.
        lab: Where results stand.
        seed: Of the bootstrap, which draws `study.resamples` times.

    Returns:
        `setting` (arm, pretrain, target, D, split, tasks, and missing: runs not measured on every task) and `rows`
        (backbone, objective, value, lo, hi, rank, best, worst, n_seeds, n_patients; gain, gain_lo, gain_hi: the loss
        minus that of random weights of its size).
    """
    found = compared(plan, lab, lambda runs: len(set(cells_of(runs))))
    cells = cells_of([p for p, _ in found.pairs])
    if len(set(cells)) < 2:
        return {}
    names = ["\n".join(cell) for cell in cells]
    gain, loss = (
        {r.name: r for r in ranking(names, scored(lab, found.pairs, found.tasks, score), plan.study.resamples, seed)}
        for score in SCORES
    )
    rows = []
    for name, ranked in loss.items():
        backbone, objective = name.split("\n")
        numbers = {key: value for key, value in asdict(ranked).items() if key != "name"}
        g = gain[name]
        rows.append({"backbone": backbone, "objective": objective, **numbers,
                     "gain": g.value, "gain_lo": g.lo, "gain_hi": g.hi})  # fmt: skip
    return {"setting": found.setting | {"tasks": len(found.tasks), "missing": found.missing}, "rows": rows}
