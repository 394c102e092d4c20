"""The engine: throughput, the quickstart against two rivals, overhead per run, and a lab of 10,000 runs.

    python benchmarks/engine.py                                        # all of it
    python benchmarks/engine.py throughput --device cuda               # on a GPU
    python benchmarks/engine.py rivals --share 0.1                     # every tenth run, and said so

`throughput` times what `ecgscale bench` times, `--workers` processes at once. `rivals` does the same runs of the
packaged quickstart with ours and with what a competent user would write (benchmarks/rivals.py), all of them in this
session on corpora that are there; ours measures patient-bootstrap intervals, too, and the rivals do not. `overhead` is
the wall time of many runs of one step less the time of the bare steps. `lab` reads a lab of finished runs that nobody
trained (benchmarks/fake_lab.py) as whole commands and without imports.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from ecgscale.lab import Lab
from ecgscale.study import bench as benches
from ecgscale.study import execute as execution
from ecgscale.study.bench import Machine
from ecgscale.study.bind import Binder
from ecgscale.study.declared import declare
from ecgscale.study.execute import watch
from ecgscale.study.executors import Place, executor_spec
from ecgscale.study.expand import expand
from ecgscale.study.plan import Plan
from ecgscale.study.session import execute
from ecgscale.study.status import status_of
from ecgscale.study.study import Study
from ecgscale.study.table import build_table
from ecgscale.study.work import opened
from ecgscale.study.workers import Workers
from fake_lab import fake_lab
from rivals import Files, Tensors, run_as_user

LARGE = ["arm.0.sizes=[20000,24000,30000,40000,60000]", "arm.0.records=[20,40,80,120,160]"]
FAMILIES = 4


def throughput(given: argparse.Namespace) -> None:
    """Print records/s, share of the peak, GPU-busy share and memory of every family and size."""
    changes = {"arm.0.sizes": given.sizes, "arm.0.records": [250]} | {
        f"family.{i}.batch": given.batch for i in range(4)
    }
    study = Study.load("quickstart", changes)
    machine = Machine.here(given.device, study.training.threads, given.workers)
    with tempfile.TemporaryDirectory() as folder:
        what = benches.wanted(declare(study, Path(folder)).plan)
        with busy(given.device) as share:
            made = benches.bench(benches.Wanted(what.runs, {}), machine, given.seconds)
    print(f"{given.workers} processes at once, batches of {given.batch}; GPU busy {share()}")
    print("| family | N | records/s, one process | of peak | encoded/s | memory |\n|---|---|---|---|---|---|")
    for name, (run, _) in what.runs.items():
        if run.objective is not None:
            one, family = made.rates[name], f"{run.backbone.part_name()} {run.objective.part_name()}"
            print(f"| {family} | {one.N:,} | {one.training:,.0f} | {one.share:.1%} | {one.encoding:,.0f} | "
                  f"{one.memory / 1e6:,.0f} MB |")  # fmt: skip


@contextmanager
def busy(device: str) -> Iterator[Callable[[], str]]:
    """Ask twice a second how busy the GPU is; gives a function that returns the mean in words."""
    seen: list[float] = []
    over = threading.Event()

    def ask() -> None:
        command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not over.wait(0.5):
            seen.append(float(subprocess.run(command, capture_output=True, text=True).stdout.split()[0]))

    thread = threading.Thread(target=ask, daemon=True)
    if device == "cuda":
        thread.start()
    try:
        yield lambda: f"{np.mean(seen):.0f} % of the probe, its building and counting included" if seen else "not asked"
    finally:
        over.set()


def rivals(given: argparse.Namespace) -> None:
    """Print the wall time of the same runs: ours, and both rivals."""
    study = Study.load("quickstart", {})
    with tempfile.TemporaryDirectory() as folder, Workers(given.workers, study.training.threads) as executor:
        lab = Lab(Path(folder) / "lab")
        binder = Binder(study, lab, {})
        execution.prepare(study, binder, executor, Console(stderr=True))
        plan = expand(study, binder)
        books = {key: p for key, p in plan.runs.items() if p.role == "codebook"}
        others = {key: p for key, p in plan.runs.items() if p.role != "codebook"}
        chosen = dict(list(others.items())[:: max(1, round(1 / given.share))])
        _execute(plan, books, lab, given, executor)  # the code-book, before the clock starts: the rivals get its ids
        ours = _clock(lambda: _execute(plan, chosen, lab, given, executor))
        print(f"{len(chosen)} of {len(others)} runs (--share {given.share:g}) of quickstart, wall time")
        scale = len(others) / len(chosen)
        print(f"| ours, {given.workers} workers | {ours:.1f} s | scaled to all: {scale * ours:.0f} s | |")
        torch.set_num_threads(os.cpu_count() or 1)
        for feed in (Files(Path(folder) / "files", os.cpu_count() or 1), Tensors()):
            for source in plan.sources.values():
                feed.prepare(opened(source.path))

            def all_runs(feed: Files | Tensors = feed) -> None:
                for planned in chosen.values():
                    book = planned.codebook
                    codes = np.load(lab.codes(book, planned.run.corpus)) if book else None
                    run_as_user(planned, feed, codes)

            theirs = _clock(all_runs)
            print(f"| {feed.name} | {theirs:.1f} s | scaled: {scale * theirs:.0f} s | {theirs / ours:.2f} × ours |")


def _execute(plan: Plan, runs: dict, lab: Lab, given: argparse.Namespace, pool: Workers) -> None:  # type: ignore[type-arg]
    some = replace(plan, runs={**{k: p for k, p in plan.runs.items() if p.role == "codebook"}, **runs}, handcrafted=[])
    local = executor_spec("local", {}).open(Place(lab, 1, given.device, pool))
    _, failures = execute(some, lab, local, Console(stderr=True))
    assert not failures, failures


def _clock(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def overhead(given: argparse.Namespace) -> None:
    """Print what the engine adds to a run: many runs of one step, less the time of the bare steps."""
    changes = {"name": "steps", "training.steps": 1, "training.validations": 1, "training.validation_records": 8,
               "training.test_records": 8, "arm.0.families": ["resnet1d-supervised"], "arm.0.sizes": [20_000],
               "arm.0.records": [60], "arm.0.seeds": list(range(given.runs)), "evaluate": []}  # fmt: skip
    study = Study.load("smoke", changes)
    with tempfile.TemporaryDirectory() as folder, Workers(given.workers, 1) as executor:
        lab = Lab(folder)
        plan = expand(study, Binder(study, lab, {}))
        keys = [key for key, p in plan.runs.items() if p.run.objective is not None and p.role == "grid"]
        warm = 4 * given.workers
        for some in (keys[:warm], keys[warm:]):  # the first start the processes
            seconds = _clock(lambda some=some: _execute(plan, {k: plan.runs[k] for k in some}, lab, given, executor))
        run, path = plan.runs[keys[0]].run, plan.runs[keys[0]].source.path
        bare = run.recipe.batch / benches.measure(run, opened(path), 1.0, given.device).training
    done = len(keys) - warm
    each = (seconds * given.workers - done * bare) / done
    print(f"{done} runs of one step with {given.workers} workers: {seconds:.1f} s; a bare step {1000 * bare:.0f} ms; "
          f"{each:.3f} s of a worker beside it per run, {each / given.workers:.3f} s of wall time")  # fmt: skip


def lab(given: argparse.Namespace) -> None:
    """Print how long a lab of finished runs takes to say how far it is, and to give its table."""
    seeds = list(range(max(1, given.finished // (25 * FAMILIES))))
    changes = [*LARGE, f"arm.0.seeds={seeds}"]
    with tempfile.TemporaryDirectory() as folder:
        where = Lab(folder)
        study = Study.load("smoke", {k: json.loads(v) for k, v in (c.split("=") for c in changes)})
        plan = fake_lab(study, where)
        print(f"{len(plan.runs):,} finished runs, three evaluations each")
        for name in ("the first time", "from the index"):
            looked = _clock(lambda: status_of(watch(plan), where, {}))
            seconds = looked, _clock(lambda: build_table(plan, where))
            print(f"{name}: status {seconds[0]:.2f} s, table {seconds[1]:.2f} s, without imports and planning")
        options = [word for change in changes for word in ("--set", change)]
        command = [sys.executable, "-m", "ecgscale.cli", "status", "smoke", "--lab", folder, *options]
        imports = _clock(lambda: subprocess.run([sys.executable, "-c", "import ecgscale.show"], check=True))
        planned = _clock(lambda: expand(study, Binder(study, where, {})))
        first, whole = (_clock(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(2))
        print(f"`ecgscale status` as a whole command {whole:.2f} s; {first:.2f} s where the lab keeps no plan: imports "
              f"{imports:.2f} s, the plan of {len(plan.runs):,} runs {planned:.2f} s")  # fmt: skip


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "throughput": throughput, "rivals": rivals, "overhead": overhead, "lab": lab,
}  # fmt: skip


def main() -> None:
    """Do the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("parts", nargs="*", default=[], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 80_000, 1_000_000], help="parameters")
    parser.add_argument("--batch", type=int, default=16, help="records, of `throughput`")
    parser.add_argument("--seconds", type=float, default=60.0, help="of timed work, of `throughput`")
    parser.add_argument("--share", type=float, default=1.0, help="of the runs, of `rivals`")
    parser.add_argument("--runs", type=int, default=200, help="of one step, of `overhead`")
    parser.add_argument("--finished", type=int, default=10_000, help="runs, of `lab`")
    given = parser.parse_args()
    machine = Machine.here(given.device, 1, given.workers)
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(
        f"{date.today()}, {machine.processor}, {machine.cores} cores, {machine.device}, torch {machine.torch}, {load}"
    )
    for name in given.parts or PARTS:
        PARTS[name](given)


if __name__ == "__main__":
    main()
