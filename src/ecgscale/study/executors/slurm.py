"""Work in jobs of Slurm, through submitit: an array for what is submitted together, a job for each run.

A run whose job is pre-empted or near its time limit saves its state; its job is queued again and goes on from there.
Source: https://github.com/facebookincubator/submitit/blob/main/docs/checkpointing.md
"""

from __future__ import annotations

import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ecgscale.study.executors import ExecutorSpec, Lost, Place
from ecgscale.study.executors._remote import LOOK_S, Channel, Remote, remote_job
from ecgscale.study.jobs import Outcome, Work
from ecgscale.study.study import StudyError

if TYPE_CHECKING:
    import submitit

QUEUE_S = 5.0  # between two looks at the queue
ENDLESS = 10**6  # time-outs after which submitit would give a job up: each of them got a step further


class SlurmSpec(ExecutorSpec):
    """Jobs of Slurm; needs the extra `slurm`. Unset settings are the cluster's."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gres: str | None = None  # as "shard:1", where several runs share a GPU
    minutes: int = Field(60, ge=1)  # limit of a job; a run that needs longer goes on in the next
    cpus: int | None = Field(None, ge=1)  # of a run; the study's threads when None
    gpus: int = Field(0, ge=0)  # of a run
    memory_gb: float | None = Field(None, gt=0)  # of a run
    jobs: int = Field(64, ge=1)  # in the queue at once, at most
    warning_s: int = Field(90, ge=10)  # before the limit, when a run is asked to save its state
    retries: int = Field(2, ge=0)  # of a job that vanished
    setup: tuple[str, ...] = ()  # shell lines before a job, as "module load cuda"

    def open(self, place: Place) -> Slurm:
        """Return the executor; jobs are submitted from this machine."""
        try:
            import submitit
        except ImportError:
            raise StudyError("--on slurm needs submitit: pip install 'ecgscale[slurm]'") from None
        return Slurm(self, place, submitit)

    def parameters(self, threads: int) -> dict[str, Any]:
        """Return what submitit writes into a batch script."""
        named = {name: getattr(self, name) for name in ("partition", "account", "qos", "constraint", "gres")}
        wanted = named | {
            "job_name": "ecgscale",
            "time": self.minutes,
            "cpus_per_task": self.cpus or threads,
            "gpus_per_node": self.gpus or None,
            "mem": None if self.memory_gb is None else f"{self.memory_gb * 1024:.0f}MB",
            "signal_delay_s": self.warning_s,
            "setup": [f"export OMP_NUM_THREADS={threads}", *self.setup],
            "stderr_to_stdout": True,
            "additional_parameters": {"requeue": True},
        }
        return {name: value for name, value in wanted.items() if value is not None}


class Slurm(Remote["submitit.Job[Outcome]"]):
    """Jobs of one session; their scripts and logs stand in `lab/slurm`, a link to the log beside the run."""

    def __init__(self, spec: SlurmSpec, place: Place, submitit: Any) -> None:
        super().__init__(place, spec.gpus or (1 if spec.gres else 0), spec.jobs, 1 + spec.retries)
        self.about = f"up to {spec.jobs} jobs of Slurm on {self.device}"
        folder = place.lab.root / "slurm"
        try:
            self._queue = submitit.SlurmExecutor(folder=folder, max_num_timeout=ENDLESS)
        except RuntimeError:
            raise StudyError("--on slurm: `srun` is not found here; run it where jobs of Slurm are submitted") from None
        self._queue.update_parameters(**spec.parameters(place.threads))
        self._looked = time.monotonic()
        self._absent: set[Work] = set()  # not in the queue when it was last looked at
        self._withdrawn: set[Work] = set()

    def submit(self, works: Sequence[Work]) -> list[submitit.Job[Outcome]]:
        """Submit an array, or a single job."""
        try:
            with self._queue.batch():
                jobs = [self._queue.submit(Job(), *self.arguments(todo)) for todo in works]
        except (subprocess.SubprocessError, RuntimeError) as error:
            raise StudyError(f"Slurm refused the jobs: {_said(error)}") from None
        for todo, job in zip(works, jobs, strict=True):
            _link(self.place.lab.run(todo.key), job)
        return jobs

    def look(self, seconds: float) -> dict[Work, Outcome | Lost]:
        """Look for results, and now and then whether the queue still has what left none."""
        until = time.monotonic() + max(seconds, LOOK_S)
        while not (over := self._over()) and time.monotonic() < until:
            time.sleep(min(LOOK_S, seconds))
        return over

    def _over(self) -> dict[Work, Outcome | Lost]:
        over = {todo: how for todo, job in self.running.items() if (how := _result(job)) is not None}
        if time.monotonic() - self._looked > QUEUE_S:
            self._looked = time.monotonic()
            queue = queued()
            absent = {} if queue is None else {w: j for w, j in self.running.items() if j.job_id not in queue}
            twice = {w: j for w, j in absent.items() if w in self._absent and w not in over}
            over |= {w: self._vanished(w, j) for w, j in twice.items()}
            self._absent = set(absent)  # once is not enough: a result may be on its way through the file system
        for todo in over:
            _clean(self.running[todo])
        return over

    def _vanished(self, todo: Work, job: submitit.Job[Outcome]) -> Outcome | Lost:
        if todo in self._withdrawn:
            return Outcome(paused=True)
        if self.channel.marked(todo.name):  # cancelled or pre-empted: no fault of the run
            return Outcome(held=True, flop=self.channel.progress(todo.name).flop)
        return Lost(
            f"job {job.job_id} of Slurm ended without a result ({_state(job.job_id)}); its log: {job.paths.stdout}"
        )

    def withdraw(self, todo: Work) -> None:
        """Cancel the job."""
        self._withdrawn.add(todo)
        self.running[todo].cancel(check=False)


class Job:
    """What runs in a job. Slurm warns by a signal: the run saves its state, then the job asks to be queued again."""

    def __call__(self, lab_root: str, todo: Work, device: str, threads: int, folder: str) -> Outcome:
        """Do the work; a job that is queued again ends here."""
        channel, told = Channel(Path(folder)), list[int]()
        (channel.folder / f"{todo.name}.stopped").unlink(missing_ok=True)
        queue_again: Any = signal.getsignal(signal.SIGUSR2)  # submitit's

        def warned(number: int, _: Any) -> None:
            told.append(number)
            channel.mark(todo.name)

        for number in (signal.SIGUSR2, signal.SIGTERM):
            signal.signal(number, warned)
        outcome = remote_job(lab_root, todo, device, threads, folder, lambda: bool(told))
        if outcome.paused and told and not channel.halted():
            if signal.SIGUSR2 in told:
                queue_again(signal.SIGUSR2, None)
            sys.exit("stopped by Slurm; the state is saved")
        return outcome

    def checkpoint(self, *arguments: Any) -> Any:
        """Return what submitit queues again: the same work, which finds its state in the lab."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


