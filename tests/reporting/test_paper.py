"""An ECG on paper: every point where it belongs, in millimetres; what cannot be shown is said."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgscale.data.examples import Example
from ecgscale.reporting.paper import HEIGHT, LEFT, REACH, ROW, WIDTH, draw
from ecgscale.units import LEADS

SVG = "{http://www.w3.org/2000/svg}"
Points = npt.NDArray[np.float64]


def ecg(signal: npt.ArrayLike, rate_hz: float = 100.0, leads: tuple[str, ...] = LEADS, unit: str = "mV") -> Example:
    values = np.asarray(signal, np.float32)
    return Example("r1", "", values, leads, rate_hz, unit, values.shape[1] / rate_hz)


def waves(seconds: float = 10.0, rate_hz: float = 100.0, size: float = 1.0) -> npt.NDArray[np.float32]:
    """Return [lead, time], another slow wave in every lead."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.stack([size * np.sin(2 * np.pi * 0.37 * (i + 1) * time + i) for i in range(12)]).astype(np.float32)


def tree(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def panels(svg: str) -> dict[tuple[float, float], ET.Element]:
    """Return the frames of the leads by the left end of their baselines, mm."""
    found = tree(svg).findall(f"{SVG}svg")
    return {(float(f.get("x", 0)), float(f.get("y", 0)) + float(f.get("height", 0)) / 2): f for f in found}


def place(lead: str) -> tuple[float, float]:
    i = LEADS.index(lead)
    return LEFT + 62.5 * (i // 3), ROW * (i % 3 + 1)


RHYTHM = (LEFT, 4 * ROW)


def trace(frame: ET.Element) -> list[Points]:
    """Decode a trace into its strokes, [point, (mm from the left, mm above the baseline)]."""
    path = frame.find(f"{SVG}path")
    assert path is not None
    scale = float(re.search(r"scale\(([\d.]+)\)", path.get("transform", "")).group(1))  # type: ignore[union-attr]
    strokes = []
    for stroke in re.findall(r"M([^M]+)", path.get("d", "")):
        start, _, steps = stroke.partition("l")
        numbers = np.array(re.findall(r"-?\d+", start) + re.findall(r"-?\d+", steps), float).reshape(-1, 2)
        strokes.append(np.cumsum(numbers, axis=0) * scale * [1, -1])
    return strokes


def words(svg: str) -> list[str]:
    return [text.text or "" for text in tree(svg).iter(f"{SVG}text")]


def test_a_millimetre_is_a_millimetre() -> None:
    root = tree(draw(ecg(waves()), "a").svg)
    assert (root.get("width"), root.get("height")) == (f"{WIDTH:g}mm", f"{HEIGHT:g}mm")
    assert root.get("viewBox") == f"0 0 {WIDTH:g} {HEIGHT:g}"
    squares = {p.get("id"): float(p.get("width", 0)) for p in root.iter(f"{SVG}pattern")}
    assert squares == {"a-mm": 1.0, "a-cm": 5.0}
    pulses = [p.get("d") for p in root.findall(f"{SVG}path") if "v-10h5v10" in p.get("d", "")]
    assert len(pulses) == 4


@pytest.mark.parametrize("rate_hz", [100.0, 250.0])
def test_every_sample_lies_where_25_mm_per_s_and_10_mm_per_mv_put_it(rate_hz: float) -> None:
    signal = waves(rate_hz=rate_hz)
    found = panels(draw(ecg(signal, rate_hz), "a").svg)
    assert set(found) == {place(lead) for lead in LEADS} | {RHYTHM}
    for i, lead in enumerate(LEADS):
        start = 2.5 * (i // 3)
        here = slice(round(start * rate_hz), round((start + 2.5) * rate_hz))
        (points,) = trace(found[place(lead)])
        time = np.arange(here.start, here.stop) / rate_hz - start
        np.testing.assert_allclose(points, np.stack([25 * time, 10 * signal[i, here]], axis=1), atol=0.0051)
    (points,) = trace(found[RHYTHM])
    np.testing.assert_allclose(points[:, 1], 10 * signal[1], atol=0.0051)
    assert points[-1, 0] == pytest.approx(250 - 25 / rate_hz, abs=0.01)


def test_dense_samples_are_thinned_without_losing_a_spike() -> None:
    signal = np.zeros((12, 10_000), np.float32)
    signal[1, 4321] = 2.5
    svg = draw(ecg(signal, 1000.0), "a").svg
    (points,) = trace(panels(svg)[RHYTHM])
    assert len(points) < 5100
    top = points[points[:, 1].argmax()]
    assert top == pytest.approx([4.321 * 25, 25.0], abs=0.01)


def test_missing_leads_are_said_and_not_drawn() -> None:
    drawing = draw(ecg(waves()[:2], leads=("I", "V2")), "a")
    assert set(panels(drawing.svg)) == {place("I"), place("V2"), RHYTHM}
    assert words(drawing.svg).count("missing") == 10
    assert any(n.startswith("missing: II, III, aVR") and n.endswith("V5 and V6") for n in drawing.notes)
    np.testing.assert_allclose(trace(panels(drawing.svg)[RHYTHM])[0][:, 1], 10 * waves()[0], atol=0.0051)


def test_what_leaves_the_paper_is_cut_and_said() -> None:
    signal = waves(size=0.5)
    signal[7, 600:610] = 4.2  # V2, in its 2.5 s
    signal[8, 600:610] = -900.0
    signal[9, 100:110] = 5.0  # V4, not in its 2.5 s
    drawing = draw(ecg(signal), "a")
    assert "leaves its room on the paper and is cut: V2 (4.2 mV) and V3 (−900 mV)" in drawing.notes
    found = panels(drawing.svg)
    assert float(found[place("V2")].get("height", 0)) == 2 * REACH
    assert float(found[place("V3")].get("height", 0)) < ROW  # it keeps to its own lane
    bars = found[place("V2")].findall(f"{SVG}path")[1].get("d")
    assert bars == "M25.00 0.4h2.50"  # ten samples at the upper end
    assert all(np.abs(s[:, 1]).max() <= REACH + 5 for frame in found.values() for s in trace(frame))
    assert len(found[place("V4")].findall(f"{SVG}path")) == 1


def test_what_is_no_number_leaves_a_gap_over_a_bar() -> None:
    signal = waves()
    signal[1, 300:340], signal[1, 500], signal[0, 700] = np.nan, np.inf, np.nan
    drawing = draw(ecg(signal), "a")
    assert "no numbers: I (1 sample) and II (41 samples)" in drawing.notes
    strokes = trace(panels(drawing.svg)[RHYTHM])
    assert [len(s) for s in strokes] == [300, 160, 499]
    bars = panels(drawing.svg)[RHYTHM].findall(f"{SVG}path")[1].get("d", "")
    assert re.findall(r"M([\d.]+) 42h([\d.]+)", bars) == [("75.00", "10.00"), ("125.00", "1.00")]


def test_an_offset_is_taken_off_and_said() -> None:
    signal = waves(size=0.2)
    signal[3] += 60.0
    drawing = draw(ecg(signal), "a")
    (note,) = drawing.notes
    assert note == "drawn without its offset: aVR (60 mV)"
    assert np.abs(trace(panels(drawing.svg)[place("aVR")])[0][:, 1]).max() < 5


@pytest.mark.parametrize(("size", "gain"), [(2.5, 10.0), (5.0, 5.0), (9.0, 2.5), (40.0, 2.5)])
def test_z_scores_say_their_scale_and_shrink_to_stay_on_the_paper(size: float, gain: float) -> None:
    drawing = draw(ecg(waves(size=size), unit="z_record_lead"), "a")
    assert drawing.scale == f"25 mm/s, {gain:g} mm = 1 z unit (no millivolts)"
    assert any("10 mm = 1 z unit" in n for n in drawing.notes) == (gain < 10)
    assert any("is cut" in n for n in drawing.notes) == (size > 12)
    assert any(f"v-{gain:g}h5v{gain:g}" in p.get("d", "") for p in tree(drawing.svg).findall(f"{SVG}path"))


def test_voltages_always_have_the_standard_gain() -> None:
    assert draw(ecg(waves(size=40.0)), "a").scale == "25 mm/s, 10 mm/mV"


def test_a_short_record_fills_every_column_and_a_long_one_is_named() -> None:
    drawing = draw(ecg(waves(4.0)), "a")
    assert drawing.notes == ("4 s long, the columns begin at 0, 0.5, 1 and 1.5 s",)
    found = panels(drawing.svg)
    for lead, start in (("I", 0), ("V6", 150)):
        (points,) = trace(found[place(lead)])
        assert len(points) == 250
        assert points[0, 1] == pytest.approx(10 * waves(4.0)[LEADS.index(lead), start], abs=0.0051)
    long = replace(ecg(waves()), seconds=144.0)
    assert draw(long, "a").notes == ("the first 10 s of 144 s",)


def test_strange_leads_and_units_are_said() -> None:
    drawing = draw(ecg(waves()[:3], leads=("II", "II", "X<1>"), unit="ADC"), "a")
    assert drawing.scale == "25 mm/s, 10 mm = 1 of a unit that its source calls “ADC”"
    assert "not drawn, since they are no standard leads: X<1>" in drawing.notes
    assert "only the first of two is drawn: II" in drawing.notes
    np.testing.assert_allclose(trace(panels(drawing.svg)[RHYTHM])[0][:, 1], 10 * waves()[0], atol=0.0051)


def test_names_cannot_leave_the_text_and_the_stamp_is_written() -> None:
    drawing = draw(replace(ecg(waves()), record='<script>"&'), "a", "SIMULATED ECG")
    assert {'record <script>"&', "SIMULATED ECG"} <= set(words(drawing.svg))
    assert "<script>" not in drawing.svg
    assert 'record <script>"&' in tree(drawing.svg).get("aria-label", "")


@settings(max_examples=60, deadline=None)
@given(
    leads=st.lists(st.sampled_from(LEADS), min_size=1, max_size=12, unique=True),
    samples=st.integers(1, 700),
    rate_hz=st.sampled_from([0.3, 33.3, 100.0, 257.0, 1000.0]),
    fill=st.sampled_from([0.0, 1.5, np.nan, np.inf, -np.inf, 1e30]),
    unit=st.sampled_from(["mV", "z_global", "?"]),
)
def test_anything_can_be_drawn(leads: list[str], samples: int, rate_hz: float, fill: float, unit: str) -> None:
    signal = np.full((len(leads), samples), fill, np.float32)
    signal[0, : samples // 2] = 0.1
    drawing = draw(ecg(signal, rate_hz, tuple(leads), unit), "a")
    assert len(panels(drawing.svg)) == len(leads) + 1
    assert "nan" not in drawing.svg and "inf" not in drawing.svg
