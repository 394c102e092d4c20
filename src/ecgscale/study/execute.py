"""Do what a plan says, in long-lived worker processes on this machine; what the lab already holds is skipped."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterable, MutableSequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from ecgscale.lab import Lab
from ecgscale.study import work
from ecgscale.study.bind import Binder, Source
from ecgscale.study.display import Display
from ecgscale.study.expand import HANDCRAFTED, Plan, PlannedEval, PlannedRun
from ecgscale.study.stored import load_evaluation
from ecgscale.study.study import Study
from ecgscale.training.pretrain import Paused

PR_SET_PDEATHSIG = 1
POLL_S = 0.5  # between two looks at the steps of the runs under way
EVALUATION = 1500  # records drawn in training that cost as much as a run's evaluations
RETRY_S = 2.0  # before asking again for a run that another process holds


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job did: `trained` runs, `measured` evaluations, or the reason it failed; `held` by another process, or
    `paused` with its state saved."""

    trained: int = 0
    measured: int = 0
    held: bool = False
    paused: bool = False
    reason: str | None = None


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


class Workers(ProcessPoolExecutor):
    """Long-lived processes that die with this one; each is started when a job first needs it.

    Args:
        count: Processes at most.
        threads: CPU threads of each.

    Attributes:
        steps: The step that the run in each slot [count] has reached, written by the workers.
        flop: What its training has spent in this call.
        halt: Set to 1, runs save their state and stop.
    """

    def __init__(self, count: int, threads: int) -> None:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # before torch is imported in the workers
        context = multiprocessing.get_context("spawn")
        self.steps = context.Array("q", count, lock=False)
        self.flop = context.Array("d", count, lock=False)
        self.halt = context.Array("b", 1, lock=False)
        super().__init__(count, context, _begin, (threads, os.getpid(), _Shared(self.steps, self.flop, self.halt)))


class _Shared(NamedTuple):
    """What a worker shares with the process that started it, see `Workers`."""

    steps: MutableSequence[int]
    flop: MutableSequence[float]
    halt: MutableSequence[int]


_shared = _Shared([], [], [0])  # in a worker


def _begin(threads: int, parent: int, shared: _Shared) -> None:
    global _shared
    _shared = shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    work.set_up(threads)


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
    for future in [workers.submit(_ingest, source) for source in sources]:
        future.result()


def _ingest(source: Source) -> None:
    source.open()


def _job(lab_root: Path, planned: PlannedRun, device: str, slot: int) -> Outcome:
    lab = Lab(lab_root)

    def progress(step: int, flop: float) -> None:
        _shared.steps[slot], _shared.flop[slot] = step, flop

    try:
        trained = work.train(lab, planned, device, progress, lambda: bool(_shared.halt[0]))
        if lab.result(planned.run.uid) is None:
            return Outcome(held=True)
        if planned.role == "codebook":
            work.cache_codes(lab, planned, device)
        return Outcome(int(trained and planned.run.objective is not None), work.evaluate_run(lab, planned, device))
    except Paused:
        return Outcome(paused=True)
    except Exception as error:  # one run's failure is a row of the table, never the end of the study
        return Outcome(reason=work.failure(error))


def _handcrafted_job(lab_root: Path, evaluations: tuple[PlannedEval, ...]) -> Outcome:
    try:
        return Outcome(measured=work.evaluate_handcrafted(Lab(lab_root), evaluations))
    except Exception as error:
        return Outcome(reason=work.failure(error))


def pending(plan: Plan, lab: Lab) -> list[PlannedRun]:
    """Return the planned runs that are not trained or not fully evaluated, code-books first, then cheapest first.

    A run whose learning rate is still searched is not among them.
    """
    open_runs = [p for p in plan.runs.values() if not (p.provisional or _done(lab, p))]
    return sorted(open_runs, key=lambda p: (p.role != "codebook", weight(p)))


def _done(lab: Lab, planned: PlannedRun) -> bool:
    if lab.result(planned.run.uid) is None:
        return False
    if planned.role == "codebook":
        return work.codes_path(lab, planned.run.uid, work.opened(planned.source.path)).exists()
    return all(load_evaluation(lab, planned.run.uid, e.spec) is not None for e in planned.evaluations)


def weight(planned: PlannedRun) -> float:
    """Return a run's expected share of the work: records drawn, times a cost growing with size, and evaluation."""
    drawn = planned.run.recipe.steps * planned.run.recipe.batch + EVALUATION
    return float(drawn) * (1 + planned.target / 50_000)


def trained_weight(planned: PlannedRun, step: int) -> float:
    """Return the part of a run's weight that is done when its training has reached `step`."""
    drawn = planned.run.recipe.batch * min(step, planned.run.recipe.steps)
    return weight(planned) * drawn / (planned.run.recipe.batch * planned.run.recipe.steps + EVALUATION)


