"""Work in long-lived processes on this machine. All of them end where one is killed, and are started anew."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from ecgscale.lab import Lab
from ecgscale.study.executors import ExecutorSpec, Lost, Place, Progress
from ecgscale.study.jobs import Outcome, Where, Work, do
from ecgscale.study.workers import Workers, shared

KILLS = 3  # of its process while it ran alone, after which a run has failed
KILLED = "a worker process was killed (out of memory?)"


class LocalSpec(ExecutorSpec):
    """Processes on this machine; `--workers` says how many work on runs of their own."""

    def open(self, place: Place) -> Local:
        """Return the processes of the session."""
        return Local(place.lab, place.pool, Where(place.device, self.processes, self.sharded))


class Local:
    """Processes that share memory with this one: each work has a slot there for its step and FLOP."""

    shares_fate = True
    tries = KILLS

    def __init__(self, lab: Lab, pool: Workers, where: Where) -> None:
        self.about = f"{pool.count} workers on {where.device}"
        self.slots = pool.count
        self._lab, self._pool, self._where, self.device = lab, pool, where, where.device
        self._free = list(range(pool.count))
        self._running: dict[Future[Outcome], tuple[Work, int]] = {}
        self._over: dict[Work, Outcome | Lost] = {}

    def start(self, works: Sequence[Work]) -> None:
        """Give each work a slot."""
        for todo in works:
            try:
                self._submit(todo)
            except BrokenProcessPool:  # since the last look
                self._renew()
                self._submit(todo)

    def _submit(self, todo: Work) -> None:
        slot = self._free[-1]
        self._pool.shared.steps[slot], self._pool.shared.flop[slot] = 0, 0.0
        future = self._pool.submit(job, self._lab.root, todo, self._where, slot)
        self._running[future] = todo, self._free.pop()

    def ended(self, seconds: float) -> dict[Work, Outcome | Lost]:
        """Return what ended; all that ran is lost where a process was killed."""
        for future in wait(self._running, 0.0 if self._over else seconds, FIRST_COMPLETED).done:
            if isinstance(future.exception(), BrokenProcessPool):
                self._renew()
                break
            self._end(future)
        else:
            if self._pool.one_died():
                self._renew()
        over, self._over = self._over, {}
        return over

    def _end(self, future: Future[Outcome]) -> None:
        todo, slot = self._running.pop(future)
        self._free.append(slot)
        broken = future.cancelled() or isinstance(future.exception(), BrokenProcessPool)
        self._over[todo] = Lost(KILLED, self._pool.shared.flop[slot]) if broken else future.result()

    def _renew(self) -> None:
        """Start new processes; what had ended before is kept, the rest is lost."""
        self._pool.renew()
        for future in list(self._running):
            self._end(future)

    def progress(self, todo: Work) -> Progress:
        """Read the slot of a work."""
        slot = next((slot for w, slot in self._running.values() if w is todo), None)
        return Progress() if slot is None else Progress(self._pool.shared.steps[slot], self._pool.shared.flop[slot])

    def halt(self) -> None:
        """Set the flag that all processes look at."""
        self._pool.shared.halt[0] = 1

    def close(self) -> None:
        """Nothing: the processes belong to the session."""


def job(lab_root: Path, todo: Work, where: Where, slot: int) -> Outcome:
    """Do work in a process of the pool."""

    def progress(step: int, flop: float) -> None:
        shared().steps[slot], shared().flop[slot] = step, flop

    return do(Lab(lab_root), todo, where, progress, lambda: bool(shared().halt[0]))
