"""Two processes train what one trains, for every objective; a test's worker is this file run as a program."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ecgscale import ranks
from ecgscale.data.corpus import Corpus, Form, ingest
from ecgscale.data.split import SplitRule
from ecgscale.lab import read_curve
from ecgscale.runs import Recipe, RunSpec
from ecgscale.spec import names, part
from ecgscale.training import checkpoint, distributed, pretrain
from ecgscale.training.batch_norm import SharedBatchNorm

SPLIT = SplitRule(by="patients", fractions=(0.6, 0.2, 0.2))
STEPS, BRIEF, BATCH = 50, 15, 9  # a batch that two processes cannot share evenly
LR = 1e-4  # larger ones blow rounding up: a run whose first weights differ by 1e-7 ends as far away
CLOSE = 1e-4  # of a loss
DRIFT = 3e-4  # of a weight, and of its tensor's largest: rounding may turn a ReLU over whose input is below 1e-6
SHARDED = ("resnet1d-supervised", "transformer-dinosr")
PAUSED, PAUSE_AT, SHORT = "s4-hubert", 5, 12
WEIGHED = ("resnet1d-cmsc", PAUSED)  # their gradients are looked at, in the state they leave when they pause

RESNET, BEATS = {"name": "resnet1d", "dial": 0.03}, {"name": "beat_transformer", "dial": 8.0}
S4 = {"name": "s4", "dial": 8.0, "stride": 4, "depth": 2}
TRANSFORMER = {"name": "transformer", "dial": 8.0, "stride": 4}
PATCHES = {"name": "patchtst", "dial": 8.0, "patch": 32}
NET = {"name": "net1d", "dial": 0.1, "causal": True}
SUPERVISED = {"name": "supervised", "labels": ["1dAVb", "RBBB", "AF"]}
FAST = {"momentum": 0.9}  # of a teacher
HUBERT = {"name": "hubert", "prototypes": (8, 16), **FAST}
DINOSR, MAE = {"name": "dinosr", "codes": 16, **FAST}, {"name": "mae"}

# Batch norm in resnet1d and in the stem of s4 and transformer, none in the others; dropout in all but net1d.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "resnet1d-supervised": (RESNET, SUPERVISED),
    "resnet1d-cmsc": (RESNET, {"name": "cmsc"}),
    "beat_transformer-cmsc": (BEATS, {"name": "cmsc", "loss": "symmetric"}),
    "beat_transformer-beat_codes": (BEATS, {"name": "beat_codes", "codes": 16, "revive": 0.5}),
    "beat_transformer-masked_beats": (BEATS, {"name": "masked_beats", "codes": 16, "codebook": "none"}),
    "resnet1d-mae": (RESNET, MAE),
    "s4-cpc": ({**S4, "causal": True}, {"name": "cpc", "negatives": 16}),
    "net1d-cpc": (NET, {"name": "cpc", "horizon": 1, "negatives": 16, "negatives_from": "batch"}),
    "transformer-jepa": (TRANSFORMER, {"name": "jepa", **FAST}),
    "s4-data2vec": (S4, {"name": "data2vec", "head": "s4", **FAST}),
    "transformer-dinosr": (TRANSFORMER, {**DINOSR, "normalise": "token"}),
    "s4-hubert": (S4, HUBERT),
}


def steps_of(name: str) -> int:
    """Return the length of a case: batch norm, negatives, a code-book and Sinkhorn's sums are followed for longer."""
    return STEPS if name in ("resnet1d-supervised", "resnet1d-cmsc", "beat_transformer-beat_codes", PAUSED) else BRIEF


def spec(name: str, corpus: Corpus, steps: int) -> RunSpec:
    backbone, objective = CASES[name]
    clip = 0.0 if steps == SHORT else 3.0  # a clipped gradient has lost its size
    rows = {"validation_records": 8, "test_records": 8}
    recipe = Recipe(steps=steps, batch=BATCH, lr=LR, warmup=5, clip=clip, validations=1, **rows)
    return RunSpec(
        role="grid", backbone=backbone, objective=objective, leads=12, samples=corpus.samples, corpus=corpus.digest,
        split=SPLIT, D=40, seed=4, recipe=recipe,
    )  # fmt: skip


