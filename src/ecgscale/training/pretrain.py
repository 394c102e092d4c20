"""The only training loop.

Every random choice is a function of the run's seed and the step, so the state to resume from is: model, optimiser,
step, best so far, and the losses since the curve's last line.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from ecgscale import ranks, residency, rng
from ecgscale.batch import Batch
from ecgscale.data.corpus import Corpus
from ecgscale.data.split import corpus_parts
from ecgscale.lab import read_curve
from ecgscale.loader import Loader, shown
from ecgscale.objectives import Objective
from ecgscale.runs import RunResult, RunSpec, build, input_of
from ecgscale.spec import Explained
from ecgscale.training import checkpoint, distributed, flops, health, optim
from ecgscale.training.size import count

SAVE_EVERY_S = 60.0
VALIDATION_BATCH = 64  # fixed: a contrastive loss depends on it


class TrainingError(Explained, RuntimeError):
    """A run cannot go on: its loss is not finite, or its data do not fit it."""


class Paused(Exception):
    """A run was asked to stop; its state is saved, and the next call goes on from there."""


def pretrain(
    run: RunSpec,
    folder: Path,
    corpus: Corpus,
    codes: np.ndarray | None = None,
    device: str = "cpu",
    progress: Callable[[int, float], None] | None = None,
    halt: Callable[[], bool] | None = None,
    began: Callable[[int], None] | None = None,
    flop_per_record: float | None = None,
    trunk: checkpoint.Trunk | None = None,
    sharded: bool = False,
) -> RunResult:
    """Train a run to its end, from the newest state in `folder` if there is one; or its share of every step, in each of
    the processes that `distributed.joined` has joined. Of those the first writes and is told.

    Args:
        run: What to train.
        folder: The run's folder; checkpoints, curve and state go there.
        corpus: The corpus whose digest the run names.
        codes: Code-book ids of the corpus, where the objective needs them.
        device: Where to compute.
        progress: Told the step, and the FLOP that this call has spent, now and then.
        halt: Asked after every step whether to stop there.
        began: Told the step from which this call goes on.
        flop_per_record: Of forward and backward; measured here when None.
        trunk: Where a "wsd" run finds what shorter ones did already, and leaves it for longer ones. No number depends
            on it.
        sharded: Whether processes that train together keep a shard of the model each, instead of all of it.

    Returns:
        What the run left.

    Raises:
        TrainingError: the loss is not finite, D exceeds the training part, or a batch has fewer records than processes.
        Paused: `halt` said so.
    """
    started = time.monotonic()
    if run.recipe.batch < ranks.count():
        raise TrainingError(
            f"a batch of {run.recipe.batch} records cannot be shared by {ranks.count()} processes: use at most as many"
        )
    loaders = _loaders(run, corpus, codes, device)
    backbone, objective = build(run)
    assert objective is not None
    cost = _cost(run, objective, loaders["train"]) if flop_per_record is None else flop_per_record
    N, N_total = count(backbone), sum(p.numel() for p in objective.parameters() if p.requires_grad)
    loop = _Loop(run, folder, objective, loaders, device, sharded)
    start = loop.health()
    loop.resume(trunk)
    if began is not None:
        began(loop.step)
    loop.train(progress, halt, cost * run.recipe.batch, trunk)
    tested = {step: loop.test(step) for step in {loop.best_step, run.recipe.steps}}
    if ranks.rank() == 0:
        checkpoint.drop_state(folder)
    return RunResult(
        N=N,
        N_total=N_total,
        steps=run.recipe.steps,
        best=loop.best_step,
        flop_per_record=cost,
        validation={"best": loop.best_loss, "last": loop.last_loss},
        test={"best": tested[loop.best_step], "last": tested[run.recipe.steps]},
        records={"validation": len(loaders["validation"]), "test": len(loaders["test"])},
        health={f"{name}_start": value for name, value in start.items()} | loop.last_health(),
        seconds=loop.seconds_before + time.monotonic() - started,
        training_seconds=loop.training_s,
    )


def _cost(run: RunSpec, objective: Objective, loader: Loader) -> float:
    """Return the FLOP per record, counted by the first rank as if it were alone."""
    counted = 0.0
    if ranks.rank() == 0:
        counted = flops.per_record(objective, [loader.step(run.seed, s, run.recipe.batch).to("cpu") for s in range(2)])
    return ranks.agreed(counted)[0]


def _loaders(run: RunSpec, corpus: Corpus, codes: np.ndarray | None, device: str) -> dict[str, Loader]:
    rows = corpus_parts(corpus, run.split, run.order)
    if len(rows["train"]) < run.D:
        raise TrainingError(
            f"the run asks for D = {run.D:,} records, the training part of {corpus.name} has {len(rows['train']):,}"
        )
    chosen = {
        "train": rows["train"][: run.D],
        "validation": rows["validation"][: run.recipe.validation_records],
        "test": rows["test"][: run.recipe.test_records],
    }
    made = residency.loaders(corpus, chosen, run.labels, codes, device)
    return {part: shown(loader, run.samples) for part, loader in made.items()}


class _Loop:
    """The state of one training and the steps that move it."""

    def __init__(
        self,
        run: RunSpec,
        folder: Path,
        objective: Objective,
        loaders: dict[str, Loader],
        device: str,
        sharded: bool = False,
    ) -> None:
        self.run, self.folder, self.objective, self.loaders, self.device = run, folder, objective, loaders, device
        self.spread = distributed.Spread(objective, device, sharded)
        self.optimiser = optim.adamw(objective, run.recipe)
        self.step = 0
        self.best_step, self.best_loss, self.last_loss = 0, float("inf"), float("nan")
        self.seconds_before = 0.0
        recipe = run.recipe
        first = recipe.fork or 0  # of a shared trunk no step is a result
        self.validate_at = {
            first + round((recipe.steps - first) * (i + 1) / recipe.validations) for i in range(recipe.validations)
        }
        self.log_every = max(1, recipe.steps // 40 if recipe.fork is None else recipe.warmup // 4)  # as on the trunk
        self.training_s = 0.0  # without validation, calls before this one included
        self.losses = torch.zeros((), device=device)  # summed since the last line of the curve
        self.since = 0  # steps
        self.saved = time.monotonic()
        self.began = self.saved

    def resume(self, trunk: checkpoint.Trunk | None) -> None:
        state, lines = checkpoint.load_state(self.folder), None
        if state is None and trunk is not None and self.run.recipe.fork is not None:
            state = trunk.load(self.run.recipe.fork)
            lines = state["curve"] if state else None
        if state is not None:
            distributed.load(self.objective, state["objective"])
            distributed.load_optimiser(self.optimiser, state["optimiser"])
            self.step, self.best_step = state["step"], state["best_step"]
            self.best_loss, self.last_loss = state["best_loss"], state["last_loss"]
            self.losses, self.since = state["losses"].to(self.device) / ranks.count(), state["since"]
            self.seconds_before, self.training_s = state["seconds"], state["training_s"]
        self.curve = checkpoint.Curve(self.folder / "curve.jsonl", self.step, lines)

    def train(
        self,
        progress: Callable[[int, float], None] | None,
        halt: Callable[[], bool] | None,
        cost: float,
        trunk: checkpoint.Trunk | None,
    ) -> None:
        recipe, first = self.run.recipe, self.step
        self.clock = time.monotonic()
        while self.step < recipe.steps:
            self.losses += self._update(self.step)
            self.since += 1
            self.step += 1
            validate = self.step in self.validate_at
            if validate or self.step % self.log_every == 0:
                mean = float(ranks.added(self.losses)) / self.since  # waits for the device
                self.training_s += time.monotonic() - self.clock
                self._log(mean, validate)
                self.losses.zero_()
                self.since = 0
                if progress is not None:
                    progress(self.step, (self.step - first) * cost)
                self.clock = time.monotonic()
            if self.step == recipe.fork and trunk is not None and trunk.more:
                state = self._state() | {"curve": read_curve(self.folder / "curve.jsonl")}
                if ranks.rank() == 0:
                    trunk.leave(state)
            if self.step == recipe.steps:
                break
            stop = halt is not None and halt()
            stop, save = map(bool, ranks.agreed(stop, stop or time.monotonic() - self.saved > SAVE_EVERY_S))
            if save:
                self._save()
            if stop:
                raise Paused

    def _update(self, step: int) -> torch.Tensor:
        recipe = self.run.recipe
        self.objective.train()
        for group in self.optimiser.param_groups:
            group["lr"] = optim.rate(recipe, step)
        self.optimiser.zero_grad(set_to_none=True)
        with ranks.sharing(recipe.batch):
            batch = self.loaders["train"].step(self.run.seed, step, recipe.batch).to(self.device)
            loss = self._loss(batch, rng.seed_of(self.run.seed, "step", step))
            self.spread.backward(loss)
        if recipe.clip:
            torch.nn.utils.clip_grad_norm_(self.objective.parameters(), recipe.clip)
        self.optimiser.step()
        self.objective.after_step()
        return loss.detach()

    def _loss(self, batch: Batch, seed: int) -> torch.Tensor:
        torch.manual_seed(seed)  # dropout
        mixed = torch.autocast(self.device, torch.bfloat16) if self.run.precision == "bf16" else nullcontext()
        with mixed:
            loss = self.spread.loss(batch, torch.Generator().manual_seed(seed))
        self.parts = loss.parts
        return loss.value

    def _log(self, train_loss: float, validate: bool) -> None:
        if not np.isfinite(train_loss):
            raise TrainingError(
                f"the loss is {train_loss} at step {self.step}: lower the learning rate ({self.run.recipe.lr:g})"
            )
        line: dict[str, float] = {
            "step": self.step,
            "seen": self.step * self.run.recipe.batch,
            "loss": train_loss,
            "lr": optim.rate(self.run.recipe, self.step - 1),
            **{name: float(value) for name, value in {**self.parts, **self.objective.health()}.items()},
        }
        if validate:
            self.last_loss = line["validation"] = self.evaluate("validation")
            line |= self.health()
            self._keep()
        self.curve.log(**line)

    def _keep(self) -> None:
        """Keep this step as the last and, if its validation loss is the lowest, as the best; forget what is neither."""
        if self.last_loss < self.best_loss:
            self.best_loss, self.best_step = self.last_loss, self.step
        folder = self.folder / "checkpoints"
        about = input_of(self.run, self.loaders["train"].corpus)
        checkpoint.keep(self.objective.backbone, folder / f"{self.step}.safetensors", about)
        checkpoint.keep(self.objective, folder / f"{self.step}-objective.safetensors", about)
        for path in folder.glob("*.safetensors") if ranks.rank() == 0 else ():
            if int(path.stem.split("-")[0]) not in (self.best_step, self.step):
                path.unlink()
        ranks.wait()

    def test(self, step: int) -> float:
        """Return the loss of a kept step on the test part."""
        distributed.load(self.objective, load_file(self.folder / "checkpoints" / f"{step}-objective.safetensors"))
        return self.evaluate("test")

    @torch.no_grad()
    def evaluate(self, part: str) -> float:
        """Return the mean loss on a held-out part with common random numbers: the same for every run."""
        self.objective.eval()
        losses, units = [], []
        for number, batch in enumerate(self.loaders[part].sweep(VALIDATION_BATCH)):
            on_device = batch.to(self.device)
            units.append(self.objective.loss_weight(on_device))
            losses.append(self._loss(on_device, rng.seed_of(0, part, number)))
        total = weight = 0.0
        for share, loss in zip(units, losses, strict=True):  # only now wait for the device
            total += float(share) * float(loss)
            weight += float(share)
        return ranks.agreed(total / weight if weight else float("nan"))[0]

    @torch.no_grad()
    def health(self) -> dict[str, float]:
        """Return the health of the backbone's features of the validation records; of self-supervised runs only."""
        if self.run.objective.paradigm != "SSL":
            return {}
        self.objective.eval()
        batches = self.loaders["validation"].sweep(VALIDATION_BATCH)
        encoded = [self.spread.encode(batch.to(self.device)).float() for batch in batches]
        return health.measure(torch.cat(encoded).cpu())

    def last_health(self) -> dict[str, float]:
        """Return what the curve's last line says beyond losses and rates; nothing of supervised runs."""
        if self.run.objective.paradigm != "SSL":
            return {}
        last = read_curve(self.folder / "curve.jsonl")[-1]
        return {name: value for name, value in last.items() if name not in ("step", "seen", "loss", "lr", "validation")}

    def _state(self) -> dict[str, Any]:
        """Return the state as one process has it; every rank must ask."""
        return {
            "objective": distributed.gathered(self.objective.state_dict()),
            "optimiser": distributed.gathered(self.optimiser.state_dict()),
            "step": self.step,
            "best_step": self.best_step,
            "best_loss": self.best_loss,
            "last_loss": self.last_loss,
            "losses": ranks.added(self.losses),
            "since": self.since,
            "seconds": self.seconds_before + time.monotonic() - self.began,
            "training_s": self.training_s + time.monotonic() - self.clock,
        }

    def _save(self) -> None:
        state = self._state()
        if ranks.rank() == 0:
            checkpoint.save_state(self.folder, state)
        self.saved = time.monotonic()
