"""How alike the models are: a map of CKA, its table, and a sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ecgscale.reporting.figures import WIDTH_IN, Drawn, heading, to_svg
from ecgscale.reporting.style import ALERT, INK, count, missing

CELL_IN = 0.36
BLUE = "#0072b2"


def names(similar: dict[str, Any]) -> list[str]:
    """Return what the figure calls the models: family, size, and the seed where there are several."""
    several = {m["seed"] for m in similar["models"]} != {0}
    return [
        f"{m['backbone']} {m['objective']} {count(m['size'])}" + (f" seed {m['seed']}" if several else "")
        for m in similar["models"]
    ]


def frame_of(similar: dict[str, Any]) -> pd.DataFrame:
    """Return a row for every pair of models."""
    called = names(similar)
    rows = [
        {"panel": "similarity", "kind": "pair", "drawn": "point", "a": a, "b": b, "value": value}
        for a, row in zip(called, similar["values"], strict=True)
        for b, value in zip(called, row, strict=True)
    ]
    return pd.DataFrame(rows)


def caption_of(similar: dict[str, Any]) -> str:
    """Return what the map shows."""
    setting = similar["setting"]
    left = f" {setting['missing']} models have left no features." if setting["missing"] else ""
    return (
        f"Linear CKA without bias between the features that the probes saw, of the same {setting['records']:,} records "
        f"of {setting['corpus']}: 1 where two models' features differ by rotation, scale and shift only, 0 where they "
        f"have nothing in common. Trained models at D = {setting['D']:,}, smallest and largest size.{left}"
    )


def sentences(similar: dict[str, Any]) -> list[str]:
    """Return a finding: models of one family against models of two; nothing without both."""
    if not similar.get("models"):
        return []
    models = similar["models"]
    family = [(m["backbone"], m["objective"]) for m in models]
    trained = [i for i, m in enumerate(models) if m["objective"] not in ("random", "external")]
    pairs = [(i, j) for i in trained for j in trained if i < j]
    value = similar["values"]
    within = [value[i][j] for i, j in pairs if family[i] == family[j] and not missing(value[i][j])]
    across = [value[i][j] for i, j in pairs if family[i] != family[j] and not missing(value[i][j])]
    if not within or not across:
        return []
    return [
        f"Features of two models of one family (other size or seed) have a median CKA of {np.median(within):.2f}, of "
        f"two families {np.median(across):.2f} ({len(within)} and {len(across)} pairs, "
        f"{similar['setting']['records']:,} records of {similar['setting']['corpus']})."
    ]


def draw(similar: dict[str, Any], *, salt: str, stamp: str) -> Drawn:
    """Draw the map.

    Args:
        similar: What `study.similar.similar` returns.
        salt: Makes identifiers inside the SVG unique and constant.
        stamp: Written into the panel, e.g. "simulated ECG"; empty for none.
    """
    called, values = names(similar), similar["values"]
    left, side = 0.2 + 0.075 * max(map(len, called)), CELL_IN * len(called)
    below, height = 0.2 + 0.075 * max(map(len, called)), CELL_IN * len(called) + 0.6

    def paint(figure: Figure) -> None:
        x, y = figure.get_size_inches()
        axes = figure.add_axes((left / x, below / y, side / x, side / y))
        heading(axes, "linear CKA", "")
        where: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
        axes.annotate(stamp, (1, 1), (0, 16), **where, fontsize=8, fontweight="bold", color=ALERT, ha="right")
        _map(axes, called, values)

    return Drawn(to_svg(paint, max(WIDTH_IN, left + side + 0.3), height + below, salt), frame_of(similar))


def _map(axes: Axes, called: list[str], values: list[list[float]]) -> None:
    from matplotlib.patches import Rectangle

    for i, row in enumerate(values):
        for j, value in enumerate(row):
            if missing(value):
                continue
            strength = round(0.75 * min(max(float(value), 0.0), 1.0), 3)
            axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=BLUE, alpha=strength, linewidth=0))
            axes.text(j, i, f"{value:.2f}".replace("-", "−"), ha="center", va="center", fontsize=7, color=INK)
    axes.set_xlim(-0.5, len(called) - 0.5)
    axes.set_ylim(len(called) - 0.5, -0.5)
    axes.set_xticks(range(len(called)), labels=called, rotation=90)
    axes.set_yticks(range(len(called)), labels=called)
    axes.tick_params(length=0, labelcolor=INK, labelsize=8)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
