"""What a person does with ecgscale, in Python as on the command line."""

from __future__ import annotations

import json
import math
import os
import platform
import time
import tomllib
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ecgscale.data.corpus import Corpus, Form
from ecgscale.data.corpus import ingest as ingest_corpus
from ecgscale.fitting import fit_file
from ecgscale.lab import DiskFull, Lab, read_json, write_json
from ecgscale.reporting import ReportInput
from ecgscale.spec import Explained, part
from ecgscale.study import execute as execution
from ecgscale.study.bind import Binder
from ecgscale.study.effects import effects_of
from ecgscale.study.executors import Place, executor_spec
from ecgscale.study.expand import HANDCRAFTED, Plan, Search, expand
from ecgscale.study.fits import fit_all
from ecgscale.study.price import price
from ecgscale.study.ranking import ranking_of
from ecgscale.study.session import execute
from ecgscale.study.status import plot, status_of
from ecgscale.study.stored import load_evaluation
from ecgscale.study.study import Study, StudyError
from ecgscale.study.table import build_table
from ecgscale.study.work import write_table
from ecgscale.study.workers import Workers

console = Console(stderr=True, highlight=False)

Bindings = Mapping[str, Path]
WATCH_S = 5.0  # between two looks at a lab that is watched


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

    Returns:
        The study's table.

    Raises:
        Explained: anything the person can mend.
    """
    started = time.monotonic()
    study, lab = _study(study, changes), _lab(lab)
    binder = Binder(study, lab, data or {})
    settings = executor_spec(on, dict(options or {}))
    here, threads = _device(device, on), study.training.threads
    workers = workers or max(1, (os.cpu_count() or 1) // threads)
    with Workers(workers, threads, torch.cuda.device_count() if here == "cuda" else 0) as pool, ExitStack() as stack:
        executor = settings.open(Place(lab, threads, here if on == "local" else device, pool))
        stack.callback(executor.close)
        execution.prepare(study, binder, pool, console)
        plan = expand(study, binder)
        trained = measured = 0
        budget, spent = execution.Budget(hours, flop), execution.Spent(started)
        while True:  # once; with learning rates to search: trials, then perhaps an extension, then the grid
            outcome, failures = execute(plan, lab, executor, console, budget, spent)
            trained, measured = trained + outcome.trained, measured + outcome.measured
            if outcome.full:
                left = len(execution.pending(plan, lab))
                raise DiskFull(f"{outcome.full}; {left} runs are left: make room and run the same command again")
            known = _failures(plan, lab) if outcome.paused else {}  # of what this call did not try again
            failures = known | failures
            _write_study(plan, lab, failures)
            if outcome.paused or not plan.waiting:
                break
            plan = expand(study, binder)
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
    plan, where = _plan(study, lab, data, None)
    return build_table(plan, where, _failures(plan, where))


def fit(
    study: str | Path | Study,
    lab: Lab | Path | str = "lab",
    data: Bindings | None = None,
    changes: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Fit the laws of a study to what the lab holds; returns the dumps of the fits."""
    plan, where = _plan(study, lab, data, changes)
    frame = build_table(plan, where, _failures(plan, where))
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
    plan, where = _plan(study, lab, data, changes)
    frame = build_table(plan, where, _failures(plan, where))
    fits = fit_all(frame, plan.floors, where, plan.study.name, plan.study.fit_resamples, None)
    return _report(plan, where, frame, fits, command or f"ecgscale report {plan.study.name}")


