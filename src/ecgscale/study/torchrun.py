"""One planned run by several processes of one machine, or of many, started by torchrun.

`train` writes what is to be done into the run's folder, starts the processes and waits; each is
`python -m ecgscale.study.torchrun FOLDER` under torchrun's environment. Everything said between them is a small file in
that folder: `job.json`, `progress.json` (written by the first process), `halt` (it asks the processes to save and stop)
and `said-<rank>.json`, how each ended.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ecgscale import ranks
from ecgscale.data.corpus import Corpus
from ecgscale.lab import DiskFull, read_json, write_json
from ecgscale.processes import end_with_parent
from ecgscale.runs import RunResult, RunSpec
from ecgscale.spec import Explained
from ecgscale.training.checkpoint import Trunk
from ecgscale.training.distributed import joined
from ecgscale.training.pretrain import Paused, TrainingError, pretrain

ASK_EVERY_S = 0.2  # for progress, a wish to stop, the end
TELL_EVERY_S = 1.0  # at most, of progress


def on_this_machine(processes: int) -> tuple[str, ...]:
    """Return the command that starts so many processes here."""
    return sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"


class Task(NamedTuple):
    """What several processes train.

    Attributes:
        run: The run.
        folder: The run's folder, which all processes reach.
        corpus, codes: The corpus and the array of its code-book ids, which they reach too.
        device: Where each computes.
        sharded: Whether each keeps a shard of the model.
        flop_per_record: Of forward and backward.
        trunk: Of a "wsd" run, as `pretrain` has it.
    """

    run: RunSpec
    folder: Path
    corpus: Path
    codes: Path | None
    device: str
    sharded: bool
    flop_per_record: float
    trunk: Trunk | None

    def dump(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        trunk = self.trunk and {"folder": str(self.trunk.folder.resolve()), "more": self.trunk.more}
        paths = {name: path and str(path.resolve()) for name, path in zip(_PATHS, self[1:4], strict=True)}
        rest = {"device": self.device, "sharded": self.sharded, "flop_per_record": self.flop_per_record}
        return {"run": self.run.dump(), "trunk": trunk, **paths, **rest}

    @classmethod
    def parse(cls, said: dict[str, Any]) -> Task:
        """Return what `dump` wrote."""
        run = RunSpec.parse({k: v for k, v in said["run"].items() if k != "revision"})
        paths = {name: said[name] and Path(said[name]) for name in _PATHS}
        trunk = said["trunk"] and Trunk(Path(said["trunk"]["folder"]), said["trunk"]["more"])
        return cls(**said | paths | {"run": run, "trunk": trunk})


_PATHS = ("folder", "corpus", "codes")


def train(
    task: Task,
    launcher: Sequence[str],
    progress: Callable[[int, float], None] | None = None,
    halt: Callable[[], bool] | None = None,
    began: Callable[[int], None] | None = None,
) -> RunResult:
    """Train a run by the processes that a command starts, and wait for them.

    Args:
        task: What to train.
        launcher: What stands before `-m ecgscale.study.torchrun FOLDER`: `on_this_machine`, or for several machines
            `("srun", "torchrun", "--nnodes=2", "--nproc-per-node=8", "--rdzv-backend=c10d", "--rdzv-endpoint=HOST")`.
        progress, halt, began: As `pretrain` has them.

    Raises:
        TrainingError: the run cannot be trained, or its processes have ended without a word.
        Paused: `halt` said so; the state is saved.
        DiskFull: the state could not be saved.
    """
    job = task.folder / "processes"
    shutil.rmtree(job, ignore_errors=True)
    job.mkdir()
    write_json(job / "job.json", task.dump())
    command = [*launcher, "-m", "ecgscale.study.torchrun", str(job.resolve())]
    quiet = {**os.environ, "TORCH_CPP_LOG_LEVEL": "ERROR", "OMP_NUM_THREADS": str(task.run.threads)}
    with (task.folder / "processes.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=quiet, stdout=log, stderr=log, preexec_fn=partial(end_with_parent, signal.SIGTERM)
        )
        try:
            _attend(process, job, progress, halt, began)
        finally:
            process.terminate()  # torchrun ends the others
            process.wait()
    result = _heard(job, task.folder / "processes.log", process.returncode)
    shutil.rmtree(job)
    return result


def _attend(
    process: subprocess.Popen[bytes],
    job: Path,
    progress: Callable[[int, float], None] | None,
    halt: Callable[[], bool] | None,
    began: Callable[[int], None] | None,
) -> None:
    told: Any = None
    running = True
    while running:
        running = process.poll() is None
        first = read_json(job / "began.json")
        if began is not None and first is not None:
            began(first)
            began = None
        said = read_json(job / "progress.json")
        if progress is not None and said not in (None, told):
            progress(*said)
            told = said
        if halt is not None and halt():
            (job / "halt").touch()
        if running:
            time.sleep(ASK_EVERY_S)


def _heard(job: Path, log: Path, code: int | None) -> RunResult:
    """Return the result, or raise what ended the processes: what one of them explains before all else."""
    said = [found for found in map(read_json, sorted(job.glob("said-*.json"))) if found is not None]
    reasons = sorted((s for s in said if "reason" in s), key=lambda s: not s["explained"])
    if reasons:
        raise (DiskFull if reasons[0]["full"] else TrainingError)(reasons[0]["reason"])
    if any("paused" in s for s in said):
        raise Paused
    results = [s["result"] for s in said if "result" in s]
    if not results:
        raise TrainingError(f"its processes ended with code {code} and no result: see {log}")
    return RunResult.parse(results[0])


def work(job: Path) -> None:
    """Do one process's share of a job, and say in its folder how it ended.

    Raises:
        SystemExit: it failed; torchrun then ends the others.
    """
    rank = int(os.environ.get("RANK", "0"))
    try:
        said = _share(job)
    except Paused:
        said = {"paused": True}
    except BaseException as error:
        full, explained = isinstance(error, DiskFull), isinstance(error, Explained)
        reason = str(error) if explained else f"{type(error).__name__}: {error}"
        write_json(job / f"said-{rank}.json", {"reason": reason, "explained": explained, "full": full})
        if explained:
            raise SystemExit(1) from None
        raise
    if rank == 0 or "paused" in said:
        write_json(job / f"said-{rank}.json", said)


def _share(job: Path) -> dict[str, Any]:
    from ecgscale.study.machine import set_up

    task = Task.parse(read_json(job / "job.json"))
    set_up(task.run.threads)
    codes = None if task.codes is None else np.load(task.codes, mmap_mode="r")
    with joined(task.device):
        first = ranks.rank() == 0
        result = pretrain(
            task.run,
            task.folder,
            Corpus.open(task.corpus),
            codes,
            task.device,
            progress=_Teller(job / "progress.json") if first else None,
            halt=(job / "halt").exists if first else None,
            began=partial(write_json, job / "began.json") if first else None,
            flop_per_record=task.flop_per_record,
            trunk=task.trunk,
            sharded=task.sharded,
        )
    return {"result": result.dump()}


class _Teller:
    """Writes progress into a file, now and then."""

    def __init__(self, path: Path) -> None:
        self.path, self.last = path, 0.0

    def __call__(self, step: int, flop: float) -> None:
        """Write step and FLOP, if a while has passed."""
        if time.monotonic() - self.last > TELL_EVERY_S:
            write_json(self.path, [step, flop])
            self.last = time.monotonic()


if __name__ == "__main__":
    end_with_parent(signal.SIGKILL)
    work(Path(sys.argv[1]))
