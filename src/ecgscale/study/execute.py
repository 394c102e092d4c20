"""Do what a plan says, in long-lived worker processes on this machine; what the lab already holds is skipped."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ecgscale.lab import Lab
from ecgscale.study import work
from ecgscale.study.bind import Binder, Source
from ecgscale.study.expand import HANDCRAFTED, Plan, PlannedEval, PlannedRun
from ecgscale.study.study import Study

PR_SET_PDEATHSIG = 1
RETRY_S = 2.0  # before asking again for a run that another process holds


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job did: `trained` runs, `measured` evaluations, or the reason it failed; `held` by another process."""

    trained: int = 0
    measured: int = 0
    held: bool = False
    reason: str | None = None


def pool(workers: int, threads: int) -> ProcessPoolExecutor:
    """Return `workers` long-lived processes that die with this one."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before torch is imported in the workers
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (threads, os.getpid()))


def _begin(threads: int, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    work.set_up(threads)


def prepare(study: Study, binder: Binder, workers: ProcessPoolExecutor | None, console: Console) -> None:
    """Ingest the corpora of a study that the lab does not hold, side by side."""
    sources: dict[Path, Source] = {}
    for arm in study.arm:
        wanted = [binder.pretrain(arm), *(binder.source(e.data, arm) for e in study.evaluate if e.data != "pretrain")]
        sources |= {s.path: s for s in wanted if s is not None and not (s.path / "manifest.json").exists()}
    if not sources:
        return
    console.print(f"ingesting {', '.join(s.label for s in sources.values())}")
    if workers is None:
        for source in sources.values():
            source.open()
        return
    for future in [workers.submit(_ingest, source) for source in sources.values()]:
        future.result()


def _ingest(source: Source) -> None:
    source.open()


def _job(lab_root: Path, planned: PlannedRun, device: str) -> Outcome:
    lab = Lab(lab_root)
    try:
        trained = work.train(lab, planned, device)
        if lab.result(planned.run.uid) is None:
            return Outcome(held=True)
        if planned.role == "codebook":
            work.cache_codes(lab, planned, device)
        return Outcome(int(trained and planned.run.objective is not None), work.evaluate_run(lab, planned, device))
    except Exception as error:  # one run's failure is a row of the table, never the end of the study
        return Outcome(reason=work.failure(error))


def _handcrafted_job(lab_root: Path, evaluations: tuple[PlannedEval, ...]) -> Outcome:
    try:
        return Outcome(measured=work.evaluate_handcrafted(Lab(lab_root), evaluations))
    except Exception as error:
        return Outcome(reason=work.failure(error))


def pending(plan: Plan, lab: Lab) -> list[PlannedRun]:
    """Return the planned runs that are not trained or not fully evaluated, code-books first, then cheapest first."""
    open_runs = [p for p in plan.runs.values() if not _done(lab, p)]
    return sorted(open_runs, key=lambda p: (p.role != "codebook", weight(p)))


def _done(lab: Lab, planned: PlannedRun) -> bool:
    if lab.result(planned.run.uid) is None:
        return False
    if planned.role == "codebook":
        return work.codes_path(lab, planned.run.uid, work.opened(planned.source.path)).exists()
    return all(work.load_evaluation(lab, planned.run.uid, e.spec) is not None for e in planned.evaluations)


def weight(planned: PlannedRun) -> float:
    """Return a run's expected share of the work: records drawn, times a cost growing with size, and evaluation."""
    drawn = planned.run.recipe.steps * planned.run.recipe.batch + 1500
    return float(drawn) * (1 + planned.target / 50_000)


def execute(
    plan: Plan, lab: Lab, workers: int, device: str, executor: ProcessPoolExecutor, console: Console,
    seen: Callable[[int, int], None] | None = None,
) -> tuple[Outcome, dict[str, str]]:  # fmt: skip
    """Train and evaluate all that is pending.

    Args:
        plan: What to do.
        lab: Where results go.
        workers: Jobs in flight.
        device: "cpu" or "cuda".
        executor: From `pool`.
        console: For the one progress display.
        seen: Told (done, all) after every job.

    Returns:
        Totals, and run uid → reason of what failed.
    """
    waiting = pending(plan, lab)
    by_corpus: dict[Path, list[PlannedEval]] = {}
    for e in plan.handcrafted:
        if work.load_evaluation(lab, HANDCRAFTED, e.spec) is None:
            by_corpus.setdefault(e.source.path, []).append(e)
    running: dict[Future[Outcome], PlannedRun | None] = {}
    failures: dict[str, str] = {}
    trained = measured = 0
    with _progress(console) as progress:
        bar = progress.add_task("runs", total=sum(map(weight, waiting)) or 1, jobs=f"0/{len(waiting)}", left="")
        started, done = time.monotonic(), 0
        for group in by_corpus.values():
            running[executor.submit(_handcrafted_job, lab.root, tuple(group))] = None
        while waiting or running:
            for planned in _ready(waiting, plan, lab, failures)[: max(0, workers - len(running))]:
                waiting.remove(planned)
                running[executor.submit(_job, lab.root, planned, device)] = planned
            if not running:
                time.sleep(RETRY_S)  # all that is left is held by another process, or waits for it
                continue
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                planned_or_none = running.pop(future)
                outcome = _outcome(future)
                trained, measured = trained + outcome.trained, measured + outcome.measured
                if planned_or_none is None:
                    if outcome.reason:
                        failures[HANDCRAFTED] = outcome.reason
                    continue
                if outcome.held:
                    waiting.append(planned_or_none)
                    time.sleep(RETRY_S if not running else 0)
                    continue
                if outcome.reason:
                    failures[planned_or_none.run.uid] = outcome.reason
                done += 1
                progress.advance(bar, weight(planned_or_none))
                task = progress.tasks[0]
                left = (time.monotonic() - started) * (task.total / max(task.completed, 1e-9) - 1)  # type: ignore[operator]
                progress.update(
                    bar, jobs=f"{done}/{done + len(waiting) + len(running)}", left=f"{left / 60:.1f} min left"
                )
                if seen is not None:
                    seen(done, done + len(waiting) + len(running))
    return Outcome(trained, measured), failures


def _outcome(future: Future[Outcome]) -> Outcome:
    try:
        return future.result()
    except BrokenProcessPool:
        raise RuntimeError(
            "a worker process was killed (out of memory?); what is finished is kept: run the same command again"
        ) from None


def _ready(waiting: Iterable[PlannedRun], plan: Plan, lab: Lab, failures: dict[str, str]) -> list[PlannedRun]:
    """Runs whose code-book is there; a run whose code-book failed fails with it."""
    ready = []
    for planned in list(waiting):
        if planned.codebook is None:
            ready.append(planned)
        elif planned.codebook in failures:
            ready.append(planned)  # its job says in one sentence that the codes are missing
        else:
            book = plan.runs[planned.codebook]
            if work.codes_path(lab, planned.codebook, work.opened(book.source.path)).exists():
                ready.append(planned)
    return ready


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[jobs]}"), TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"), console=console, transient=not console.is_terminal,
    )  # fmt: skip
