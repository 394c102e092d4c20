"""The figure of how alike the models are: a map of CKA."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ecgscale.reporting.figures import WIDTH_IN, Drawn, cells, heading, to_svg
from ecgscale.reporting.similar import frame_of, names
from ecgscale.reporting.style import INK, missing

CELL_IN = 0.36
BLUE = "#0072b2"


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
        heading(axes, "linear CKA", stamp)
        _map(axes, called, values)

    return Drawn(to_svg(paint, max(WIDTH_IN, left + side + 0.3), height + below, salt), frame_of(similar))


def _map(axes: Axes, called: list[str], values: list[list[float]]) -> None:
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            if missing(value):
                continue
            strength = round(0.75 * min(max(float(value), 0.0), 1.0), 3)
            axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=BLUE, alpha=strength, linewidth=0))
            axes.text(j, i, f"{value:.2f}".replace("-", "−"), ha="center", va="center", fontsize=7, color=INK)
    cells(axes, called, called, rotation=90)
    axes.tick_params(labelsize=8)
