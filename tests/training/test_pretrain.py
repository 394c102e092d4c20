"""The one loop: it learns, a resumed run equals an uninterrupted one bit for bit, and bad runs stop with a sentence."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ecgscale.data.corpus import Corpus, Form, ingest
from ecgscale.data.split import SplitRule, parts
from ecgscale.lab import read_curve
from ecgscale.loader import Loader, positions
from ecgscale.objectives import Objective
from ecgscale.runs import InputError, Recipe, RunResult, RunSpec, build, check_input
from ecgscale.spec import part
from ecgscale.study.study import Study
from ecgscale.training import checkpoint, optim, pretrain
from ecgscale.training.pretrain import TrainingError

SPLIT = SplitRule(by="patients", fractions=(0.6, 0.2, 0.2))
LABELS = ["1dAVb", "RBBB", "LBBB", "SB", "AF", "ST"]
OBJECTIVES = {
    "resnet1d": [{"name": "supervised", "labels": LABELS}, {"name": "cmsc"}],
    "beat_transformer": [
        {"name": "supervised", "labels": LABELS},
        {"name": "beat_codes", "codes": 16},
        {"name": "masked_beats", "codes": 16, "codebook": "none"},
    ],
    "patchtst": [
        {"name": "mae"},
        {"name": "jepa"},
        {"name": "data2vec"},
        {"name": "dinosr", "codes": 16},
        {"name": "hubert", "prototypes": (8, 16)},
    ],
    "net1d": [{"name": "cpc", "negatives": 16}],
}
BACKBONES = {
    "resnet1d": {"dial": 0.03},
    "beat_transformer": {"dial": 12.0},
    "patchtst": {"dial": 8.0, "patch": 50},
    "net1d": {"dial": 0.1, "causal": True},
}
TIMES = {"seconds", "training_seconds"}
PAIRS = [(backbone, objective) for backbone, objectives in OBJECTIVES.items() for objective in objectives]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    dataset = part("datasets", {"name": "simulated", "count": 160, "enrich": 8.0})
    return ingest(dataset, None, Form(), tmp_path_factory.mktemp("corpus") / "code")


@pytest.fixture(scope="module")
def codes(corpus: Corpus) -> np.ndarray:
    beats = corpus.beats(np.arange(len(corpus)))
    random = np.random.default_rng(0).integers(16, size=(len(corpus), 12, beats.shape[1]))
    return np.where(beats[:, None] >= 0, random, -1).astype(np.int16)


def spec(backbone: str, objective: dict, corpus: Corpus, steps: int = 8, **recipe: float) -> RunSpec:
    return RunSpec(
        role="grid", backbone={"name": backbone, **BACKBONES[backbone]}, objective=objective, leads=12,
        samples=corpus.samples, corpus=corpus.digest, split=SPLIT, D=64, seed=3,
        recipe=Recipe(**{
            "steps": steps, "batch": 8, "lr": 1e-3, "warmup": 2, "validations": 2, "validation_records": 16, **recipe,
        }),
    )  # fmt: skip


def objective_of(run: RunSpec) -> Objective:
    objective = build(run)[1]
    assert objective is not None
    return objective


class Interrupted(Exception):
    pass


@pytest.mark.parametrize(("backbone", "objective"), PAIRS, ids=lambda v: v if isinstance(v, str) else v["name"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    backbone: str, objective: dict, corpus: Corpus, codes: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    run = spec(backbone, objective, corpus)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    expected = pretrain.pretrain(run, whole, corpus, codes, flop_per_record=1.0)
    monkeypatch.setattr(pretrain, "SAVE_EVERY_S", -1.0)  # at every step

    def stop(step: int, flop: float) -> None:
        if step == 6:
            raise Interrupted

    with pytest.raises(Interrupted):
        pretrain.pretrain(run, broken, corpus, codes, progress=stop, flop_per_record=1.0)
    assert checkpoint.load_state(broken)["step"] == 5  # type: ignore[index]
    resumed = pretrain.pretrain(run, broken, corpus, codes, flop_per_record=1.0)
    assert resumed.model_copy(update=expected.model_dump(include=TIMES)) == expected
    for step in {expected.best, expected.steps}:
        a, b = (load_file(f / "checkpoints" / f"{step}.safetensors") for f in (whole, broken))
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert read_curve(whole / "curve.jsonl") == read_curve(broken / "curve.jsonl")
    assert not list(broken.glob("state*"))


def test_a_run_that_was_asked_to_stop_goes_on_as_if_it_had_not(corpus: Corpus, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    run = spec("resnet1d", {"name": "supervised", "labels": ["AF"]}, corpus, steps=90)  # a line of the curve in 2 steps
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir(), parts.mkdir()
    expected = pretrain.pretrain(run, whole, corpus)
    asked, told = iter(range(1, 100)), []
    with pytest.raises(pretrain.Paused):
        pretrain.pretrain(run, parts, corpus, progress=lambda *said: told.append(said), halt=lambda: next(asked) == 7)
    assert checkpoint.load_state(parts)["step"] == 7  # type: ignore[index]
    assert told[-1] == (6, pytest.approx(6 * run.recipe.batch * expected.flop_per_record))
    with pytest.raises(pretrain.Paused):
        pretrain.pretrain(run, parts, corpus, progress=lambda *said: told.append(said), halt=lambda: True)
    assert told[-1] == (8, pytest.approx(run.recipe.batch * expected.flop_per_record))  # spent by that call alone
    resumed = pretrain.pretrain(run, parts, corpus)
    assert resumed.model_copy(update=expected.model_dump(include=TIMES)) == expected
    assert read_curve(whole / "curve.jsonl") == read_curve(parts / "curve.jsonl")


def test_a_run_on_crops_sees_another_crop_at_every_step_and_goes_on_as_if_it_had_not_stopped(
    corpus: Corpus, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    whole = spec("resnet1d", {"name": "cmsc"}, corpus, steps=6)
    run = whole.model_copy(update={"samples": 512})
    loader = pretrain._loaders(run, corpus, None, "cpu")["train"]
    first, again, other = (loader.step(3, step, 8) for step in (0, 0, 1))
    assert torch.equal(first.signal, again.signal) and first.signal.shape == (8, 12, 512)
    records = torch.from_numpy(corpus.signals(first.record.numpy()))
    crops = [records[i].unfold(1, 512, 1).eq(first.signal[i][:, None]).all((0, 2)).nonzero() for i in range(8)]
    assert len({int(start) for start in crops}) > 4 and not torch.equal(first.signal[0], other.signal[0])
    swept = [torch.cat([b.signal for b in loader.sweep(16)]) for _ in range(2)]
    assert torch.equal(*swept) and len(swept[0]) == 64
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    expected = pretrain.pretrain(run, tmp_path / "whole", corpus)
    with pytest.raises(pretrain.Paused):
        pretrain.pretrain(run, tmp_path / "parts", corpus, halt=lambda: True)
    resumed = pretrain.pretrain(run, tmp_path / "parts", corpus)
    assert resumed.model_copy(update=expected.model_dump(include=TIMES)) == expected
    cost = pretrain._cost(whole, objective_of(whole), Loader(corpus, np.arange(64)))
    assert expected.flop_per_record == pytest.approx(cost / 2, rel=1e-3)  # halves are padded to 256 and 512


@pytest.mark.parametrize(("backbone", "objective"), [PAIRS[1], PAIRS[3]], ids=["cmsc", "beat_codes"])
def test_a_run_from_the_trunk_of_a_shorter_one_equals_one_from_scratch(
    backbone: str, objective: dict, corpus: Corpus, tmp_path: Path
) -> None:
    """Bit for bit, the code-book's own state and the curve included; and it does only what is new."""
    torch.set_num_threads(1)

    def train(name: str, steps: int, trunk: checkpoint.Trunk | None) -> tuple[RunResult, list[int]]:
        run = spec(backbone, objective, corpus, steps=steps, warmup=4, schedule="wsd", decay=steps // 4)
        (tmp_path / name).mkdir()
        first: list[int] = []
        result = pretrain.pretrain(run, tmp_path / name, corpus, began=first.append, trunk=trunk)
        return result.model_copy(update={"seconds": 0.0, "training_seconds": 0.0}), first

    shared = tmp_path / "trunk"
    train("short", 8, checkpoint.Trunk(shared, more=True))
    assert [path.name for path in shared.iterdir()] == ["6.pt"]
    longer, first = train("long", 16, checkpoint.Trunk(shared, more=False))
    alone, from_nothing = train("alone", 16, None)
    assert (first, from_nothing) == ([6], [0])
    assert longer == alone
    curves = [read_curve(tmp_path / name / "curve.jsonl") for name in ("long", "alone")]
    assert curves[0] == curves[1] and [line["step"] for line in curves[0]] == list(range(1, 17))
    a, b = (load_file(tmp_path / name / "checkpoints" / "16-objective.safetensors") for name in ("long", "alone"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def flipped(data: bytes) -> bytes:
    """Change one bit in the middle."""
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


TEARS = [lambda data: data[:40], lambda data: data[: len(data) // 2], lambda data: bytes(len(data)), flipped]


@pytest.mark.parametrize("tear", TEARS, ids=["begun", "half", "zeros", "one bit"])
def test_a_torn_newest_state_falls_back_to_the_previous_one(tear: Callable[[bytes], bytes], tmp_path: Path) -> None:
    checkpoint.save_state(tmp_path, {"step": 1})
    checkpoint.save_state(tmp_path, {"step": 2})
    state = tmp_path / "state.pt"
    state.write_bytes(tear(state.read_bytes()))
    assert checkpoint.load_state(tmp_path) == {"step": 1}


def test_torn_states_cost_time_and_change_nothing(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the newest torn the run goes on from the previous one, with both from the start."""
    torch.set_num_threads(1)
    run = spec("resnet1d", {"name": "supervised", "labels": ["AF"]}, corpus)
    expected = None
    monkeypatch.setattr(pretrain, "SAVE_EVERY_S", -1.0)
    for torn, start in ((), 6), (("state.pt",), 5), (("state.pt", "state-previous.pt"), 0):
        folder, asked = tmp_path / str(start), iter(range(1, 100))
        folder.mkdir()
        with pytest.raises(pretrain.Paused):
            pretrain.pretrain(run, folder, corpus, halt=lambda asked=asked: next(asked) == 6)  # type: ignore[misc]
        for name in torn:
            (folder / name).write_bytes(flipped((folder / name).read_bytes()))
        steps: list[int] = []
        result = pretrain.pretrain(run, folder, corpus, progress=lambda step, _, steps=steps: steps.append(step))
        expected = expected or result
        assert steps == list(range(start + 1, 9))
        assert result.model_copy(update=expected.model_dump(include=TIMES)) == expected


def test_a_torn_line_of_a_curve_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "curve.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_curve(tmp_path / "curve.jsonl") == [{"step": 1, "loss": 2.0}]


def test_one_batch_is_learned(corpus: Corpus, tmp_path: Path) -> None:
    """D = 8 with batch 8: the training loss falls by half."""
    run = spec("resnet1d", OBJECTIVES["resnet1d"][0], corpus, steps=80, lr=1e-2).model_copy(update={"D": 8})
    pretrain.pretrain(run, tmp_path, corpus)
    losses = [line["loss"] for line in read_curve(tmp_path / "curve.jsonl")]
    assert losses[-1] < 0.5 * losses[0]


def test_the_packaged_code_book_does_not_collapse(corpus: Corpus, tmp_path: Path) -> None:
    """Without revival, as published, a few dozen steps leave few of 512 codes in use."""
    rule = Study.load("quickstart").codebook
    assert rule is not None
    perplexity = {}
    for revive in (rule.objective.revive, 0.0):  # type: ignore[attr-defined]
        objective = {**rule.objective.dump(), "revive": revive}
        folder = tmp_path / str(revive)
        folder.mkdir()
        pretrain.pretrain(spec("beat_transformer", objective, corpus, steps=60, lr=rule.lr), folder, corpus)
        perplexity[revive] = read_curve(folder / "curve.jsonl")[-1]["perplexity"]
    kept, lost = perplexity.values()
    assert kept > 60 and kept > 2 * lost, perplexity


def test_a_checkpoint_says_what_it_saw_and_is_shown_nothing_else(corpus: Corpus, tmp_path: Path) -> None:
    run = spec("resnet1d", OBJECTIVES["resnet1d"][0], corpus, steps=2)
    (tmp_path / "run").mkdir()
    pretrain.pretrain(run, tmp_path / "run", corpus)
    check_input(tmp_path / "run", 2, corpus)
    dataset = part("datasets", {"name": "simulated", "count": 20})
    other = ingest(dataset, None, Form(normalise="record_lead_z"), tmp_path / "z")
    with pytest.raises(InputError, match=r"normalise = none, the corpus simulated has record_lead_z"):
        check_input(tmp_path / "run", 2, other)
    world = part("datasets", {"name": "simulated", "world": "hospital", "count": 20})
    check_input(tmp_path / "run", 2, ingest(world, None, Form(), tmp_path / "hospital"))


def test_more_data_than_there_is_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    run = spec("resnet1d", OBJECTIVES["resnet1d"][0], corpus).model_copy(update={"D": 10_000})
    with pytest.raises(TrainingError, match=r"asks for D = 10,000 records, the training part .* has "):
        pretrain.pretrain(run, tmp_path, corpus)


def test_a_loss_that_is_not_finite_stops_the_run(corpus: Corpus, tmp_path: Path) -> None:
    run = spec("resnet1d", OBJECTIVES["resnet1d"][0], corpus, lr=1e30, clip=0.0, warmup=0)
    with pytest.raises(TrainingError, match="lower the learning rate"):
        pretrain.pretrain(run, tmp_path, corpus)


def test_the_schedule_warms_up_and_ends_at_its_floor() -> None:
    recipe = Recipe(steps=100, batch=1, lr=1.0, warmup=10, final=0.1)
    rates = [optim.rate(recipe, s) for s in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=2e-3)


def test_a_plateau_ends_in_a_decay_and_longer_runs_share_all_that_is_before_it() -> None:
    short = Recipe(steps=50, batch=1, lr=1.0, warmup=5, final=0.1, schedule="wsd", decay=10)
    long = short.model_copy(update={"steps": 100, "decay": 20})
    assert (short.fork, long.fork) == (40, 80)
    rates = [optim.rate(short, s) for s in range(50)]
    assert rates[:40] == [optim.rate(long, s) for s in range(40)]
    assert set(rates[5:41]) == {1.0} and rates[40:] == sorted(rates[40:], reverse=True)
    assert optim.rate(short, 50) == pytest.approx(0.1)
    assert optim.rate(short, 45) == pytest.approx(0.1 + 0.9 * (1 - 0.5**0.5))


def test_vectors_do_not_decay() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    groups = optim.adamw(module, Recipe(steps=1, batch=1, lr=1.0, weight_decay=0.5)).param_groups
    assert {(p.ndim, g["weight_decay"]) for g in groups for p in g["params"]} == {(2, 0.5), (1, 0.0)}


def test_an_epoch_sees_every_record_once_and_a_batch_is_a_function_of_seed_and_step() -> None:
    stream = np.concatenate([positions(10, 0, s, 4) for s in range(5)])
    assert sorted(stream[:10]) == sorted(stream[10:]) == list(range(10))
    assert not np.array_equal(stream[:10], stream[10:])
    assert np.array_equal(positions(10, 0, 3, 4), stream[12:16])


def test_d_1000_is_a_prefix_of_d_10000(corpus: Corpus) -> None:
    rows = parts(corpus.index, SPLIT, 0)["train"]
    small, large = Loader(corpus, rows[:20], tuple(LABELS)), Loader(corpus, rows[:80], tuple(LABELS))
    assert np.array_equal(small.rows, large.rows[:20])
    first = small.take(small.rows)
    assert first.labels.shape == (20, 6)
    assert np.allclose(first.signal.numpy(), corpus.signals(rows[:20]))