def show_plan(study: str, lab: Path, data: Bindings, changes: Mapping[str, Any]) -> None:
    """Print what a study will train, its price on this machine, and what is left out and why."""
    plan, where = _plan(study, lab, data, changes)
    prices = price(plan, where)
    out = Console(highlight=False)
    out.print(f"[bold]{plan.study.name}[/]: {plan.study.title}")
    for label, source in plan.sources.items():
        corpus = source.open()
        out.print(f"  {label}: {len(corpus.index):,} records, {corpus.index['patient'].nunique():,} patients, "
                  f"unit {corpus.unit}, from {source.root or 'the simulator'}",
                  markup=False, soft_wrap=True)  # fmt: skip
    grid = Table(
        "family", "arm", "N asked", "N", "D", "seeds", "steps", "batch", "lr", "FLOP per run", "core-s per run"
    )
    cells: dict[tuple[Any, ...], list[str]] = {}
    for key, planned in plan.runs.items():
        run, name = planned.run, planned.run.objective.part_name() if planned.run.objective else "random weights"
        cell = (
            f"{run.backbone.part_name()} {name}",
            f"{planned.arm}, rate trial" if planned.role == "tune" else planned.arm,
            planned.target,
            run.D,
            run.recipe.steps,
            run.recipe.batch,
            run.recipe.lr,
        )
        cells.setdefault(cell, []).append(key)
    for (family, arm, target, D, steps, batch, lr), keys in cells.items():
        one = prices[keys[0]]
        grid.add_row(family, arm, f"{target:,}", f"{one.N:,}", f"{D:,}", str(len(keys)), f"{steps:,}", str(batch),
                     f"{lr:.2g}", f"{one.flop:.2e}", f"{one.seconds:.1f}")  # fmt: skip
    _print_whole(grid)
    todo = {id(p) for p in execution.pending(plan, where)}
    left = sum(prices[key].seconds for key, p in plan.runs.items() if id(p) in todo or p.provisional)
    cores = os.cpu_count() or 1
    out.print(f"{len(plan.runs)} runs, {len(todo)} to do; {sum(p.flop for p in prices.values()):.2e} FLOP of training; "
              f"about {left / cores / 60:.1f} minutes on {cores} cores; "
              f"{sum(p.bytes for p in prices.values()) / 1e6:.0f} MB kept", soft_wrap=True)  # fmt: skip
    if plan.waiting:
        out.print(
            "the rates of the grid are where their search starts; the grid runs when the trials are done",
            soft_wrap=True,
        )
    for entry in plan.skipped:
        out.print(f"left out: {entry['what']}: {entry['reason']}", markup=False, soft_wrap=True)
    for note in _notes(plan):
        out.print(f"note: {note}", markup=False, soft_wrap=True)


def show_status(study: str, lab: Path, data: Bindings, changes: Mapping[str, Any], watch: bool = False) -> None:
    """Print what is done, running, waiting and failed; nothing is ingested or trained."""
    loaded, where = _study(study, changes), _lab(lab)
    binder = Binder(loaded, where, data)
    unread = execution.missing(loaded, binder)
    if unread:
        print(f"{loaded.name}: not ingested yet: {', '.join(s.label for s in unread)}; which runs are done is known "
              f"once they are (`ecgscale run` and `ecgscale plan` ingest them)")  # fmt: skip
        return
    out = Console(highlight=False)
    if not watch:
        out.print(_status(loaded, where, binder)[0])
        return
    with Live(console=out, auto_refresh=False) as live, suppress(KeyboardInterrupt):
        while True:
            shown, left = _status(loaded, where, binder)
            live.update(shown, refresh=True)
            if not left:
                return
            time.sleep(WATCH_S)


def _status(study: Study, lab: Lab, binder: Binder) -> tuple[Group, bool]:
    """Return what to print, and whether anything is left to do."""
    plan = expand(study, binder)
    found = status_of(plan, lab, _failures(plan, lab))
    measured = sum(load_evaluation(lab, HANDCRAFTED, e.spec) is not None for e in plan.handcrafted)
    left = f", about {found.seconds_left / 60:.0f} minutes left at this rate" if found.seconds_left else ""
    lines: list[RenderableType] = [
        Text(f"{study.name}: {found.done} done, {len(found.running)} running, {found.waiting} waiting, "
             f"{len(found.failed)} failed{left}"),
        Text(f"hand-crafted baseline: {measured} of {len(plan.handcrafted)} evaluations"),
    ]  # fmt: skip
    if found.running:
        grid = Table("running", "size", "D", "seed", "step", "loss", "", "records/s")
        for r in found.running:
            run = r.planned.run
            objective = run.objective.part_name() if run.objective else "random weights"
            grid.add_row(f"{run.backbone.part_name()} {objective}", f"{r.planned.target:,}", f"{run.D:,}",
                         str(run.seed), f"{r.step:,}/{run.recipe.steps:,}",
                         f"{r.losses[-1]:.3g}" if r.losses else "", plot(r.losses),
                         f"{r.rate:,.0f}" if r.rate else "")  # fmt: skip
        lines.append(grid)
    lines += [Text(f"failed {uid}: {reason}") for uid, reason in found.failed.items()]
    return Group(*lines), bool(found.running or found.waiting)


