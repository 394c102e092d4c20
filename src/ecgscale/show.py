"""What the commands print of a study: its plan and price, its fits."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ecgscale import api, show_answers
from ecgscale.api import Bindings, console
from ecgscale.lab import Lab
from ecgscale.printing import print_fits, print_whole
from ecgscale.study import bench as benches
from ecgscale.study.bench import Bench, Machine
from ecgscale.study.declared import declare
from ecgscale.study.events import write_events
from ecgscale.study.plan import Plan
from ecgscale.study.price import Estimate, Sizes, price
from ecgscale.study.room import CannotFit, Room, disk, refusals, side_by_side, size
from ecgscale.study.study import Study

SHORT_S = 10.0  # of timed work, in the probe that a plan makes where the lab holds none
NAMED = 3  # things that are left out for one reason


def show_plan(
    study: str, lab: Path, data: Bindings, changes: Mapping[str, Any], workers: int | None = None,
    device: str = "auto", declared: bool = False, shrink: bool = False,
) -> None:  # fmt: skip
    """Print what a study will train, its price on this machine, and what is left out and why.

    Args:
        study: Its file or name.
        lab: Whose results are not paid for again, and whose probe (`show_bench`) is used.
        data: NAME → folder or file.
        changes: Of the study's keys.
        workers, device: As of a run.
        declared: Price it without its data: samples stand in for them, and nothing of that enters the lab.
        shrink: Of the study as `run --shrink` runs it.

    Raises:
        CannotFit: it needs more memory or disk than there is; the sentence says what would fit.
    """
    out = Console(highlight=False)
    if shrink or not declared:
        plan, where = api.planned(study, lab, data, changes, shrink)
        _print_sources(out, plan)
        _print_plan(out, plan, where, where, Sizes(), workers, device)
        return
    loaded = Study.load(study, dict(changes))
    with tempfile.TemporaryDirectory() as folder:
        console.print(f"samples stand in for the data of {loaded.name}")
        stands = declare(loaded, Path(folder))
        out.print(f"[bold]{loaded.name}[/]: {loaded.title}")
        for label, (records, who) in stands.said.items():
            out.print(f"  {label}: {records:,} records, {who}", markup=False, soft_wrap=True)
        out.print("sizes are declared, not counted; rates are measured on samples; nothing of this entered the lab")
        _print_plan(out, stands.plan, Lab(Path(folder) / "lab"), Lab(lab), stands.sizes, workers, device)


def show_simulation(
    study: str, changes: Mapping[str, Any], noise: float, floor: float, alpha: float | None, beta: float | None,
    simulations: int,
) -> None:  # fmt: skip
    """Print whether the study's grid could identify planted exponents; nothing is ingested or trained."""
    loaded = Study.load(study, dict(changes))
    grids = {family.name: loaded.cells(family.name) for family in loaded.family}
    show_answers.show_rehearsal(grids, noise, floor, alpha, beta, simulations)


def show_bench(
    study: str, lab: Path, changes: Mapping[str, Any], workers: int | None, device: str, seconds: float
) -> None:
    """Time all kinds of runs of a study, on samples, with all workers at once; keep it in the lab and print it."""
    loaded, where = Study.load(study, dict(changes)), Lab(lab)
    machine = _machine(loaded, workers, device)
    with tempfile.TemporaryDirectory() as folder:
        plan = declare(loaded, Path(folder)).plan
        made = benches.bench(benches.wanted(plan), machine, seconds, tell=console.print)
    benches.keep(where, made)
    grid = Table("family", "N", "batch", "records/s, one worker", "of peak", "encoded/s", "memory", "FLOP per record")
    for name, (run, _) in benches.wanted(plan).runs.items():
        one = made.rates[name]
        grid.add_row(run.family, f"{one.N:,}", str(run.recipe.batch) if run.objective else "",
                     f"{one.training:,.0f}" if run.objective else "", f"{one.share:.0%}" if run.objective else "",
                     f"{one.encoding:,.0f}", size(one.memory), f"{one.flop:.2e}" if run.objective else "")  # fmt: skip
    print_whole(grid)
    print(f"{_words(machine)}: kept in {where.bench(machine.uid)}; `ecgscale plan` reads it")


def _machine(study: Study, workers: int | None, device: str) -> Machine:
    threads = study.training.threads
    return Machine.here(api.device_of(device), threads, api.workers_of(workers, threads))


def _words(machine: Machine) -> str:
    many = f"{machine.workers} workers of {machine.threads} threads"
    gpu = "" if machine.device == "cpu" else f", {machine.device}"
    return f"{many}, {machine.processor}{gpu}, torch {machine.torch}"


def _print_sources(out: Console, plan: Plan) -> None:
    out.print(f"[bold]{plan.study.name}[/]: {plan.study.title}")
    for label, source in plan.sources.items():
        corpus = source.open()
        out.print(f"  {label}: {len(corpus):,} records, {corpus.manifest['patients']:,} patients, "
                  f"unit {corpus.unit}, from {source.root or 'the simulator'}",
                  markup=False, soft_wrap=True)  # fmt: skip


