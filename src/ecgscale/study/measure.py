"""What one process measures of a kind of run: how fast it trains, scores and encodes, and what memory that takes.

Training is timed in the very loop that a run is trained in (`training.pretrain`), stopped when the time is over.
"""

from __future__ import annotations

import gc
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from ecgscale.batch import Batch
from ecgscale.data.corpus import Corpus
from ecgscale.data.split import corpus_parts
from ecgscale.evaluation import features
from ecgscale.loader import Loader, shown
from ecgscale.runs import RunSpec, build
from ecgscale.spec import Spec
from ecgscale.study.memory import forget, host_peak, peak, wait
from ecgscale.training import flops
from ecgscale.training.peak import peak_flops
from ecgscale.training.pretrain import VALIDATION_BATCH, pretrain
from ecgscale.training.size import count

FEW = 2  # records of the step that tells what a whole step will cost
ENDLESS = 1_000_000  # steps of a run that is stopped when the time is over
STEPS = 3  # timed at least, after one that is not
PATIENCE_S = 4.0  # that whole steps may take all the same, however little time is given


class Rates(Spec):
    """Of one kind of run, in one of the processes that work side by side."""

    N: PositiveInt  # parameters of the encoder that is kept
    N_all: PositiveInt  # with heads and teacher, as a checkpoint of the whole objective holds them
    flop: NonNegativeFloat  # of forward and backward, per record
    start_s: NonNegativeFloat  # from the call to the first step: building, counting, compiling
    training: NonNegativeFloat  # records/s of whole training steps; 0: nothing is trained
    scoring: NonNegativeFloat  # records/s of the held-out loss; 0 likewise
    encoding: PositiveFloat  # records/s of frozen features
    width: PositiveInt  # of a feature vector
    timed: PositiveInt  # records of the steps that were timed; fewer than a batch where a whole step takes too long
    memory: NonNegativeInt  # bytes of the process at most; of the GPU where it computes there
    per_record: NonNegativeFloat  # bytes of it that each record of a batch adds
    share: NonNegativeFloat  # of the peak FLOP/s while training
    beside: NonNegativeInt = 0  # bytes of the process on the host, where a GPU computes


class _Enough(Exception):
    """The time for training is over."""


def measure(run: RunSpec, corpus: Corpus, seconds: float, device: str) -> Rates:
    """Time training steps, held-out losses and features of a kind of run for about `seconds`.

    Args:
        run: One of its kind.
        corpus: Where batches come from; codes are random, so no code-book is needed.
        seconds: Of timed work; building and counting come on top. At least three steps are timed unless they would
            take far longer: then batches are smaller.
        device: "cpu" or "cuda".
    """
    gc.collect()  # what was measured before
    forget(device)
    backbone, objective = build(run)
    trained = objective is not None
    loader = _loader(run, corpus)
    whole = run.recipe.batch if trained else 1
    small = min(FEW, whole)
    seen = shown(loader, run.samples)  # in training; features are of whole records
    flop = flops.per_record(objective, [seen.step(0, 0, min(8, whole))]) if objective is not None else 0.0
    start, rate, timed, memory, per_record = 0.0, 0.0, small, peak(device), 0.0
    if trained:
        rate, start, timed, memory, per_record = _training(run, corpus, loader.codes, 0.6 * seconds, device)
    module = (objective if objective is not None else backbone).to(device).eval()
    held_out = _affordable(VALIDATION_BATCH, rate, seconds)
    encoding = _rate(_encoder(backbone, device), loader, _affordable(features.BATCH, rate, seconds), 0.25 * seconds)
    scoring = _rate(_scorer(module, run, device), seen, held_out, 0.15 * seconds) if trained else 0.0
    with torch.no_grad():
        width = backbone.encode(loader.step(0, 0, 2).to(device)).shape[1]
    return Rates(
        N=count(backbone), N_all=count(module), flop=flop, start_s=start, training=rate, scoring=scoring,
        encoding=encoding, width=width, timed=timed, memory=max(memory, peak(device)),
        per_record=per_record,
        share=rate * flop / peak_flops(device, run.precision) if trained else 0.0,
        beside=host_peak() if device == "cuda" else 0,
    )  # fmt: skip


def _loader(run: RunSpec, corpus: Corpus) -> Loader:
    rows = np.arange(len(corpus))
    codes = None
    if run.objective is not None and "codes" in run.objective.needs:
        codes = random_codes(corpus.beats(rows), len(corpus.leads), run.objective.codes)
    return Loader(corpus, rows, run.labels, codes)


