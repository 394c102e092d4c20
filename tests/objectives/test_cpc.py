"""cpc: what is drawn, what predicts what, and that the future stays unseen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ecgscale.backbones._stem import StemBackbone
from ecgscale.objectives import cpc
from ecgscale.spec import SpecError

WIDTH, STRIDE, SAMPLES = 8, 2, 80
TOKENS = SAMPLES // STRIDE


class Causal(StemBackbone):
    """A stem and a recurrent layer."""

    def __init__(self) -> None:
        super().__init__(12, WIDTH, STRIDE)
        self.layer = nn.GRU(WIDTH, WIDTH, batch_first=True)

    def context(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self.layer(x)[0], ()


@pytest.fixture
def build() -> Callable[..., Any]:
    def made(**fields: Any) -> Any:
        torch.manual_seed(0)
        return cpc.CPC(**fields).build(Causal())

    return made


@pytest.fixture
def batch(make_batch: Callable[..., Any]) -> Any:
    return make_batch(records=3, samples=SAMPLES, beats=(2, 3))


def run(model: Any, batch: Any, seed: int = 1) -> Any:
    return model(batch, torch.Generator().manual_seed(seed))


def spied(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Keep what `contrast` gets and gives."""
    seen: dict[str, Tensor] = {}
    contrast = cpc.contrast

    def spy(queries: Tensor, keys: Tensor, place: Tensor, drawn: Tensor) -> Tensor:
        seen.update(queries=queries, place=place, drawn=drawn, scores=contrast(queries, keys, place, drawn))
        return seen["scores"]

    monkeypatch.setattr(cpc, "contrast", spy)
    return seen


@pytest.mark.parametrize("source", ["window", "batch"])
@pytest.mark.parametrize("horizons", ["one", "all"])
def test_constant_tokens_give_chance(build: Any, batch: Any, horizons: str, source: str) -> None:
    model = build(horizons=horizons, negatives_from=source, negatives=31)
    model.head.weight.data.zero_()
    assert run(model, batch).value.item() == pytest.approx(math.log(32))
    summed = build(horizons=horizons, negatives_from=source, negatives=31, reduction="sum")
    summed.head.weight.data.zero_()
    count = sum(TOKENS - step for step in model.steps)
    assert run(summed, batch).value.item() == pytest.approx(count * math.log(32))


def test_a_prediction_sees_nothing_after_its_token_and_scores_the_token_ahead(
    build: Any, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, signal, middle = spied(monkeypatch), batch.signal.clone().requires_grad_(), TOKENS // 2
    run(build(horizon=5).eval(), replace(batch, signal=signal))
    assert seen["place"][0, middle] == middle + 5
    (gradient,) = torch.autograd.grad(seen["queries"][:, middle].square().sum(), signal)
    touched = gradient.abs().amax((0, 1)) > 0
    assert touched[STRIDE * middle] and not touched[STRIDE * (middle + 1) :].any()


@pytest.mark.parametrize("source", ["window", "batch"])
def test_another_record_matters_only_where_it_gives_negatives(
    build: Any, batch: Any, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, model = spied(monkeypatch), build(negatives_from=source).eval()
    run(model, batch)
    first = seen["scores"]
    changed = batch.signal.clone()
    changed[2] += 1
    run(model, replace(batch, signal=changed))
    kept = TOKENS - 14  # positions of record 0
    same = torch.equal(first.flatten(0, 1)[:kept], seen["scores"].flatten(0, 1)[:kept])
    assert same == (source == "window")
    assert torch.equal(first.flatten(0, 1)[:kept, 0], seen["scores"].flatten(0, 1)[:kept, 0])


def test_both_sources_score_the_same_true_tokens(build: Any, batch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, positives = spied(monkeypatch), []
    for source in ("window", "batch"):
        run(build(negatives_from=source).eval(), batch)
        positives.append(seen["scores"][..., 0].flatten())
    torch.testing.assert_close(*positives)


def test_every_step_has_its_own_matrix_and_its_own_token() -> None:
    """One-hot tokens and matrices that shift them by the step: the true token always scores highest."""
    count, steps = 12, (1, 2, 3)
    shifts = torch.cat([torch.eye(count).roll(step, 0) for step in steps])
    queries = (torch.eye(count) @ shifts.T).unflatten(-1, (3, -1)).flatten(0, 1)
    seen, place = cpc.positions(count, steps, torch.device("cpu"))
    assert len(seen) == 11 + 10 + 9
    drawn = cpc.others(place[None], count, 50, torch.Generator().manual_seed(0))
    scores = cpc.contrast(queries[seen][None], torch.eye(count)[None], place[None], drawn)
    assert (scores[..., 0] == 1).all() and (scores[..., 1:] == 0).all()


def test_negatives_are_all_other_tokens_alike() -> None:
    place, count, draws = torch.tensor([[0, 3, 9]]), 10, 90_000
    drawn = cpc.others(place, count, draws, torch.Generator().manual_seed(0))
    for row, own in zip(drawn[0], place[0], strict=True):
        often = torch.bincount(row, minlength=count)
        assert often[own] == 0
        rest = often[torch.arange(count) != own].float()
        assert ((rest - draws / 9).square() / (draws / 9)).sum() < 26.1  # chi-square, 8 degrees, p = 0.001


def test_two_tokens_are_enough() -> None:
    drawn = cpc.others(torch.tensor([[0, 1]]), 2, 40, torch.Generator().manual_seed(0))
    assert drawn[0, 0].unique().tolist() == [1] and drawn[0, 1].unique().tolist() == [0]


def test_the_generator_decides_alone(build: Any, batch: Any) -> None:
    model = build().eval()
    assert torch.equal(run(model, batch).value, run(model, batch).value)
    assert not torch.equal(run(model, batch, 1).value, run(model, batch, 2).value)


def test_the_published_start_is_larger_by_the_root_of_the_width(build: Any) -> None:
    torch.testing.assert_close(build(published_start=True).head.weight, build().head.weight * WIDTH**0.5)


def test_cosines_do_not_depend_on_the_length_of_predictions(build: Any, batch: Any) -> None:
    model = build(normalise=True, temperature=0.1).eval()
    before = run(model, batch).value
    model.head.weight.data.mul_(7)
    torch.testing.assert_close(run(model, batch).value, before)


def test_a_window_too_short_is_named(build: Any, batch: Any) -> None:
    model = build(horizon=TOKENS - 1)
    assert torch.isfinite(run(model, batch).value)
    with pytest.raises(ValueError, match="predicts 40 tokens ahead, found windows of 40 tokens"):
        run(build(horizon=TOKENS), batch)


def test_it_learns_a_period(build: Any, make_batch: Callable[..., Any]) -> None:
    """A sine is predictable: the loss goes far below chance."""
    time = torch.arange(SAMPLES) / 23
    phase = torch.rand(8, 12, 1, generator=torch.Generator().manual_seed(0))
    batch = make_batch(signal=torch.sin(2 * math.pi * (time + phase)), beats=(2,))
    model = build(negatives=16, horizon=4).train()
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(60):
        optimiser.zero_grad()
        run(model, batch, step).value.backward()
        optimiser.step()
    assert run(model, batch, 99).value.item() < 0.6 * math.log(17)


def test_wrong_fields_are_refused() -> None:
    with pytest.raises(SpecError, match="horizon"):
        cpc.CPC.parse({"horizon": 0})
