"""What an executor does without its cluster: settings, signals, jobs that vanish, and the files they talk through."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ecgscale.lab import Lab
from ecgscale.spec import SpecError
from ecgscale.study.executors import Lost, Place, Progress, _remote, executor_spec, slurm
from ecgscale.study.executors._remote import Channel
from ecgscale.study.jobs import Outcome, Work
from ecgscale.study.study import StudyError


class Named(Work):
    """Work of a name."""

    key = name = property(lambda self: str(self.planned))


def work(name: str) -> Work:
    return Named(name)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("slrum", {}, 'unknown executor "slrum"; did you mean "slurm"?'),
        ("slurm", {"partitio": "gpu"}, 'unknown key `--option.partitio`; did you mean "partition"?'),
        ("ray", {"gpus": "many"}, "`--option.gpus`: .* found 'many'"),
        ("local", {"partition": "gpu"}, "unknown key `--option.partition`"),
    ],
)
def test_a_wrong_executor_or_option_is_one_sentence(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said.replace("?", r"\?") if ".*" not in said else said):
        executor_spec(name, options)


def test_a_job_tells_what_it_spent_in_all_its_attempts_and_hears_a_halt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, job = Channel(tmp_path / "s"), Channel(tmp_path / "s")
    session.forget("run")
    assert not session.begun("run") and session.progress("run") == Progress() and not job.halted()
    job.teller("run")(5, 1e6)
    job.teller("run")(7, 2e6)
    assert session.begun("run") and session.progress("run") == Progress(7, 3e6)
    session.halt()
    assert not job.halted()  # it looked less than a second ago
    monkeypatch.setattr(_remote, "LOOK_S", 0.0)
    assert job.halted()


@pytest.fixture
def handlers() -> Iterator[list[int]]:
    """Signals that the handler found by a job was called with; submitit's in its place."""
    called: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM)}
    signal.signal(signal.SIGUSR2, lambda number, frame: called.append(number))
    yield called
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_a_signal_saves_the_state_and_only_a_warning_of_submitit_queues_again(
    number: signal.Signals, handlers: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = Channel(tmp_path / "s")
    channel.forget("run")

    def trains(*given: Any) -> Outcome:
        stopped = given[-1]
        assert not stopped()
        os.kill(os.getpid(), number)
        assert stopped() and not handlers  # nothing is queued again before the state is saved
        return Outcome(paused=True)

    monkeypatch.setattr(slurm, "remote_job", trains)
    with pytest.raises(SystemExit):
        slurm.Job()(str(tmp_path), work("run"), "cpu", 1, str(channel.folder))
    assert handlers == ([signal.SIGUSR2] if number == signal.SIGUSR2 else [])
    assert channel.marked("run")


def test_a_halted_job_is_not_queued_again(handlers: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Channel(tmp_path / "s").halt()
    monkeypatch.setattr(slurm, "remote_job", lambda *given: Outcome(paused=True))
    assert slurm.Job()(str(tmp_path), work("run"), "cpu", 1, str(tmp_path / "s")).paused
    assert not handlers


class FakeQueue:
    """Stands for submitit: jobs are numbered, their files stand in a folder."""

    def __init__(self, folder: Path, **_: Any) -> None:
        self.folder, self.jobs = folder, 0
        folder.mkdir()

    def update_parameters(self, **_: Any) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def batch(self) -> FakeQueue:
        return self

    def submit(self, *_: Any) -> Any:
        self.jobs += 1
        names = {"result_pickle": "result", "submitted_pickle": "submitted", "stdout": "log"}
        paths = SimpleNamespace(**{k: self.folder / f"{self.jobs}_{v}" for k, v in names.items()})
        return SimpleNamespace(job_id=f"9_{self.jobs}", paths=paths)


def test_jobs_end_by_a_result_or_by_being_gone_from_the_queue_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "QUEUE_S", -1.0)
    monkeypatch.setattr(slurm, "LOOK_S", 0.0)
    monkeypatch.setattr(slurm, "_state", lambda job: "NODE_FAIL")
    queue = ["9_1", "9_2", "9_3", "9_4"]
    monkeypatch.setattr(slurm, "queued", lambda: set(queue) if queue else None)
    place = Place(Lab(tmp_path), 1, "auto", None)  # type: ignore[arg-type]
    jobs = slurm.Slurm(slurm.SlurmSpec(), place, SimpleNamespace(SlurmExecutor=FakeQueue))
    works: list[Work] = [work(f"run{i}") for i in range(4)]
    jobs.start(works)
    assert (tmp_path / "runs" / "run0" / "slurm-9_1.out").readlink() == Path("../../slurm/1_log")
    assert jobs.ended(0.0) == {}
    (tmp_path / "slurm" / "1_result").write_bytes(pickle.dumps(("success", Outcome(measured=3))))
    (tmp_path / "slurm" / "2_result").write_bytes(pickle.dumps(("error", "Traceback\nMemoryError: 8 GB\n")))
    assert jobs.ended(0.0) == {
        works[0]: Outcome(measured=3), works[1]: Lost("job 9_2 of Slurm failed: MemoryError: 8 GB")
    }  # fmt: skip
    assert not list((tmp_path / "slurm").glob("*_result"))
    jobs.channel.teller("run2")(1, 5e6)
    jobs.channel.mark("run3")  # by a signal of Slurm
    queue[:] = []
    assert jobs.ended(0.0) == {}  # Slurm does not answer
    queue[:] = ["1"]
    assert jobs.ended(0.0) == {}  # their results may be on their way
    gone = jobs.ended(0.0)
    assert gone[works[3]] == Outcome(held=True)
    lost = gone[works[2]]
    assert isinstance(lost, Lost) and lost.flop == 5e6 and "9_3 of Slurm ended without a result (NODE_FAIL)" in lost.why


def test_a_gpu_must_be_asked_for(tmp_path: Path) -> None:
    place = Place(Lab(tmp_path), 1, "cuda", None)  # type: ignore[arg-type]
    with pytest.raises(StudyError, match="--option gpus=1"):
        slurm.Slurm(slurm.SlurmSpec(), place, SimpleNamespace(SlurmExecutor=FakeQueue))