def _result(job: submitit.Job[Outcome]) -> Outcome | Lost | None:
    try:
        how, value = pickle.loads(job.paths.result_pickle.read_bytes())
    except (FileNotFoundError, EOFError):
        return None
    if how == "success":
        found: Outcome = value
        return found
    return Lost(f"job {job.job_id} of Slurm failed: {str(value).strip().splitlines()[-1]}")


def _link(folder: Path, job: submitit.Job[Outcome]) -> None:
    """Put a link to the log of a job beside its run; submitit writes the logs of an array into one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / f"slurm-{job.job_id}.out"
    link.unlink(missing_ok=True)
    link.symlink_to(Path("../../slurm") / job.paths.stdout.name)


def _clean(job: submitit.Job[Outcome]) -> None:
    for path in (job.paths.submitted_pickle, job.paths.result_pickle):
        path.unlink(missing_ok=True)


def queued() -> set[str] | None:
    """Return this user's jobs that wait or run, those of arrays as `12_3`; None where Slurm does not answer."""
    asked = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
    try:
        return set(subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60).stdout.split())
    except (OSError, subprocess.SubprocessError):
        return None


def _state(job_id: str) -> str:
    """Return in Slurm's word how a job ended, where it still knows."""
    try:
        said = subprocess.run(["scontrol", "show", "job", job_id], capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        said = ""
    found = re.search(r"JobState=(\S+)", said)
    return found[1] if found else "Slurm no longer knows why"


def _said(error: Exception) -> str:
    return " ".join(str(getattr(error, "stderr", None) or error).split())[:300]
