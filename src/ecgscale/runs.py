"""One training, fully resolved (`RunSpec`), and what it left on disk.

A RunSpec holds numbers, parts and digests of what it reads; no path, device, worker count or study name, so that equal
runs are one run.
"""

from __future__ import annotations

import json
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BeforeValidator, Field, NonNegativeFloat, NonNegativeInt, PlainSerializer, PositiveInt
from safetensors import safe_open
from safetensors.torch import load_file

from ecgscale import rng
from ecgscale.backbones import Backbone
from ecgscale.data.corpus import Corpus
from ecgscale.data.split import SplitRule
from ecgscale.objectives import Objective
from ecgscale.spec import Explained, Plugin, Spec, digest, part


def _dump(value: Plugin | None) -> dict[str, Any] | None:
    return None if value is None else value.dump()


def _optional(kind: str, value: Any) -> Any:
    return None if value is None else part(kind, value)


BackboneField = Annotated[Any, BeforeValidator(partial(part, "backbones")), PlainSerializer(_dump)]
ObjectiveField = Annotated[Any, BeforeValidator(partial(_optional, "objectives")), PlainSerializer(_dump)]
TaskField = Annotated[Any, BeforeValidator(partial(part, "tasks")), PlainSerializer(_dump)]

Role = Literal["grid", "labels", "branch", "tune", "baseline", "codebook"]


class Recipe(Spec):
    """How the parameters move. Rules of a study become these numbers before a run exists."""

    steps: NonNegativeInt  # optimiser steps
    batch: PositiveInt  # records per step
    lr: NonNegativeFloat  # peak learning rate
    warmup: NonNegativeInt = 0  # steps of linear warm-up
    final: NonNegativeFloat = 0.02  # last learning rate as a fraction of the peak; HeartLang: 1e-5 / 5e-4
    schedule: Literal["cosine", "wsd"] = "cosine"  # wsd: warm-up, stable, decay; Hu et al. 2024 (MiniCPM)
    decay: NonNegativeInt = 0  # last steps, in which the rate of "wsd" falls
    weight_decay: NonNegativeFloat = 0.05  # matrices only; HeartLang
    beta1: NonNegativeFloat = 0.9
    beta2: NonNegativeFloat = 0.98  # HeartLang
    clip: NonNegativeFloat = 3.0  # global gradient norm; HeartLang
    validations: PositiveInt = 5  # times the validation loss is measured, evenly spaced, the last step included
    validation_records: PositiveInt = 256  # the first of the validation part: the same for every run
    test_records: PositiveInt = 512  # the same of the test part, for the held-out pretext loss

    @property
    def fork(self) -> int | None:
        """The step at which the decay of "wsd" begins: up to there longer runs are the same. None for "cosine"."""
        return self.steps - self.decay if self.schedule == "wsd" else None


