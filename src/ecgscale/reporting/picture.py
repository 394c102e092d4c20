"""A figure of the page: what was drawn, with its words, its data and the stamp that every picture must carry."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from ecgscale.reporting import ReportInput
from ecgscale.reporting.figures import Drawn
from ecgscale.reporting.findings import origin


@dataclass(frozen=True)
class Figure:
    """A figure of the page, with the frame it drew."""

    id: str
    section: str
    title: str
    caption: str
    alt: str
    svg: str
    frame: pd.DataFrame


def stamp(report: ReportInput) -> str:
    """Return what every picture of this report must carry: "simulated ECG", or nothing for real ECGs."""
    kind = origin(report.corpora)
    return f"{kind} ECG" if "simulated" in kind else ""


def finish(report: ReportInput, section: str, name: str, title: str, caption: str, alt: str, drawn: Drawn) -> Figure:
    """Return a figure with its stamp in words."""
    mark = stamp(report)
    said = f"{mark[0].upper()}{mark[1:]}: not a clinical result. " if mark else ""
    return Figure(
        name, section, title, said + caption, f"{title}{f' ({mark})' if mark else ''}. {alt}", drawn.svg, drawn.frame
    )
