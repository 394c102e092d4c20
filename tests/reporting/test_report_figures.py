"""Figures: deterministic, stamped, self-contained, and nothing drawn that the frame does not hold."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from ecgscale.reporting import figures, style

NO_FITS = pd.DataFrame(columns=["panel", "family", "x", "value", "lo", "hi", "told", "E"])
NO_LINES = pd.DataFrame(columns=["panel", "label", "kind", "value"])


def points(panels: int = 2, families: tuple[str, ...] = ("resnet1d-supervised", "resnet1d-cmsc")) -> pd.DataFrame:
    rows = [
        {"panel": f"task {p}\nworld", "family": f, "x": x, "value": 0.3 + 50 / x, "lo": 0.29, "hi": 0.5, "full": True}
        for p in range(panels)
        for f in families
        for x in (250.0, 1000.0, 4000.0)
    ]
    return pd.DataFrame(rows)


def draw(
    frame: pd.DataFrame, fitted: pd.DataFrame = NO_FITS, lines: pd.DataFrame = NO_LINES, stamp: str = ""
) -> figures.Drawn:
    return figures.curves(frame, fitted, lines, salt="t", stamp=stamp, x_label="D", y_label="loss")


def texts(svg: str) -> list[str]:
    return ["".join(t.itertext()).strip() for t in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_same_frame_same_bytes() -> None:
    assert draw(points()).svg == draw(points()).svg


def test_every_panel_carries_the_stamp_and_real_ecgs_carry_none() -> None:
    assert texts(draw(points(3), stamp="simulated ECG").svg).count("simulated ECG") == 3
    assert "simulated" not in draw(points(3)).svg


def test_svg_loads_nothing_and_its_references_resolve() -> None:
    svg = draw(points()).svg
    assert re.findall(r"https?://[^\"<\s]+", svg) == ["http://www.w3.org/2000/svg"]
    assert "<style" not in svg and "<metadata" not in svg
    used = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg)
    assert used
    assert {a or b for a, b in used} <= set(re.findall(r'\bid="([^"]+)"', svg))


def test_family_keeps_colour_whatever_else_is_drawn() -> None:
    alone = draw(points(1, ("resnet1d-cmsc",))).svg
    assert style.marks(["resnet1d-cmsc", "zebra-x"])["resnet1d-cmsc"].colour in alone
    assert style.marks(["resnet1d-cmsc"]) == {"resnet1d-cmsc": style.marks(["a-b", "resnet1d-cmsc"])["resnet1d-cmsc"]}


def test_families_differ_in_colour_and_marker() -> None:
    marks = style.marks([f"f{i}-o" for i in range(4)])
    assert len({m.colour for m in marks.values()}) == len({m.marker for m in marks.values()}) == 4


def test_curve_that_cannot_tell_is_dotted_without_band() -> None:
    x = np.geomspace(250, 4000, 5)
    line = pd.DataFrame({"x": x, "value": 0.3 + 50 / x, "lo": 0.25, "hi": 0.6, "panel": "task 0\nworld", "E": 0.2})
    line = line.assign(family="resnet1d-cmsc", told=True)
    sure, unsure = draw(points(1), line), draw(points(1), line.assign(told=False))
    assert "FillBetweenPolyCollection" in sure.svg and "FillBetweenPolyCollection" not in unsure.svg
    assert "fit that cannot tell" in texts(unsure.svg) and "fit that cannot tell" not in texts(sure.svg)


def test_frame_holds_points_curves_and_lines() -> None:
    floor = pd.DataFrame([{"panel": "task 0\nworld", "label": "known floor", "kind": "floor", "value": 0.2}])
    drawn = draw(points(1), lines=floor)
    assert drawn.frame["drawn"].value_counts().to_dict() == {"point": 6, "line": 1}
    assert "known floor" in texts(drawn.svg)


@pytest.mark.parametrize("panels", [0, figures.MOST_PANELS + 1])
def test_number_of_panels_is_checked(panels: int) -> None:
    with pytest.raises(ValueError, match=f"figure t: {panels} panels, expected 1 to {figures.MOST_PANELS}"):
        draw(points(panels) if panels else points(1).iloc[:0])


def test_forest_draws_what_cannot_be_read_hollow() -> None:
    row = {"panel": "alpha", "row": "af", "family": "resnet1d-cmsc", "kind": "grid", "value": 0.3, "lo": 0.2, "hi": 0.4}
    filled, hollow = (
        figures.forest(pd.DataFrame([row | {"told": told}]), salt="t", stamp="", x_labels={}).svg
        for told in (True, False)
    )
    colour = style.marks(["resnet1d-cmsc"])["resnet1d-cmsc"].colour
    fills = [re.findall(r"<use [^>]*fill: (none|#[0-9a-f]{6})", svg) for svg in (filled, hollow)]
    assert fills[0].count(colour) == fills[1].count(colour) + 1


def test_forest_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        figures.forest(pd.DataFrame(columns=["panel", "row"]), salt="t", stamp="", x_labels={})


@pytest.mark.parametrize(
    ("value", "text"),
    [(250, "250"), (18_432, "18.4K"), (999_900, "1M"), (1.2e6, "1.2M"), (2.3e9, "2.3B"), (0, "0"), (None, "–")],
)
def test_counts(value: float | None, text: str) -> None:
    assert style.count(value) == text


def test_numbers_and_intervals() -> None:
    assert style.flop(1.23e12) == "1.2e12 FLOP"
    assert style.estimate(0.2131, 0.2009, 0.2262) == "0.213 (0.201–0.226)"
    assert style.estimate(-0.0123, -0.02, 0.004) == "−0.012 (−0.020 to 0.004)"
    assert style.estimate(0.5, float("nan"), float("nan")) == "0.500"
    assert [style.duration(s) for s in (45, 450, 7500)] == ["45 s", "7 min 30 s", "2 h 5 min"]
