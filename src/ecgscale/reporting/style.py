"""How a report writes numbers and marks families: one colour and one marker per family, the same in every figure.

Colours: Okabe & Ito, "Color Universal Design" (2008), distinguishable with every common colour-vision deficiency.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

INK = "#1b1f24"
MUTED = "#6b7280"
RULE = "#d7dbe0"
ALERT = "#9a3412"


class Mark(NamedTuple):
    """How one family is drawn: a colour on light and on dark ground, and a matplotlib marker."""

    colour: str
    dark: str
    marker: str


_MARKS = (
    Mark("#0072b2", "#4aa8e0", "o"),
    Mark("#d55e00", "#f58a3c", "s"),
    Mark("#009e73", "#2cc79b", "^"),
    Mark("#b5558f", "#e58fc1", "D"),
    Mark("#b07c00", "#e6b43c", "v"),
    Mark("#2f8fc4", "#8fd0f5", "P"),
    Mark("#6f6a00", "#d9d23a", "X"),
    Mark("#4b4f8f", "#a3a7f0", "p"),
)
RANDOM = Mark("#7a7f87", "#a2a8b0", "x")
HANDCRAFTED = Mark("#33383f", "#e3e6ea", "+")

_KNOWN = (
    "resnet1d-supervised",
    "resnet1d-cmsc",
    "beat_transformer-supervised",
    "beat_transformer-masked_beats",
)
THEME = {INK: "ink", MUTED: "muted", RULE: "rule", ALERT: "alert"}


def marks(families: list[str]) -> dict[str, Mark]:
    """Return one mark per family; the four families of arXiv:2605.17276 always have the same one."""
    order = [*_KNOWN, *sorted(set(families) - set(_KNOWN))]
    return {family: _MARKS[order.index(family) % len(_MARKS)] for family in ordered(families)}


def ordered(families: Iterable[str]) -> list[str]:
    """Return families without repeats in the order of every legend and table."""
    found = set(families)
    return [f for f in _KNOWN if f in found] + sorted(found - set(_KNOWN))


def css_names() -> dict[str, str]:
    """Return the CSS variable of each colour a figure may contain, light hexadecimal -> name."""
    series = {mark.colour: f"series-{i}" for i, mark in enumerate((*_MARKS, RANDOM, HANDCRAFTED))}
    return {**THEME, **series}


def css_dark() -> dict[str, str]:
    """Return the dark-ground value of each series variable."""
    return {f"series-{i}": mark.dark for i, mark in enumerate((*_MARKS, RANDOM, HANDCRAFTED))}


def missing(value: Any) -> bool:
    """Say whether a cell of a table holds no number."""
    return value is None or (isinstance(value, float) and not math.isfinite(value)) or str(value) in ("<NA>", "NaT")


def count(value: Any) -> str:
    """Write a count with three significant digits: 250, 18.4K, 1.2M."""
    if missing(value):
        return "–"
    number, suffix = float(value), ""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(number) >= size * 0.9995:
            number, suffix = number / size, letter
            break
    return f"{number:.3g}{suffix}"


def flop(value: Any) -> str:
    """Write training compute: 1.2e12 FLOP."""
    return "–" if missing(value) else f"{float(value):.1e} FLOP".replace("e+0", "e").replace("e+", "e")


def number(value: Any) -> str:
    """Write a measured value with three decimals, or two significant digits if it is smaller than that shows."""
    if missing(value):
        return "–"
    value = float(value)
    small = 0 < abs(value) < 0.01
    text = f"{value:.2g}" if small else f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"
    return text.replace("-", "−") if "e" not in text else text


def bounds(lo: Any, hi: Any) -> str:
    """Write an interval: "0.201–0.226", "−0.020 to −0.004" where a sign would be misread."""
    if missing(lo) or missing(hi):
        return "no interval"
    joint = " to " if float(lo) < 0 or float(hi) < 0 else "–"
    return f"{number(lo)}{joint}{number(hi)}"


def estimate(value: Any, lo: Any, hi: Any) -> str:
    """Write a value with its 95 % interval: "0.213 (0.201–0.226)"."""
    return number(value) if missing(lo) or missing(hi) else f"{number(value)} ({bounds(lo, hi)})"


def duration(seconds: Any) -> str:
    """Write a time: "45 s", "7 min 30 s", "2 h 5 min"."""
    if missing(seconds):
        return "–"
    total = round(float(seconds))
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60} s"
    return f"{total // 3600} h {total % 3600 // 60} min"


def plural(n: int, noun: str) -> str:
    """Write "1 run", "3 runs", "2 families"."""
    word = noun if n == 1 else noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{count(n)} {word}"


def listed(words: list[str]) -> str:
    """Join words as a sentence does: "a", "a and b", "a, b and c"."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1] if words else "none"
