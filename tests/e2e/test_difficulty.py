"""The simulator is hard enough to scale on: a planted truth from waveform to loss (minutes: `-m slow`)."""

from pathlib import Path

import numpy as np
import pytest

from ecgscale.data.corpus import Corpus, Form, ingest
from ecgscale.data.intervals import measure
from ecgscale.data.split import SplitRule, parts
from ecgscale.evaluation.probes import linear_probe
from ecgscale.runs import Recipe, RunSpec
from ecgscale.spec import part
from ecgscale.training.pretrain import pretrain

LABELS = ("1dAVb", "RBBB", "LBBB", "SB", "AF", "ST")
SPLIT = SplitRule(by="patients", fractions=(0.8, 0.05, 0.15))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    dataset = part("datasets", {"name": "simulated", "count": 10_400, "enrich": 4.0})
    return ingest(dataset, None, Form(), tmp_path_factory.mktemp("difficulty") / "code")


def held_out_loss(corpus: Corpus, D: int, folder: Path) -> float:
    """Test loss of the supervised ResNet of 72K parameters after 600 steps of 32."""
    recipe = Recipe(steps=600, batch=32, lr=8e-3, warmup=60, validations=6, validation_records=500, test_records=1400)
    run = RunSpec(
        role="grid",
        backbone={"name": "resnet1d", "dial": 0.1},
        objective={"name": "supervised", "labels": list(LABELS)},
        leads=12,
        samples=1000,
        corpus=corpus.digest,
        split=SPLIT,
        D=D,
        seed=0,
        recipe=recipe,
        threads=2,
    )
    folder.mkdir()
    return pretrain(run, folder, corpus).test["best"]


def hand_crafted_loss(corpus: Corpus) -> float:
    """Test loss of a linear probe on intervals and amplitudes, with 4,000 training records."""
    rows = parts(corpus.index, SPLIT, 0)
    chosen = [rows["train"][:4000], rows["validation"], rows["test"][:1400]]
    x = [measure(corpus.signals(r), corpus.beats(r), corpus.rate_hz, corpus.lead_ok(r)).to_numpy() for r in chosen]
    y = [corpus.index[[f"label.{name}" for name in LABELS]].to_numpy()[r] for r in chosen]
    p = linear_probe(x[0], y[0], x[1], y[1], [x[2]]).probabilities[0]
    return float(-np.mean(np.where(y[2] == 1, np.log(p), np.log(1 - p))))


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_loss_falls_with_data_and_stays_above_the_known_floor(corpus: Corpus, tmp_path: Path) -> None:
    small, large = held_out_loss(corpus, 500, tmp_path / "500"), held_out_loss(corpus, 8000, tmp_path / "8000")
    crafted = hand_crafted_loss(corpus)
    floor = float(np.mean([corpus.manifest["facts"]["irreducible_loss"][name] for name in LABELS]))
    prevalence = corpus.index[[f"label.{name}" for name in LABELS]].mean().to_numpy()
    chance = float(-np.mean(prevalence * np.log(prevalence) + (1 - prevalence) * np.log(1 - prevalence)))
    print(
        f"\nD=500 {small:.4f}, D=8,000 {large:.4f}, "
        f"hand-crafted {crafted:.4f}, chance {chance:.4f}, known floor {floor:.4f} nats"
    )
    assert large <= 0.8 * small
    assert large >= 1.1 * floor
    assert large < crafted < chance
