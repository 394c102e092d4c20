"""Figures as pure functions: a frame goes in, an SVG and the frame it drew come out.

The SVG is the same for the same frame: fixed identifiers, no date, no font files. Text stays text.
Margins are set in inches rather than solved for: that halves the time and keeps panels the same size in every figure.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ecgscale.reporting.rows import groups, records_of
from ecgscale.reporting.style import ALERT, HANDCRAFTED, INK, MUTED, RANDOM, RULE, Mark, count, marks

WIDTH_IN = 10.0
SINGLE_IN = 6.5  # width of a figure with one panel
MOST_PANELS = 12
_LEGEND_ROW_IN = 0.2
_ASIDE = ("scratch", "training")  # kinds of joined points to hold the others against
_RC: dict[str, Any] = {
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
_REFERENCES: dict[str, tuple[str, tuple[Any, ...], str]] = {  # kind of a line: its name, dashes by label, colour
    "floor": ("known floor", ((0, (5, 3)),), INK),
    "random": ("random weights", ("-", (0, (10, 2.5)), (0, (2, 2))), RANDOM.colour),
    "handcrafted": ("hand-crafted features", ((0, (5, 1.5, 1, 1.5)),), MUTED),
}


class Drawn(NamedTuple):
    """A picture and the frame it drew: its column `drawn` says what a row became (point, curve, line)."""

    svg: str
    frame: pd.DataFrame


NO_FITS = pd.DataFrame(columns=["panel", "family", "x", "value", "lo", "hi", "told", "E"])
NO_LINES = pd.DataFrame(columns=["panel", "kind", "label", "value"])


def curves(
    points: pd.DataFrame,
    fitted: pd.DataFrame = NO_FITS,
    lines: pd.DataFrame = NO_LINES,
    *,
    salt: str,
    stamp: str,
    x_label: str,
    y_label: str,
    counts: bool = True,
    joined: bool = False,
) -> Drawn:
    """Draw small multiples of a loss against a quantity, with fitted curves, bands and reference lines.

    Args:
        points: Columns panel ("task" newline "corpus"), family, x, value, lo, hi, full; points that are not `full`
            (a smaller setting of the other axis) are drawn faint. Other columns go into the frame unchanged.
        fitted: Columns panel, family, x, value, lo, hi, told, E; what does not tell is dotted, without band.
        lines: Columns panel, label, kind (floor, random or handcrafted), value: horizontal references.
        salt: Makes identifiers inside the SVG unique and constant.
        stamp: Written into every panel, e.g. "simulated ECG"; empty for none.
        x_label, y_label: Axis labels with units.
        counts: x is a count on a log axis with ticks like 18.4K; else a loss.
        joined: Whether a line joins the points of a family; those whose `kind` is in `_ASIDE` are grey and dashed.

    Raises:
        ValueError: no points, or more than `MOST_PANELS` panels.
    """
    panels = list(dict.fromkeys(points["panel"]))
    if not 0 < len(panels) <= MOST_PANELS:
        raise ValueError(f"figure {salt}: {len(panels)} panels, expected 1 to {MOST_PANELS}")
    grey = sorted(points.loc[points["kind"].isin(_ASIDE), "family"].unique()) if joined else []
    look = marks([family for family in points["family"].unique() if family not in grey])
    look |= {name: RANDOM._replace(marker=m) for name, m in zip(grey, cycle("d*H<"), strict=False)}
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    width = WIDTH_IN if columns > 1 else SINGLE_IN
    dashes = _reference_lines(lines)
    handles = [*_family_handles(look, set(grey)), *_line_handles(dashes, fitted)]
    top = _legend_in(handles, width) + 0.5
    height = top + rows * (2.2 if columns > 1 else 2.8) + (rows - 1) * 0.85 + 0.5

    def paint(figure: Figure) -> None:
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        figure.subplots_adjust(0.62 / width, 0.5 / height, 1 - 0.2 / width, 1 - top / height, 0.26, 0.39)
        _legend(figure, handles)
        for axes, panel in zip(grid, panels, strict=False):
            here, fits, refs = (frame[frame["panel"] == panel] for frame in (points, fitted, lines))
            _curve_panel(axes, here, fits, refs, look, dashes, counts=counts, joined=joined)
            heading(axes, panel, stamp)
            axes.set_xlabel(x_label)
            if axes.get_subplotspec().is_first_col():
                axes.set_ylabel(y_label)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()

    drawn = {"point": points, "curve": fitted, "line": lines}
    frames = [frame.assign(drawn=name) for name, frame in drawn.items() if len(frame)]
    return Drawn(to_svg(paint, width, height, salt), _stack(frames))


def forest(frame: pd.DataFrame, *, salt: str, stamp: str, x_labels: dict[str, str], zero: bool = False) -> Drawn:
    """Draw estimates with intervals: one panel per column, one line per row, one mark per family.

    Args:
        frame: Columns panel, row, family (or a baseline's name), kind (grid, random or handcrafted), value, lo, hi,
            told; what does not tell is drawn hollow.
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
    for kind, mark in (("random", RANDOM), ("handcrafted", HANDCRAFTED)):
        names = sorted(series.loc[series["kind"] == kind, "family"])
        look |= {name: mark._replace(marker=m) for name, m in zip(names, cycle(mark.marker + "1|_*"), strict=False)}
    panels, rows = list(dict.fromkeys(frame["panel"])), list(dict.fromkeys(frame["row"]))
    handles = _family_handles(look, set(series.loc[series["kind"] != "grid", "family"]))
    top = _legend_in(handles, WIDTH_IN) + 0.5
    height = top + len(rows) * max(0.34, 0.085 * len(look) + 0.1) + 0.5
    left = 0.2 + 0.068 * max(len(r) for r in rows)  # inches; a character of the labels is about 0.068 wide

    def paint(figure: Figure) -> None:
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False).ravel()
        figure.subplots_adjust(left / WIDTH_IN, 0.5 / height, 1 - 0.2 / WIDTH_IN, 1 - top / height, 0.1)
        _legend(figure, handles)
        for axes, panel in zip(grid, panels, strict=True):
            _forest_panel(axes, frame[frame["panel"] == panel], rows, look, zero=zero)
            heading(axes, panel, stamp)
            axes.set_xlabel(x_labels.get(panel, ""))

    return Drawn(to_svg(paint, WIDTH_IN, height, salt), frame.assign(drawn="point"))


