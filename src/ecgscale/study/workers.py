"""The worker processes of a study on one machine, and what they share with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, MutableSequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import torch

from ecgscale.processes import die_with
from ecgscale.study import machine

T = TypeVar("T")


class Shared(NamedTuple):
    """Memory of all processes.

    Attributes:
        steps: The step that the run in each slot has reached, written by the workers.
        flop: What its training has spent in this call, likewise.
        halt: [1]; set to 1, runs save their state and stop.
    """

    steps: MutableSequence[int]
    flop: MutableSequence[float]
    halt: MutableSequence[int]


class Workers:
    """Long-lived processes that die with this one; each is started when a job first needs it.

    Args:
        count: Processes at most.
        threads: CPU threads of each.
        gpus: GPUs they are spread over, one after the other; 0 where they use none.

    Attributes:
        shared: What they share, with `count` slots.
    """

    def __init__(self, count: int, threads: int, gpus: int = 0) -> None:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # before torch is imported in the workers
        self.count, self._threads, self._gpus = count, threads, gpus
        self._context = multiprocessing.get_context("spawn")
        arrays = (self._context.Array(kind, size, lock=False) for kind, size in (("q", count), ("d", count), ("b", 1)))
        self.shared = Shared(*arrays)
        self._processes: list[BaseProcess] = []
        self._pool = self._start()

    def _start(self) -> ProcessPoolExecutor:
        begun = self._context.Value("i", 0)
        given = (self._threads, self._gpus, begun, os.getpid(), self.shared)
        return ProcessPoolExecutor(self.count, self._context, _begin, given)

    def submit(self, job: Callable[..., T], *args: Any) -> Future[T]:
        """Do a job in one of them."""
        future = self._pool.submit(job, *args)
        self._look()
        return future

    def map(self, job: Callable[[Any], T], items: Iterable[Any]) -> Iterator[T]:
        """Do a job with each of the items; results in their order."""
        results = self._pool.map(job, items)
        self._look()
        return results

    def _look(self) -> None:
        self._processes = list((self._pool._processes or {}).values())

    def one_died(self) -> bool:
        """Return whether a process has ended; the pool itself may notice late that one it started late was killed."""
        return any(process.exitcode is not None for process in self._processes)

    def renew(self) -> None:
        """Start anew where one was killed; the others end with it, a frozen one too."""
        self._kill()
        self._pool.shutdown(cancel_futures=True)
        self._processes = []
        self._pool = self._start()

    def _kill(self) -> None:
        for process in self._processes:
            process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self._kill()
        self._pool.shutdown(wait=False, cancel_futures=kind is not None)  # idle workers end while a report is made


_shared: list[Shared] = []  # in a worker: one


def shared() -> Shared:
    """Return, in a worker, what it shares."""
    return _shared[0]


def _begin(threads: int, gpus: int, begun: Any, parent: int, given: Shared) -> None:
    _shared[:] = [given]
    die_with(parent)
    machine.set_up(threads, side_by_side=-(-len(given.steps) // max(gpus, 1)))
    with begun.get_lock():
        number, begun.value = begun.value, begun.value + 1
    if gpus:
        torch.cuda.set_device(number % gpus)  # of this process from now on: "cuda" means it