def execute(
    plan: Plan,
    lab: Lab,
    workers: int,
    device: str,
    executor: Workers,
    console: Console,
    budget: Budget = Budget(),
    spent: Spent | None = None,
) -> tuple[Outcome, dict[str, str]]:
    """Train and evaluate all that is pending, or what a budget allows: then runs save their state and stop.

    Args:
        plan: What to do.
        lab: Where results go.
        workers: Runs in flight, at most those of `executor`.
        device: "cpu" or "cuda".
        executor: The processes; none is started where nothing is pending.
        console: For the one progress display.
        budget: What may be spent.
        spent: What was before, of the same budget; counted on.

    Returns:
        Totals, and run uid → reason of what failed; `paused` where the budget ended it.

    Raises:
        RuntimeError: a worker was killed.
    """
    waiting = pending(plan, lab)
    console.print(f"{plan.study.name}: {len(plan.runs)} runs, {len(waiting)} to do, {workers} workers on {device}")
    handcrafted = {executor.submit(_handcrafted_job, lab.root, group) for group in _unmeasured(plan, lab)}
    running: dict[Future[Outcome], tuple[PlannedRun, int]] = {}  # and the slot of its steps
    free = list(range(workers))
    failures: dict[str, str] = {}
    spent = spent or Spent()
    trained = measured = finished = 0
    ended = False
    completed, jobs = 0.0, len(waiting)
    if not waiting and not handcrafted:
        return Outcome(), failures
    with Display(console, sum(map(weight, waiting))) as display:
        while (waiting and not ended) or running or handcrafted:
            under_way = sum(executor.flop[slot] for _, slot in running.values())
            if not ended and (what := budget.spent(time.monotonic() - spent.since, spent.flop + under_way)):
                ended, executor.halt[0] = True, 1
                console.print(f"the budget of {what} is spent: runs under way save their state and stop")
                continue
            room = 0 if ended else max(0, workers - len(running) - len(handcrafted))
            for planned in _ready(waiting, plan, lab, failures)[:room]:
                waiting.remove(planned)
                slot = free.pop()
                executor.steps[slot], executor.flop[slot] = 0, 0.0
                running[executor.submit(_job, lab.root, planned, device, slot)] = planned, slot
            if not running and not handcrafted:
                time.sleep(RETRY_S)  # all that is left is held by another process, or waits for it
                continue
            for future in wait([*running, *handcrafted], POLL_S, FIRST_COMPLETED).done:
                outcome = _outcome(future)
                trained, measured = trained + outcome.trained, measured + outcome.measured
                if future in handcrafted:
                    handcrafted.remove(future)
                    if outcome.reason:
                        failures[HANDCRAFTED] = outcome.reason
                    continue
                planned, slot = running.pop(future)
                free.append(slot)
                spent.flop += executor.flop[slot]
                if outcome.paused:
                    continue
                if outcome.held:
                    waiting.append(planned)
                    time.sleep(RETRY_S if not running else 0)
                    continue
                if outcome.reason:
                    failures[planned.run.uid] = outcome.reason
                finished, completed = finished + 1, completed + weight(planned)
            part = sum(trained_weight(planned, executor.steps[slot]) for planned, slot in running.values())
            display.update(completed + part, f"{finished}/{jobs}")
    return Outcome(trained, measured, paused=ended), failures


def _unmeasured(plan: Plan, lab: Lab) -> list[tuple[PlannedEval, ...]]:
    """Return the evaluations of the hand-crafted features that the lab does not hold, corpus by corpus."""
    by_corpus: dict[Path, list[PlannedEval]] = {}
    for e in plan.handcrafted:
        if load_evaluation(lab, HANDCRAFTED, e.spec) is None:
            by_corpus.setdefault(e.source.path, []).append(e)
    return [tuple(group) for group in by_corpus.values()]


def _outcome(future: Future[Outcome]) -> Outcome:
    try:
        return future.result()
    except BrokenProcessPool:
        raise RuntimeError(
            "a worker process was killed (out of memory?); what is finished is kept: run the same command again"
        ) from None


def _ready(waiting: Iterable[PlannedRun], plan: Plan, lab: Lab, failures: dict[str, str]) -> list[PlannedRun]:
    """Runs whose code-book is there; a run whose code-book failed fails with it."""
    ready = []
    for planned in list(waiting):
        if planned.codebook is None:
            ready.append(planned)
        elif planned.codebook in failures:
            ready.append(planned)  # its job says in one sentence that the codes are missing
        else:
            book = plan.runs[planned.codebook]
            if work.codes_path(lab, planned.codebook, work.opened(book.source.path)).exists():
                ready.append(planned)
    return ready
