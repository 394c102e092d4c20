"""A 12-lead ECG on standard paper: 25 mm/s, 10 mm/mV, three rows of four leads of 2.5 s and a rhythm strip of 10 s.

One SVG whose unit is the millimetre, so that it can be measured with a ruler on a calibrated screen or in print.
Paper, calibration and layout: Kligfield et al. 2007, "Recommendations for the standardization and interpretation of the
electrocardiogram, part I", doi:10.1161/CIRCULATIONAHA.106.180200.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

from ecgscale.data.examples import Example
from ecgscale.reporting.style import ALERT, INK, MUTED, listed
from ecgscale.units import LEADS

MM_PER_S = 25.0
MM_PER_UNIT = 10.0  # 10 mm/mV
STRIP_S = 10.0  # of the rhythm strip; a column has a quarter of it
LEFT, RIGHT, ROW = 15.0, 5.0, 30.0  # mm: room for the calibration pulse, margin, from baseline to baseline
WIDTH, HEIGHT = LEFT + STRIP_S * MM_PER_S + RIGHT, 5 * ROW
REACH = 30.0  # mm a trace may leave its baseline, up to the neighbour's; beyond it is cut and said so
LANE = 14.5  # mm where a trace is cut that would go twice as far as it may: it shall not bury its neighbours
OFFSET = 1.0  # mV from which a lead's median is taken off, and said so: the paper has no room for electrode offsets

_GRID, _BOLD, _PAPER = "#f3c6bf", "#e2958a", "#fffaf8"  # paper stays light on a dark page
_POINTS_PER_MM = 10  # beyond that a line is as wide as the distance between its points
_UNITS = 100  # of a path in one millimetre

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Drawing:
    """An ECG on paper: the SVG, its scale in words, and what a reader must know about it, one clause each."""

    svg: str
    scale: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Panel:
    """Where a lead is drawn (left end of its baseline, mm) and which time of it."""

    lead: str
    place: tuple[float, float]
    start_s: float
    length_s: float


@dataclass(frozen=True)
class _Lead:
    """One lead ready to be drawn."""

    name: str
    value: Values  # in the unit of the record, its offset taken off; NaN where the record holds no number
    offset: float

    @property
    def extreme(self) -> float:
        """The value farthest from the baseline; 0 where there is none."""
        finite = self.value[np.isfinite(self.value)]
        return float(finite[np.abs(finite).argmax()]) if len(finite) else 0.0

    def part(self, panel: _Panel, rate_hz: float) -> tuple[Values, _Lead]:
        """Return what a panel shows: seconds from its left end, and the lead of that time."""
        first, last = (math.ceil(t * rate_hz - 1e-6) for t in (panel.start_s, panel.start_s + panel.length_s))
        value = self.value[first:last]
        return (np.arange(len(value)) + first) / rate_hz - panel.start_s, _Lead(self.name, value, self.offset)


def draw(ecg: Example, name: str, stamp: str = "") -> Drawing:
    """Draw an ECG.

    Args:
        ecg: What to draw; of a longer one the first 10 s. A lead that it does not hold is marked as missing. The
            columns show one time after the other; of a shorter ECG they overlap, so that each of them is filled.
        name: Prefix of identifiers in the SVG, unique on its page.
        stamp: Written across the top, such as "simulated ECG".

    Returns:
        The drawing. Samples that are no numbers leave a gap over a red bar; where a trace leaves the paper it is cut
        at a red bar. Of a z-scored ECG 10 mm are one unit, or 5 or 2.5 mm where most leads would leave the paper.
    """
    leads = {lead: _lead(ecg, lead) for lead in LEADS if lead in ecg.leads}
    gain, length_s = _gain(leads, ecg.unit), min(ecg.signal.shape[1] / ecg.rate_hz, STRIP_S)
    starts = [round(min(2.5 * k, k * max(0.0, length_s - 2.5) / 3), 2) for k in range(4)]
    panels = [
        _Panel(lead, (LEFT + 2.5 * MM_PER_S * (i // 3), (i % 3 + 1) * ROW), starts[i // 3], 2.5)
        for i, lead in enumerate(LEADS)
    ]
    panels.append(_Panel(next((lead for lead in ("II", *LEADS) if lead in leads), "II"), (LEFT, 4 * ROW), 0.0, STRIP_S))
    notes, scale = _notes(ecg, leads, panels, gain), _scale(ecg.unit, gain)
    parts = [_ground(name), *(_pulse((row + 1) * ROW, gain) for row in range(4))]
    parts += [_panel(panel, leads.get(panel.lead), ecg.rate_hz, gain) for panel in panels]
    parts.append(_words(ecg, scale, stamp))
    label = escape(f"ECG of record {ecg.record} on paper. {scale}. {'; '.join(notes)}".strip())
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{label}" width="{WIDTH:g}mm" '
    head += f'height="{HEIGHT:g}mm" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" font-family="DejaVu Sans, sans-serif">'
    return Drawing(head + "".join(parts) + "</svg>", scale, tuple(notes))


def _lead(ecg: Example, lead: str) -> _Lead:
    value = ecg.signal[ecg.leads.index(lead)].astype(np.float64)
    value[~np.isfinite(value)] = np.nan
    finite = value[~np.isnan(value)]
    offset = float(np.median(finite)) if len(finite) else 0.0
    offset = offset if abs(offset) > OFFSET and not ecg.unit.startswith("z_") else 0.0
    return _Lead(lead, value - offset, offset)


def _gain(leads: dict[str, _Lead], unit: str) -> float:
    """Return mm per unit: for z-scores the largest gain of electrocardiographs that keeps most leads on the paper."""
    if not unit.startswith("z_"):
        return MM_PER_UNIT
    for gain in (MM_PER_UNIT, MM_PER_UNIT / 2):
        if 2 * sum(abs(lead.extreme) * gain > REACH for lead in leads.values()) <= len(leads):
            return gain
    return MM_PER_UNIT / 4


def _scale(unit: str, gain: float) -> str:
    if unit == "mV":
        return f"{MM_PER_S:g} mm/s, {gain:g} mm/mV"
    if unit.startswith("z_"):
        return f"{MM_PER_S:g} mm/s, {gain:g} mm = 1 z unit (no millivolts)"
    return f"{MM_PER_S:g} mm/s, {gain:g} mm = 1 of a unit that its source calls “{unit}”"


def _notes(ecg: Example, leads: dict[str, _Lead], panels: list[_Panel], gain: float) -> list[str]:
    """Say what is shown, missing, cut and moved."""
    unit = "mV" if ecg.unit == "mV" else "z" if ecg.unit.startswith("z_") else "units"
    notes = _time_notes(ecg, [panel.start_s for panel in panels[::3]])
    if gain != MM_PER_UNIT:
        notes.append(f"drawn small, since at {MM_PER_UNIT:g} mm = 1 z unit most leads would leave the paper")
    if missing := [lead for lead in LEADS if lead not in leads]:
        notes.append(f"missing: {listed(missing)}")
    if strange := [lead for lead in ecg.leads if lead not in LEADS]:
        notes.append(f"not drawn, since they are no standard leads: {listed(strange)}")
    if twice := [lead for lead in leads if ecg.leads.count(lead) > 1]:
        notes.append(f"only the first of two is drawn: {listed(twice)}")
    shown = [leads[p.lead].part(p, ecg.rate_hz)[1] for p in panels if p.lead in leads]
    extremes = {v.name: v.extreme for v in shown if abs(v.extreme) * gain > REACH}  # the rhythm strip comes last
    if extremes:
        notes.append(f"leaves its room on the paper and is cut: {_each(extremes, unit)}")
    gaps = {v.name: int(np.isnan(v.value).sum()) for v in leads.values()}
    if any(gaps.values()):
        notes.append(
            "no numbers: " + listed([f"{lead} ({n:,} sample{'s' * (n > 1)})" for lead, n in gaps.items() if n])
        )
    if moved := {v.name: v.offset for v in leads.values() if v.offset}:
        notes.append(f"drawn without its offset: {_each(moved, unit)}")
    return notes


def _time_notes(ecg: Example, starts: list[float]) -> list[str]:
    held_s = ecg.signal.shape[1] / ecg.rate_hz
    if ecg.seconds > min(held_s, STRIP_S) + 0.05:
        return [f"the first {min(held_s, STRIP_S):g} s of {ecg.seconds:.4g} s"]
    if held_s < STRIP_S - 0.05:
        return [f"{held_s:.3g} s long, the columns begin at {listed([f'{s:g}' for s in starts[:4]])} s"]
    return []


def _each(values: dict[str, float], unit: str) -> str:
    """Write the value of each lead; of more than four their range."""
    if len(values) > 4:
        return f"{len(values)} leads ({_signed(min(values.values()))} to {_signed(max(values.values()))} {unit})"
    return listed([f"{lead} ({_signed(value)} {unit})" for lead, value in values.items()])


def _signed(value: float) -> str:
    text = f"{abs(value):,.0f}" if abs(value) >= 1000 else f"{abs(value):.3g}"
    return f"−{text}" if value < 0 else text


def _ground(name: str) -> str:
    """Paper with lines every millimetre and bold ones every five."""
    fine = f'<pattern id="{name}-mm" width="1" height="1" patternUnits="userSpaceOnUse">'
    fine += f'<path d="M0 0H1M0 0V1" stroke="{_GRID}" stroke-width=".12" fill="none"/></pattern>'
    bold = f'<pattern id="{name}-cm" width="5" height="5" patternUnits="userSpaceOnUse">'
    bold += f'<rect width="5" height="5" fill="url(#{name}-mm)"/>'
    bold += f'<path d="M0 0H5M0 0V5" stroke="{_BOLD}" stroke-width=".36" fill="none"/></pattern>'
    area = f'width="{WIDTH:g}" height="{HEIGHT:g}"'
    return f'<defs>{fine}{bold}</defs><rect {area} fill="{_PAPER}"/><rect {area} fill="url(#{name}-cm)"/>'


def _pulse(baseline: float, gain: float) -> str:
    """The calibration pulse: one unit high, 0.2 s wide."""
    path = f"M5 {baseline:g}h2.5v{-gain:g}h5v{gain:g}h2"
    return f'<path d="{path}" fill="none" stroke="{INK}" stroke-width=".3"/>'


def _panel(panel: _Panel, lead: _Lead | None, rate_hz: float, gain: float) -> str:
    """One lead in its place: its trace, its name, and a stroke where another lead stood before it."""
    (x, baseline), width = panel.place, panel.length_s * MM_PER_S
    name = _text(x + 1, baseline - 12, panel.lead, 3.6, "start")
    name += f'<path d="M{x:g} {baseline - 3:g}v6" stroke="{INK}" stroke-width=".3"/>' if x > LEFT else ""
    if lead is None:
        return name + _text(x + width / 2, baseline, "missing", 3.2, colour=MUTED)
    time, shown = lead.part(panel, rate_hz)
    value, step = shown.value * gain, MM_PER_S / rate_hz
    room = REACH if abs(shown.extreme) * gain <= 2 * REACH else LANE
    trace = f'<path d="{_trace(*_thinned(time * MM_PER_S, value))}" transform="translate(0 {room:g}) '
    trace += f'scale({1 / _UNITS:g})" fill="none" stroke="{INK}" stroke-width="{0.28 * _UNITS:g}" '
    trace += 'stroke-linejoin="round" stroke-linecap="round"/>'
    marks = ((np.isnan(value), room + 12), (value > room, 0.4), (value < -room, 2 * room - 0.4))
    bars = "".join(_bars(where, step, y) for where, y in marks)
    trace += f'<path d="{bars}" stroke="{ALERT}" stroke-width=".8"/>' if bars else ""
    box = f'x="{x:g}" y="{baseline - room:g}" width="{width:g}" height="{2 * room:g}"'
    return f"{name}<svg {box}>{trace}</svg>"


def _thinned(x: Values, y: Values) -> tuple[Values, Values]:
    """Keep the lowest and highest of every few samples, in their order, where they lie closer than can be seen."""
    step = x[1] - x[0] if len(x) > 1 else 1.0
    size = int(2 / (_POINTS_PER_MM * step) + 1e-9)
    if size < 3:
        return x, y
    padded = np.full(-(-len(y) // size) * size, np.nan)
    padded[: len(y)] = y
    pieces = padded.reshape(-1, size)
    low = np.where(np.isnan(pieces), np.inf, pieces).argmin(axis=1)
    high = np.where(np.isnan(pieces), -np.inf, pieces).argmax(axis=1)
    keep = np.unique(np.stack([low, high]) + np.arange(len(pieces)) * size)
    return x[keep], y[keep]


def _trace(x: Values, y: Values) -> str:
    """Return the path of a trace in hundredths of a millimetre, broken where `y` is NaN; a lone sample is a dot."""
    across = np.rint(x * _UNITS).astype(np.int64)
    down = np.rint(-np.nan_to_num(np.clip(y, -REACH - 5, REACH + 5)) * _UNITS).astype(np.int64)
    path = ""
    for start, end in _runs(~np.isnan(y)):
        steps = zip(np.diff(across[start:end]).tolist(), np.diff(down[start:end]).tolist(), strict=True)
        line = " ".join(f"{dx} {dy}" for dx, dy in steps) or "0 1"
        path += f"M{across[start]} {down[start]}l{line}".replace(" -", "-")
    return path


def _bars(where: npt.NDArray[np.bool_], step: float, y: float) -> str:
    """Return the path of horizontal bars over the samples that are marked, each long enough to be seen."""
    return "".join(f"M{s * step:.2f} {y:g}h{max(1.0, (e - s) * step):.2f}" for s, e in _runs(where))


def _runs(where: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], where, [False]]).astype(np.int8)))
    return [(int(s), int(e)) for s, e in edges.reshape(-1, 2)]


def _words(ecg: Example, scale: str, stamp: str) -> str:
    """Name, scale and stamp on the margin of the paper."""
    name = ecg.record if len(ecg.record) <= 60 else ecg.record[:59] + "…"
    text = _text(5, 5, f"record {name}", 3.2, "start")
    text += _text(5, HEIGHT - 3, f"{scale} · {ecg.rate_hz:g} samples/s", 3.2, "start")
    return text + (_text(WIDTH - 5, 5, stamp, 3.6, "end", ALERT) if stamp else "")


def _text(x: float, y: float, words: str, size: float, anchor: str = "middle", colour: str = INK) -> str:
    halo = f'stroke="{_PAPER}" stroke-width=".9" paint-order="stroke" stroke-linejoin="round"'
    place = f'x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}" {halo}>{escape(words)}</text>'
