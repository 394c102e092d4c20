"""The figure of architecture and objective: a forest of main effects, a map of interactions, shares of variance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ecgscale.reporting import figures
from ecgscale.reporting.effects import MEAN
from ecgscale.reporting.figures import WIDTH_IN, Drawn, heading, to_svg
from ecgscale.reporting.rows import groups, records_of
from ecgscale.reporting.style import ALERT, INK, MUTED, RULE, Mark, marks, missing

MOST_ROWS = 14
ROOM_IN = 1.15  # width of a cell of the map that holds its interval
_FACTORS = ("backbone", "objective")


def draw(frame: pd.DataFrame, *, salt: str, stamp: str) -> list[Drawn]:
    """Draw the effects of backbone and objective; more figures follow where there are many tasks.

    Args:
        frame: What `effects.frame_of` returns.
        salt: Makes identifiers inside the SVG unique and constant; the parts add their number.
        stamp: Written into every panel, e.g. "simulated ECG"; empty for none.

    Returns:
        The first picture has the heat map of interactions and the shares, the others further tasks.
    """
    main, rest = frame[frame["factor"].isin(_FACTORS)], frame[~frame["factor"].isin(_FACTORS)]
    rows = list(dict.fromkeys(main["row"]))
    parts = [rows[i : i + MOST_ROWS] for i in range(0, len(rows), MOST_ROWS)]
    levels = {factor: list(dict.fromkeys(main.loc[main["factor"] == factor, "family"])) for factor in _FACTORS}
    look = marks([name for names in levels.values() for name in names])
    out = []
    for i, part in enumerate(parts):
        here = main[main["row"].isin(part)]
        below = rest if i == 0 else rest.iloc[:0]
        name = salt if len(parts) == 1 else f"{salt}-{i + 1}"
        drawn = pd.concat([here, below], ignore_index=True).assign(drawn="point")
        out.append(Drawn(_picture(here, below, part, levels, look, name, stamp), drawn))
    return out


def _picture(
    main: pd.DataFrame, rest: pd.DataFrame, rows: list[str], levels: dict[str, list[str]], look: dict[str, Mark],
    salt: str, stamp: str,
) -> str:  # fmt: skip
    most = max(len(names) for names in levels.values())
    top, forest = 0.95, len(rows) * max(0.42, 0.1 * most + 0.12)
    lower = 0.0 if rest.empty else 1.2 + max(1.3, 0.48 * len(levels["backbone"]))
    height = top + forest + 0.5 + lower
    left = 0.2 + 0.068 * max(len(row) for row in rows)
    panels = list(dict.fromkeys(main["panel"]))
    span = _span(main)

    def paint(figure: Figure) -> None:
        width = (WIDTH_IN - left - 0.2 - 0.25 * (len(panels) - 1)) / len(panels)
        for i, panel in enumerate(panels):
            axes = _axes(figure, left + i * (width + 0.25), top, width, forest)
            here = main[main["panel"] == panel]
            _forest(axes, here, rows, levels[here["factor"].iloc[0]], look)
            axes.set_xlim(*span)
            axes.tick_params(axis="y", labelleft=i == 0)
            _title(axes, panel, stamp)
        for i, factor in enumerate(_FACTORS):
            _legend(figure, factor, levels[factor], look, 1 - (0.03 + 0.21 * i) / height)
        if not rest.empty:
            _lower(figure, rest, levels, top + forest + 1.15, lower - 1.2, stamp)

    return to_svg(paint, WIDTH_IN, height, salt)


def _span(main: pd.DataFrame) -> tuple[float, float]:
    """One range for all panels, so that a backbone's effect can be held against an objective's."""
    values = main[["value", "lo", "hi"]].to_numpy(float)
    low, high = min(np.nanmin(values), 0.0), max(np.nanmax(values), 0.0)
    room = 0.06 * (high - low) or 1e-3
    return low - room, high + room


def _title(axes: Axes, panel: str, stamp: str) -> None:
    """The panel's name, and the stamp on its line: the second line is too long to share."""
    heading(axes, panel, "")
    where: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(stamp, (1, 1), (0, 16), **where, fontsize=8, fontweight="bold", color=ALERT, ha="right")


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes whose upper left corner lies at (left, top), in inches."""
    x, y = figure.get_size_inches()
    return figure.add_axes((left / x, 1 - (top + height) / y, width / x, height / y))


def _forest(axes: Axes, frame: pd.DataFrame, rows: list[str], names: list[str], look: dict[str, Mark]) -> None:
    offset = dict(zip(names, np.linspace(-0.32, 0.32, len(names)), strict=True))
    place = {row: i for i, row in enumerate(rows)}
    for (name, told), here in groups(frame, ["family", "told"]):
        y, mark = here["row"].map(place).to_numpy(float) + offset[name], look[name]
        fill: dict[str, Any] = {"markerfacecolor": mark.colour if told else "none", "markeredgewidth": 1.1}
        axes.hlines(y, here["lo"], here["hi"], color=mark.colour, linewidth=1.3, alpha=0.8 if told else 0.4)
        axes.plot(here["value"], y, marker=mark.marker, color=mark.colour, markersize=5, linestyle="", **fill)
    axes.axvline(0, color=INK, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1)
    axes.set_yticks(range(len(rows)), labels=rows)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(visible=False, axis="y")
    means = set(frame.loc[frame["level"] == MEAN, "row"])
    for label in axes.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() in means else "normal")
    for y in range(1, len(rows)):
        after_mean = rows[y - 1] in means
        axes.axhline(y - 0.5, color=MUTED if after_mean else RULE, linewidth=1.0 if after_mean else 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("nats; left of zero: better")


def _legend(figure: Figure, factor: str, names: list[str], look: dict[str, Mark], y: float) -> None:
    def handle(name: str) -> Line2D:
        return Line2D([], [], color=look[name].colour, marker=look[name].marker, linestyle="", markersize=6, label=name)

    handles = [Line2D([], [], linestyle="", label=f"{factor}:"), *map(handle, names)]
    figure.legend(handles=handles, ncols=len(handles), loc="upper left", bbox_to_anchor=(0, y), borderaxespad=0,
                  borderpad=0, handletextpad=0.3, columnspacing=1.4, handlelength=1.2)  # fmt: skip


def _lower(
    figure: Figure, rest: pd.DataFrame, levels: dict[str, list[str]], top: float, height: float, stamp: str
) -> None:
    names = 0.2 + 0.075 * max(len(name) for name in levels["backbone"])
    cells, shares = rest[rest["factor"] == "interaction"], rest[rest["factor"] == "share"]
    axes = _axes(figure, names, top, 6.2 - names, height)
    _map(axes, cells, levels, roomy=6.2 - names >= ROOM_IN * len(levels["objective"]))
    _title(axes, cells["panel"].iloc[0], stamp)
    axes = _axes(figure, 7.45, top, WIDTH_IN - 7.45 - 0.3, height)
    _shares(axes, shares)
    _title(axes, shares["panel"].iloc[0], stamp)


def _map(axes: Axes, cells: pd.DataFrame, levels: dict[str, list[str]], *, roomy: bool) -> None:
    """Blue: a lower loss than the parts say; orange: a higher one; bold: the interval lies apart from zero."""
    worse, better = "#d55e00", "#0072b2"
    most = float(cells["value"].abs().max()) or 1.0
    places = 3 if most >= 0.05 else 4

    def write(value: float) -> str:
        return f"{value:.{places}f}".replace("-", "−")

    for r in records_of(cells):
        backbone, _, objective = str(r["name"]).partition(" × ")
        x, y = levels["objective"].index(objective), levels["backbone"].index(backbone)
        colour = better if r["value"] < 0 else worse
        alpha = round(0.6 * abs(r["value"]) / most, 3)
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, alpha=alpha, linewidth=0))
        weight = "bold" if r["told"] else "normal"
        room = roomy and not missing(r["lo"])
        axes.text(x, y - 0.14 * room, write(r["value"]), ha="center", va="center", fontsize=9, fontweight=weight)
        if room:
            limits = f"{write(r['lo'])} to {write(r['hi'])}"
            axes.text(x, y + 0.2, limits, ha="center", va="center", fontsize=7, color=INK)
    figures.cells(axes, levels["backbone"], levels["objective"])


def _shares(axes: Axes, shares: pd.DataFrame) -> None:
    y = np.arange(len(shares))
    axes.hlines(y, shares["lo"], shares["hi"], color=INK, linewidth=1.3, alpha=0.8)
    axes.plot(shares["value"], y, marker="o", color=INK, markersize=5, linestyle="")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(len(shares) - 0.4, -0.6)
    axes.set_yticks(y, labels=list(shares["name"]))
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(visible=False, axis="y")
    axes.set_xticks([0, 0.5, 1])
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