def show_fits(study: str, lab: Path, data: Bindings, changes: Mapping[str, Any], as_json: bool) -> None:
    """Print the fits of a study, or of a table of runs (.csv, .parquet)."""
    is_table = Path(study).suffix in (".csv", ".parquet")
    dumps = [fit_file(Path(study)).dump()] if is_table else fit(study, lab, data, changes)
    if as_json:
        print(json.dumps([{k: v for k, v in d.items() if k != "samples"} for d in dumps], indent=1))
        return
    grid = Table("law", "family", "on", "status", "verdict", "parameters [95 % interval]")
    for d in dumps:
        values = "  ".join(f"{k} {v:.4g}{_interval(d['intervals'].get(k))}" for k, v in d["params"].items())
        grid.add_row(d.get("law_name", d["law"]["name"]), d.get("family", ""),
                     f"{d.get('eval_corpus', '')} {d.get('task', '')}", d["status"], d.get("verdict", ""),
                     values)  # fmt: skip
    _print_whole(grid)


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


def _print_whole(grid: Table) -> None:
    """Print a table without cutting a cell: as wide as it is in a file or pipe, folded in a narrow terminal."""
    for column in grid.columns:
        column.overflow = "fold"
    out = Console(highlight=False)
    wide = Console(highlight=False, width=10_000)
    out.width = out.width if out.is_terminal else max(out.width, wide.measure(grid).maximum)
    out.print(grid)


def _study(study: str | Path | Study, changes: Mapping[str, Any] | None) -> Study:
    return study if isinstance(study, Study) else Study.load(study, dict(changes or {}))


def _lab(lab: Lab | Path | str) -> Lab:
    return lab if isinstance(lab, Lab) else Lab(lab)


def _plan(
    study: str | Path | Study, lab: Lab | Path | str, data: Bindings | None, changes: Mapping[str, Any] | None
) -> tuple[Plan, Lab]:
    study, lab = _study(study, changes), _lab(lab)
    binder = Binder(study, lab, data or {})
    execution.prepare(study, binder, None, console)
    return expand(study, binder), lab


def _device(device: str, on: str) -> str:
    """Return the device of this machine's processes."""
    if device not in ("auto", "cpu", "cuda"):
        raise StudyError(f'--device takes auto, cpu or cuda, found "{device}"')
    if on != "local":
        return "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise StudyError("--device cuda: torch sees no GPU here; use --device cpu")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def _write_study(plan: Plan, lab: Lab, failures: dict[str, str]) -> None:
    folder = lab.study(plan.study.name)
    write_json(folder / "study.json", plan.study.dump())
    write_json(
        folder / "runs.json", {key: {"uid": p.run.uid, "role": p.role, "arm": p.arm} for key, p in plan.runs.items()}
    )
    write_json(folder / "failures.json", failures)


def _failures(plan: Plan, lab: Lab) -> dict[str, str]:
    stored: dict[str, str] | None = read_json(lab.study(plan.study.name) / "failures.json")
    return stored or {}


def _notes(plan: Plan) -> list[str]:
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


def _interval(pair: list[float] | None) -> str:
    return f" [{pair[0]:.3g}, {pair[1]:.3g}]" if pair else ""


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
        ranking=ranking_of(plan, lab),
        effects=effects_of(plan, lab),
        skipped=plan.skipped,
        tuning=[_search(search) for search in plan.tuning],
        environment={"machine": f"{platform.machine()}, {os.cpu_count()} cores", "torch": torch.__version__,
                     "threads": plan.study.training.threads, **session},
        notes=_notes(plan),
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
