"""What one worker does: train a run, cache codes, encode and probe.

Every function leaves its result in the lab and may be called again.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from ecgscale import residency
from ecgscale.backbones import Backbone
from ecgscale.data.corpus import Corpus
from ecgscale.data.intervals import measure
from ecgscale.evaluation import features
from ecgscale.evaluation.encoder import Encoder
from ecgscale.evaluation.evaluate import EvalSpec, Evaluated, evaluate
from ecgscale.evaluation.windows import Windows
from ecgscale.lab import Lab, read_json, write_atomic, write_json
from ecgscale.loader import Loader, Rows
from ecgscale.runs import RunResult, RunSpec, build, check_input, load_backbone, load_objective
from ecgscale.spec import digest
from ecgscale.study import torchrun
from ecgscale.study.machine import environment, speed
from ecgscale.study.plan import HANDCRAFTED, PlannedEval, PlannedRun
from ecgscale.study.stored import load_evaluation
from ecgscale.training import flops
from ecgscale.training.checkpoint import Trunk
from ecgscale.training.pretrain import Paused, pretrain
from ecgscale.training.size import count


@lru_cache(maxsize=16)
def opened(path: Path) -> Corpus:
    """Return a corpus, opened once per process."""
    return Corpus.open(path)


def train(
    lab: Lab,
    planned: PlannedRun,
    device: str,
    progress: Callable[[int, float], None] | None = None,
    halt: Callable[[], bool] | None = None,
    processes: int = 1,
    sharded: bool = False,
    launcher: Sequence[str] = (),
) -> bool:
    """Train a run unless the lab has it; returns whether this call trained anything.

    Args:
        lab: Where the result goes.
        planned: The run, its corpus and its code-book.
        device: Where to compute.
        progress, halt: As `pretrain` has them.
        processes: How many share every batch; the result is the same up to rounding.
        sharded: Whether each of them keeps a shard of the model instead of all of it.
        launcher: The command that starts them where they are not all on this machine, see `torchrun.train`.

    Raises:
        TrainingError: the run cannot be trained.
        Paused: `halt` said so; the state is saved.
    """
    run = planned.run
    uid = run.uid
    if lab.result(uid) is not None:
        return False
    with lab.claim(lab.run(uid)) as mine:
        if not mine:
            return False
        folder = lab.begin(uid, run.dump())
        about = environment(device, run.threads) | {"processes": processes, "sharded": sharded}

        def began(step: int) -> None:
            about["step"] = step  # from which this process goes on
            write_json(folder / "env.json", about)

        if run.objective is None:
            began(0)
            result = _untrained(run, folder)
        else:
            how = _How(device, progress, halt, began, processes, sharded, tuple(launcher))
            result = _trained(lab, planned, how)
            write_json(folder / "env.json", about | speed(run, result, device, processes))
        lab.finish(uid, result.dump())
        if planned.role != "branch" and run.recipe.fork is not None:
            shutil.rmtree(lab.trunk(run.trunk), ignore_errors=True)  # no longer run is to come
    return True


class _How(NamedTuple):
    """How a run is trained: what `train` was told, and whom to tell the step from which it goes on."""

    device: str
    progress: Callable[[int, float], None] | None
    halt: Callable[[], bool] | None
    began: Callable[[int], None]
    processes: int
    sharded: bool
    launcher: tuple[str, ...]


def _trained(lab: Lab, planned: PlannedRun, how: _How) -> RunResult:
    run, corpus = planned.run, opened(planned.source.path)
    ids = None if planned.codebook is None else lab.codes(planned.codebook, corpus.digest)
    codes = None if ids is None else np.load(ids, mmap_mode="r")
    torch.set_num_threads(run.threads)
    cost = _flop_per_record(lab, planned, corpus, codes)
    trunk = None if run.recipe.fork is None else Trunk(lab.trunk(run.trunk), more=planned.role == "branch")
    told = (how.progress, how.halt, how.began)
    if how.processes == 1:
        return pretrain(run, lab.run(run.uid), corpus, codes, how.device, *told, cost, trunk)
    command = how.launcher or torchrun.on_this_machine(how.processes)
    task = torchrun.Task(run, lab.run(run.uid), corpus.path, ids, how.device, how.sharded, cost, trunk)
    return torchrun.train(task, command, *told)


def _flop_per_record(lab: Lab, planned: PlannedRun, corpus: Corpus, codes: np.ndarray | None) -> float:
    """Return the FLOP of forward and backward per record, measured once: D, seed and rate do not change it."""
    run = planned.run
    what = [run.backbone.dump(), run.objective.dump(), run.leads, run.samples, run.recipe.batch, corpus.digest]
    file = lab.flops(digest([flops.REVISION, *what]))
    stored = read_json(file)
    if stored is None:
        loader = Loader(corpus, np.arange(len(corpus)), run.labels, codes)
        _, objective = build(run)
        assert objective is not None
        stored = flops.per_record(objective, [loader.step(0, s, run.recipe.batch) for s in range(2)])
        write_json(file, stored)
    return float(stored)


def _untrained(run: RunSpec, folder: Path) -> RunResult:
    N = count(load_backbone(run, folder, 0))
    return RunResult(
        N=N, N_total=0, steps=0, best=0, flop_per_record=0.0, validation={}, test={}, records={}, seconds=0.0
    )


def cache_codes(lab: Lab, planned: PlannedRun, device: str) -> bool:
    """Compute the code-book ids of the pre-training corpus once: [record, lead, beat] int16, padded with -1."""
    run, corpus = planned.run, opened(planned.source.path)
    path = lab.codes(run.uid, corpus.digest)
    if path.exists():
        return False
    result = RunResult.parse(lab.result(run.uid) or {})
    objective = load_objective(run, lab.run(run.uid), result.best).to(device)
    every = residency.loaders(corpus, {"all": np.arange(len(corpus))}, device=device)["all"]
    with torch.no_grad():
        blocks = [objective.ids(batch.to(device)).cpu().numpy() for batch in every.sweep(features.BATCH)]
    width = max(b.shape[2] for b in blocks)
    padded = [np.pad(b, ((0, 0), (0, 0), (0, width - b.shape[2])), constant_values=-1) for b in blocks]
    write_array(path, np.concatenate(padded).astype(np.int16))
    return True


def chosen_steps(run: RunSpec, result: RunResult) -> dict[str, int]:
    """Return the checkpoints that are evaluated: the one that enters the laws, and the last where it is another."""
    if run.objective is None or not run.objective.best:
        return {"last": result.steps}
    return {"best": result.best} if result.best == result.steps else {"best": result.best, "last": result.steps}


def evaluate_run(lab: Lab, planned: PlannedRun, device: str, halt: Callable[[], bool] | None = None) -> int:
    """Measure every evaluation of a finished run that the lab does not hold; returns how many were measured.

    Only the checkpoint that enters the laws is probed; the last one keeps its pretext loss. Evaluations that read
    pooled features come first and together; each that trains a network is kept as soon as it is done.

    Raises:
        Paused: `halt` said so, between two networks.
    """
    run = planned.run
    result = RunResult.parse(lab.result(run.uid) or {})
    step = next(iter(chosen_steps(run, result).values()))
    missing = [e for e in planned.evaluations if load_evaluation(lab, run.uid, e.spec) is None]
    checkpoint = _Checkpoint(lab, run, step, device)
    for path in dict.fromkeys(e.source.path for e in missing):
        corpus = opened(path)
        here = [e.spec for e in missing if e.source.path == path]
        probed, trained = [s for s in here if not s.trains], [s for s in here if s.trains]
        for crop_s in dict.fromkeys(s.crop_s for s in probed):
            alike = [s for s in probed if s.crop_s == crop_s]
            rows = read(planned, corpus, crop_s)
            _measure(lab, run.uid, alike, corpus, rows, checkpoint.features(corpus, rows, crop_s))
        if trained:
            torch.set_num_threads(run.threads)
            _train_and_measure(lab, run, trained, checkpoint.encoder(corpus, trained), halt)
    return len(missing)


class _Checkpoint:
    """The backbone of a finished run, loaded once it is needed."""

    def __init__(self, lab: Lab, run: RunSpec, step: int, device: str) -> None:
        self.lab, self.run, self.step, self.device = lab, run, step, device
        self.loaded: Backbone | None = None

    def features(self, corpus: Corpus, rows: Rows, crop_s: float | None) -> np.ndarray:
        """Return pooled features [row, width], from the lab where it holds them."""
        file = feature_file(self.lab, self.run, self.step, corpus, rows, crop_s)
        x = features.cached(file, rows)
        if x is None:
            x = features.encode(self._backbone(corpus), corpus, rows, self.device, Windows.of(corpus, crop_s))
            write_array(file, x)
        return x

    def encoder(self, corpus: Corpus, specs: Sequence[EvalSpec]) -> Encoder:
        """Return what evaluations train a network on."""
        read = _rows([s for s in specs if s.protocol == "frozen"], corpus)
        return Encoder(self._backbone(corpus), corpus, read, self.run.recipe.steps > 0, self.device)

    def _backbone(self, corpus: Corpus) -> Backbone:
        folder = self.lab.run(self.run.uid)
        if self.run.recipe.steps:
            check_input(folder, self.step, corpus)
        self.loaded = self.loaded or load_backbone(self.run, folder, self.step).to(self.device)
        return self.loaded


def _rows(specs: Sequence[EvalSpec], corpus: Corpus) -> Rows:
    """Return all rows that evaluations read, rising."""
    return np.unique(np.concatenate([np.empty(0, np.int64), *(spec.needed(corpus) for spec in specs)]))


def _train_and_measure(
    lab: Lab, run: RunSpec, specs: Sequence[EvalSpec], encoder: Encoder, halt: Callable[[], bool] | None
) -> None:
    for spec in specs:
        if halt is not None and halt():
            raise Paused
        _keep(lab, run.uid, evaluate([spec], encoder.corpus, _no_features, encoder=encoder))


def _no_features(wanted: Rows) -> np.ndarray:
    raise AssertionError("a network reads no pooled features")


def read(planned: PlannedRun, corpus: Corpus, crop_s: float | None = None) -> Rows:
    """Return the records of a corpus whose features a run's probes read, those it has measured already included."""
    specs = [e.spec for e in planned.evaluations if e.spec.corpus == corpus.digest and not e.spec.trains]
    return _rows([s for s in specs if s.crop_s == crop_s], corpus)


