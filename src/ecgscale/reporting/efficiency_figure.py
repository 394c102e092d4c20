"""The figure of the labels that pre-training saves: loss against labelled records, pre-trained and from scratch."""

from __future__ import annotations

from ecgscale.reporting import ReportInput, figures
from ecgscale.reporting.efficiency import frame_of
from ecgscale.reporting.picture import Figure, finish, parted, stamp


def figures_of(report: ReportInput) -> list[Figure]:
    """Return the figure, over several where there are many tasks; nothing without rows."""
    if not report.efficiency.get("rows"):
        return []
    frame = frame_of(report.efficiency)
    made = []
    for part, here in parted(frame):
        drawn = figures.curves(
            here, salt=f"efficiency{part}", stamp=stamp(report), x_label="labelled training records",
            y_label="loss", joined=True,
        )  # fmt: skip
        caption = (
            "Held-out loss against the labels that training was given. How far a coloured curve lies to the left of "
            "the grey one of its backbone, at one loss, is the factor of labels that pre-training saves."
        )
        alt = f"{here['panel'].nunique()} panels, {len(here)} measured losses; factors in the table below."
        made.append(finish(report, "efficiency", f"efficiency{part}", "Loss against labels", caption, alt, drawn))
    return made
