"""What a study still has to do, in which order, and what may be spent on it; what the lab already holds is skipped."""

from __future__ import annotations

import time
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from ecgscale.lab import Lab
from ecgscale.study.bind import Binder, Source
from ecgscale.study.plan import HANDCRAFTED, Plan, PlannedRun
from ecgscale.study.study import Study, StudyError
from ecgscale.study.watched import Watch, Watched
from ecgscale.study.workers import Workers


@dataclass(frozen=True, slots=True)
class Budget:
    """What one call may spend; None is without end.

    Attributes:
        hours: Of wall time, from the call on.
        flop: Of training.
    """

    hours: float | None = None
    flop: float | None = None

    def spent(self, seconds: float, flop: float) -> str | None:
        """Return which of the two is spent, in words, or None."""
        if self.hours is not None and seconds >= 3600 * self.hours:
            return f"{self.hours:g} hours"
        if self.flop is not None and flop >= self.flop:
            return f"{self.flop:.3g} FLOP"
        return None


@dataclass(slots=True)
class Spent:
    """What a call has spent: since when (time.monotonic), and FLOP of training."""

    since: float = field(default_factory=time.monotonic)
    flop: float = 0.0


def missing(study: Study, binder: Binder) -> list[Source]:
    """Return the sources of a study whose corpora the lab does not hold.

    Raises:
        StudyError: data are not bound.
    """
    sources: dict[Path, Source] = {}
    for arm in study.arm:
        wanted = [binder.pretrain(arm), *(binder.source(e.data, arm) for e in study.evaluate if e.data != "pretrain")]
        sources |= {s.path: s for s in wanted if s is not None and not (s.path / "manifest.json").exists()}
    return list(sources.values())


def prepare(study: Study, binder: Binder, workers: Workers | None, console: Console) -> None:
    """Ingest the corpora of a study that the lab does not hold, side by side.

    Raises:
        Explained: data are not bound, or a source cannot be brought to its form: said of every source by its first
            record before any is ingested.
    """
    sources = missing(study, binder)
    if not sources:
        return
    for source in sources:
        source.check()
    console.print(f"ingesting {', '.join(s.label for s in sources)}")
    if workers is None:
        for source in sources:
            source.open()
        return
    spare = max(1, len(workers.shared.steps) - len(sources) + 1)  # processes for a source that has many records
    try:
        for future in [workers.submit(_ingest, source, spare) for source in sources]:
            future.result()
    except BrokenProcessPool:
        raise StudyError(
            "a process was killed while it ingested (out of memory?); what it had read is kept: run the same command "
            "again"
        ) from None


def _ingest(source: Source, processes: int) -> None:
    source.open(processes)


def pending(plan: Plan, lab: Lab) -> list[PlannedRun]:
    """Return the planned runs that are not trained or not fully evaluated.

    Code-books come first; then the smallest size of every family, its next size, and so on, the cheapest of them first.
    A run whose learning rate is still searched is not among them.
    """
    sizes: dict[str, set[int]] = {}
    for p in plan.runs.values():
        sizes.setdefault(p.run.family, set()).add(p.target)
    place = {(family, size): i for family, found in sizes.items() for i, size in enumerate(sorted(found))}

    def order(p: PlannedRun) -> tuple[bool, int, float]:
        return p.role != "codebook", place[p.run.family, p.target], weight(p)

    return sorted((p for p in plan.runs.values() if not (p.provisional or done(lab, p))), key=order)


def done(lab: Lab, planned: PlannedRun) -> bool:
    """Return whether a run is trained and fully evaluated."""
    return watched(planned).done(lab)


def weight(planned: PlannedRun) -> float:
    """Return a run's expected share of the work."""
    return watched(planned).weight


def trained_weight(planned: PlannedRun, step: int) -> float:
    """Return the part of a run's weight that is done when its training has reached `step`."""
    return watched(planned).trained(step)


def watch(plan: Plan) -> Watch:
    """Return what a look at a plan needs."""
    handcrafted = [(HANDCRAFTED, e.spec.uid) for e in plan.handcrafted]
    return Watch(plan.study.name, {key: watched(p) for key, p in plan.runs.items()}, handcrafted)


def watched(planned: PlannedRun) -> Watched:
    """Return what a look at a run needs."""
    run = planned.run
    return Watched(
        uid=run.uid, family=run.family, arm=planned.arm, role=planned.role, size=planned.target, D=run.D, seed=run.seed,
        steps=run.recipe.steps, batch=run.recipe.batch, begins=planned.begins,
        measured=tuple(e.spec.uid for e in planned.evaluations), provisional=planned.provisional,
        codes=run.corpus if planned.role == "codebook" else None,
    )  # fmt: skip
