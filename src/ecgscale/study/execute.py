"""Do what a plan says, in long-lived worker processes on this machine; what the lab already holds is skipped."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from ecgscale.lab import DiskFull, Lab
from ecgscale.study import work
from ecgscale.study.bind import Binder, Source
from ecgscale.study.display import Display
from ecgscale.study.expand import HANDCRAFTED, Plan, PlannedEval, PlannedRun
from ecgscale.study.stored import load_evaluation
from ecgscale.study.study import Study, StudyError
from ecgscale.study.workers import Workers, shared
from ecgscale.training.pretrain import Paused

POLL_S = 0.5  # between two looks at the steps of the runs under way
EVALUATION = 1500  # records drawn in training that cost as much as a run's evaluations
KILLS = 3  # of its process while it ran alone, after which a run has failed
ALONE_S = 120.0  # after which a run that goes on alone is no longer suspected
RETRY_S = 2.0  # before asking again for a run that another process holds


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job did: `trained` runs, `measured` evaluations, or the reason it failed; `held` by another process;
    `paused` with its state saved; `full`: why nothing more can be written."""

    trained: int = 0
    measured: int = 0
    held: bool = False
    paused: bool = False
    full: str | None = None
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


def _job(lab_root: Path, planned: PlannedRun, device: str, slot: int) -> Outcome:
    lab = Lab(lab_root)

    def progress(step: int, flop: float) -> None:
        shared().steps[slot], shared().flop[slot] = step, flop

    try:
        trained = work.train(lab, planned, device, progress, lambda: bool(shared().halt[0]))
        if lab.result(planned.run.uid) is None:
            return Outcome(held=True)
        if planned.role == "codebook":
            work.cache_codes(lab, planned, device)
        return Outcome(int(trained and planned.run.objective is not None), work.evaluate_run(lab, planned, device))
    except Paused:
        return Outcome(paused=True)
    except DiskFull as error:
        return Outcome(full=str(error))
    except Exception as error:  # one run's failure is a row of the table, never the end of the study
        return Outcome(reason=work.failure(error))


def _handcrafted_job(lab_root: Path, evaluations: tuple[PlannedEval, ...]) -> Outcome:
    try:
        return Outcome(measured=work.evaluate_handcrafted(Lab(lab_root), evaluations))
    except DiskFull as error:
        return Outcome(full=str(error))
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
    drawn = (planned.run.recipe.steps - planned.begins) * planned.run.recipe.batch + EVALUATION
    return float(drawn) * (1 + planned.target / 50_000)


