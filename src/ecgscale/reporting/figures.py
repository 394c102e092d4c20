"""Figures as pure functions: a frame goes in, an SVG and the frame it drew come out.

The SVG is the same for the same frame: fixed identifiers, no date, no font files. Text stays text, so it can be read aloud and searched.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from ecgscale.reporting.style import ALERT, HANDCRAFTED, INK, MUTED, RANDOM, RULE, Mark, count, marks

WIDTH_IN = 10.0
MOST_PANELS = 12
_RC = {
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}


class Drawn(NamedTuple):
    """A picture and the frame it drew: its column `drawn` says what a row became (point, curve, line)."""

    svg: str
    frame: pd.DataFrame


def curves(
    points: pd.DataFrame,
    fitted: pd.DataFrame,
    lines: pd.DataFrame,
    *,
    salt: str,
    stamp: str,
    x_label: str,
    y_label: str,
    order: list[str] | None = None,
    shared_x: bool = True,
) -> Drawn:
    """Draw small multiples of a value against a quantity on a log axis, with fitted curves, bands and reference lines.

    Args:
        points: Columns panel ("task" newline "corpus"), family, x, value, lo, hi, full; points that are not `full`
            (a smaller setting of the other axis) are drawn faint. Other columns go into the frame unchanged.
        fitted: Columns panel, family, x, value, lo, hi, told, E; a curve that does not tell is drawn dotted, without band.
        lines: Columns panel, label, kind (floor, random or handcrafted), value: horizontal references.
        salt: Makes identifiers inside the SVG unique and constant.
        stamp: Written into every panel, e.g. "simulated ECG"; empty for none.
        x_label, y_label: Axis labels with units.
        order: Families that get a colour, in case the points hold fewer.
        shared_x: x is a count (ticks 18.4K), else a loss.

    Raises:
        ValueError: no points, or more than `MOST_PANELS` panels.
    """
    panels = list(dict.fromkeys(points["panel"]))
    if not 0 < len(panels) <= MOST_PANELS:
        raise ValueError(f"figure {salt}: {len(panels)} panels, expected 1 to {MOST_PANELS}")
    look = marks(order or list(points["family"].unique()))

    def paint(figure: Figure) -> None:
        columns = _columns(len(panels))
        grid = figure.subplots(math.ceil(len(panels) / columns), columns, squeeze=False).ravel()
        for axes, panel in zip(grid, panels, strict=False):
            here, fits, refs = (frame[frame["panel"] == panel] for frame in (points, fitted, lines))
            _curve_panel(axes, here, fits, refs, look, count_axis=shared_x)
            _heading(axes, panel, stamp)
            axes.set_xlabel(x_label)
            axes.set_ylabel(y_label)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        _legend(figure, [f for f in look if (points["family"] == f).any()], look, lines, fitted)

    height = 0.55 + 2.75 * math.ceil(len(panels) / _columns(len(panels)))
    width = WIDTH_IN if len(panels) > 1 else 6.5
    drawn = {"point": points, "curve": fitted, "line": lines}
    frames = [frame.assign(drawn=name) for name, frame in drawn.items() if len(frame)]
    return Drawn(_svg(paint, width, height, salt), _stack(frames))


def forest(frame: pd.DataFrame, *, salt: str, stamp: str, x_labels: dict[str, str], zero: bool = False) -> Drawn:
    """Draw estimates with intervals: one panel per column, one line per row, one mark per family.

    Args:
        frame: Columns panel, row, family (or a baseline's name), kind (grid, random or handcrafted), value, lo, hi, told.
            What does not tell is drawn hollow.
        salt, stamp: As in `curves`.
        x_labels: Axis label of every panel.
        zero: Draw a line at zero.

    Raises:
        ValueError: an empty frame.
    """
    if frame.empty:
        raise ValueError(f"figure {salt}: nothing to draw, expected at least one estimate")
    series = frame[["kind", "family"]].drop_duplicates()
    look = marks(list(series.loc[series["kind"] == "grid", "family"]))
    for kind, name in series[series["kind"] != "grid"].itertuples(index=False):
        look[name] = RANDOM if kind == "random" else HANDCRAFTED
    panels, rows = list(dict.fromkeys(frame["panel"])), list(dict.fromkeys(frame["row"]))

    def paint(figure: Figure) -> None:
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False).ravel()
        for axes, panel in zip(grid, panels, strict=True):
            _forest_panel(axes, frame[frame["panel"] == panel], rows, look, zero=zero)
            _heading(axes, panel, stamp)
            axes.set_xlabel(x_labels.get(panel, ""))
        _legend(figure, list(look), look, pd.DataFrame(columns=["kind"]), pd.DataFrame(columns=["told"]))

    height = 1.25 + len(rows) * max(0.34, 0.085 * len(look) + 0.1)
    return Drawn(_svg(paint, WIDTH_IN, height, salt), frame.assign(drawn="point"))


def _columns(panels: int) -> int:
    return 2 if panels == 4 else min(3, panels)


def _curve_panel(
    axes: Axes, points: pd.DataFrame, fits: pd.DataFrame, refs: pd.DataFrame, look: dict[str, Mark], *, count_axis: bool
) -> None:
    for family, rows in points.groupby("family", sort=True):
        _points(axes, rows, look[family])
    for family, rows in fits.groupby("family", sort=True):
        _fit(axes, rows, look[family])
    styles = {"floor": ((0, (5, 3)), INK), "random": ((0, (1, 1.5)), RANDOM.colour), "handcrafted": ((0, (4, 1.5, 1, 1.5)), MUTED)}
    for row in refs.itertuples():
        dashes, colour = styles[row.kind]
        axes.axhline(row.value, linestyle=dashes, color=colour, linewidth=1.1, zorder=1.5)
    _scale(axes, points, fits, refs, count_axis=count_axis)


def _points(axes: Axes, rows: pd.DataFrame, mark: Mark) -> None:
    full = rows["full"].to_numpy(bool)
    for chosen, alpha, size in ((~full, 0.38, 4.0), (full, 1.0, 6.0)):
        part = rows[chosen]
        axes.plot(part["x"], part["value"], mark.marker, color=mark.colour, alpha=alpha, markersize=size, markeredgewidth=0, zorder=3)
    bars = rows[full & np.isfinite(rows["lo"].to_numpy(float)) & np.isfinite(rows["hi"].to_numpy(float))]
    axes.vlines(bars["x"], bars["lo"], bars["hi"], color=mark.colour, linewidth=0.9, alpha=0.7, zorder=2.5)


def _fit(axes: Axes, rows: pd.DataFrame, mark: Mark) -> None:
    if not rows["told"].all():
        axes.plot(rows["x"], rows["value"], linestyle=":", color=mark.colour, linewidth=1.1, alpha=0.75)
        return
    axes.plot(rows["x"], rows["value"], color=mark.colour, linewidth=1.6)
    axes.fill_between(rows["x"], rows["lo"], rows["hi"], color=mark.colour, alpha=0.14, linewidth=0)
    floor = rows["E"].iloc[0]
    if np.isfinite(floor):
        axes.plot([1.0], [floor], "<", color=mark.colour, markersize=6, transform=axes.get_yaxis_transform(), clip_on=False, zorder=4)


def _scale(axes: Axes, points: pd.DataFrame, fits: pd.DataFrame, refs: pd.DataFrame, *, count_axis: bool) -> None:
    values = np.concatenate([points["value"], refs["value"], fits.loc[fits["told"].astype(bool), "E"]]).astype(float)
    values = values[np.isfinite(values)]
    low, high = values.min(), values.max()
    if low > 0 and high / low > 3:
        axes.set_yscale("log")
        _log_ticks(axes, "y", low, high, lambda v: f"{v:g}")
        axes.set_ylim(low / (high / low) ** 0.08, high * (high / low) ** 0.08)
    else:
        pad = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
        axes.set_ylim(low - pad, high + pad)
        axes.yaxis.set_major_locator(MaxNLocator(5))
    x = points["x"].to_numpy(float)
    if x.min() > 0 and (count_axis or x.max() / x.min() > 3):
        axes.set_xscale("log")
        _log_ticks(axes, "x", x.min(), x.max(), count if count_axis else lambda v: f"{v:g}")
        room = max(1.12, (x.max() / x.min()) ** 0.06)
        axes.set_xlim(x.min() / room, x.max() * room)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))


def _log_ticks(axes: Axes, which: str, low: float, high: float, write: Callable[[float], str]) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(base=10, subs=(1.0,) if high / low > 500 else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda v, _: write(v)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _forest_panel(axes: Axes, frame: pd.DataFrame, rows: list[str], look: dict[str, Mark], *, zero: bool) -> None:
    spread = np.linspace(-0.34, 0.34, len(look)) if len(look) > 1 else np.zeros(1)
    offset = dict(zip(look, spread, strict=True))
    for row in frame.itertuples():
        y, mark = rows.index(row.row) + offset[row.family], look[row.family]
        if np.isfinite(row.lo) and np.isfinite(row.hi):
            axes.hlines(y, row.lo, row.hi, color=mark.colour, linewidth=1.3, alpha=0.8 if row.told else 0.35)
        face = mark.colour if row.told else "none"
        axes.plot([row.value], [y], mark.marker, color=mark.colour, markerfacecolor=face, markersize=5, markeredgewidth=1.1, zorder=3)
    if zero:
        axes.axvline(0, color=INK, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1)
    axes.set_yticks(range(len(rows)), labels=rows)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(visible=False, axis="y")
    for y in range(1, len(rows)):
        axes.axhline(y - 0.5, color=RULE, linewidth=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(5))


def _heading(axes: Axes, panel: str, stamp: str) -> None:
    first, _, second = panel.partition("\n")
    axes.annotate(first, (0, 1), (0, 16 if second or stamp else 5), "axes fraction", "offset points", fontsize=9.5, fontweight="bold")
    if second:
        axes.annotate(second, (0, 1), (0, 5), "axes fraction", "offset points", fontsize=8, color=MUTED)
    if stamp:
        axes.annotate(
            stamp, (1, 1), (0, 5), "axes fraction", "offset points", fontsize=8, fontweight="bold", color=ALERT, ha="right"
        )


def _legend(figure: Figure, families: list[str], look: dict[str, Mark], lines: pd.DataFrame, fitted: pd.DataFrame) -> None:
    handles: list[Artist] = [
        Line2D([], [], color=look[f].colour, marker=look[f].marker, linestyle="", markersize=6, label=f.replace("-", " · ", 1) if " " not in f else f)
        for f in families
    ]
    kinds: Iterable[str] = lines["kind"].unique()
    text = {
        "floor": ("known floor", (0, (5, 3)), INK),
        "random": ("random weights", (0, (1, 1.5)), RANDOM.colour),
        "handcrafted": ("hand-crafted features", (0, (4, 1.5, 1, 1.5)), MUTED),
    }
    handles += [Line2D([], [], label=text[k][0], linestyle=text[k][1], color=text[k][2], linewidth=1.2) for k in text if k in kinds]
    if len(fitted) and fitted["told"].astype(bool).any():
        handles.append(Line2D([], [], color=MUTED, linewidth=1.6, label="fitted law, 95 % band, fitted E (◂)"))
    if len(fitted) and not fitted["told"].astype(bool).all():
        handles.append(Line2D([], [], color=MUTED, linewidth=1.1, linestyle=":", label="fit that cannot tell"))
    figure.legend(handles=handles, loc="outside upper left", ncols=4 if figure.get_figwidth() > 8 else 2, handletextpad=0.4, columnspacing=1.4)


def _stack(frames: list[pd.DataFrame]) -> pd.DataFrame:
    columns = list(dict.fromkeys(c for frame in frames for c in frame.columns))
    records = [record for frame in frames for record in frame.to_dict("records")]
    return pd.DataFrame.from_records(records, columns=columns)


def _svg(paint: Callable[[Figure], None], width_in: float, height_in: float, salt: str) -> str:
    with rc_context({**_RC, "svg.hashsalt": salt}):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        FigureCanvasSVG(figure)
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)  # type: ignore[union-attr]
        paint(figure)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inline(out.getvalue(), salt)


def _inline(svg: str, salt: str) -> str:
    """Cut what belongs to a file of its own (prolog, doctype, metadata) and make the identifiers unique in a page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("<svg ", '<svg style="stroke-linejoin: round; stroke-linecap: butt" ', 1)
    svg = svg.replace("xlink:href", "href").replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")
    svg = re.sub(r'\bid="', f'id="{salt}-', svg)
    svg = re.sub(r'href="#', f'href="#{salt}-', svg)
    svg = re.sub(r"url\(#", f"url(#{salt}-", svg)
    return "\n".join(line.rstrip() for line in svg.strip().splitlines())
