"""The honesty checklist of a scaling result, for anybody's table: what it shows, what it hides, and what it cannot say.

Each check reads the table alone and passes, fails or stays unknown, in one sentence. "Unknown" is no reproach: a column
that would tell is not there. Thresholds are those of the project's own rules (8 points and 3 levels for an interval) or
stated in the sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from ecgscale.answers.anyones import TableError, column_to_group_by, fit_groups
from ecgscale.fitting import DERIVED, LawFit
from ecgscale.fitting.uncertainty import MIN_LEVELS, MIN_POINTS

HELD_OUT = 0.05  # mean relative error at the largest level, fitted without it, that still passes
DECADE = 10.0  # largest over smallest level from which an exponent is read
TOGETHER = 0.9  # correlation of log N and log D from which they form no grid
FAMILY = ("backbone", "objective", "pretrain", "eval_corpus", "task", "protocol")  # what makes a curve of a study

Verdict = Literal["pass", "fail", "unknown"]


@dataclass(frozen=True)
class Check:
    """One line of the checklist: what is asked, the verdict, and one sentence."""

    name: str
    verdict: Verdict
    sentence: str


@dataclass(frozen=True)
class Results:
    """A table as the checks see it.

    Attributes:
        rows: All of it.
        groups: {curve: its rows with finite positive N, D and loss}, what laws are fitted to.
        fits: {curve: L(N, D)}.
    """

    rows: pd.DataFrame
    groups: dict[str, pd.DataFrame]
    fits: dict[str, LawFit]

    @property
    def points(self) -> pd.DataFrame:
        """The rows that laws are fitted to."""
        return pd.concat(self.groups.values())


def audit(
    frame: pd.DataFrame, group: str | None = None, bootstraps: int = 200
) -> tuple[list[Check], dict[str, LawFit]]:
    """Check a table and fit L(N, D) to its curves.

    Args:
        frame: One row per measured loss: N, D, value, and any of the columns of a study's table.
        group: The column whose values are curves of their own; None for one curve, or for those of a study.
        bootstraps: Resamples of the runs.

    Returns:
        The checklist, and the fits by curve.

    Raises:
        TableError: N, D or the loss is missing, or no row can be fitted.
    """
    found = curves(frame, group)
    found.fits.update({name: fit_groups(part, bootstraps=bootstraps)[""] for name, part in found.groups.items()})
    return [Check(name, *check(found)) for name, check in CHECKS.items()], found.fits


def curves(frame: pd.DataFrame, group: str | None = None) -> Results:
    """Return a table and its curves, nothing fitted yet; raises as `audit`."""
    if missing := [c for c in ("N", "D", "value") if c not in frame]:
        raise TableError(f"the table has no column for {', '.join(missing)}; name it with --n, --d, --loss")
    return Results(frame, _points(*_told_apart(frame, group)), {})


def _told_apart(frame: pd.DataFrame, group: str | None) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows that may enter a law and the columns that tell curves apart."""
    if group is not None:
        column_to_group_by(frame, group)
        return frame, [group]
    if not {"role", "metric", "part"} <= set(frame):
        return frame, []
    laws = frame[(frame["role"] == "grid") & (frame["metric"] == "loss") & (frame["part"] == "test")]
    if "checkpoint" in laws:
        laws = laws.sort_values("checkpoint").drop_duplicates(["run", *FAMILY[3:]])  # "best" stands before "last"
    return laws, [c for c in FAMILY if c in laws and laws[c].nunique() > 1]


def _points(rows: pd.DataFrame, by: list[str]) -> dict[str, pd.DataFrame]:
    numbers = rows[["N", "D", "value"]].apply(pd.to_numeric, errors="coerce")
    usable = rows[(np.isfinite(numbers) & (numbers > 0)).all(axis=1)]
    if usable.empty:
        raise TableError("no row has a finite, positive N, D and loss; nothing can be checked")
    if not by:
        return {"": usable}
    return {" ".join(map(str, key)): part for key, part in usable.groupby(by, sort=True)}


def _worst(groups: Mapping[str, pd.DataFrame], few: Callable[[pd.DataFrame], float]) -> tuple[float, str]:
    """Return the smallest value over the curves, and the curve that has it, as words."""
    values = {name: few(part) for name, part in groups.items()}
    name = min(values, key=lambda n: values[n])
    return values[name], f" ({name})" if name else ""