def _reference_lines(lines: pd.DataFrame) -> dict[tuple[str, str], tuple[str, dict[str, Any]]]:
    """Return the legend's text and the look of every (kind, label) of reference line; baselines of a kind differ."""
    out: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
    for kind, (name, dashes, colour) in _REFERENCES.items():
        labels = sorted(lines.loc[lines["kind"] == kind, "label"].unique())
        for i, label in enumerate(labels):
            text = f"{name} ({label})" if len(labels) > 1 else name
            out[kind, label] = text, {"linestyle": dashes[i % len(dashes)], "color": colour}
    return out


def _curve_panel(
    axes: Axes,
    points: pd.DataFrame,
    fits: pd.DataFrame,
    refs: pd.DataFrame,
    look: dict[str, Mark],
    dashes: dict[tuple[str, str], tuple[str, dict[str, Any]]],
    *,
    counts: bool,
    joined: bool,
) -> None:
    log_x = _scale(axes, points, fits, refs, counts=counts)
    names = list(look)
    for family, rows in groups(points, "family"):
        aside = 1.015 ** (names.index(family) - (len(names) - 1) / 2) if log_x and counts and not joined else 1.0
        _points(axes, rows, look[family], aside)
        if joined:
            dashed: Any = (0, (4, 2)) if look[family].colour == RANDOM.colour else "-"
            axes.plot(rows["x"], rows["value"], color=look[family].colour, linewidth=1.3, linestyle=dashed)
    for family, rows in groups(fits, "family"):
        _fit(axes, rows, look[family])
    for row in records_of(refs):
        axes.axhline(row["value"], linewidth=1.2, zorder=1.5, **dashes[row["kind"], row["label"]][1])


