"""A figure of the page: what was drawn, with its words, its data and the stamp that every picture must carry."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from ecgscale.reporting import ReportInput
from ecgscale.reporting.figures import MOST_PANELS, Drawn
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


def parted(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the frame by panels, as many as one figure holds, each with the suffix of its figure's name."""
    panels = list(dict.fromkeys(frame["panel"]))
    most = MOST_PANELS
    parts = [panels[i : i + most] for i in range(0, len(panels), most)]
    names = [f"-{i + 1}" if len(parts) > 1 else "" for i in range(len(parts))]
    return [(name, frame[frame["panel"].isin(part)]) for name, part in zip(names, parts, strict=True)]