def _levels(found: Results) -> tuple[Verdict, str]:
    levels, where = _worst(found.groups, lambda p: min(p["N"].nunique(), p["D"].nunique()))
    points, curve = _worst(found.groups, len)
    if levels < MIN_LEVELS or points < MIN_POINTS:
        return "fail", (f"as few as {levels:g} levels of an axis{where} and {points:g} points{curve}; an interval "
                        f"needs {MIN_LEVELS} levels of N and of D and {MIN_POINTS} points")  # fmt: skip
    return "pass", f"at least {levels:g} levels of N and D and {points:g} points on every curve"


def _span(found: Results) -> tuple[Verdict, str]:
    span, where = _worst(found.groups, lambda p: min(p[a].max() / p[a].min() for a in ("N", "D")))
    words = f"the shorter axis spans a factor of {span:.3g}{where}"
    if span < DECADE:
        return "fail", f"{words}; an exponent read from less than {DECADE:g} is carried by noise, and not beyond it"
    return "pass", f"{words}; claims beyond the largest level are extrapolations however long it is"


def _grid(found: Results) -> tuple[Verdict, str]:
    def apart(part: pd.DataFrame) -> float:
        n, d = np.log(part["N"].to_numpy(float)), np.log(part["D"].to_numpy(float))
        return 0.0 if n.std() == 0 or d.std() == 0 else 1 - abs(float(np.corrcoef(n, d)[0, 1]))

    free, where = _worst(found.groups, apart)
    if free < 1 - TOGETHER:
        return "fail", f"N and D move together, correlation {1 - free:.2f}{where}: their effects cannot be told apart"
    return "pass", f"N and D vary apart, correlation at most {1 - free:.2f}"


def _seeds(found: Results) -> tuple[Verdict, str]:
    most, where = _worst(found.groups, lambda p: p.groupby(["N", "D"]).size().max())
    if most < 2:
        return "fail", f"one run per cell everywhere{where}: what a seed changes is not known"
    share = float(np.mean([p.groupby(["N", "D"]).size().gt(1).mean() for p in found.groups.values()]))
    return "pass", f"{share:.0%} of the cells have several runs"


def _repeated(found: Results) -> tuple[Verdict, str]:
    twice = sum(int(p.duplicated(["N", "D", "value"]).sum()) for p in found.groups.values())
    if twice:
        return "fail", f"{twice} rows repeat N, D and loss of another: one run counted twice narrows every interval"
    return "pass", "no row repeats another"


def _is_loss(found: Results) -> tuple[Verdict, str]:
    def falls(part: pd.DataFrame) -> float:
        """Return by how much no rank correlation exceeds both a half and what chance gives in one of 200 tables."""
        ranks = part[["N", "D", "value"]].rank()
        chance = 2.6 / max(len(part) - 1, 1) ** 0.5
        return float(max(0.5, chance) - ranks.corr()["value"].drop("value").max())

    least, where = _worst(found.groups, falls)
    if least < 0:
        return "fail", f"values rise with size or data{where}: a score is no loss, and a law of a loss does not fit it"
    return "pass", "values do not rise with size or data"


def _held_out(found: Results) -> tuple[Verdict, str]:
    errors = {f"{name} {axis}".strip(): h["error"] for name, f in found.fits.items() for axis, h in f.holdout.items()}
    if not errors:
        return "unknown", "too few points to hold out the largest size and the largest data"
    name = max(errors, key=lambda n: errors[n])
    words = f"fitted without the largest level, it is missed by up to {errors[name]:.1%} ({name})"
    return ("pass", words) if errors[name] <= HELD_OUT else ("fail", f"{words}, more than {HELD_OUT:.0%}")


def _identified(found: Results) -> tuple[Verdict, str]:
    bad = {name: f.status for name, f in found.fits.items() if f.status != "converged"}
    if not bad:
        return "pass", "every exponent is identified and two independent fits agree"
    name, status = next(iter(bad.items()))
    why = "; ".join(found.fits[name].warnings)
    return "fail", f"{len(bad)} of {len(found.fits)} fits are not clean, as {name or 'the fit'}: {status} ({why})"


def _counted(found: Results) -> tuple[Verdict, str]:
    if "N_total" in found.rows:
        return "pass", "N, the encoder that is kept, and N_total, all that was trained, are both given"
    return "unknown", "one count of N: say whether embeddings, heads and teachers are in it, and whether a refit agrees"


