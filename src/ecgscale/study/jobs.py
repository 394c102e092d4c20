"""One piece of a study's work, wherever an executor does it: what it is, what came of it, and the doing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from safetensors import SafetensorError

from ecgscale.claims import ClaimLost
from ecgscale.lab import DiskFull, Lab
from ecgscale.study import work
from ecgscale.study.plan import HANDCRAFTED, PlannedEval, PlannedRun
from ecgscale.training.pretrain import Paused


@dataclass(frozen=True, slots=True)
class Outcome:
    """What work did: `trained` runs, `measured` evaluations, or the reason it failed; `held` by another process;
    `paused` with its state saved; `full`: why nothing more can be written; `flop` of training it spent."""

    trained: int = 0
    measured: int = 0
    held: bool = False
    paused: bool = False
    full: str | None = None
    reason: str | None = None
    flop: float = 0.0


class Where(NamedTuple):
    """What computes a run: no number depends on it but for rounding.

    Attributes:
        device: "cpu" or "cuda".
        processes: How many share every batch; on "cuda" a GPU each.
        sharded: Whether each of them keeps a shard of the model instead of all of it.
        side_by_side: Runs that share a device.
    """

    device: str
    processes: int = 1
    sharded: bool = False
    side_by_side: int = 1


@dataclass(slots=True, eq=False)
class Work:
    """A run, or hand-crafted features of one corpus to measure.

    Attributes:
        since: When it began, or may begin again (time.monotonic).
    """

    planned: PlannedRun | None
    evaluations: tuple[PlannedEval, ...] = ()
    since: float = 0.0

    @property
    def key(self) -> str:
        return self.planned.run.uid if self.planned else HANDCRAFTED

    @property
    def name(self) -> str:
        """As `key`, but no two works of a study have it."""
        return self.key if self.planned else f"{HANDCRAFTED}-{self.evaluations[0].source.path.name}"


def do(lab: Lab, todo: Work, where: Where, progress: Callable[[int, float], None], halt: Callable[[], bool]) -> Outcome:
    """Train and measure what the lab does not hold of `todo`, unless another process is at it.

    Args:
        lab: Where results go.
        todo: The work.
        where: What computes it.
        progress: Told the step, and the FLOP that this call has spent, now and then.
        halt: Asked before the start and after every step whether to save the state and stop.

    Returns:
        What came of it; one run's failure is a row of the table, never the end of the study.
    """
    spent = [0.0]

    def told(step: int, flop: float) -> None:
        spent[0] = flop
        progress(step, flop)

    folder = lab.run(todo.key) if todo.planned else lab.run(todo.key) / "claims" / todo.name
    try:
        with lab.claim(folder) as mine:
            if not mine:
                return Outcome(held=True)
            if halt():
                return Outcome(paused=True)
            outcome = _run(lab, todo.planned, where, told, halt) if todo.planned else _handcrafted(lab, todo)
    except Paused:
        outcome = Outcome(paused=True)
    except ClaimLost:
        outcome = Outcome(held=True)
    except DiskFull as error:
        outcome = Outcome(full=str(error))
    except Exception as error:
        outcome = Outcome(reason=work.failure(error))
    return replace(outcome, flop=spent[0])


def _run(
    lab: Lab, planned: PlannedRun, where: Where, progress: Callable[[int, float], None], halt: Callable[[], bool]
) -> Outcome:
    try:
        return _trained(lab, planned, where, progress, halt)
    except SafetensorError:  # a checkpoint was torn, by whatever: only a new training mends it
        lab.discard(planned.run.uid)
        return _trained(lab, planned, where, progress, halt)


def _trained(
    lab: Lab, planned: PlannedRun, where: Where, progress: Callable[[int, float], None], halt: Callable[[], bool]
) -> Outcome:
    trained = work.train(lab, planned, where.device, progress, halt, where.processes, where.sharded)
    if planned.role == "codebook":
        work.cache_codes(lab, planned, where.device)
    return Outcome(
        int(trained and planned.run.objective is not None), work.evaluate_run(lab, planned, where.device, halt)
    )


def _handcrafted(lab: Lab, todo: Work) -> Outcome:
    return Outcome(measured=work.evaluate_handcrafted(lab, todo.evaluations))
