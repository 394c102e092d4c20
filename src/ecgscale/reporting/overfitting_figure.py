"""The figures of overfitting: measured extents on their analytic curve, and training beside validation."""

from __future__ import annotations

import pandas as pd

from ecgscale.reporting import ReportInput, figures
from ecgscale.reporting.overfitting import curves_frame, fitted_of, points_of
from ecgscale.reporting.picture import Figure, finish, parted, stamp


def figures_of(report: ReportInput, table: pd.DataFrame) -> list[Figure]:
    """Return both figures, as far as there is something to draw."""
    points = points_of(report, table)
    made = _extents(report, points) if len(points) else []
    return made + (_curves(report) if report.overfitting.get("curves") else [])


def _extents(report: ReportInput, points: pd.DataFrame) -> list[Figure]:
    fitted = fitted_of(report, points)
    made = []
    for part, here in parted(points):
        drawn = figures.curves(
            here, fitted[fitted["panel"].isin(here["panel"])], salt=f"overfitting{part}",
            stamp=stamp(report), x_label="X = D · L(N, ∞)^(1/beta)", y_label="O, overfitting extent", counts=False,
        )  # fmt: skip
        caption = (
            "Every mark is one run of the grid: how much higher its measured loss is than the fitted L(N, ∞) of its "
            "size, as a share of that, against its D in the unit in which all sizes lie on one curve. Lines: O = B "
            "X^−beta of each family's fit; marks apart from their line are what L = E + A N^−alpha + B D^−beta does "
            "not hold. X of two families, each with its own beta, cannot be compared. Fits whose data term cannot "
            "be read are left out."
        )
        alt = f"{here['panel'].nunique()} panels, {len(here)} runs."
        made.append(
            finish(report, "overfitting", f"overfitting{part}", "Overfitting extent against X", caption, alt, drawn)
        )
    return made


def _curves(report: ReportInput) -> list[Figure]:
    frame = curves_frame(report.overfitting)
    made = []
    for part, here in parted(frame):
        drawn = figures.curves(
            here, salt=f"curves{part}", stamp=stamp(report), x_label="step",
            y_label="loss of the own objective", joined=True,
        )  # fmt: skip
        caption = (
            "Training and validation loss at the steps of the validations, of each family's largest size at the "
            "smallest and the largest D of the study, lowest seed. Training loss is the mean since the one "
            "before; for contrastive objectives it is of other, mostly smaller batches and not to be compared."
        )
        alt = f"{here['panel'].nunique()} panels, {len(here)} losses."
        made.append(finish(report, "overfitting", f"curves{part}", "Training and validation loss", caption, alt, drawn))
    return made
