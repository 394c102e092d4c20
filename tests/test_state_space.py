"""State spaces: every way to compute them gives the same numbers, and a forward pass leaves no trace."""

from __future__ import annotations

import copy
import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ecgscale import state_space
from ecgscale.backbones.s4 import S4
from ecgscale.objectives._teacher import Teacher
from ecgscale.s4_layers import S4Block
from ecgscale.state_blocks import blocks_of
from ecgscale.state_space import StateSpace, hippo_legs

FORMS = [(form, causal) for form in ("dplr", "diagonal") for causal in (True, False)]


@pytest.fixture(params=FORMS, ids=lambda p: f"{p[0]}-{'causal' if p[1] else 'both'}")
def form(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"kernel": request.param[0], "causal": request.param[1]}


def pair(form: dict[str, Any], state: int = 8, width: int = 6) -> tuple[StateSpace, StateSpace]:
    """The same state space twice: only C and D trained, and all."""
    torch.manual_seed(0)
    fixed, free = (StateSpace(width, state, trained=trained, **form) for trained in ("CD", "all"))
    free.load_state_dict(fixed.state_dict())
    return fixed, free


def by_hand(space: StateSpace, u: Tensor) -> Tensor:
    """The sum over all earlier and later samples, in float64."""
    k, u = copy.deepcopy(space).double().kernel(u.shape[1]), u.double()
    y = space.D.double() * u
    for s in range(u.shape[1]):
        y[:, s:] = y[:, s:] + u[:, s : s + 1] * k[:, 0, : u.shape[1] - s].T
        if k.shape[1] == 2 and s:
            y[:, :s] = y[:, :s] + u[:, s : s + 1] * k[:, 1, :s].flip(-1).T
    return y


def fourier(space: StateSpace, u: Tensor) -> Tensor:
    return state_space._Convolve.apply(u, space.kernel(u.shape[1]), space.D)


def test_hippo_legs_is_similar_to_its_matrix() -> None:
    n = np.arange(8)
    root = np.sqrt(2 * n + 1.0)
    matrix = -np.tril(np.outer(root, root), -1) - np.diag(n + 1.0)
    w, p, b = hippo_legs(8)
    w, p, b = (np.concatenate([half, half.conj()]) for half in (w, p, b))
    ours = np.diag(w) - np.outer(p, p.conj())
    for power in range(4):  # B* A^m B does not depend on the basis
        expected = root @ np.linalg.matrix_power(matrix, power) @ root
        assert b.conj() @ np.linalg.matrix_power(ours, power) @ b == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("time", [1, 7, 24, 61, 300, 301, 1200])
