"""What a plan will cost here: hours, FLOP, memory and disk of every run and of all, from what was timed (`bench`)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from ecgscale.data import intervals
from ecgscale.evaluation.tokens import MOST
from ecgscale.fitting import fit
from ecgscale.lab import Lab
from ecgscale.spec import part
from ecgscale.study.bench import Bench, Rates, kind, set_of
from ecgscale.study.execute import pending
from ecgscale.study.networks import network, network_s
from ecgscale.study.plan import HANDCRAFTED, Plan, PlannedEval, PlannedRun
from ecgscale.study.stored import load_evaluation
from ecgscale.study.work import opened

VALUE = 4  # bytes of a parameter
KEPT = 2  # checkpoints: best and last
GENERATIONS = 2  # of the state of a run under way
MOMENTS = 2  # of the optimiser, of every parameter
FILES = 1e5  # bytes of everything else a run leaves
HANDCRAFTED_ROWS = 48  # records whose hand-crafted features are timed


@dataclass(frozen=True, slots=True)
class Price:
    """Of one run.

    Attributes:
        N: Parameters.
        flop: Of training.
        training, evaluation: Worker-seconds.
        memory: Bytes its process holds at most; of the GPU where it computes there.
        beside: Bytes of the process on the host, where a GPU computes.
        bytes: Kept on disk.
        state: Bytes on disk while it is under way.
    """

    N: int
    flop: float
    training: float
    evaluation: float
    memory: float
    beside: float
    bytes: float
    state: float

    @property
    def seconds(self) -> float:
        """Worker-seconds of training and evaluation."""
        return self.training + self.evaluation


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of a whole study, as far as it is not done.

    Attributes:
        prices: By the plan's key, of all runs.
        todo: Keys of the runs that are left.
        handcrafted, fits: Worker-seconds.
        started: Seconds until the processes are ready.
        corpora: Bytes of corpora that are still to be made.
        ingest: Seconds to make them, in one process.
    """

    prices: dict[str, Price]
    todo: list[str]
    handcrafted: float
    fits: float
    started: float
    corpora: float = 0.0
    ingest: float = 0.0

    def seconds(self, workers: int) -> float:
        """Return the wall time of what is left; ingesting comes on top."""
        left = [self.prices[key].seconds for key in self.todo]
        shared = (sum(left) + self.handcrafted + self.fits) / workers
        return self.started + max(shared, max(left, default=0.0) + self.fits / workers) if self.todo else 0.0

    @property
    def bytes(self) -> float:
        """All that will be kept on disk of what is left."""
        return sum(self.prices[key].bytes for key in self.todo) + self.corpora


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the corpora of a plan are said to be, where samples stand in for them.

    Attributes:
        records: Path of a stand-in → records of the corpus it stands for.
        seconds: Likewise → seconds per record of its ingest.
    """

    records: Mapping[Path, int] = field(default_factory=dict)
    seconds: Mapping[Path, float] = field(default_factory=dict)

    def of(self, path: Path) -> int:
        """Return the records of a corpus, said or real."""
        return self.records.get(path) or len(opened(path))

    def parts(self, e: PlannedEval) -> dict[str, int]:
        """Return how many records each part of an evaluation has, see `EvalSpec.rows`."""
        corpus = opened(e.source.path)
        if e.source.path not in self.records:
            return {name: len(rows) for name, rows in e.spec.rows(corpus).items()}
        whole = e.spec.model_copy(update={"train": None, "validation": None, "test": None}).rows(corpus)
        times = self.records[e.source.path] / len(corpus)
        return {
            name: min(round(len(rows) * times), getattr(e.spec, name, None) or round(len(rows) * times))
            for name, rows in whole.items()
        }


def price(plan: Plan, lab: Lab, timed: Bench, sizes: Sizes | None = None) -> Estimate:
    """Return what a plan costs, from rates that were measured.

    Args:
        plan: The plan.
        lab: What it holds is not paid for again.
        timed: A probe that covers the plan.
        sizes: Of the corpora, where samples stand in for them.
    """
    sizes = sizes or Sizes()
    every = [*plan.handcrafted, *(e for p in plan.runs.values() for e in p.evaluations)]
    parts = {e.spec.uid: sizes.parts(e) for e in {e.spec.uid: e for e in every}.values()}
    needed = {uid: sum(counts.values()) for uid, counts in parts.items()}
    prices = {key: _price(planned, timed, parts, needed) for key, planned in plan.runs.items()}
    left = {id(p) for p in pending(plan, lab)}
    todo = [key for key, p in plan.runs.items() if id(p) in left or p.provisional]
    made = {s.path: sizes.records[s.path] for s in plan.sources.values() if s.path in sizes.records}
    return Estimate(
        prices=prices,
        todo=todo,
        handcrafted=_handcrafted(plan, lab, timed, needed),
        fits=_fits(plan) if todo else 0.0,
        started=timed.started_s,
        corpora=sum(records * _record_bytes(path) for path, records in made.items()),
        ingest=sum(records * sizes.seconds[path] for path, records in made.items()),
    )


def _price(
    planned: PlannedRun, timed: Bench, parts: Mapping[str, Mapping[str, int]], needed: Mapping[str, int]
) -> Price:
    run, rates = planned.run, timed.rates[kind(planned.run)]
    recipe = run.recipe
    drawn = (recipe.steps - planned.begins) * recipe.batch  # what a shorter run of its trunk does is paid there
    training = 0.0
    if run.objective is not None:
        training = rates.start_s + drawn / rates.training + _held_out(planned, rates)
    probed = [e for e in planned.evaluations if not e.spec.trains]
    networks = [(e, timed.networks[network(run, e.spec)]) for e in planned.evaluations if e.spec.trains]
    frozen = [e for e, _ in networks if e.spec.protocol == "frozen"]
    probing = sum(network_s(e.spec, parts[e.spec.uid], cost, rates.encoding) for e, cost in networks)
    if probed:
        rows = sum(needed[e.spec.uid] for e in probed)
        probing += timed.probes[set_of(probed, run.backbone)] * rows
    encoded = _encoded(probed, needed)
    tokens = max((min(MOST, cost.tokens * needed[e.spec.uid]) for e, cost in networks), default=0.0)
    kept = KEPT * VALUE * (rates.N + rates.N_all) if run.objective is not None else 0
    return Price(
        N=rates.N,
        flop=rates.flop * drawn,
        training=training,
        evaluation=(encoded + _encoded(frozen, needed)) / rates.encoding + probing,
        memory=max(rates.memory, *(cost.memory + tokens for _, cost in networks)) if networks else rates.memory,
        beside=rates.beside,
        bytes=kept + VALUE * rates.width * encoded + FILES,
        state=GENERATIONS * VALUE * (1 + MOMENTS) * rates.N_all,
    )


def _held_out(planned: PlannedRun, rates: Rates) -> float:
    """Return the seconds of validation and test losses, and of the health of self-supervised features."""
    run, recipe = planned.run, planned.run.recipe
    scored = recipe.validations * recipe.validation_records + KEPT * recipe.test_records
    watched = (recipe.validations + 1) * recipe.validation_records if run.objective.paradigm == "SSL" else 0
    return scored / rates.scoring + watched / rates.encoding


def _most(evaluations: Iterable[PlannedEval], needed: Mapping[str, int]) -> dict[Path, int]:
    """Return how many records of each corpus are encoded: those of the evaluation there that reads the most."""
    most: dict[Path, int] = {}
    for e in evaluations:
        most[e.source.path] = max(most.get(e.source.path, 0), needed[e.spec.uid])
    return most


def _encoded(evaluations: list[PlannedEval], needed: Mapping[str, int]) -> int:
    """Return how many records are encoded for evaluations that share what is encoded: on one corpus, in like crops."""
    alike = [[e for e in evaluations if e.spec.crop_s == c] for c in {e.spec.crop_s for e in evaluations}]
    return sum(sum(_most(group, needed).values()) for group in alike)


def _handcrafted(plan: Plan, lab: Lab, timed: Bench, needed: Mapping[str, int]) -> float:
    """Return the seconds of the hand-crafted baseline: its features of every corpus, and its probes."""
    missing = [e for e in plan.handcrafted if load_evaluation(lab, HANDCRAFTED, e.spec) is None]
    if not missing:
        return 0.0
    dearest = max(timed.probes.values(), default=0.0)
    measured = sum(rows * _intervals_s(path) for path, rows in _most(missing, needed).items())
    return measured + dearest * sum(needed[e.spec.uid] for e in missing)


@lru_cache(maxsize=32)
def _intervals_s(path: Path) -> float:
    """Return the seconds that the hand-crafted features of a record take."""
    corpus = opened(path)
    rows = np.arange(min(HANDCRAFTED_ROWS, len(corpus)))
    began = time.perf_counter()
    intervals.measure(corpus.signals(rows), corpus.beats(rows), corpus.rate_hz, corpus.lead_ok(rows))
    return (time.perf_counter() - began) / len(rows)


def _fits(plan: Plan) -> float:
    """Return the seconds of all laws of a study, from one of each kind fitted to numbers made up on its grid."""
    groups: dict[tuple[str, str, str], list[PlannedRun]] = {}
    for p in plan.runs.values():
        if p.role == "grid":
            family = p.run.backbone.part_name(), p.run.objective.part_name(), p.source.label
            groups.setdefault(family, []).append(p)
    total = 0.0
    for runs in groups.values():
        points = tuple((p.target, p.run.D, p.run.seed) for p in runs)
        of_both, of_one = _fit_s(points, plan.study.fit_resamples)
        tasks = len(runs[0].evaluations) + 1  # the own loss is one
        outside = sum(e.split == "ood" for e in runs[0].evaluations)
        total += (tasks + 1) * of_both + (2 * tasks + 2 * outside) * of_one  # its diagnosis takes as long as a law
    return total


@lru_cache(maxsize=64)
def _fit_s(points: tuple[tuple[int, int, int], ...], resamples: int) -> tuple[float, float]:
    """Return the seconds of a law of N and D, and of a law of one of them, with their intervals."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(points, columns=["N", "D", "seed"]).astype(np.float64)
    names = [f"{N}-{D}" for N, D, _ in points]
    loss = 0.1 + 5 * frame["N"] ** -0.4 + 2 * frame["D"] ** -0.4
    frame = frame.assign(value=loss * np.exp(0.01 * random.standard_normal(len(frame))), cell=names)
    frame["branch"] = [f"{name}-{seed}" for name, (_, _, seed) in zip(names, points, strict=True)]
    few = min(resamples, 100)
    taken = []
    for law, rows in ((part("laws", "scaling"), frame), (part("laws", {"name": "power", "input": "N"}), frame)):
        began = time.perf_counter()
        fit(law, rows, bootstraps=few)
        taken.append((time.perf_counter() - began) * resamples / few)
    return taken[0], taken[1]


def _record_bytes(path: Path) -> float:
    """Return the bytes of a corpus per record."""
    corpus = opened(path)
    return 2.0 * len(corpus.leads) * corpus.samples + 500  # and a row of the index


__all__ = ["Estimate", "Price", "Sizes", "price"]
