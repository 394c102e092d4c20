"""Several forms of law on the same points, by the error on larger levels and by information criteria.

AIC = n log(SS / n) + 2 k with squared residuals of log loss and k parameters, the error variance among them; AICc adds
2 k (k + 1) / (n - k - 1), BIC has k log n in the place of 2 k. They judge the curve inside the points; the rollout
judges what a scaling law is for.

Source: Akaike 1974; Hurvich & Tsai 1989, Biometrika 76:297 (AICc); Schwarz 1978 (BIC).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ecgscale.fitting.engine import optimise
from ecgscale.fitting.points import problem_of
from ecgscale.fitting.profile import least_squares
from ecgscale.fitting.stability import rollout
from ecgscale.laws import Law
from ecgscale.laws.broken import Broken
from ecgscale.laws.kaplan import Kaplan
from ecgscale.laws.power import Power
from ecgscale.laws.saturation import Saturation
from ecgscale.laws.scaling import Scaling

Forms = Mapping[str, tuple[Law, float | None]]  # name: the law and the floor it is held at


def usual_forms(*inputs: str) -> Forms:
    """Return the forms worth comparing for ("N", "D"), or for one of "N", "D", "seen".

    Raises:
        ValueError: other inputs.
    """
    if set(inputs) == {"N", "D"}:
        return {"scaling": (Scaling(), None), "scaling, no floor": (Scaling(), 0.0), "kaplan": (Kaplan(), None)}
    if len(inputs) == 1 and inputs[0] in ("N", "D", "seen"):
        laws = {c.part_name(): c.parse({"input": inputs[0]}) for c in (Power, Saturation, Broken)}
        return {**{name: (law, None) for name, law in laws.items()}, "power, no floor": (laws["power"], 0.0)}
    raise ValueError(f"no usual forms for the inputs {', '.join(inputs)}; they are N and D, or one of N, D, seen")


def compare_forms(frame: pd.DataFrame, forms: Forms, output: str = "value") -> pd.DataFrame:
    """Fit each form to the same rows, by least squares of log loss.

    Args:
        frame: Rows with the columns of all forms.
        forms: {name: (law, floor)}, e.g. `usual_forms("N", "D")`.
        output: The column of the loss.

    Returns:
        A row per form, the one that predicts best first: form, parameters, n, error (mean of the rollout's errors, the
        next larger level predicted from those below; NaN without enough levels), largest (the error at the largest
        levels), aic, aicc, bic (each less the smallest).

    Raises:
        ValueError: as `fit`.
    """
    columns = sorted({name for law, _ in forms.values() for name in law.inputs})
    rows = frame[np.isfinite(frame[[*columns, output]].to_numpy(np.float64)).all(axis=1)]
    table = pd.DataFrame([{"form": name, **_judge(law, rows, output, floor)} for name, (law, floor) in forms.items()])
    for criterion in ("aic", "aicc", "bic"):
        table[criterion] -= table[criterion].min()
    return table.sort_values("error", kind="stable").reset_index(drop=True)


def _judge(law: Law, frame: pd.DataFrame, output: str, floor: float | None) -> dict[str, Any]:
    squares = least_squares(problem_of(law, frame, output, floor)[0])
    best = optimise(squares, starts=16)
    n, k = len(squares.y), len(squares.names) - (squares.held is not None) + 1
    fit = n * np.log(max(2 * float(squares.value(best.z, squares.y / squares.scale)), 1e-300) / n)
    ahead = rollout(squares, best)
    last = ahead.groupby("input")["error"].last()
    return {
        "parameters": k - 1,
        "n": n,
        "error": float(ahead["error"].mean()) if len(ahead) else np.nan,
        "largest": float(last.mean()) if len(last) else np.nan,
        "aic": fit + 2 * k,
        "aicc": fit + 2 * k + (2 * k * (k + 1) / (n - k - 1) if n > k + 1 else np.inf),
        "bic": fit + k * np.log(n),
    }