class RunSpec(Spec):
    """One training run.

    `steps = 0` with `objective = None` is the random-weights baseline: D = C = 0.
    """

    revision: ClassVar[int] = 2  # of the training loop; 2: C is one number per backbone, objective and corpus

    role: Role
    backbone: BackboneField
    objective: ObjectiveField
    leads: PositiveInt
    samples: PositiveInt  # window length
    corpus: str  # digest of the pre-training corpus ("" for random weights)
    split: SplitRule
    order: NonNegativeInt = 0  # seed of the order of patients
    D: NonNegativeInt  # unique records available
    D_by_source: dict[str, int] | None = None  # of a mixture: how many each source gives
    seed: NonNegativeInt
    recipe: Recipe
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: PositiveInt = 1  # CPU threads: part of the numbers

    def dump(self) -> dict[str, Any]:
        """Return all fields with the loop's revision."""
        return {"revision": self.revision, **super().dump()}

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels it is trained on; none of a self-supervised run."""
        return tuple(getattr(self.objective, "labels", ()))

    @property
    def origin(self) -> str:
        """Where its weights come from: the objective it was trained with, "random", or "external"."""
        if self.objective is not None:
            return str(self.objective.part_name())
        return "external" if self.backbone.comes_trained else "random"

    @property
    def family(self) -> str:
        """Backbone and origin for a reader, as "s4 cpc" or "s4 random weights"."""
        return f"{self.backbone.called} {'random weights' if self.origin == 'random' else self.origin}"

    @cached_property
    def cell(self) -> str:
        """The uid without the seed: runs of one cell differ by their seed only."""
        return digest({**self.dump(), "seed": 0}) + "-cell"

    @property
    def trunk(self) -> str:
        """The uid, but of a "wsd" run what it shares with those that differ in where the decay begins and ends."""
        if self.recipe.fork is None:
            return self.uid
        shared = self.dump()
        shared["recipe"] = {k: v for k, v in shared["recipe"].items() if k not in ("steps", "decay", "validations")}
        return digest(shared)


class RunResult(Spec):
    """What a finished run left; `checkpoints` name files `checkpoints/<step>.safetensors` of the backbone."""

    N: NonNegativeInt  # parameters of the encoder that is kept
    N_total: NonNegativeInt  # all parameters trained
    steps: NonNegativeInt
    best: NonNegativeInt  # step of the lowest validation loss
    flop_per_record: NonNegativeFloat  # forward and backward
    validation: dict[str, float]  # {"best", "last"} loss on the validation part
    test: dict[str, float]  # the same on the test part
    records: dict[str, int]  # behind them
    # of self-supervised runs at their last step: `rankme` and `feature_std` of the validation records, the same before
    # the first step (`…_start`), and what the objective itself says (`perplexity`, `teacher_distance`, …)
    health: dict[str, float] = Field(default_factory=dict)
    seconds: NonNegativeFloat  # of all of it
    training_seconds: NonNegativeFloat = 0.0  # of steps alone, without validation and tests


def build(run: RunSpec) -> tuple[Backbone, Objective | None]:
    """Return the freshly initialised backbone and objective of a run: a function of its seed."""
    torch.manual_seed(rng.seed_of(run.seed, "init"))
    backbone = run.backbone.build(run.leads, run.samples)
    if run.objective is None:
        return backbone, None
    torch.manual_seed(rng.seed_of(run.seed, "init", "objective"))
    return backbone, run.objective.build(backbone)


class InputError(Explained, ValueError):
    """A checkpoint would be shown signals of another kind than it was trained on."""


_SHOWN = ("rate_hz", "length_s", "band_hz", "notch_hz", "normalise", "leads")  # of a form: what a model sees of it


def input_of(run: RunSpec, corpus: Corpus) -> dict[str, str]:
    """Return what stands in the header of a run's checkpoints: the signals it saw, and the run itself, as JSON."""
    return {"input": json.dumps(_input(corpus), sort_keys=True), "run": json.dumps(run.dump(), sort_keys=True)}


def check_input(folder: Path, step: int, corpus: Corpus) -> None:
    """Refuse to show a checkpoint signals of another rate, length, band, normalisation, unit or leads than it saw.

    Raises:
        InputError: they differ; the sentence names the first difference.
    """
    with safe_open(folder / "checkpoints" / f"{step}.safetensors", "pt") as file:
        saw = json.loads((file.metadata() or {}).get("input", "{}"))
    for key, value in json.loads(json.dumps(_input(corpus))).items():
        if saw.get(key) != value:
            raise InputError(
                f"the checkpoint {folder.name} was trained on signals with {key} = {saw.get(key)}, "
                f"the corpus {corpus.name} has {value}; ingest it in the same form"
            )


def _input(corpus: Corpus) -> dict[str, Any]:
    form = corpus.form.dump()
    return {**{key: form[key] for key in _SHOWN}, "unit": corpus.unit}


def load_backbone(run: RunSpec, folder: Path, step: int) -> Backbone:
    """Return the frozen backbone of a checkpoint in eval mode; untrained weights where the run has no step."""
    backbone, _ = build(run)
    if run.recipe.steps:
        backbone.load_state_dict(load_file(folder / "checkpoints" / f"{step}.safetensors"))
    return backbone.eval().requires_grad_(False)


def load_objective(run: RunSpec, folder: Path, step: int) -> Objective:
    """Return the whole objective (heads, code-book) of a checkpoint that was kept whole, in eval mode."""
    _, objective = build(run)
    assert objective is not None
    objective.load_state_dict(load_file(folder / "checkpoints" / f"{step}-objective.safetensors"))
    return objective.eval().requires_grad_(False)
