"""jepa: blocks, teacher, and that hidden samples stay hidden."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ecgscale.backbones import Backbone
from ecgscale.backbones._stem import StemBackbone
from ecgscale.backbones.beat_transformer import BeatTransformer
from ecgscale.objectives import jepa
from ecgscale.spec import SpecError

SAMPLES = 200


class Both(StemBackbone):
    """A stem and a convolution that looks both ways."""

    def __init__(self) -> None:
        super().__init__(12, 8, 2)
        self.layer = nn.Conv1d(8, 8, 9, padding="same")
        self.twin = Both

    def context(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self.layer(x.transpose(1, 2)).transpose(1, 2), ()


BACKBONES: dict[str, Callable[[], Backbone]] = {
    "stem": Both,
    "beats": partial(BeatTransformer(dial=16.0, dropout=0.0).build, 12, SAMPLES),
}


@pytest.fixture(params=BACKBONES)
def build(request: pytest.FixtureRequest) -> Callable[..., Any]:
    def made(**fields: Any) -> Any:
        torch.manual_seed(0)
        return jepa.JEPA(**fields).build(BACKBONES[request.param]())

    return made


@pytest.fixture
def batch(make_batch: Callable[..., Any]) -> Any:
    return make_batch(records=4, samples=SAMPLES, beats=(4, 7, 6))


def run(model: Any, batch: Any, seed: int = 1) -> Any:
    return model(batch, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("predictor", ["attention", "s4"])
def test_the_loss_does_not_touch_samples_outside_the_context(build: Any, batch: Any, predictor: str) -> None:
    model, signal = build(predictor=predictor).eval(), torch.randn_like(batch.signal).requires_grad_()
    shown = replace(batch, signal=signal)
    (gradient,) = torch.autograd.grad(run(model, shown).value, signal)
    valid = model.backbone.valid(batch)
    context = jepa.draw(valid, model.spec, torch.Generator().manual_seed(1)).context
    touched = model.backbone.patches(replace(batch, signal=gradient)).abs().amax(-1)
    assert touched[valid & ~context].max() == 0
    assert (touched[context] > 0).all()


def test_another_record_changes_nothing(build: Any, batch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    loss = jepa.loss
    monkeypatch.setattr(jepa, "loss", lambda p, t, *rest: seen.append(torch.cat([p, t], -1)) or loss(p, t, *rest))
    model, changed = build().eval(), batch.signal.clone()
    changed[3] += 1
    run(model, batch), run(model, replace(batch, signal=changed))
    torch.testing.assert_close(seen[0][:3], seen[1][:3], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(seen[0][3], seen[1][3])


@pytest.mark.parametrize("kind", ["ema", "frozen_random"])
def test_the_teacher_follows_or_stays(build: Any, batch: Any, kind: str) -> None:
    model = build(teacher=kind, momentum=0.9, momentum_final=0.5, ramp=1).train()
    start = copy.deepcopy(model.teacher.state_dict())
    same = all(torch.equal(a, b) for a, b in zip(model.backbone.parameters(), _weights(model), strict=True))
    assert same == (kind == "ema")
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    run(model, batch).value.backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    optimiser.step()
    if kind == "ema":
        assert all(torch.equal(model.teacher.state_dict()[k], v) for k, v in start.items())
        assert model.health()["teacher_distance"] > 0
    before = [p.clone() for p in _weights(model)]
    model.after_step()
    for old, new, student in zip(before, _weights(model), model.backbone.parameters(), strict=True):
        torch.testing.assert_close(new, old if kind == "frozen_random" else 0.9 * old + 0.1 * student)
    assert model.teacher.momentum == 0.5
    moved = any(not torch.equal(a, b) for a, b in zip(before, _weights(model), strict=True))
    assert moved == (kind == "ema")


def _weights(model: Any) -> list[Tensor]:
    return list(model.teacher.backbone.parameters())


def test_the_generator_decides_alone(build: Any, batch: Any) -> None:
    model = build().eval()
    assert torch.equal(run(model, batch).value, run(model, batch).value)
    assert not torch.equal(run(model, batch, 1).value, run(model, batch, 2).value)


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_blocks_lie_among_valid_tokens_and_leave_the_context_alone(seed: int, published: bool) -> None:
    g = torch.Generator().manual_seed(seed)
    valid = torch.rand(16, 300, generator=g) < torch.linspace(0, 1, 16)[:, None]
    spec = jepa.JEPA(published_blocks=published)
    drawn = jepa.draw(valid, spec, g)
    total = valid.sum(1)
    assert not (drawn.targets & ~valid[:, None]).any() and not (drawn.context & ~valid).any()
    length = drawn.targets.sum(-1)
    assert (length == length[:, :1]).all()
    if published:
        assert torch.equal(length[:, 0], total.clamp(max=64))
        assert torch.equal(drawn.context.sum(1) >= 64, total >= 64)
        return
    assert (length[:, 0] >= (0.15 * total).floor()).all() and (length[:, 0] <= (0.2 * total).floor().clamp(min=1)).all()
    assert not (drawn.context & drawn.targets.any(1)).any()
    assert (drawn.context.sum(1) >= (total * 0.2).floor().clamp(max=10)).all()
    for row in range(1, 16):  # one run of valid tokens
        where = drawn.targets[row, 0, valid[row]].nonzero()[:, 0]
        assert len(where) == 0 or where[-1] - where[0] == len(where) - 1


def test_blocks_reach_both_ends() -> None:
    drawn = jepa.draw(torch.ones(4000, 20, dtype=torch.bool), jepa.JEPA(), torch.Generator().manual_seed(0))
    assert drawn.targets[..., 0].any() and drawn.targets[..., -1].any()
    first = drawn.targets.float().argmax(-1).flatten()
    often = torch.bincount(first)
    assert often.max() < 1.15 * often.min()


def test_little_context_becomes_all_that_is_no_target() -> None:
    valid = torch.ones(1, 20, dtype=torch.bool)
    start, length = torch.tensor([[0, 4, 8, 12, 0]]), torch.tensor([[4, 4, 4, 4, 17]])
    assert jepa.arrange(valid, start, length, 1).context.nonzero()[:, 1].tolist() == [16]
    assert jepa.arrange(valid, start, length, 2).context.nonzero()[:, 1].tolist() == [16, 17, 18, 19]


def test_a_perfect_prediction_costs_nothing_and_others_by_the_formula() -> None:
    target, blocks = torch.randn(2, 6, 3), torch.zeros(2, 2, 6, dtype=torch.bool)
    blocks[0, 0, :3] = blocks[0, 1, 2:4] = True
    assert jepa.loss(target, target, blocks, once=False) == 0
    off = target.clone()
    off[0, 2] += 3.0  # in both blocks: 3 - 0.5
    off[0, 0] += 0.5  # 0.5 * 0.25
    off[1] += 100.0  # in no block
    assert jepa.loss(off, target, blocks, once=False).item() == pytest.approx((2 * 2.5 + 0.125) / 5, rel=1e-5)
    assert jepa.loss(off, target, blocks, once=True).item() == pytest.approx((2.5 + 0.125) / 4, rel=1e-5)
    assert jepa.loss(off, target, torch.zeros_like(blocks), once=False) == 0


def test_a_constant_teacher_has_no_spread() -> None:
    valid = torch.tensor([[True, True, False]])
    assert jepa.spread(torch.tensor([[[1.0, 2.0], [1.0, 2.0], [9.0, 9.0]]]), valid) == 0
    assert jepa.spread(torch.tensor([[[1.0, 2.0], [3.0, 2.0], [9.0, 9.0]]]), valid) == 0.5


def test_the_predictor_does_not_see_padding_but_sees_both_ways() -> None:
    torch.manual_seed(0)
    predictor = jepa.Predictor(6, 8, 2).eval()
    tokens = torch.randn(2, 5, 6, requires_grad=True)
    padded = torch.cat([tokens, 9 * torch.ones(2, 3, 6)], 1)
    valid = torch.arange(8).expand(2, -1) < 5
    alone = predictor(tokens, valid[:, :5])
    torch.testing.assert_close(predictor(padded, valid)[:, :5], alone)
    (gradient,) = torch.autograd.grad(alone[0, 2].sum(), tokens)
    assert (gradient[0].abs().amax(-1) > 0).all() and gradient[1].abs().max() == 0


def test_the_released_predictor_is_a_bidirectional_s4_layer_and_a_linear_one() -> None:
    torch.manual_seed(0)
    predictor = jepa.JEPA(predictor="s4").build(Both()).eval().predictor
    tokens = torch.randn(2, 9, 8, requires_grad=True)
    out = predictor(tokens, torch.ones(2, 9, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(out[0, 4].sum(), tokens)
    assert out.shape == tokens.shape and (gradient[0].abs().amax(-1) > 0).all() and gradient[1].abs().max() == 0
    assert predictor.before.layer.space.C.shape == (2, 8, 32, 2)


@pytest.mark.parametrize("width", [7, 8])
def test_places_differ(width: int) -> None:
    table = jepa.sinusoids(300, width, torch.device("cpu"))
    assert table.shape == (300, width)
    assert (torch.cdist(table, table) + torch.eye(300)).min() > 1e-3


@pytest.mark.parametrize("scale", [[0.2, 0.1], [0.0, 0.1], [0.5, 1.1]])
def test_scales_are_shares(scale: list[float]) -> None:
    with pytest.raises(SpecError, match="target_scale"):
        jepa.JEPA.parse({"target_scale": scale})
    assert jepa.JEPA.parse({"target_scale": [0.1, 0.1]}).target_scale == (0.1, 0.1)
