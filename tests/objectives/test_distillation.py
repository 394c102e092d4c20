"""What data2vec, DinoSR and HuBERT++ have in common: a teacher that moves, hidden samples, state that resumes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ecgscale.objectives import Objective
from ecgscale.objectives._distillation import instance_norm, perplexity
from ecgscale.spec import part

NAMES = ["data2vec", "dinosr", "hubert"]
RELEASED = {
    "data2vec": {"published_mask": True, "normalise": "layer", "head": "s4"},
    "dinosr": {"head": "s4", "normalise": "token", "learn_from": "all", "empty": "decay", "published_single": True},
    "hubert": {"published_mask": True},
}


def model(name: str, backbone: str = "transformer", **fields: Any) -> Any:
    torch.manual_seed(0)
    small = part("backbones", {"name": backbone, "dial": 16.0, "dropout": 0.1}).build(12, 256)
    return part("objectives", {"name": name, **fields}).build(small).train()


def step(objective: Objective, optimiser: Any, batch: Any, seed: int) -> float:
    torch.manual_seed(seed)
    optimiser.zero_grad()
    value = objective(batch, torch.Generator().manual_seed(seed)).value
    value.backward()
    optimiser.step()
    objective.after_step()
    return value.item()


def adam(objective: Objective) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=1e-2)


@pytest.fixture(scope="module")
def batch(make_batch: Callable[..., Any]) -> Any:
    return make_batch(records=4, samples=256, beats=(2, 3))


@pytest.mark.parametrize("kind", ["ema", "frozen_random"])
@pytest.mark.parametrize("name", NAMES)
def test_the_teacher_moves_after_the_step_and_only_if_it_is_one(name: str, kind: str, batch: Any) -> None:
    objective = model(name, teacher=kind, momentum=0.9)
    assert (objective.health()["teacher_distance"] == 0) == (kind == "ema")
    before = copy.deepcopy(dict(objective.teacher.named_parameters()))
    optimiser = adam(objective)
    objective(batch, torch.Generator().manual_seed(0)).value.backward()
    optimiser.step()
    held = all(torch.equal(value, before[key]) for key, value in objective.teacher.named_parameters())
    objective.after_step()
    moved = not all(torch.equal(value, before[key]) for key, value in objective.teacher.named_parameters())
    assert held and moved == (kind == "ema")
    assert objective.health()["teacher_distance"] > 0
    assert objective.teacher.updates.count == 1
    assert all(p.grad is None for p in objective.teacher.parameters())


@pytest.mark.parametrize("fields", [{}, RELEASED, {"teacher": "frozen_random"}], ids=["default", "released", "frozen"])
@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_goes_on_bit_for_bit(name: str, fields: dict[str, Any], batch: Any) -> None:
    fields = fields.get(name, fields)
    whole = model(name, **fields)
    optimiser = adam(whole)
    for seed in range(3):
        step(whole, optimiser, batch, seed)
    state = copy.deepcopy((whole.state_dict(), optimiser.state_dict()))
    later = [step(whole, optimiser, batch, seed) for seed in range(3, 7)]
    torch.manual_seed(1)
    resumed = model(name, **fields)
    optimiser = adam(resumed)
    resumed.load_state_dict(state[0]), optimiser.load_state_dict(state[1])
    assert [step(resumed, optimiser, batch, seed) for seed in range(3, 7)] == later
    assert all(torch.equal(value, whole.state_dict()[key]) for key, value in resumed.state_dict().items())


@pytest.mark.parametrize("head", ["linear", "mlp", "s4"])
@pytest.mark.parametrize("name", NAMES)
def test_the_student_never_sees_hidden_samples(name: str, head: str, make_batch: Callable[..., Any]) -> None:
    objective, seen = model(name, head=head).eval(), {}
    tokens = objective.backbone.tokens

    def spy(batch: Any, masked: Any = None, layers: bool = False) -> Any:
        seen["masked"] = masked
        return tokens(batch, masked, layers)

    objective.backbone.tokens = spy
    batch = make_batch(records=4, samples=256)
    batch.signal.requires_grad_()
    loss = objective(batch, torch.Generator().manual_seed(0))
    loss.value.backward()
    hidden = seen["masked"].repeat_interleave(2, 1)[:, None].expand(-1, 12, -1)
    assert 0.2 < hidden.float().mean() < 0.8
    assert loss.parts["masked"] == seen["masked"].float().mean()
    assert batch.signal.grad[hidden].abs().max() == 0
    assert (batch.signal.grad[~hidden].abs() > 0).float().mean() > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_records_without_valid_tokens_are_finite(name: str, make_batch: Callable[..., Any]) -> None:
    objective = model(name, "beat_transformer")
    optimiser = adam(objective)
    for beats in ((0,), (0, 3), (3,), (0,)):
        value = step(objective, optimiser, make_batch(records=4, samples=256, beats=beats), 0)
        assert torch.isfinite(torch.tensor(value))
        if beats == (0,):
            assert value == 0
    assert all(torch.isfinite(value).all() for value in objective.state_dict().values())


@pytest.mark.parametrize("name", NAMES)
def test_the_validation_weight_counts_valid_tokens(name: str, make_batch: Callable[..., Any]) -> None:
    objective = model(name, "beat_transformer")
    for beats in ((2, 2, 3), (2, 5, 0)):
        assert objective.loss_weight(make_batch(records=3, samples=256, beats=beats)) == 12 * 7


def test_the_released_head_is_a_bidirectional_s4_layer_and_a_linear_one() -> None:
    objective = model("data2vec", head="s4")
    width = objective.backbone.token_width
    layer = 2 * width * 64 + width + 2 * width * (width + 1)  # C both ways, D, the linear map before the GLU
    count = sum(p.numel() for part in (objective.before, objective.head) for p in part.parameters())
    assert count == layer + 2 * width + width * (width + 1)


def test_too_many_layers_are_refused_in_one_sentence(batch: Any) -> None:
    for name in ("data2vec", "dinosr"):
        with pytest.raises(ValueError, match=r"^objective\.layers = 9, but this backbone has 2 blocks: ask for"):
            model(name, layers=9)(batch, torch.Generator())


def test_instance_norm_is_over_valid_tokens_only() -> None:
    x, valid = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0)), torch.ones(2, 7, dtype=torch.bool)
    valid[0, 4:], valid[1] = False, False
    normed = instance_norm(x, valid)
    expected = torch.nn.functional.instance_norm(x[:1, :4].transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(normed[:1, :4], expected)
    assert normed[~valid].abs().max() == 0


def test_perplexity_is_the_effective_number_of_codes() -> None:
    torch.testing.assert_close(perplexity(torch.tensor([[3.0, 3, 3, 0], [5.0, 0, 0, 0]])), torch.tensor(2.0))
    assert torch.isfinite(perplexity(torch.zeros(1, 4)))
