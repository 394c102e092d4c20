"""What there is to do for a study, as values: runs, evaluations, searches of learning rates, and what is left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ecgscale.data import intervals
from ecgscale.evaluation.evaluate import EvalSpec
from ecgscale.runs import RunSpec
from ecgscale.study.bind import Source
from ecgscale.study.shift import Relation
from ecgscale.study.study import Study
from ecgscale.study.tuning import Tuned

NO_ENCODER = "hand-crafted features have no encoder to train on or to read tokens of"
OF_WHOLE_RECORDS = "hand-crafted features are of whole records"
HANDCRAFTED = f"handcrafted-{intervals.REVISION}"  # stands for a run's uid


@dataclass(frozen=True, slots=True)
class PlannedEval:
    """An evaluation and how the table names it."""

    spec: EvalSpec
    source: Source
    split: str
    shift: str
    title: str
    relation: Relation | None = None  # to the pre-training corpus

    @property
    def plain(self) -> bool:
        """Whether it is the exact linear probe on all labels, whose losses in nats families are compared by."""
        whole = self.spec.crop_s is None and self.spec.fraction == 1.0
        return whole and (self.spec.protocol, self.spec.task.output) == ("linear", "binary")

    @property
    def not_by_hand(self) -> str | None:
        """Why hand-crafted features cannot be measured so, or None."""
        return NO_ENCODER if self.spec.trains else OF_WHOLE_RECORDS if self.spec.crop_s is not None else None


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run, where it stands in the study, and what is measured on it."""

    run: RunSpec
    arm: str
    # `grid` only where the arm enters the laws; `labels`: on a subset of its family's labels, which enters the law of
    # labels alone; `branch`: of a shorter point of a trunk
    role: str
    target: int  # parameters asked for
    source: Source
    codebook: str | None  # uid of the run whose codes it predicts
    evaluations: tuple[PlannedEval, ...]
    provisional: bool = False  # its learning rate is still searched: priced, not run
    before: str | None = None  # uid of the run on whose trunk it goes on
    begins: int = 0  # the step from which it goes on there
    label_order: str = ""  # of a subset of labels: "frequency" or "random"


@dataclass(frozen=True, slots=True)
class Search:
    """The search of one family's learning rate at one size."""

    family: str
    arm: str
    size: int  # parameters asked for
    D: int
    criterion: str
    found: Tuned


@dataclass
class Plan:
    """All there is to do for a study."""

    study: Study
    runs: dict[str, PlannedRun] = field(default_factory=dict)
    handcrafted: list[PlannedEval] = field(default_factory=list)
    encoded: list[PlannedEval] = field(default_factory=list)  # by an encoder alone, see `PlannedEval.not_by_hand`
    skipped: list[dict[str, str]] = field(default_factory=list)  # {what, reason}
    sources: dict[str, Source] = field(default_factory=dict)  # label → source
    overlaps: list[dict[str, Any]] = field(default_factory=list)
    floors: dict[str, dict[str, float]] = field(default_factory=dict)  # corpus label → task → nats
    notes: list[str] = field(default_factory=list)
    tuning: list[Search] = field(default_factory=list)

    @property
    def waiting(self) -> bool:
        """Whether learning rates are still searched: the grid then stands in the plan with the rates it starts from."""
        return any(s.found.waiting for s in self.tuning)

    def skip(self, what: str, reason: str) -> None:
        """Note once what is left out and why."""
        entry = {"what": what, "reason": reason}
        if entry not in self.skipped:
            self.skipped.append(entry)