def train(name: str, folder: Path, root: Path, steps: int = 0, stop: bool = False, **more: Any) -> Any:
    """Train a case into `folder`; return its result, or None where it stopped after `PAUSE_AT` steps."""
    corpus, codes = Corpus.open(root / "corpus"), np.load(root / "codes.npy")
    folder.mkdir(parents=True, exist_ok=True)
    steps = steps or steps_of(name)
    asked = iter(range(1, steps + 1))
    halt = (lambda: next(asked) == PAUSE_AT) if stop else None
    try:
        run = spec(name, corpus, steps)
        return pretrain.pretrain(run, folder, corpus, codes, halt=halt, flop_per_record=1.0, **more)
    except pretrain.Paused:
        return None


def work(root: Path) -> None:
    """Do one process's share of everything the tests below look at."""
    torch.set_num_threads(1)
    with distributed.joined("cpu"):
        normalise(root)
        for name in CASES:
            train(name, root / "two" / name, root)
        for name in SHARDED:
            train(name, root / "sharded" / name, root, SHORT, stop=True, sharded=True)
            train(name, root / "sharded" / name, root, SHORT, sharded=True)
        train(PAUSED, root / "whole", root, SHORT)
        train(PAUSED, root / "resumed", root, SHORT, stop=True)
        train(PAUSED, root / "resumed", root, SHORT)
        for name in WEIGHED:
            train(name, root / "weighed" / name, root, SHORT, stop=True)


def normalise(root: Path) -> None:
    """Keep what a batch norm makes of this process's rows of a batch."""
    norm, x, weight = a_batch()
    shared = SharedBatchNorm(norm.num_features)
    shared.load_state_dict(norm.state_dict())
    with ranks.sharing(len(x)):
        mine = x[ranks.part()].detach().requires_grad_()
        y = shared.train()(mine)
        (y * weight[ranks.part()]).sum().backward()
        made = {"y": y.detach(), "x": mine.grad, "weight": shared.weight.grad, "bias": shared.bias.grad}
        torch.save({**made, "state": shared.state_dict()}, root / f"norm-{ranks.rank()}.pt")