def test_blocks_and_fourier_transforms_are_the_sum(form: dict[str, Any], time: int) -> None:
    for space in pair(form):
        u = torch.randn(3, time, 6)
        expected = by_hand(space, u).float()
        torch.testing.assert_close(space(u), expected, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(fourier(space, u), expected, atol=2e-5, rtol=1e-4)


def test_all_ways_have_the_same_gradients(form: dict[str, Any]) -> None:
    found = []
    for space in pair(form):
        for way in (space, lambda u, space=space: fourier(space, u)):
            torch.manual_seed(1)
            u = torch.randn(2, 130, 6).requires_grad_()
            loss = (way(u) * torch.randn(2, 130, 6)).sum()
            found.append(torch.autograd.grad(loss, [u, space.C, space.D]))
    for other in found[1:]:
        for mine, first in zip(other, found[0], strict=True):
            torch.testing.assert_close(mine, first, atol=2e-4, rtol=1e-3)


def test_fourier_gradients_are_right(form: dict[str, Any]) -> None:
    space = pair(form, width=2)[0].double()
    u = torch.randn(2, 9, 2, dtype=torch.float64, requires_grad=True)
    k = space.kernel(9).detach().requires_grad_()
    assert torch.autograd.gradcheck(state_space._Convolve.apply, (u, k, space.D))


def test_everything_is_trained_where_all_is(form: dict[str, Any]) -> None:
    fixed, free = pair(form)
    free(torch.randn(2, 100, 6)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in free.parameters())
    assert {name for name, _ in fixed.named_parameters()} == {"C", "D"}
    assert fixed.state_dict().keys() == free.state_dict().keys()


def test_a_causal_one_sees_no_later_sample() -> None:
    space, _ = pair({"causal": True})
    for way in (space, lambda u: fourier(space, u)):
        u = torch.randn(1, 100, 6).requires_grad_()
        (gradient,) = torch.autograd.grad(way(u)[:, 40].sum(), u)
        reach = gradient.abs().amax((0, 2))
        assert reach[41:].max() <= 1e-6 * reach.max() and (reach[:41] > 0).all()


def test_one_set_of_parameters_serves_every_length(form: dict[str, Any]) -> None:
    for space in pair(form):
        before = copy.deepcopy(space.state_dict())
        long, short = space.kernel(700), space.kernel(200)
        torch.testing.assert_close(long[..., :200], short, atol=1e-6, rtol=1e-5)
        u = torch.randn(2, 700, 6)
        if len(space.C) == 1:
            torch.testing.assert_close(space(u)[:, :200], space(u[:, :200]), atol=1e-5, rtol=1e-4)
        assert space.state_dict().keys() == before.keys()
        assert all(torch.equal(value, before[name]) for name, value in space.state_dict().items())


def test_what_is_kept_is_never_stale(form: dict[str, Any]) -> None:
    space, _ = pair(form)
    torch.manual_seed(5)
    other = StateSpace(6, 8, **form)
    u = torch.randn(2, 50, 6)
    space(u), other(u)
    twin = copy.deepcopy(space)
    assert twin._made.made == {} and torch.equal(twin(u), space(u))
    space.load_state_dict(other.state_dict())
    assert torch.equal(space(u), other(u)) and not torch.equal(space(u), twin(u))
    with torch.no_grad():
        twin.log_dt += 1
    again = StateSpace(6, 8, **form)
    again.load_state_dict(twin.state_dict())
    assert torch.equal(twin(u), again(u))
    assert torch.equal(twin.double()(u), again.double()(u)) and twin(u).dtype == torch.float64


@pytest.mark.parametrize(("time", "state"), [(1, 8), (2, 8), (37, 8), (300, 8), (130, 64)])
def test_baby_and_giant_steps_are_the_powers(form: dict[str, Any], time: int, state: int) -> None:
    space = pair(form, state, width=3)[1].double()
    step, start = space.discrete()
    powers, found = [start], space.kernel(time)
    for _ in range(time - 1):
        powers.append((step @ powers[-1][:, :, None]).squeeze(-1))
    expected = space._readout() @ torch.stack(powers, -1)
    torch.testing.assert_close(found, expected, atol=1e-11, rtol=1e-9)
    weights, trained = torch.randn_like(found), [p for name, p in space.named_parameters() if name != "D"]
    slow, fast = (torch.autograd.grad((k * weights).sum(), trained) for k in (expected, found))
    for mine, theirs in zip(fast, slow, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-10 * float(theirs.abs().max()), rtol=1e-7)
    torch.testing.assert_close(space.float().kernel(time), expected.float(), atol=2e-5, rtol=1e-4)


def test_a_teacher_follows_no_constants() -> None:
    student = S4(dial=6).build(3, 100)
    teacher = Teacher(student, "ema", 0.5)
    fixed = {name: buffer._version for name, buffer in teacher.backbone.named_buffers() if ".space." in name}
    with torch.no_grad():
        for value in student.parameters():
            value += 1
    teacher.follow(student)
    now, other = dict(teacher.backbone.named_buffers()), dict(student.named_buffers())
    assert len(fixed) == 4 * 5 and all(now[name]._version == version for name, version in fixed.items())
    assert all(torch.equal(now[name], other[name]) for name in fixed)
    for mine, theirs in zip(teacher.backbone.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs - 0.5)


def test_writing_the_same_values_keeps_what_is_kept() -> None:
    space, _ = pair({})
    u = torch.randn(2, 50, 6)
    space(u)
    kept = dict(space._made.made)
    with torch.no_grad():
        for buffer in space.buffers():
            buffer.lerp_(buffer.clone(), 0.004)
    space(u)
    assert all(a is b for key in kept for a, b in zip(kept[key], space._made.made[key], strict=True))


def test_inference_leaves_nothing_that_training_cannot_use() -> None:
    space, _ = pair({})
    u = torch.randn(2, 50, 6)
    with torch.inference_mode():
        space(u)
    space(u).sum().backward()


def test_a_saved_module_carries_no_basis() -> None:
    space, _ = pair({})
    u = torch.randn(2, 50, 6)
    expected = space(u)
    file = io.BytesIO()
    torch.save(space, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    assert again._made.made == {} and torch.equal(again(u), expected)


@pytest.mark.parametrize("state", [8, 64])  # in blocks, by Fourier transforms
def test_mixed_precision_computes_kernels_in_float32(form: dict[str, Any], state: int) -> None:
    u = torch.randn(2, 120, 6)
    for space in pair(form, state):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(space(u), space(u.float()))
            rough = space(u.bfloat16())
        assert rough.dtype == torch.float32
        torch.testing.assert_close(rough, space(u), atol=0.1, rtol=0.1)


def test_dropped_channels_are_the_same_at_every_time() -> None:
    torch.manual_seed(0)
    block = S4Block(StateSpace(16), 0.5)
    block.norm = torch.nn.Identity()
    u = torch.randn(4, 60, 16)
    y, added = block.train()(u)
    gone = (y - u) == 0
    assert torch.equal(gone.any(1), gone.all(1)) and 0.2 < gone.float().mean() < 0.8
    assert (added != 0).any(1).all()


def test_blocks_cover_the_time() -> None:
    assert blocks_of(1) == (1, (1,)) and blocks_of(10) == (10, (1,))
    for time in range(1, 3000, 7):
        block, groups = blocks_of(time)
        assert time <= block * math.prod(groups) <= 1.2 * time and block <= 64 and max(groups) <= 8