def _points(axes: Axes, rows: pd.DataFrame, mark: Mark, aside: float) -> None:
    full = rows["full"].to_numpy(bool)
    look: dict[str, Any] = {"color": mark.colour, "markeredgewidth": 0, "linestyle": ""}
    for chosen, alpha, size in ((~full, 0.38, 4.0), (full, 1.0, 6.0)):
        some = rows[chosen]
        if len(some):
            axes.plot(
                some["x"] * aside, some["value"], marker=mark.marker, alpha=alpha, markersize=size, zorder=3, **look
            )
    bars = rows[full & np.isfinite(rows["lo"].to_numpy(float)) & np.isfinite(rows["hi"].to_numpy(float))]
    if len(bars):
        axes.vlines(bars["x"] * aside, bars["lo"], bars["hi"], color=mark.colour, linewidth=0.9, alpha=0.7, zorder=2.5)


def _fit(axes: Axes, rows: pd.DataFrame, mark: Mark) -> None:
    if not rows["told"].all():
        axes.plot(rows["x"], rows["value"], linestyle=":", color=mark.colour, linewidth=1.1, alpha=0.75)
        return
    axes.plot(rows["x"], rows["value"], color=mark.colour, linewidth=1.6)
    axes.fill_between(rows["x"], rows["lo"], rows["hi"], color=mark.colour, alpha=0.16, linewidth=0)
    floor = rows["E"].iloc[0]
    if np.isfinite(floor):
        at_edge: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "clip_on": False, "zorder": 4}
        axes.plot([1.0], [floor], "<", color=mark.colour, markersize=6, **at_edge)


def _scale(axes: Axes, points: pd.DataFrame, fits: pd.DataFrame, refs: pd.DataFrame, *, counts: bool) -> bool:
    told = fits[fits["told"].astype(bool)]
    bars = points[points["full"].astype(bool)]
    shown = [points["value"], bars["lo"], bars["hi"], refs["value"], told["E"], told["value"]]
    values = np.concatenate(shown).astype(float)
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    if low > 0 and high / low > 3:
        room = (high / low) ** 0.08
        axes.set_yscale("log")
        _log_ticks(axes, "y", low, high, lambda v: f"{v:g}")
        axes.set_ylim(low / room, high * room)
    else:
        pad = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
        axes.set_ylim(low - pad, high + pad)
        axes.yaxis.set_major_locator(MaxNLocator(5))
    x = points["x"].to_numpy(float)
    if x.min() <= 0 or (not counts and x.max() / x.min() <= 3):
        axes.xaxis.set_major_locator(MaxNLocator(4))
        return False
    room = max(1.12, (x.max() / x.min()) ** 0.06)
    axes.set_xscale("log")
    _log_ticks(axes, "x", x.min(), x.max(), count if counts else lambda v: f"{v:g}")
    axes.set_xlim(x.min() / room, x.max() * room)
    return True


