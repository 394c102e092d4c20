"""Do what a plan says: a session keeps what waits, what runs and what came of it. It decides; an executor does."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from rich.console import Console

from ecgscale.lab import Lab
from ecgscale.study.display import Display
from ecgscale.study.execute import Budget, Spent, done, pending, trained_weight, weight
from ecgscale.study.executors import Executor, Lost
from ecgscale.study.jobs import Outcome, Work
from ecgscale.study.plan import HANDCRAFTED, Plan, PlannedEval, PlannedRun
from ecgscale.study.stored import load_evaluation

POLL_S = 0.5  # between two looks at the steps of the runs under way
ALONE_S = 120.0  # after which a run that goes on alone is no longer suspected
RETRY_S = 2.0  # before asking again for a run that another process holds


def execute(
    plan: Plan,
    lab: Lab,
    executor: Executor,
    console: Console,
    budget: Budget | None = None,
    spent: Spent | None = None,
) -> tuple[Outcome, dict[str, str]]:
    """Train and evaluate all that is pending, or what a budget allows: then runs save their state and stop.

    Args:
        plan: What to do.
        lab: Where results go; other sessions may work there too.
        executor: Where it is done; nothing is started where nothing is pending.
        console: For the one progress display.
        budget: What may be spent.
        spent: What was before, of the same budget; counted on.

    Returns:
        Totals, and run uid → reason of what failed; `paused` where the budget ended it, `full` where the disk did.
    """
    return _Session(plan, lab, executor, console, budget or Budget(), spent or Spent()).run()


class _Session:
    """One call of `execute`."""

    def __init__(
        self, plan: Plan, lab: Lab, executor: Executor, console: Console, budget: Budget, spent: Spent
    ) -> None:
        self.plan, self.lab, self.executor, self.console = plan, lab, executor, console
        self.budget, self.spent = budget, spent
        runs = pending(plan, lab)
        self.waiting = [Work(None, group) for group in _unmeasured(plan, lab)] + [Work(p) for p in runs]
        self.running: list[Work] = []
        self.suspects: list[Work] = []  # ran when a process was killed: they go on one at a time
        self.losses: Counter[Work] = Counter()  # of each, where it alone was lost
        self.failures: dict[str, str] = {}
        self.trained = self.measured = self.finished = 0
        self.completed, self.jobs, self.total = 0.0, len(runs), sum(map(weight, runs))
        self.ended = False
        self.full: str | None = None
        console.print(f"{plan.study.name}: {len(plan.runs)} runs, {len(runs)} to do, {executor.about}")

    def run(self) -> tuple[Outcome, dict[str, str]]:
        if not self.waiting:
            return Outcome(), self.failures
        with Display(self.console, self.total) as display:
            while (self.waiting and not self.ended) or self.running:
                self._keep_to_budget()
                self._start()
                if not self.running:
                    if self.waiting and not self.ended:
                        time.sleep(RETRY_S)  # all that is left is held by another process, or waits for it
                    continue
                self._end(self.executor.ended(POLL_S))
                display.update(self.completed + self._under_way(), f"{self.finished}/{self.jobs}")
        return Outcome(self.trained, self.measured, paused=self.ended, full=self.full), self.failures

    def _under_way(self) -> float:
        return sum(trained_weight(w.planned, self.executor.progress(w).step) for w in self.running if w.planned)

    def _keep_to_budget(self) -> None:
        flop = self.spent.flop + sum(self.executor.progress(w).flop for w in self.running)
        what = self.budget.spent(time.monotonic() - self.spent.since, flop)
        if what and not self.ended:
            self._stop()
            self.console.print(f"the budget of {what} is spent: runs under way save their state and stop")

    def _stop(self) -> None:
        """Start nothing more; runs under way save their state."""
        self.ended = True
        self.executor.halt()

    def _start(self) -> None:
        """Give work to the executor: in order, or to one alone while there are suspects."""
        now = time.monotonic()
        for w in [w for w in self.suspects if w in self.running and now - w.since > ALONE_S]:
            self._clear(w)
        ready = (
            []
            if self.ended
            else [w for w in _ready(self.waiting, self.plan, self.lab, self.failures) if w.since <= now]
        )
        room = self.executor.slots - len(self.running)
        if self.suspects:
            ready, room = [w for w in ready if w in self.suspects], 0 if self.running else 1
        chosen = list(islice(filter(self._unclaimed, ready), room)) if room > 0 else []
        for w in chosen:
            self.waiting.remove(w)
            w.since = now
        if chosen:
            self.running += chosen
            self.executor.start(chosen)

    def _unclaimed(self, w: Work) -> bool:
        """Return whether work is still to be done, and no process of another session is at it."""
        if w.planned is None:
            return True
        if self.lab.held(self.lab.run(w.key)):
            self._later(w)
            return False
        if done(self.lab, w.planned):
            self.waiting.remove(w)
            self._finish(w)
            return False
        return True

    def _later(self, w: Work) -> None:
        w.since = time.monotonic() + RETRY_S

    def _clear(self, w: Work) -> None:
        """Suspect work no more."""
        self.losses.pop(w, None)
        if w in self.suspects:
            self.suspects.remove(w)

    def _end(self, over: dict[Work, Outcome | Lost]) -> None:
        """Count what came of work that ended."""
        lost = {w: ended for w, ended in over.items() if isinstance(ended, Lost)}
        for w, ended in over.items():
            self.running.remove(w)
            self.spent.flop += ended.flop
            if isinstance(ended, Outcome):
                self._clear(w)
                self._outcome(w, ended)
        again = [w for w, loss in lost.items() if not self._given_up(w, loss, to_blame=self._to_blame(lost))]
        self.waiting[:0] = again
        if again and self.executor.shares_fate:
            self.suspects += [w for w in again if w not in self.suspects]
            self.console.print(f"{lost[again[0]].why}: {len(again)} runs go on from what they saved, one at a time")
        elif again:
            self.console.print(f"{lost[again[0]].why}: {len(again)} runs go on from what they saved")

    def _to_blame(self, lost: dict[Work, Lost]) -> bool:
        return len(lost) == 1 or not self.executor.shares_fate

    def _given_up(self, w: Work, loss: Lost, to_blame: bool) -> bool:
        """Count a loss; work that is lost again and again has failed."""
        self.losses[w] += to_blame
        w.since = 0.0
        if self.losses[w] < self.executor.tries:
            return False
        times = f"lost {self.losses[w]} times: " if self.losses[w] > 1 else ""
        self._clear(w)
        self._outcome(w, Outcome(reason=f"{times}{loss.why}"))
        return True

    def _outcome(self, w: Work, outcome: Outcome) -> None:
        self.trained, self.measured = self.trained + outcome.trained, self.measured + outcome.measured
        if outcome.held:
            self._later(w)
            self.waiting.append(w)
            return
        if outcome.full:
            self.full = self.full or outcome.full
            self._stop()
        if outcome.paused or outcome.full:
            return
        if outcome.reason:
            self.failures[w.key] = outcome.reason
        self._finish(w)

    def _finish(self, w: Work) -> None:
        if w.planned:
            self.finished, self.completed = self.finished + 1, self.completed + weight(w.planned)


def _unmeasured(plan: Plan, lab: Lab) -> list[tuple[PlannedEval, ...]]:
    """Return the evaluations of the hand-crafted features that the lab does not hold, corpus by corpus."""
    by_corpus: dict[Path, list[PlannedEval]] = {}
    for e in plan.handcrafted:
        if load_evaluation(lab, HANDCRAFTED, e.spec) is None:
            by_corpus.setdefault(e.source.path, []).append(e)
    return [tuple(group) for group in by_corpus.values()]


def _ready(waiting: Iterable[Work], plan: Plan, lab: Lab, failures: dict[str, str]) -> list[Work]:
    """Work whose code-book is there, and the trunk it goes on from; a run whose code-book failed fails with it."""

    def there(book: str) -> bool:  # of a failed one, the job says in one sentence that the codes are missing
        return book in failures or lab.codes(book, plan.runs[book].run.corpus).exists()

    def can(p: PlannedRun) -> bool:
        has_parted = p.before is None or p.before in failures or lab.result(p.before) is not None
        return has_parted and (p.codebook is None or there(p.codebook))

    return [w for w in waiting if w.planned is None or can(w.planned)]