def trained_weight(planned: PlannedRun, step: int) -> float:
    """Return the part of a run's weight that is done when its training has reached `step`."""
    batch, own = planned.run.recipe.batch, planned.run.recipe.steps - planned.begins
    drawn = batch * min(max(step - planned.begins, 0), own)
    return weight(planned) * drawn / (batch * own + EVALUATION)


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
        Totals, and run uid → reason of what failed; `paused` where the budget ended it, `full` where the disk did.
    """
    return _Session(plan, lab, workers, device, executor, console, budget, spent or Spent()).run()


@dataclass(slots=True, eq=False)
class _Work:
    """A run, or hand-crafted features to measure; the slot it works in; when it began, or may begin again."""

    planned: PlannedRun | None
    evaluations: tuple[PlannedEval, ...] = ()
    slot: int = -1
    since: float = 0.0

    @property
    def key(self) -> str:
        return self.planned.run.uid if self.planned else HANDCRAFTED


class _Session:
    """One call of `execute`: what waits, what runs, and what came of it."""

    def __init__(
        self, plan: Plan, lab: Lab, workers: int, device: str, executor: Workers, console: Console, budget: Budget,
        spent: Spent,
    ) -> None:  # fmt: skip
        self.plan, self.lab, self.device, self.executor, self.console = plan, lab, device, executor, console
        self.budget, self.spent = budget, spent
        runs = pending(plan, lab)
        self.waiting = [_Work(None, group) for group in _unmeasured(plan, lab)] + [_Work(p) for p in runs]
        self.running: dict[Future[Outcome], _Work] = {}
        self.free = list(range(workers))
        self.suspects: list[_Work] = []  # ran when a process was killed: they go on one at a time
        self.kills: Counter[_Work] = Counter()
        self.failures: dict[str, str] = {}
        self.trained = self.measured = self.finished = 0
        self.completed, self.jobs, self.total = 0.0, len(runs), sum(map(weight, runs))
        self.ended = False
        self.full: str | None = None
        console.print(f"{plan.study.name}: {len(plan.runs)} runs, {len(runs)} to do, {workers} workers on {device}")

    def run(self) -> tuple[Outcome, dict[str, str]]:
        if not self.waiting:
            return Outcome(), self.failures
        with Display(self.console, self.total) as display:
            while (self.waiting and not self.ended) or self.running:
                self._keep_to_budget()
                self._start()
                if not self.running:
                    if not self.ended:
                        time.sleep(RETRY_S)  # all that is left is held by another process, or waits for it
                    continue
                for future in wait(self.running, POLL_S, FIRST_COMPLETED).done:
                    if isinstance(future.exception(), BrokenProcessPool):
                        self._killed()
                        break
                    self._end(self.running.pop(future), future.result())
                else:
                    if self.executor.one_died():
                        self._killed()
                display.update(self.completed + self._under_way(), f"{self.finished}/{self.jobs}")
        return Outcome(self.trained, self.measured, paused=self.ended, full=self.full), self.failures

    def _under_way(self) -> float:
        steps = self.executor.shared.steps
        return sum(trained_weight(w.planned, steps[w.slot]) for w in self.running.values() if w.planned)

    def _keep_to_budget(self) -> None:
        flop = self.spent.flop + sum(self.executor.shared.flop[w.slot] for w in self.running.values())
        what = self.budget.spent(time.monotonic() - self.spent.since, flop)
        if what and not self.ended:
            self._stop()
            self.console.print(f"the budget of {what} is spent: runs under way save their state and stop")

    def _stop(self) -> None:
        """Start nothing more; runs under way save their state."""
        self.ended, self.executor.shared.halt[0] = True, 1

    def _start(self) -> None:
        """Give work to free slots: in order, or to one alone while there are suspects."""
        ready = [] if self.ended else _ready(self.waiting, self.plan, self.lab, self.failures)
        now = time.monotonic()
        for w in [w for w in self.suspects if w in self.running.values() and now - w.since > ALONE_S]:
            self._clear(w)
        ready = [w for w in ready if w.since <= now]
        if self.suspects:
            ready = [w for w in ready if w in self.suspects][: 0 if self.running else 1]
        for w in ready[: len(self.free)]:
            self.waiting.remove(w)
            w.slot, w.since = self.free.pop(), now
            self.executor.shared.steps[w.slot], self.executor.shared.flop[w.slot] = 0, 0.0
            try:
                if w.planned:
                    future = self.executor.submit(_job, self.lab.root, w.planned, self.device, w.slot)
                else:
                    future = self.executor.submit(_handcrafted_job, self.lab.root, w.evaluations)
            except BrokenProcessPool:  # since the last look
                self._put_back(w)
                self._killed()
                return
            self.running[future] = w

    def _clear(self, w: _Work) -> None:
        """Suspect work no more."""
        self.kills.pop(w, None)
        if w in self.suspects:
            self.suspects.remove(w)

    def _put_back(self, w: _Work) -> None:
        self.free.append(w.slot)
        self.waiting.insert(0, w)

    def _end(self, w: _Work, outcome: Outcome) -> None:
        """Count what came of work."""
        self.trained, self.measured = self.trained + outcome.trained, self.measured + outcome.measured
        self.spent.flop += self.executor.shared.flop[w.slot]
        self._clear(w)
        if outcome.held:
            self._put_back(w)
            self.waiting.append(self.waiting.pop(0))
            w.since = time.monotonic() + RETRY_S
            return
        self.free.append(w.slot)
        if outcome.full:
            self.full = self.full or outcome.full
            self._stop()
        if outcome.paused or outcome.full:
            return
        if outcome.reason:
            self.failures[w.key] = outcome.reason
        if w.planned:
            self.finished, self.completed = self.finished + 1, self.completed + weight(w.planned)

    def _killed(self) -> None:
        """A process was killed, and all others ended with it: go on with new ones; work that is killed alone fails."""
        self.executor.renew()
        for future in list(self.running):
            if future.done() and future.exception() is None:
                self._end(self.running.pop(future), future.result())
        lost = list(self.running.values())
        self.running.clear()
        for w in lost:
            self.kills[w] += len(lost) == 1
            if self.kills[w] >= KILLS:
                self._end(w, Outcome(reason="its process was killed again and again (out of memory?)"))
                continue
            self.spent.flop += self.executor.shared.flop[w.slot]
            self._put_back(w)
            w.since = 0.0
            self.suspects += [w] if w not in self.suspects else []
        self.console.print(
            f"a worker process was killed (out of memory?): {len(lost)} runs go on from what they saved, one at a time"
        )


def _unmeasured(plan: Plan, lab: Lab) -> list[tuple[PlannedEval, ...]]:
    """Return the evaluations of the hand-crafted features that the lab does not hold, corpus by corpus."""
    by_corpus: dict[Path, list[PlannedEval]] = {}
    for e in plan.handcrafted:
        if load_evaluation(lab, HANDCRAFTED, e.spec) is None:
            by_corpus.setdefault(e.source.path, []).append(e)
    return [tuple(group) for group in by_corpus.values()]


def _ready(waiting: Iterable[_Work], plan: Plan, lab: Lab, failures: dict[str, str]) -> list[_Work]:
    """Work whose code-book is there, and the trunk it goes on from; a run whose code-book failed fails with it."""

    def there(book: str) -> bool:  # of a failed one, the job says in one sentence that the codes are missing
        source = plan.runs[book].source
        return book in failures or work.codes_path(lab, book, work.opened(source.path)).exists()

    def parted(uid: str) -> bool:
        return uid in failures or lab.result(uid) is not None

    return [
        w for w in waiting
        if w.planned is None
        or ((w.planned.codebook is None or there(w.planned.codebook))
            and (w.planned.before is None or parted(w.planned.before)))
    ]  # fmt: skip