def _log_ticks(axes: Axes, which: str, low: float, high: float, write: Callable[[float], str]) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    decades = math.log10(high / low)
    steps = (1.0,) if decades > 2.7 else (1.0, 2.0, 5.0) if decades > 1.2 else (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
    axis.set_major_locator(LogLocator(base=10, subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda v, _: write(v)))
    axis.set_minor_locator(NullLocator())


def _forest_panel(axes: Axes, frame: pd.DataFrame, rows: list[str], look: dict[str, Mark], *, zero: bool) -> None:
    spread = np.linspace(-0.34, 0.34, len(look)) if len(look) > 1 else np.zeros(1)
    offset = dict(zip(look, spread, strict=True))
    place = {row: i for i, row in enumerate(rows)}
    for (family, told), here in groups(frame, ["family", "told"]):
        y = here["row"].map(place).to_numpy(float) + offset[family]
        mark = look[family]
        axes.hlines(y, here["lo"], here["hi"], color=mark.colour, linewidth=1.3, alpha=0.8 if told else 0.35)
        fill: dict[str, Any] = {
            "markerfacecolor": mark.colour if told else "none",
            "markeredgewidth": 1.1,
            "linestyle": "",
        }
        axes.plot(here["value"], y, marker=mark.marker, color=mark.colour, markersize=5, zorder=3, **fill)
    if zero:
        axes.axvline(0, color=INK, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1)
    axes.set_yticks(range(len(rows)), labels=rows)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(visible=False, axis="y")
    for y in range(1, len(rows)):
        axes.axhline(y - 0.5, color=RULE, linewidth=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(5))


def heading(axes: Axes, panel: str, stamp: str) -> None:
    first, _, second = panel.partition("\n")
    points: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(first, (0, 1), (0, 16 if second or stamp else 5), **points, fontsize=9.5, fontweight="bold")
    if second:
        axes.annotate(second, (0, 1), (0, 5), **points, fontsize=8, color=MUTED)
    if stamp:
        axes.annotate(stamp, (1, 1), (0, 5), **points, fontsize=8, fontweight="bold", color=ALERT, ha="right")


def cells(axes: Axes, rows: list[str], columns: list[str], rotation: float = 0.0) -> None:
    """Make axes the frame of a map whose cell (column, row) is the unit square around it, the first row on top."""
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks(range(len(columns)), labels=columns, rotation=rotation)
    axes.set_yticks(range(len(rows)), labels=rows)
    axes.tick_params(length=0, labelcolor=INK)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _family_handles(look: dict[str, Mark], baselines: set[str] = frozenset()) -> list[Line2D]:  # type: ignore[assignment]
    def handle(name: str, mark: Mark) -> Line2D:
        label = name if name in baselines else name.replace("-", " · ", 1)
        return Line2D([], [], color=mark.colour, marker=mark.marker, linestyle="", markersize=6, label=label)

    return [handle(name, mark) for name, mark in look.items()]


def _line_handles(dashes: dict[tuple[str, str], tuple[str, dict[str, Any]]], fitted: pd.DataFrame) -> list[Line2D]:
    handles = [Line2D([], [], label=text, linewidth=1.2, **line) for text, line in dashes.values()]
    told = fitted["told"].astype(bool)
    if told.any():
        floor = ", fitted E (◂)" if np.isfinite(fitted.loc[told, "E"].to_numpy(float)).any() else ""
        band = ", 95 % band" if np.isfinite(fitted.loc[told, "lo"].to_numpy(float)).any() else ""
        handles.append(Line2D([], [], color=MUTED, linewidth=1.8, label=f"fitted law{band}{floor}"))
    if not told.all():
        handles.append(Line2D([], [], color=MUTED, linewidth=1.1, linestyle=":", label="fit that cannot tell"))
    return handles


def _legend_columns(width_in: float) -> int:
    return 4 if width_in > SINGLE_IN else 2


def _legend_in(handles: list[Line2D], width_in: float) -> float:
    return 0.1 + _LEGEND_ROW_IN * math.ceil(len(handles) / _legend_columns(width_in))


def _legend(figure: Figure, handles: list[Line2D]) -> None:
    where: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
    figure.legend(
        handles=handles, ncols=_legend_columns(figure.get_figwidth()), handletextpad=0.4, columnspacing=1.4, **where
    )


def _stack(frames: list[pd.DataFrame]) -> pd.DataFrame:
    columns = list(dict.fromkeys(c for frame in frames for c in frame.columns))
    records = [record for frame in frames for record in frame.to_dict("records")]
    return pd.DataFrame.from_records(records, columns=columns)


def to_svg(paint: Callable[[Figure], None], width_in: float, height_in: float, salt: str) -> str:
    settings: Any = {**_RC, "svg.hashsalt": salt}
    with rc_context(settings):
        figure = Figure(figsize=(width_in, height_in))
        FigureCanvasSVG(figure)
        paint(figure)
        out = io.StringIO()
        empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=empty)
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
