"""What a plan will cost, from a few timed steps of each of its families on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from ecgscale.lab import Lab
from ecgscale.loader import Loader
from ecgscale.runs import build
from ecgscale.study.expand import Plan, PlannedEval, PlannedRun
from ecgscale.study.work import opened
from ecgscale.training import flops, optim
from ecgscale.training.size import count

STEPS = 3  # timed, after one that is not
INFERENCE = 1 / 3  # of the cost of a training step: forward only
STATE_BYTES = 4 * 3 * 2  # fp32 weights and two moments, two generations, while a run is under way
KEPT_BYTES = 4 * 4  # best and last, with and without heads


@dataclass(frozen=True, slots=True)
class Price:
    """Of one run: parameters, FLOP of training, core-seconds of training and evaluation, bytes kept."""

    N: int
    flop: float
    seconds: float
    bytes: float


def price(plan: Plan, lab: Lab) -> dict[str, Price]:
    """Return the price of every run of a plan by its key; runs of one backbone, objective and batch are timed once.

    Codes are random integers while timing, so that no code-book is needed.
    """
    timed: dict[tuple[str, ...], tuple[int, float, float]] = {}
    prices = {}
    for key, planned in plan.runs.items():
        run = planned.run
        kind = (run.backbone.uid, run.objective.uid if run.objective else "", str(run.recipe.batch), run.corpus)
        if kind not in timed:
            timed[kind] = _time(planned)
        N, flop_per_record, seconds_per_record = timed[kind]
        drawn = run.recipe.steps * run.recipe.batch
        held_out = run.recipe.validations * run.recipe.validation_records + 1000 if run.objective else 0
        encoded = sum(len(e.spec.needed(opened(e.source.path))) for e in _distinct(planned))
        seconds = seconds_per_record * (drawn + INFERENCE * (held_out + encoded))
        prices[key] = Price(N, flop_per_record * drawn, seconds, N * (KEPT_BYTES if run.objective else 0) + 1e5)
    return prices


def _distinct(planned: PlannedRun) -> list[PlannedEval]:
    return list({e.source.path: e for e in planned.evaluations}.values())


def _time(planned: PlannedRun) -> tuple[int, float, float]:
    run = planned.run
    torch.set_num_threads(run.threads)
    backbone, objective = build(run)
    N = count(backbone)
    corpus = opened(planned.source.path)
    size = run.recipe.batch if objective is not None else 32
    labels = tuple(getattr(run.objective, "labels", ()))
    codes = None
    if run.objective is not None and "codes" in run.objective.needs:
        codes = _random_codes(corpus.beats(np.arange(len(corpus.index))), len(corpus.leads), run.objective.codes)
    loader = Loader(corpus, np.arange(len(corpus.index)), labels, codes)
    batches = [loader.step(0, s, size) for s in range(STEPS + 1)]
    if objective is None:
        backbone.eval()
        with torch.no_grad():
            backbone.encode(batches[0])
            started = time.perf_counter()
            for batch in batches[1:]:
                backbone.encode(batch)
        return N, 0.0, (time.perf_counter() - started) / (STEPS * size) / INFERENCE
    cost = flops.per_record(objective, batches[:1])
    optimiser = optim.adamw(objective.train(), run.recipe)
    for number, batch in enumerate(batches):
        if number == 1:
            started = time.perf_counter()
        objective(batch, torch.Generator().manual_seed(0)).value.backward()
        optimiser.step()
        optimiser.zero_grad()
    return N, cost, (time.perf_counter() - started) / (STEPS * size)


def _random_codes(beats: np.ndarray, leads: int, codes: int) -> np.ndarray:
    random = np.random.default_rng(0).integers(codes, size=(len(beats), leads, beats.shape[1]))
    return np.where(beats[:, None, :] >= 0, random, -1).astype(np.int16)
