"""What executors on other machines share: a folder of the lab through which session and jobs hear of each other."""

from __future__ import annotations

import shutil
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

from ecgscale.lab import DiskFull, Lab, read_json, write_json
from ecgscale.study import work
from ecgscale.study.executors import Lost, Place, Progress
from ecgscale.study.jobs import Outcome, Work, do
from ecgscale.study.study import StudyError

LOOK_S = 1.0  # between two looks at a file of the lab, on either side

Handle = TypeVar("Handle")


class Channel:
    """Files in `lab/sessions/<random>/`: `halt` is written by the session, `<work>.json` by the job at that work.

    Args:
        folder: Theirs alone; made by the session.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._looked, self._halted = float("-inf"), False

    def halt(self) -> None:
        """Ask all jobs of the session to save their state and stop."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "halt").touch()

    def halted(self) -> bool:
        """Return, in a job, whether it is to stop; asked after every step, it looks once a second."""
        now = time.monotonic()
        if not self._halted and now - self._looked > LOOK_S:
            self._looked, self._halted = now, (self.folder / "halt").exists()
        return self._halted

    def teller(self, name: str) -> Callable[[int, float], None]:
        """Return, in a job, what to call with its step and FLOP; those of an earlier attempt are counted on."""
        before, told = self.progress(name).flop, float("-inf")

        def tell(step: int, flop: float) -> None:
            nonlocal told
            if time.monotonic() - told > LOOK_S:
                write_json(self.folder / f"{name}.json", {"step": step, "flop": before + flop})
                told = time.monotonic()

        return tell

    def progress(self, name: str) -> Progress:
        """Return what a job told last."""
        told = read_json(self.folder / f"{name}.json") or {}
        return Progress(int(told.get("step", 0)), float(told.get("flop", 0.0)))

    def begun(self, name: str) -> bool:
        """Return whether a job has begun."""
        return (self.folder / f"{name}.json").exists()

    def mark(self, name: str) -> None:
        """Say, in a job, that it was told to stop by the machine it runs on."""
        (self.folder / f"{name}.stopped").touch()

    def marked(self, name: str) -> bool:
        """Return whether a job was told to stop by its machine."""
        return (self.folder / f"{name}.stopped").exists()

    def forget(self, name: str) -> None:
        """Remove what stands there of an earlier job at this work."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for kind in ("json", "stopped"):
            (self.folder / f"{name}.{kind}").unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def remote_job(
    lab_root: str, todo: Work, device: str, threads: int, folder: str, stopped: Callable[[], bool] = lambda: False
) -> Outcome:
    """Do work in a process of another machine, which sees the lab at the same path."""
    work.set_up(threads)
    channel = Channel(Path(folder))
    tell = channel.teller(todo.name)
    try:
        tell(0, 0.0)
    except DiskFull as error:
        return Outcome(full=str(error))
    before = channel.progress(todo.name).flop
    outcome = do(Lab(lab_root), todo, device, tell, lambda: stopped() or channel.halted())
    return replace(outcome, flop=before + outcome.flop)


class Remote(ABC, Generic[Handle]):
    """Work on other machines: a subclass submits it, looks whether it ended, and takes it back."""

    shares_fate = False

    def __init__(self, place: Place, gpus: float, slots: int, tries: int) -> None:
        if place.device == "cuda" and not gpus:
            raise StudyError("--device cuda: say how many GPUs a run gets, as --option gpus=1")
        self.device = "cuda" if gpus and place.device != "cpu" else "cpu"
        self.slots, self.tries = slots, tries
        self.place = place
        self.channel = Channel(place.lab.root / "sessions" / uuid.uuid4().hex[:12])
        self.running: dict[Work, Handle] = {}
        self._seen: dict[Work, tuple[float, Progress]] = {}

    @abstractmethod
    def submit(self, works: Sequence[Work]) -> list[Handle]:
        """Submit works together."""

    @abstractmethod
    def look(self, seconds: float) -> dict[Work, Outcome | Lost]:
        """Wait so long for work to end; return what ended, in whatever way."""

    @abstractmethod
    def withdraw(self, todo: Work) -> None:
        """Take back work that has not begun; if it has begun just now, its process may end."""

    def start(self, works: Sequence[Work]) -> None:
        """Submit works together."""
        for todo in works:
            self.channel.forget(todo.name)
        self.running |= dict(zip(works, self.submit(works), strict=True))

    def arguments(self, todo: Work) -> tuple[str, Work, str, int, str]:
        """Return those of `remote_job`."""
        return str(self.place.lab.root), todo, self.device, self.place.threads, str(self.channel.folder)

    def ended(self, seconds: float) -> dict[Work, Outcome | Lost]:
        """Return what ended; a loss with the FLOP its job told last."""
        over = self.look(seconds)
        for todo, how in over.items():
            del self.running[todo]
            self._seen.pop(todo, None)
            if isinstance(how, Lost):
                over[todo] = replace(how, flop=self.channel.progress(todo.name).flop)
        return over

    def progress(self, todo: Work) -> Progress:
        """Return what the job told last, read again after a second."""
        looked, seen = self._seen.get(todo, (float("-inf"), Progress()))
        if time.monotonic() - looked > LOOK_S:
            seen = self.channel.progress(todo.name)
            self._seen[todo] = time.monotonic(), seen
        return seen

    def halt(self) -> None:
        """Ask jobs to stop, and take back those that have not begun."""
        self.channel.halt()
        for todo in self.running:
            if not self.channel.begun(todo.name) or self.channel.marked(todo.name):  # it may wait in a queue for long
                self.withdraw(todo)

    def close(self) -> None:
        """Leave jobs that still run (after an error) with their order to stop; else remove the session's folder."""
        if self.running:
            self.halt()
        else:
            self.channel.close()
