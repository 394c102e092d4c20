"""The figures of how alike models and their layers are: maps of CKA."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ecgscale.reporting.figures import WIDTH_IN, Drawn, cells, heading, to_svg
from ecgscale.reporting.similar import frame_of, layers_frame_of, names
from ecgscale.reporting.style import INK, count, missing

CELL_IN = 0.36
SIDE_IN, GAP_IN = 1.9, 0.5  # of a map of layers
NUMBER_IN = 0.25  # a cell that a number fits into
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


def draw_layers(similar: dict[str, Any], *, salt: str, stamp: str) -> Drawn:
    """Draw a map of layers for every model, some beside each other; arguments as of `draw`."""
    models = similar["layers"]
    side = SIDE_IN + GAP_IN
    columns = max(1, int((WIDTH_IN - 0.2) / side))
    lines = -(-len(models) // columns)
    height = lines * (side + 0.35) + 0.1

    def paint(figure: Figure) -> None:
        x, y = figure.get_size_inches()
        for i, model in enumerate(models):
            left, top = 0.35 + (i % columns) * side, 0.45 + (i // columns) * (side + 0.35)
            axes = figure.add_axes((left / x, (y - top - SIDE_IN) / y, SIDE_IN / x, SIDE_IN / y))
            heading(axes, f"{model['backbone']} {count(model['size'])}\n{model['objective']}", stamp)
            layers = [str(k) for k in range(len(model["values"]))]
            _map(axes, layers, model["values"], numbers=SIDE_IN / len(layers) >= NUMBER_IN)

    return Drawn(to_svg(paint, WIDTH_IN, height, salt), layers_frame_of(similar))


def _map(axes: Axes, called: list[str], values: list[list[float]], numbers: bool = True) -> None:
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            if missing(value):
                continue
            strength = round(0.75 * min(max(float(value), 0.0), 1.0), 3)
            axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=BLUE, alpha=strength, linewidth=0))
            if numbers:
                axes.text(
                    j,
                    i,
                    f"{round(value, 2) + 0.0:.2f}".replace("-", "−"),
                    ha="center",
                    va="center",
                    fontsize=7,
                    color=INK,
                )
    cells(axes, called, called, rotation=0 if max(map(len, called)) < 3 else 90)
    axes.tick_params(labelsize=8 if numbers else 5)
