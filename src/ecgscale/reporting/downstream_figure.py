"""The figure of the own held-out loss against each task's: a panel for every family, a mark for every run and task."""

from __future__ import annotations

from ecgscale.reporting import ReportInput, figures
from ecgscale.reporting.downstream import frames_of
from ecgscale.reporting.picture import Figure, finish, parted, stamp


def figures_of(report: ReportInput) -> list[Figure]:
    """Return the figure, over several where there are many tasks or families; nothing without points."""
    if not report.downstream.get("points"):
        return []
    frames = [here for frame in frames_of(report.downstream) for _, here in parted(frame)]
    made = []
    for i, here in enumerate(frames, 1):
        part = f"-{i}" if len(frames) > 1 else ""
        drawn = figures.curves(
            here, salt=f"downstream{part}", stamp=stamp(report),
            x_label="held-out loss, own objective", y_label="probe loss (nats)", counts=False,
        )  # fmt: skip
        caption = (
            "Every mark is one run and task. Marks that rise to the right: the run with the lower loss on its own "
            "objective has the lower loss on the task. The axis of an objective is its own: panels cannot be compared "
            "along it. Bars: 95 % intervals."
        )
        alt = f"{here['panel'].nunique()} panels, {len(here)} losses; correlations in the table below."
        title = "Own loss against each task's" + (f" (part {i})" if part else "")
        made.append(finish(report, "downstream", f"downstream{part}", title, caption, alt, drawn))
    return made
