"""What a person does with ecgscale, in Python as on the command line."""

from __future__ import annotations

import math
import os
import platform
import time
import tomllib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console

from ecgscale.data.corpus import Corpus, Form
from ecgscale.data.corpus import ingest as ingest_corpus
from ecgscale.lab import DiskFull, Lab, read_failures, read_json, write_json
from ecgscale.reporting import ReportInput
from ecgscale.spec import Explained, part
from ecgscale.study import execute as execution
from ecgscale.study import shrunk
from ecgscale.study.bind import Binder
from ecgscale.study.diagnosis import diagnosed
from ecgscale.study.downstream import downstream_of
from ecgscale.study.effects import effects_of
from ecgscale.study.efficiency import efficiency_of
from ecgscale.study.executors import Place, executor_spec
from ecgscale.study.expand import expand
from ecgscale.study.fits import fit_all
from ecgscale.study.groupings import groupings_of
from ecgscale.study.overfitting import overfitting_of
from ecgscale.study.plan import Plan, Search
from ecgscale.study.ranking import ranking_of
from ecgscale.study.session import execute
from ecgscale.study.similar import similar
from ecgscale.study.study import Study, StudyError
from ecgscale.study.table import build_table
from ecgscale.study.watched import asked_for, keep
from ecgscale.study.work import write_table
from ecgscale.study.workers import Workers

console = Console(stderr=True, highlight=False)

Bindings = Mapping[str, Path]


def run(
    study: str | Path | Study,
    lab: Lab | Path | str = "lab",
    data: Bindings | None = None,
    changes: Mapping[str, Any] | None = None,
    workers: int | None = None,
    device: str = "auto",
    hours: float | None = None,
    flop: float | None = None,
    command: str | None = None,
    on: str = "local",
    options: Mapping[str, Any] | None = None,
    shrink: bool = False,
) -> pd.DataFrame:
    """Do all of a study, or what a budget allows: ingest, train, evaluate, fit and report.

    Args:
        study: A study, its file, or the name of a packaged one.
        lab: Directory of results; what it holds is not done again.
        data: NAME → folder or file.
        changes: `{"training.steps": 400}`, replaced in the study before anything is hashed.
        workers: Processes on this machine; one per core when None. Never changes a number.
        device: "auto", "cpu" or "cuda".
        hours: Of wall time; then runs save their state and stop, and what is there is fitted and reported.
        flop: Of training, likewise.
        command: How this was asked for, for the report.
        on: The executor of the runs: "local", "slurm", "ray" or the dotted path of a module.
        options: Its settings, as `{"partition": "gpu"}`. Never a change of a number.
        shrink: All of it in a minute, on samples of the data sets and under another name: a test of the path.

    Returns:
        The study's table.

    Raises:
        Explained: anything the person can mend.
    """
    started = time.monotonic()
    # what is shrunk is planned at every look
    asked = None if shrink or isinstance(study, Study) else asked_for(study, data or {}, changes or {})[1]
    study, lab, binder = _bound(study, lab, data, changes, shrink)
    settings = executor_spec(on, dict(options or {}))
    here, threads = (device_of(device) if on == "local" else "cpu"), study.training.threads
    workers = workers_of(workers, threads)
    with Workers(workers, threads, torch.cuda.device_count() if here == "cuda" else 0) as pool, ExitStack() as stack:
        executor = settings.open(Place(lab, threads, here if on == "local" else device, pool))
        stack.callback(executor.close)
        execution.prepare(study, binder, pool, console)
        trained = measured = 0
        budget, spent = execution.Budget(hours, flop), execution.Spent(started)
        while True:  # once; with learning rates to search: trials, then perhaps an extension, then the grid
            plan = expand(study, binder)
            keep(lab, execution.watch(plan), asked)
            outcome, failures = execute(plan, lab, executor, console, budget, spent)
            trained, measured = trained + outcome.trained, measured + outcome.measured
            if outcome.full:
                left = len(execution.pending(plan, lab))
                raise DiskFull(f"{outcome.full}; {left} runs are left: make room and run the same command again")
            known = read_failures(lab, study.name) if outcome.paused else {}  # of what this call did not try again
            failures = known | failures
            _write_study(plan, lab, failures)
            if outcome.paused or not plan.waiting:
                break
        frame = build_table(plan, lab, failures)
        write_table(lab.study(study.name) / "table.parquet", frame)
        fits = fit_all(frame, plan.floors, lab, study.name, study.fit_resamples, pool)
    seconds = time.monotonic() - started
    about = lab.study(study.name) / "session.json"
    before = read_json(about)
    if trained or measured or outcome.paused or before is None:
        total = seconds + (before or {}).get("seconds", 0.0)
        write_json(about, {"seconds": total, "workers": executor.slots, "device": executor.device})
    page = _report(plan, lab, frame, fits, command or f"ecgscale run {study.name}")
    console.print(f"trained {trained} runs, measured {measured} evaluations, {len(failures)} failed, {seconds:.0f} s")
    if outcome.paused:
        left = len(execution.pending(plan, lab))
        console.print(f"stopped by the budget: {left} runs are left; the same command goes on from there")
    for uid, reason in failures.items():
        console.print(f"failed {uid}: {reason}", style="red", markup=False, soft_wrap=True)
    console.print(f"report: {page}")
    return frame