def feature_file(lab: Lab, run: RunSpec, step: int, corpus: Corpus, rows: Rows, crop_s: float | None = None) -> Path:
    """Return the file of the features [row, width] of a checkpoint."""
    crops = () if crop_s is None else (f"{crop_s:g}s",)
    return lab.features(run.uid, str(step), corpus.digest, digest(rows.tolist()), *crops)


def evaluate_handcrafted(lab: Lab, evaluations: tuple[PlannedEval, ...]) -> int:
    """Measure the hand-crafted features of one corpus: intervals, amplitudes and rate from the stored beats."""
    missing = [e for e in evaluations if load_evaluation(lab, HANDCRAFTED, e.spec) is None]
    if not missing:
        return 0
    corpus = opened(missing[0].source.path)
    rows = _rows([e.spec for e in missing], corpus)
    x = measure(corpus.signals(rows), corpus.beats(rows), corpus.rate_hz, corpus.lead_ok(rows)).to_numpy(np.float64)
    _measure(lab, HANDCRAFTED, [e.spec for e in missing], corpus, rows, x)
    return len(missing)


def _measure(lab: Lab, uid: str, specs: list[EvalSpec], corpus: Corpus, rows: Rows, x: np.ndarray) -> None:
    def encode(wanted: Rows) -> np.ndarray:
        return x[np.searchsorted(rows, wanted)]

    _keep(lab, uid, evaluate(specs, corpus, encode))


def _keep(lab: Lab, uid: str, measured: dict[EvalSpec, Evaluated]) -> None:
    folder = lab.run(uid) / "evaluations"
    folder.mkdir(parents=True, exist_ok=True)
    for spec, evaluated in measured.items():
        write_array(folder / f"{spec.uid}.npy", evaluated.losses)
        write_json(folder / f"{spec.uid}.json", {"spec": spec.dump(), "rows": evaluated.rows})


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array as NPY, atomically."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_atomic(path, buffer.getvalue())


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as Parquet, atomically."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    write_atomic(path, buffer.getvalue())


def failure(error: BaseException) -> str:
    """Return one sentence for the table."""
    return json.dumps(f"{type(error).__name__}: {error}")[1:-1][:500]
