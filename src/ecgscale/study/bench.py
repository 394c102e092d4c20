"""What this machine makes of a study's runs: a probe of all its workers at once, kept in the lab for later plans.

Processes that work side by side slow each other down (memory, caches, hyper-threads), so as many are timed at once as a
run will use.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field

from ecgscale.evaluation.evaluate import EvalSpec, evaluate
from ecgscale.lab import Lab, read_json, write_json
from ecgscale.loader import Rows
from ecgscale.processes import die_with
from ecgscale.runs import RunSpec
from ecgscale.spec import Explained, Spec, SpecError, digest
from ecgscale.study import clock
from ecgscale.study.machine import set_up
from ecgscale.study.measure import Rates, measure
from ecgscale.study.networks import Network, measure_network, network
from ecgscale.study.plan import Plan, PlannedEval
from ecgscale.study.work import opened
from ecgscale.training.peak import peak_flops

__all__ = ["Bench", "Machine", "Rates", "bench", "peak_flops", "stored"]

REVISION = 1  # of what is measured and how
TOGETHER_S = 120.0  # how long the processes wait for each other
PROBE_ROWS = 4000  # records of an evaluation that is timed, at most; a larger one is taken to cost in proportion


class BenchError(Explained, RuntimeError):
    """The probe could not be made; the message says why."""


class Machine(Spec):
    """What rates depend on besides the runs."""

    processor: str
    cores: int
    torch: str
    device: str  # "cpu", or the name of the GPU
    threads: int  # of one worker
    workers: int

    @classmethod
    def here(cls, device: str, threads: int, workers: int) -> Machine:
        """Return this machine with so many workers of so many threads."""
        name = "cpu" if device == "cpu" else torch.cuda.get_device_name()
        return cls(processor=_processor(), cores=os.cpu_count() or 1, torch=torch.__version__, device=name,
                   threads=threads, workers=workers)  # fmt: skip


class Bench(Spec):
    """A probe.

    `probes` are worker-seconds per record of all evaluations of a run, by `set_of`.
    """

    revision: int = REVISION
    machine: Machine
    made: str  # UTC
    rates: dict[str, Rates]  # by `kind`
    probes: dict[str, float]
    networks: dict[str, Network] = Field(default_factory=dict)  # by `networks.network`
    started_s: float  # until the processes were ready

    def covers(self, wanted: Wanted) -> bool:
        """Whether everything a plan asks for was measured."""
        asked = (wanted.runs, self.rates), (wanted.evaluations, self.probes), (wanted.networks, self.networks)
        return all(needs.keys() <= has.keys() for needs, has in asked)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a plan needs to have measured: a run of each kind with its corpus, sets of evaluations by `set_of`, and
    networks that evaluations train, each with a run, an evaluation and its corpus."""

    runs: dict[str, tuple[RunSpec, Path]]
    evaluations: dict[str, tuple[tuple[tuple[EvalSpec, Path], ...], str]]  # with the kind of a run that has the width
    networks: dict[str, tuple[RunSpec, EvalSpec, Path]] = field(default_factory=dict)


def kind(run: RunSpec) -> str:
    """Return what decides the speed of a run: backbone, objective, batch, shape and precision.

    Not its labels: a head of a thousand costs less than a hundredth of the smallest backbone.
    """
    objective = None if run.objective is None else {**run.objective.dump(), "codebook": None, "labels": None}
    batch = run.recipe.batch if run.objective is not None else 0
    return digest([run.backbone.dump(), objective, run.leads, run.samples, batch, run.precision])


def set_of(evaluations: Sequence[PlannedEval], backbone: Spec) -> str:
    """Return what decides the cost of a run's probes: their rules, and the backbone, which gives the width."""
    rules = [{**e.spec.dump(), "corpus": e.source.label} for e in evaluations if not e.spec.trains]
    return digest([rules, backbone.dump()])


def wanted(plan: Plan) -> Wanted:
    """Return what has to be measured to price a plan."""
    runs: dict[str, tuple[RunSpec, Path]] = {}
    sets: dict[str, tuple[tuple[tuple[EvalSpec, Path], ...], str]] = {}
    trained: dict[str, tuple[RunSpec, EvalSpec, Path]] = {}
    for planned in plan.runs.values():
        runs.setdefault(kind(planned.run), (planned.run, planned.source.path))
        pairs = tuple((e.spec, e.source.path) for e in planned.evaluations if not e.spec.trains)
        if pairs:
            sets.setdefault(set_of(planned.evaluations, planned.run.backbone), (pairs, kind(planned.run)))
        for e in planned.evaluations:
            if e.spec.trains:
                trained.setdefault(network(planned.run, e.spec), (planned.run, e.spec, e.source.path))
    return Wanted(runs, sets, trained)


def stored(lab: Lab, machine: Machine) -> Bench | None:
    """Return the probe of this very machine, torch, threads and workers that the lab holds, or None."""
    try:
        found = Bench.parse(read_json(lab.bench(machine.uid)) or {})
    except SpecError:
        return None
    return found if found.machine == machine and found.revision == REVISION else None


def keep(lab: Lab, made: Bench) -> Bench:
    """Store a probe; what an earlier one of the same machine measured of other studies is kept beside it."""
    before = stored(lab, made.machine)
    if before is not None:
        every = {name: getattr(before, name) | getattr(made, name) for name in ("rates", "probes", "networks")}
        made = made.model_copy(update=every)
    lab.bench(made.machine.uid).parent.mkdir(exist_ok=True)
    write_json(lab.bench(made.machine.uid), made.dump())
    return made