def table(study: str | Path | Study, lab: Lab | Path | str = "lab", data: Bindings | None = None) -> pd.DataFrame:
    """Return a study's table from what the lab holds."""
    plan, where = planned(study, lab, data, None)
    return build_table(plan, where, read_failures(where, plan.study.name))


def fit(
    study: str | Path | Study,
    lab: Lab | Path | str = "lab",
    data: Bindings | None = None,
    changes: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Fit the laws of a study to what the lab holds; returns the dumps of the fits."""
    plan, where = planned(study, lab, data, changes)
    frame = build_table(plan, where, read_failures(where, plan.study.name))
    write_table(where.study(plan.study.name) / "table.parquet", frame)
    return fit_all(frame, plan.floors, where, plan.study.name, plan.study.fit_resamples, None)


def report(
    study: str | Path | Study,
    lab: Lab | Path | str = "lab",
    data: Bindings | None = None,
    changes: Mapping[str, Any] | None = None,
    command: str | None = None,
) -> Path:
    """Write the report of a study from what the lab holds; returns the page."""
    plan, where = planned(study, lab, data, changes)
    frame = build_table(plan, where, read_failures(where, plan.study.name))
    fits = fit_all(frame, plan.floors, where, plan.study.name, plan.study.fit_resamples, None)
    return _report(plan, where, frame, fits, command or f"ecgscale report {plan.study.name}")


def show_ingest(
    dataset: str, root: Path, out: str, form: Mapping[str, Any], fields: Mapping[str, Any], describe: Path | None,
    workers: int | None,
) -> None:  # fmt: skip
    """Ingest a data set, write the report of its quality and print what came of it."""
    from ecgscale.reporting.quality import write_quality_report  # Jinja: only where a report is made

    table: dict[str, Any] = {}
    if describe is not None:
        try:
            table = tomllib.loads(describe.read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise StudyError(f"the descriptor {describe} cannot be read: {error}") from None
        if table.get("dataset") == dataset:  # as a study writes it: which part; otherwise the name of the corpus
            table.pop("dataset")
    started = time.monotonic()
    with console.status(f"ingesting {root}") as line:

        def progress(done: int) -> None:
            line.update(f"ingesting {root}: {done:,} records, {done / (time.monotonic() - started):,.0f} per second")

        corpus = ingest(dataset, root, out, workers=workers, form=form, progress=progress, **{**table, **fields})
    manifest = corpus.manifest
    print(f"{out}: {len(corpus):,} records of {manifest['patients']:,} patients, {corpus.unit}, {corpus.rate_hz:g} Hz, "
          f"{manifest['quarantined']} quarantined, digest {corpus.digest}")  # fmt: skip
    print(f"quality report: {write_quality_report(corpus)}")


def ingest(
    dataset: str,
    root: Path | str,
    out: Path | str,
    /,
    rate: float = 100.0,
    *,
    form: Mapping[str, Any] | None = None,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
    **fields: Any,
) -> Corpus:
    """Turn a data set into a corpus at `out`.

    Args:
        dataset: Its name.
        root: Its folder or file.
        out: Where the corpus goes: a folder, or a URL such as `s3://bucket/name`; an earlier corpus there is replaced.
        rate: Hz.
        form: Fields of `Form`; they win over `rate`.
        workers: Processes; one per core when None. Never changes a number.
        progress: Called with the number of records read so far.
        fields: Of the data set's spec.

    Raises:
        Explained: the data set, its root, the form or `out` is wrong.
    """
    spec = part("datasets", {**fields, "name": dataset})
    if spec.needs_root and not Path(root).exists():
        raise StudyError(f"{root}: there is no such folder or file")
    where = out if "://" in str(out) else Path(out)
    asked = Form.parse({"rate_hz": rate, **(form or {})}, "form")
    return ingest_corpus(spec, Path(root), asked, where, progress, workers or os.cpu_count() or 1)


def _study(study: str | Path | Study, changes: Mapping[str, Any] | None) -> Study:
    return study if isinstance(study, Study) else Study.load(study, dict(changes or {}))


def _lab(lab: Lab | Path | str) -> Lab:
    return lab if isinstance(lab, Lab) else Lab(lab)


def _bound(
    study: str | Path | Study, lab: Lab | Path | str, data: Bindings | None, changes: Mapping[str, Any] | None,
    small: bool,
) -> tuple[Study, Lab, Binder]:  # fmt: skip
    """Return a study, its lab, and where its data are: samples of them where it is to be shrunk."""
    study, lab = _study(study, changes), _lab(lab)
    if not small:
        return study, lab, Binder(study, lab, data or {})
    study = shrunk.shrink(study)
    return study, lab, shrunk.samples(study, lab, data or {})


def planned(
    study: str | Path | Study, lab: Lab | Path | str, data: Bindings | None, changes: Mapping[str, Any] | None,
    shrink: bool = False,
) -> tuple[Plan, Lab]:  # fmt: skip
    """Return the plan of a study and its lab; corpora that are missing are ingested."""
    study, lab, binder = _bound(study, lab, data, changes, shrink)
    execution.prepare(study, binder, None, console)
    return expand(study, binder), lab


def workers_of(asked: int | None, threads: int) -> int:
    """Return how many processes of so many threads work at once: what was asked for, or as many as there are cores."""
    return asked or max(1, (os.cpu_count() or 1) // threads)


def device_of(device: str) -> str:
    """Return "cpu" or "cuda" for what was asked: "auto", "cpu" or "cuda".

    Raises:
        StudyError: something else was asked for, or there is no GPU.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise StudyError(f'--device takes auto, cpu or cuda, found "{device}"')
    if device == "cuda" and not torch.cuda.is_available():
        raise StudyError("--device cuda: torch sees no GPU here; use --device cpu")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def _write_study(plan: Plan, lab: Lab, failures: dict[str, str]) -> None:
    folder = lab.study(plan.study.name)
    write_json(folder / "study.json", plan.study.dump())
    write_json(folder / "failures.json", failures)


def notes_of(plan: Plan) -> list[str]:
    """Return what a reader of a study's numbers should know: its notes, its rates, and which were at an edge."""
    study = plan.study
    rates = {
        "packaged": "learning rates: packaged with ecgscale, tuned before on other ECGs",
        "given": "learning rates: given in the study",
        "tuned": f"learning rates: searched by this study, {len(study.tune.factors)} trials for every family and size",
    }
    edges = [
        f"the best learning rate of {s.family} at {s.size:,} parameters, {s.found.lr:.2g}, is at the edge of its "
        "extended grid: a better one may lie beyond"
        for s in plan.tuning
        if s.found.at_edge
    ]
    return [*study.notes, *plan.notes, rates[study.rates], *edges]


def _report(plan: Plan, lab: Lab, frame: pd.DataFrame, fits: list[dict[str, Any]], command: str) -> Path:
    folder = lab.study(plan.study.name)
    session = read_json(folder / "session.json") or {}
    report_input = ReportInput(
        study={"name": plan.study.name, "title": plan.study.title, "description": plan.study.description},
        command=command,
        table=frame,
        fits=fits,
        corpora=[_manifest(label, source.open()) for label, source in plan.sources.items()],
        overlaps=plan.overlaps,
        diagnosis=diagnosed(frame, lab, plan.study.name),
        ranking=ranking_of(plan, lab),
        shift=groupings_of(plan, lab),
        downstream=downstream_of(frame),
        overfitting=overfitting_of(plan, lab),
        efficiency=efficiency_of(plan, lab),
        effects=effects_of(plan, lab),
        similar=similar(plan, lab),
        skipped=plan.skipped,
        tuning=[_search(search) for search in plan.tuning],
        environment={"machine": f"{platform.machine()}, {os.cpu_count()} cores", "torch": torch.__version__,
                     "threads": plan.study.training.threads, **session},
        notes=notes_of(plan),
    )  # fmt: skip
    from ecgscale.reporting.render import render  # Jinja: only where a report is made

    return render(report_input, folder / "report")


def _search(search: Search) -> dict[str, Any]:
    found = search.found
    told = {key: getattr(search, key) for key in ("family", "arm", "size", "D", "criterion")}
    trials = [[lr, score if score is not None and math.isfinite(score) else None] for lr, score in found.trials.items()]
    return told | {"trials": trials, "lr": found.lr, "distance": found.distance, "at_edge": found.at_edge}


def _manifest(label: str, corpus: Corpus) -> dict[str, Any]:
    return {**corpus.manifest, "name": label, "quarantine": corpus.quarantine.to_dict("records")}


__all__ = ["Corpus", "Explained", "Lab", "Study", "fit", "ingest", "report", "run", "table"]
