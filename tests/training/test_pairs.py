"""Every objective trains every backbone it can be paired with: fifty steps of the one loop on simulated ECGs, or more.

The held-out loss falls where it can be compared. Where a teacher moves, the loss may rise while the features improve:
there the linear probe of the source labels must not be worse than that of the same network before training, and the
effective rank must stay above the bound of collapse.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ecgscale.backbones import architectures
from ecgscale.data.corpus import Corpus, Form, ingest
from ecgscale.data.split import SplitRule, parts
from ecgscale.evaluation import features, metrics, probes
from ecgscale.lab import read_curve
from ecgscale.reporting.training import COLLAPSED_RANK, COLLAPSED_SHARE
from ecgscale.runs import Recipe, RunSpec, build, load_backbone
from ecgscale.spec import names, part, part_class
from ecgscale.training import pretrain, recipe, size

SPLIT = SplitRule(by="patients", fractions=(0.6, 0.2, 0.2))
LABELS = ["1dAVb", "RBBB", "LBBB", "SB", "AF", "ST"]
FIELDS: dict[str, Any] = {
    "labels": LABELS,
    "codes": 16,
    "codebook": "none",
    "dropout": 0.0,
    "stride": 4,
    "momentum": 0.97,
}
STEPS = {"resnet1d-mae": 120}  # a token of 256 samples: until then it predicts zero; 50 for all others
TOLERANCE = 0.03  # nats by which a probe after fifty steps may be worse than before, for want of records


def pairs() -> list[tuple[str, str]]:
    """Objectives with the backbones that offer what they need."""
    found = []
    for objective in names("objectives"):
        needs = part_class("objectives", objective).needs  # type: ignore[attr-defined]
        for backbone in architectures():
            cls: Any = part_class("backbones", backbone)
            offers = cls.needs | {"labels", "codes"} | ({"hides_tokens"} if cls.hides_tokens else set())
            if needs <= offers | ({"causal"} if "causal" in cls.model_fields else set()):
                found.append((backbone, objective))
    return found


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    dataset = part("datasets", {"name": "simulated", "count": 400, "enrich": 8.0})
    return ingest(
        dataset, None, Form(length_s=5.0, normalise="record_lead_z"), tmp_path_factory.mktemp("corpus") / "code"
    )


@pytest.fixture(scope="module")
def codes(corpus: Corpus) -> np.ndarray:
    """Ids that can be learned: the rank of the distance to the next beat."""
    beats = corpus.beats(np.arange(len(corpus)))
    steps = np.diff(np.where(beats >= 0, beats, 0), axis=1, append=0)
    own = np.digitize(steps, np.quantile(steps[steps > 0], np.linspace(0, 1, 16)[1:-1]))
    return np.where(beats[:, None] >= 0, np.repeat(own[:, None], 12, 1), -1).astype(np.int16)


def spec(kind: str, name: str, **more: Any) -> Any:
    fields = {**FIELDS, **more}
    return part(kind, {"name": name, **{k: v for k, v in fields.items() if k in part_class(kind, name).model_fields}})


def cases() -> list[Any]:
    """Every other pair, so that each objective meets several backbones; the rest are for `-m slow`."""
    rank = {name: i for kind in (architectures(), names("objectives")) for i, name in enumerate(kind)}
    return [
        pytest.param(*pair, id="-".join(pair), marks=[pytest.mark.slow] * (sum(rank[name] for name in pair) % 2))
        for pair in pairs()
    ]


@pytest.mark.parametrize(("backbone", "objective"), cases())
def test_fifty_steps_teach_something(
    backbone: str, objective: str, corpus: Corpus, codes: np.ndarray, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    goal = spec("objectives", objective)
    network = spec("backbones", backbone, causal="causal" in goal.needs)
    network, _ = size.solve(network, 20e3, 12, corpus.samples)
    family = f"{backbone}-{objective}"
    lr = recipe.rate("packaged", family, 20e3) if family in recipe.PACKAGED else 2e-3
    steps = STEPS.get(family, 50)
    run = RunSpec(
        role="grid", backbone=network, objective=goal, leads=12, samples=corpus.samples, corpus=corpus.digest,
        split=SPLIT, D=200, seed=3,
        recipe=Recipe(steps=steps, batch=8, lr=lr, warmup=5, validations=2, validation_records=48, test_records=16),
    )  # fmt: skip
    start = held_out_loss(run, tmp_path / "before", corpus, codes)
    result = pretrain.pretrain(run, tmp_path, corpus, codes, flop_per_record=1.0)
    lines = read_curve(tmp_path / "curve.jsonl")
    if goal.comparable:
        assert result.validation["last"] < start, (start, result.validation)
    else:
        before, after = (probe_loss(run, tmp_path, step, corpus) for step in (0, steps))
        assert after < before + TOLERANCE, (before, after)
        assert "teacher" not in type(goal).model_fields or any(line["teacher_distance"] > 0 for line in lines)
    if goal.paradigm == "SSL":
        rank, first = result.health["rankme"], result.health["rankme_start"]
        assert rank > COLLAPSED_RANK and rank > COLLAPSED_SHARE * first, (first, rank)


def held_out_loss(run: RunSpec, folder: Path, corpus: Corpus, codes: np.ndarray) -> float:
    """Return the loss of the untrained objective on the validation records, with the masks that a run meets there."""
    objective = build(run)[1]
    assert objective is not None
    loop = pretrain._Loop(run, folder, objective, pretrain._loaders(run, corpus, codes, "cpu"), "cpu")
    return loop.evaluate("validation")


def probe_loss(run: RunSpec, folder: Path, step: int, corpus: Corpus) -> float:
    """Return the loss of a linear probe of the source labels, before the first (step 0) or after the last step."""
    untrained = run.model_copy(update={"recipe": run.recipe.model_copy(update={"steps": 0})})
    backbone = load_backbone(run if step else untrained, folder, step)
    rows = parts(corpus.index, SPLIT, 0)
    x = {name: features.encode(backbone, corpus, rows[name]) for name in rows}
    y = corpus.index[[f"label.{label}" for label in LABELS]].to_numpy(np.float64)
    probe = probes.linear_probe(
        x["train"], y[rows["train"]], x["validation"], y[rows["validation"]], [x["test"]]
    ).probabilities[0]
    return metrics.macro(metrics.label_losses(y[rows["test"]], probe))