def bench(
    what: Wanted, machine: Machine, seconds: float, least: float = 0.5, tell: Callable[[str], None] | None = None
) -> Bench:
    """Measure all kinds of runs of a plan, `machine.workers` processes at once.

    Args:
        what: The kinds.
        machine: This one.
        seconds: Of timed work, shared by the kinds.
        least: Seconds each kind gets at least.
        tell: Told what is measured.

    Raises:
        BenchError: a process was killed.
    """
    device = "cpu" if machine.device == "cpu" else "cuda"
    each = max(least, seconds / max(1, len(what.runs)))
    if tell:
        tell(f"timing {len(what.runs)} kinds of runs, {machine.workers} processes at once")
    context = get_context("spawn")
    together = context.Barrier(machine.workers)
    threads_before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(machine.threads)  # before torch is imported in the processes
    began = time.monotonic()
    try:
        with ProcessPoolExecutor(machine.workers, context, _begin, (machine.threads, together, os.getpid())) as pool:
            futures = [pool.submit(_share, what, each, device, turn) for turn in range(machine.workers)]
            shares = [future.result() for future in futures]
    except BrokenProcessPool:
        raise BenchError(
            f"a process was killed while {machine.workers} were timed side by side (out of memory?): ask for fewer "
            "--workers"
        ) from None
    finally:
        _restore("OMP_NUM_THREADS", threads_before)
    return Bench(
        machine=machine,
        made=clock.now(),
        rates={name: _mean([share.rates[name] for share in shares]) for name in what.runs},
        probes={name: float(np.mean([share.probes[name] for share in shares])) for name in what.evaluations},
        networks={name: _dearest([share.networks[name] for share in shares]) for name in what.networks},
        started_s=max(share.ready for share in shares) - began,
    )


@dataclass(frozen=True, slots=True)
class _Share:
    """What one process measured, and when (time.monotonic) it was ready."""

    rates: dict[str, Rates]
    probes: dict[str, float]
    networks: dict[str, Network]
    ready: float


_together: list[Any] = []  # in a process: the barrier


def _begin(threads: int, together: Any, parent: int) -> None:
    die_with(parent)
    _together[:] = [together]
    set_up(threads)


def _share(what: Wanted, seconds: float, device: str, turn: int) -> _Share:
    """Measure all kinds, beginning with another one in every process: a run's neighbours differ from it, too."""
    ready = time.monotonic()
    _together[0].wait(TOGETHER_S)
    names = list(what.runs)
    for run, path in list(what.runs.values())[:1]:  # what a process does only once is not timed
        measure(run, opened(path), 0.0, device)
    first = turn * len(names) // max(1, _together[0].parties)
    rates = {}
    for name in names[first:] + names[:first]:
        run, path = what.runs[name]
        rates[name] = measure(run, opened(path), seconds, device)
    probes: dict[str, float] = {}
    for name, (pairs, of) in what.evaluations.items():
        if not probes:  # what is loaded only once is not timed
            _probe_corpus.__wrapped__((pairs[0][0],), pairs[0][1], rates[of].width)
        probes[name] = _probe(pairs, rates[of].width)
    trained = {
        name: measure_network(run, spec, opened(path), rates[kind(run)].encoding, seconds, device)
        for name, (run, spec, path) in what.networks.items()
    }
    return _Share(rates, probes, trained, ready)


def _probe(pairs: tuple[tuple[EvalSpec, Path], ...], width: int) -> float:
    """Return seconds per record that probes and bootstraps of a run's evaluations take, timed on random features."""
    parts = [
        _probe_corpus(tuple(spec for spec, at in pairs if at == path), path, width)
        for path in dict.fromkeys(path for _, path in pairs)
    ]
    return sum(seconds for seconds, _ in parts) / sum(records for _, records in parts)


@lru_cache(maxsize=64)
def _probe_corpus(specs: tuple[EvalSpec, ...], path: Path, width: int) -> tuple[float, int]:
    """Return the seconds that evaluations on one corpus take, and the records they read, each evaluation's counted."""
    corpus = opened(path)
    few = [spec.model_copy(update={part: min(getattr(spec, part) or PROBE_ROWS, PROBE_ROWS) for part in _CUT})
           for spec in specs]  # fmt: skip
    x = np.random.default_rng(0).standard_normal((len(corpus), width)).astype(np.float32)

    def encode(rows: Rows) -> np.ndarray:
        return x[rows]

    began = time.perf_counter()
    evaluate(few, corpus, encode)
    return time.perf_counter() - began, sum(len(spec.needed(corpus)) for spec in few)


_CUT = ("train", "validation", "test")


def _mean(measured: Sequence[Rates]) -> Rates:
    """Return the mean rates of the processes, and the most memory."""
    means = {name: float(np.mean([getattr(rates, name) for rates in measured])) for name in _MEAN}
    most = {name: max(getattr(rates, name) for rates in measured) for name in Rates.model_fields.keys() - _MEAN}
    return Rates.parse(means | most)


def _dearest(measured: Sequence[Network]) -> Network:
    """Return the mean seconds of the processes, and the most memory."""
    seconds = float(np.mean([each.seconds for each in measured]))
    return max(measured, key=lambda each: each.memory).model_copy(update={"seconds": seconds})


_MEAN = {"flop", "start_s", "training", "scoring", "encoding", "per_record", "share"}


def _restore(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
