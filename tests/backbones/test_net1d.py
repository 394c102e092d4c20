"""Blocked convolutions are the library's, counted as such; the causal gate is a running mean; stages grow in order."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from ecgscale.backbones.net1d import BlockedConv, Stages, _Gate, shape


@pytest.mark.parametrize("tokens", [1, 16, 50, 64])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("before", "width", "groups"), [(6, 6, 3), (8, 4, 1), (40, 32, 1)])
def test_blocks_give_the_librarys_convolution(before: int, width: int, groups: int, causal: bool, tokens: int) -> None:
    torch.manual_seed(0)
    conv = BlockedConv(before, width, groups, causal).double()
    x = torch.randn(2, before, tokens, dtype=torch.float64, requires_grad=True)
    sides = (15, 0) if causal else (7, 8)
    expected = F.conv1d(F.pad(x, sides), conv.weight, conv.bias, groups=groups)
    weights = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * weights).sum(), (x, conv.weight, conv.bias))
    for counted in (False, True):
        for leaf in (x, conv.weight, conv.bias):
            leaf.grad = None
        with FlopCounterMode(display=False) if counted else nullcontext() as counter:
            y = conv(x)
            (y * weights).sum().backward()
        torch.testing.assert_close(y, expected)
        for leaf, gradient in zip((x, conv.weight, conv.bias), wanted, strict=True):
            torch.testing.assert_close(leaf.grad, gradient)
        if counter:
            assert counter.get_total_flops() == 3 * 2 * len(x) * tokens * 16 * (before // groups) * width


def test_the_causal_gate_reads_what_the_plain_one_reads_of_the_window_so_far() -> None:
    torch.manual_seed(0)
    plain, causal = _Gate(8, False), _Gate(8, True)
    causal.load_state_dict(plain.state_dict())
    x = torch.randn(2, 8, 20)
    gated = causal(x)
    for end in (1, 7, 20):
        torch.testing.assert_close(gated[..., end - 1], plain(x[..., :end])[..., -1])


def test_the_blocks_of_the_last_width_add_up_to_the_output() -> None:
    torch.manual_seed(0)
    stages = Stages(8, [8, 8], [2, 1], 2)
    x = torch.randn(2, 30, 8)
    tokens, layers = stages(x)
    start = F.silu(stages.first(x.transpose(1, 2))).transpose(1, 2)
    assert len(layers) == 3
    torch.testing.assert_close(start + sum(layers), tokens)
    assert len(Stages(8, [4, 8], [2, 1], 2)(x)[1]) == 1


def test_stages_only_widen_and_groups_divide_them() -> None:
    for dial in torch.logspace(-2, 0.7, 60).tolist():
        widths, blocks, group = shape(dial)
        assert widths == sorted(widths) and min(blocks) >= 1
        assert all(width % group == 0 for width in widths) and 2 <= group <= 16
