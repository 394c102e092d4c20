"""Where a study's work is done: `run --on NAME` is the one `ExecutorSpec` in the module of that name.

An executor is given work, tells how far it is and what ended, and can ask all of it to stop. It decides nothing: order,
budgets and second tries are the session's (study/execute.py), exclusion is the lab's (claims.py).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

from ecgscale.lab import Lab
from ecgscale.spec import Plugin, part
from ecgscale.study.jobs import Outcome, Work
from ecgscale.study.workers import Workers


class Progress(NamedTuple):
    """The step that work has reached, and the FLOP of training it has spent since it was started."""

    step: int = 0
    flop: float = 0.0


@dataclass(frozen=True, slots=True)
class Lost:
    """Work that ended without an outcome: what is known of why, and the FLOP of training it had spent."""

    why: str
    flop: float = 0.0


class Executor(Protocol):
    """Does work in processes of its own.

    Attributes:
        about: What it is, for the first line of a session.
        device: "cpu" or "cuda".
        slots: Works at once, at most.
        shares_fate: All work is lost where one process dies, so one loss does not tell which work is to blame.
        tries: After so many losses, work has failed.
    """

    about: str
    device: str
    slots: int
    shares_fate: bool
    tries: int

    def start(self, works: Sequence[Work]) -> None:
        """Begin works, as soon as there is room."""

    def ended(self, seconds: float) -> dict[Work, Outcome | Lost]:
        """Wait for work to end, at most so long; return what ended since the last call."""

    def progress(self, todo: Work) -> Progress:
        """Return how far a work is that was started and has not ended."""

    def halt(self) -> None:
        """Ask all to save their state and stop; what has not begun need not begin."""

    def close(self) -> None:
        """Leave nothing that was started without an owner; called once, also after an error."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where results go, CPU threads of each work, the device asked for ("auto": either), processes of this machine."""

    lab: Lab
    threads: int
    device: str
    pool: Workers


class ExecutorSpec(Plugin):
    """Settings of an executor: never in a study or a run, and never a change of a number."""

    kind: ClassVar[str] = "study.executors"

    @abstractmethod
    def open(self, place: Place) -> Executor:
        """Return the executor; nothing is started before work is.

        Raises:
            StudyError: what it needs is not installed here.
        """


def executor_spec(name: str, options: dict[str, Any]) -> ExecutorSpec:
    """Return the settings of the executor `name`, from the options of the command line.

    Raises:
        SpecError: unknown name or option, or a wrong value.
    """
    found: ExecutorSpec = part("study.executors", {**options, "name": name}, "--option")
    return found