def _unique(found: Results) -> tuple[Verdict, str]:
    if "seen" not in found.rows:
        return "unknown", "D alone: whether it counts unique records or repeats cannot be seen"
    passes = found.points["seen"] / found.points["D"]
    if passes.max() > 1.05 * passes.min():
        return "fail", (f"records were drawn {passes.min():.3g} to {passes.max():.3g} times: repeats are mixed "
                        "with D; fit data_constrained beside it")  # fmt: skip
    return "pass", f"every unique record was drawn {passes.mean():.3g} times"


def _compute(found: Results) -> tuple[Verdict, str]:
    if "C" not in found.rows:
        return "unknown", "no compute is given, so no compute-optimal size can be checked"
    if DERIVED in found.rows:
        return "unknown", "D was not given and is taken as C / 6 N, so whether C was measured cannot be seen"
    points = found.points
    rule = 6 * points["N"] * points.get("seen", points["D"])
    if np.allclose(points["C"], rule, rtol=0.01):
        return "fail", "compute is 6 N D to the percent: a rule of thumb for dense models on tokens, not a measurement"
    return "pass", "compute is not the rule 6 N D"


def _baselines(found: Results) -> tuple[Verdict, str]:
    rows = found.rows
    named = rows["role"].eq("baseline").any() if "role" in rows else False
    if named or rows["D"].eq(0).any() or rows["N"].eq(0).any():
        return "pass", "baselines without training (D = 0) or without a network (N = 0) stand in the table"
    return "fail", "no random-weights (D = 0) or hand-crafted (N = 0) baseline: what training bought cannot be seen"


def _shift(found: Results) -> tuple[Verdict, str]:
    rows = found.rows
    if "split" not in rows:
        return "unknown", "nothing says which results are out of distribution, nor whether that was fixed beforehand"
    far = rows[rows["split"] == "ood"]
    if len(far) and ("shift" not in rows or far["shift"].isna().any()):
        return (
            "fail",
            "results are called out of distribution without a rule of the shift; chosen afterwards, it flatters",
        )
    return (
        "pass",
        "every out-of-distribution result carries its kind of shift; that it was stated before, ask the authors",
    )


def _chosen(found: Results) -> tuple[Verdict, str]:
    rows = found.rows
    if "part" not in rows:
        return (
            "unknown",
            "the part (validation, test) is not given: checkpoints or rates may have been chosen on the test",
        )
    if "validation" in set(rows["part"]):
        return "pass", "losses of the validation part stand beside those of the test part"
    return "fail", "only test losses are given: what chose checkpoints and rates cannot have been anything else"


def _rates(found: Results) -> tuple[Verdict, str]:
    rows = found.rows
    if "role" in rows and rows["role"].eq("tune").any():
        return "pass", "the trials that tuned the learning rate stand in the table"
    if "lr" not in rows:
        return "unknown", "learning rates are not given: sizes tuned unequally bend a law"
    fixed = [name for name, p in found.groups.items() if p["N"].nunique() > 1 and p["lr"].nunique() == 1]
    if fixed:
        return (
            "fail",
            f"one learning rate for all sizes{f' ({fixed[0]})' if fixed[0] else ''}: the larger are handicapped",
        )
    return "pass", "learning rates differ between sizes; the search that found them is not in the table"


def _patients(found: Results) -> tuple[Verdict, str]:
    if {"lo", "hi"} <= set(found.rows) and found.points[["lo", "hi"]].notna().all(axis=None):
        return "pass", "every loss has an interval of its own"
    return "fail", "losses without intervals: how much the test patients alone would move them is not known"


def _failures(found: Results) -> tuple[Verdict, str]:
    rows = found.rows
    if "status" in rows:
        return "pass", f"{int((rows['status'] == 'failed').sum())} failed runs are listed"
    lost = int(pd.to_numeric(rows["value"], errors="coerce").isna().sum())
    if lost:
        return "fail", f"{lost} rows have no loss and no reason"
    return "unknown", "no column says which runs failed; a grid without failures is rare"


CHECKS: dict[str, Callable[[Results], tuple[Verdict, str]]] = {
    "enough levels": _levels,
    "long enough axes": _span,
    "a grid, no diagonal": _grid,
    "several seeds": _seeds,
    "no run counted twice": _repeated,
    "a loss, no score": _is_loss,
    "largest level held out": _held_out,
    "exponents identified": _identified,
    "N defined": _counted,
    "D unique": _unique,
    "compute measured": _compute,
    "baselines present": _baselines,
    "shift stated": _shift,
    "nothing chosen on the test": _chosen,
    "learning rates tuned": _rates,
    "intervals of patients": _patients,
    "failures shown": _failures,
}