def random_codes(beats: np.ndarray, leads: int, codes: int) -> np.ndarray:
    """Return [record, lead, beat] int16 in the place of a code-book's ids, -1 where there is no beat."""
    random = np.random.default_rng(0).integers(codes, size=(len(beats), leads, beats.shape[1]))
    return np.where(beats[:, None, :] >= 0, random, -1).astype(np.int16)


def _training(
    run: RunSpec, corpus: Corpus, codes: np.ndarray | None, seconds: float, device: str
) -> tuple[float, float, int, int, float]:
    """Return records/s, seconds to the first step, records of the timed steps, bytes of a whole step and of a record.

    A few records tell what a whole step costs; where that is more than the time allows, a smaller step stands for it,
    and memory, which grows with the records of a step, is drawn on from two sizes.
    """
    whole = run.recipe.batch
    few = min(FEW, whole)
    every = Loader(corpus, np.arange(len(corpus)), run.labels, codes)
    rate, first = _glance(run, shown(every, run.samples), few, device)
    timed = max(_affordable(whole, rate, seconds), min(2 * FEW, whole))
    rate, start, memory = _timed(run, corpus, codes, timed, seconds, device)
    per_record = max(0.0, (memory - first) / (timed - few)) if timed > few else first / few
    return rate, start, timed, round(memory + per_record * (whole - timed)), per_record


def _glance(run: RunSpec, loader: Loader, few: int, device: str) -> tuple[float, int]:
    """Return about how many records/s a training step takes, and the bytes of a step of a few."""
    _, objective = build(run)
    assert objective is not None
    objective.to(device).train()
    forget(device)
    for number in range(2):
        wait(device)
        began = time.perf_counter()
        objective(loader.step(0, number, few).to(device), torch.Generator().manual_seed(0)).value.backward()
        wait(device)
    return few / (time.perf_counter() - began), peak(device)


def _affordable(whole: int, rate: float, seconds: float) -> int:
    """Return how many records a step may have, so that the untimed and the timed ones take about twice `seconds`."""
    if rate == 0:
        return whole
    return max(min(whole, math.floor(max(2 * seconds, PATIENCE_S) * rate / (STEPS + 1))), min(FEW, whole))


def _timed(
    run: RunSpec, corpus: Corpus, codes: np.ndarray | None, batch: int, seconds: float, device: str
) -> tuple[float, float, int]:
    """Train with batches of `batch`; return records/s, seconds to the first step, and bytes at most."""
    rows = corpus_parts(corpus, run.split, run.order)
    few = {"batch": batch, "steps": ENDLESS, "validation_records": FEW, "test_records": FEW}
    recipe = run.recipe.model_copy(update=few)
    some = {"D": min(run.D, len(rows["train"])), "recipe": recipe, "corpus": corpus.digest, "D_by_source": None}
    steps: list[float] = []
    forget(device)

    def enough() -> bool:
        _wait_if_due(device, len(steps))
        steps.append(time.perf_counter())
        if len(steps) > STEPS and steps[-1] - steps[0] > seconds:
            raise _Enough
        return False

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            spec = run.model_copy(update=some)
            pretrain(spec, Path(folder), corpus, codes, device, halt=enough, flop_per_record=1.0)  # counted once a kind
        except _Enough:
            wait(device)
            steps[-1] = time.perf_counter()
    per_step = (steps[-1] - steps[0]) / (len(steps) - 1)
    return batch / per_step, max(steps[0] - began - per_step, 0.0), peak(device)


def _rate(work: Callable[[Batch], Any], loader: Loader, size: int, seconds: float) -> float:
    """Return records/s of `work` on batches of at most `size`, after one that is not timed."""
    batches = [loader.step(1, number, min(size, len(loader))) for number in range(2)]
    work(batches[0])
    began, done = time.perf_counter(), 0
    while done < 2 or time.perf_counter() - began < seconds:
        work(batches[done % 2])
        done += 1
    return done * len(batches[0]) / (time.perf_counter() - began)


def _encoder(backbone: Any, device: str) -> Callable[[Batch], Any]:
    def encode(batch: Batch) -> Any:
        with torch.no_grad():
            return backbone.encode(batch.to(device)).float().cpu()

    return encode


def _scorer(objective: Any, run: RunSpec, device: str) -> Callable[[Batch], Any]:
    def score(batch: Batch) -> float:
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=run.precision == "bf16"):
            return float(objective(batch.to(device), torch.Generator().manual_seed(0)).value)

    return score


def _wait_if_due(device: str, step: int) -> None:
    """Let a GPU catch up now and then, so that steps are counted as they are done and not as they are asked for."""
    if step % 32 == 0:
        wait(device)