def _print_plan(
    out: Console, plan: Plan, results: Lab, lab: Lab, sizes: Sizes, workers: int | None, device: str
) -> None:
    """Print a plan; `results` says what is done, `lab` is where its disk and its probe are."""
    machine = _machine(plan.study, workers, device)
    timed = benches.stored(lab, machine)
    what = benches.wanted(plan)
    if timed is None or not timed.covers(what):
        timed, how = benches.bench(what, machine, SHORT_S, tell=console.print), "a short probe just now"
    else:
        how = f"the probe of {timed.made[:16].replace('T', ' ')} UTC"
    estimate = price(plan, results, timed, sizes)
    room = Room.here(lab, "cpu" if machine.device == "cpu" else "cuda")
    _print_runs(plan, estimate)
    for line in _totals(plan, estimate, timed, room):
        out.print(line, soft_wrap=True)
    out.print(f"rates: {how}, {_words(machine)}", soft_wrap=True)
    if plan.waiting:
        out.print(
            "the rates of the grid are where their search starts; the grid runs when the trials are done",
            soft_wrap=True,
        )
    for line in left_out(plan.skipped):
        out.print(line, markup=False, soft_wrap=True)
    for note in api.notes_of(plan):
        out.print(f"note: {note}", markup=False, soft_wrap=True)
    refused = refusals(plan, estimate, timed, room)
    if refused:
        raise CannotFit(f"{plan.study.name} cannot fit here: {'; '.join(refused)}")


def left_out(skipped: Sequence[Mapping[str, str]]) -> list[str]:
    """Return a line for every reason why something is not run; of many things with one reason the first are named."""
    by_reason: dict[str, list[str]] = {}
    for entry in skipped:
        by_reason.setdefault(entry["reason"], []).append(entry["what"])
    named = {reason: "; ".join(what[:NAMED]) for reason, what in by_reason.items()}
    more = {reason: f" and {len(what) - NAMED} more" for reason, what in by_reason.items() if len(what) > NAMED}
    return [f"left out: {names}{more.get(reason, '')}: {reason}" for reason, names in named.items()]


def _print_runs(plan: Plan, estimate: Estimate) -> None:
    grid = Table("family", "arm", "N asked", "N", "D", "seeds", "steps", "batch", "lr", "FLOP per run",
                 "worker-s per run", "memory", "kept")  # fmt: skip
    cells: dict[tuple[Any, ...], list[str]] = {}
    for key, planned in plan.runs.items():
        run = planned.run
        arm = f"{planned.arm}, rate trial" if planned.role == "tune" else planned.arm
        arm += f", {len(run.labels)} labels by {planned.label_order}" if planned.label_order else ""
        cell = (run.family, arm, planned.target, run.D, run.recipe.steps, run.recipe.batch, run.recipe.lr)
        cells.setdefault(cell, []).append(key)
    for (family, arm, target, D, steps, batch, lr), keys in cells.items():
        one = estimate.prices[keys[0]]
        grid.add_row(family, arm, f"{target:,}", f"{one.N:,}", f"{D:,}", str(len(keys)), f"{steps:,}", str(batch),
                     f"{lr:.2g}", f"{one.flop:.2e}", f"{one.seconds:,.1f}", size(one.memory),
                     size(one.bytes))  # fmt: skip
    print_whole(grid)


def _totals(plan: Plan, estimate: Estimate, timed: Bench, room: Room) -> list[str]:
    """Return runs, FLOP and time, memory and disk, a line each."""
    workers, left = timed.machine.workers, [estimate.prices[key] for key in estimate.todo]
    flop = sum(p.flop for p in estimate.prices.values())
    shares = {"training": sum(p.training for p in left), "evaluation": sum(p.evaluation for p in left),
              "hand-crafted features": estimate.handcrafted, "fits": estimate.fits}  # fmt: skip
    parts = ", ".join(f"{name} {seconds / workers / 60:.1f}" for name, seconds in shares.items())
    where = "" if room.device is None else f" of the GPU, {size(room.device)} free; on the host"
    memory = side_by_side((p.memory for p in left), workers)
    lines = [
        f"{len(plan.runs)} runs, {len(left)} to do; {flop:.2e} FLOP of training; about "
        f"{estimate.seconds(workers) / 60:.1f} minutes with {workers} workers on {timed.machine.device} ({parts})",
        f"memory: {size(memory)} with the {min(workers, len(left))} largest side by side{where}, "
        f"{size(room.memory)} free; disk: {size(disk(estimate, estimate.todo, workers))}, {size(room.disk)} free",
    ]
    if estimate.corpora:
        lines.append(f"before that the data are ingested: about {estimate.ingest / 60:.1f} minutes in one process, "
                     f"{size(estimate.corpora)} of the disk above")  # fmt: skip
    return lines


def show_events(study: str, lab: Path, data: Bindings, changes: Mapping[str, Any], out: Path) -> None:
    """Write the curves of a study as event files of TensorBoard, and print how to look at them."""
    plan, where = api.planned(study, lab, data, changes)
    written = write_events(plan, where, out)
    print(f"{written} runs of {plan.study.name} written; look at them with: tensorboard --logdir {out}")


def show_fits(
    study: str, lab: Path, data: Bindings, changes: Mapping[str, Any], as_json: bool, out: Path | None
) -> None:
    """Print the fits of a study, or write them to `out` as JSON."""
    print_fits(api.fit(study, lab, data, changes), as_json, out)