def a_batch() -> tuple[nn.BatchNorm2d, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = 3 + torch.randn(7, 4, 1, 5, generator=generator)
    norm = nn.BatchNorm2d(4)
    nn.init.uniform_(norm.weight, 0.5, 2.0, generator=generator)
    return norm, x.requires_grad_(), torch.randn(x.shape, generator=generator)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two processes have trained all that `work` says."""
    root = tmp_path_factory.mktemp("ranks")
    dataset = part("datasets", {"name": "simulated", "count": 80, "enrich": 8.0})
    corpus = ingest(dataset, None, Form(length_s=2.56), root / "corpus")
    beats = corpus.beats(np.arange(len(corpus)))
    random = np.random.default_rng(0).integers(16, size=(len(corpus), 12, beats.shape[1]))
    np.save(root / "codes.npy", np.where(beats[:, None] >= 0, random, -1).astype(np.int16))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    about = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCH_CPP_LOG_LEVEL": "ERROR"}
    command = [sys.executable, __file__, str(root)]
    pair = [
        subprocess.Popen(command, env={**os.environ, **about, "RANK": str(rank)}, stderr=subprocess.PIPE)
        for rank in (0, 1)
    ]
    said = [process.communicate()[1].decode() for process in pair]
    assert [process.returncode for process in pair] == [0, 0], said
    return root


def worst(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    """Return by how much two states differ at most, as a share of what is close."""
    assert found.keys() == wanted.keys()
    return max(
        ((found[name] - value).abs().max() / (DRIFT * (1 + value.abs().max()))).item()
        for name, value in wanted.items()
        if value.is_floating_point()
    )


def test_every_objective_is_trained() -> None:
    assert {name.split("-")[1] for name in CASES} == set(names("objectives"))


def moments(folder: Path) -> dict[str, torch.Tensor]:
    """Return the averages of gradients in a saved state, on a scale of their own: an AdamW step hides their size."""
    state = checkpoint.load_state(folder)
    assert state is not None and state["step"] == PAUSE_AT
    first = {str(place): moment["exp_avg"] for place, moment in state["optimiser"]["state"].items()}
    scale = max(moment.abs().max() for moment in first.values())
    return {**{name: moment / scale for name, moment in first.items()}, "scale": scale}


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_what_one_trains(name: str, root: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    one, two = tmp_path, root / "two" / name
    result = train(name, one, root)
    curves = [read_curve(folder / "curve.jsonl") for folder in (one, two)]
    assert len(curves[0]) == steps_of(name)
    for key in ("step", "loss", "lr"):
        losses = [[line[key] for line in curve] for curve in curves]
        np.testing.assert_allclose(*losses, rtol=CLOSE, atol=CLOSE)
    assert curves[1][-1]["validation"] == pytest.approx(result.validation["last"], rel=CLOSE)
    assert curves[0][-1].keys() == curves[1][-1].keys()
    for key, value in curves[0][0].items():  # later, one token may choose another code
        assert curves[1][0][key] == pytest.approx(value, rel=1e-3, abs=1e-4), key
    states = [load_file(folder / "checkpoints" / f"{steps_of(name)}-objective.safetensors") for folder in (two, one)]
    assert worst(*states) < 1


@pytest.mark.parametrize("name", WEIGHED)
def test_sums_of_gradients_have_the_size_that_one_process_sees(name: str, root: Path, tmp_path: Path) -> None:
    train(name, tmp_path, root, SHORT, stop=True)
    assert worst(moments(root / "weighed" / name), moments(tmp_path)) < 1


def test_a_resumed_pair_equals_an_uninterrupted_one_bit_for_bit_and_one_process_goes_on_for_it(root: Path) -> None:
    whole, resumed, alone = root / "whole", root / "resumed", root / "weighed" / PAUSED
    result = train(PAUSED, alone, root, SHORT)
    wanted, found, lone = (
        load_file(f / "checkpoints" / f"{SHORT}-objective.safetensors") for f in (whole, resumed, alone)
    )
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    curve = read_curve(whole / "curve.jsonl")
    assert read_curve(resumed / "curve.jsonl") == curve
    assert worst(lone, wanted) < 1
    assert result.validation["last"] == pytest.approx(curve[-1]["validation"], rel=CLOSE)
    assert not list(resumed.glob("state*"))


@pytest.mark.parametrize("name", SHARDED)
def test_a_sharded_model_is_the_same_model_when_resumed_too(name: str, root: Path, tmp_path: Path) -> None:
    train(name, tmp_path, root, SHORT)
    one, two = tmp_path, root / "sharded" / name
    states = [load_file(folder / "checkpoints" / f"{SHORT}-objective.safetensors") for folder in (two, one)]
    assert worst(*states) < 1
    losses = [[line["loss"] for line in read_curve(folder / "curve.jsonl")] for folder in (one, two)]
    np.testing.assert_allclose(*losses, rtol=CLOSE)


def test_a_batch_norm_of_two_processes_is_that_of_all_rows(root: Path) -> None:
    norm, x, weight = a_batch()
    y = norm.train()(x)
    (y * weight).sum().backward()
    first, second = (torch.load(root / f"norm-{rank}.pt") for rank in (0, 1))
    for wanted, name in ((y.detach(), "y"), (x.grad, "x")):
        torch.testing.assert_close(torch.cat([first[name], second[name]]), wanted, rtol=1e-5, atol=1e-5)
    for wanted, name in ((norm.weight.grad, "weight"), (norm.bias.grad, "bias")):
        torch.testing.assert_close(first[name] + second[name], wanted, rtol=1e-5, atol=1e-5)
    for name, value in norm.state_dict().items():
        torch.testing.assert_close(first["state"][name], value, rtol=1e-6, atol=1e-6)


def test_more_processes_than_records_of_a_batch_are_refused(root: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(ranks, "count", lambda: BATCH + 1)
    with pytest.raises(pretrain.TrainingError, match="a batch of 9 records cannot be shared by 10 processes"):
        train("resnet1d-supervised", tmp_path, root)


def test_processes_that_torchrun_did_not_start_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(distributed.DistributedError, match="MASTER_ADDR is not in the environment"),
        distributed.joined("cpu"),
    ):
        pass


if __name__ == "__main__":
    work(Path(sys.argv[1]))
