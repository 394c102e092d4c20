"""The narrow convolution is the convolution, and dropout is dropout."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ecgscale.convolution import TimeConv
from ecgscale.nn import Dropout, keep_mask


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize(
    ("before", "width", "stride", "time"), [(12, 3, 1, 64), (3, 7, 4, 128), (6, 6, 1, 16), (1, 5, 1, 32)]
)
def test_narrow_layers_agree_with_the_library(
    before: int, width: int, stride: int, time: int, channels_last: bool
) -> None:
    torch.manual_seed(0)
    layer = TimeConv(before, width, stride)
    x = torch.randn(3, before, 1, time)
    x = (x.contiguous(memory_format=torch.channels_last) if channels_last else x).requires_grad_()
    assert layer._narrow(x)
    ours, theirs = layer(x), nn.Conv2d.forward(layer, x)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    g = torch.randn_like(theirs)
    for mine, want in zip(*(torch.autograd.grad(y, (x, layer.weight), g) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(mine, want, atol=1e-4, rtol=1e-4)


def test_counting_sees_the_convolution_and_not_the_trick() -> None:
    layer, x = TimeConv(12, 3), torch.randn(2, 12, 1, 64)
    counts = []
    for device in ("cpu", "meta"):
        with FlopCounterMode(display=False) as counter:
            layer.to(device)(x.to(device)).sum().backward()
        counts.append(counter.get_total_flops())
    one_way = 2 * 2 * 64 * 12 * 3 * 17
    assert counts == [2 * one_way] * 2  # no gradient for the input


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5])
def test_masks_keep_their_share_and_the_mean(p: float) -> None:
    torch.manual_seed(1)
    mask = keep_mask(200_000, p)
    dropped = round(256 * p) / 256
    assert abs((mask == 0).float().mean().item() - dropped) < 5 * (dropped * (1 - dropped) / 200_000) ** 0.5
    assert torch.allclose(mask[mask > 0], torch.tensor(1 / (1 - dropped)))


def test_dropout_follows_the_global_seed_and_the_mode() -> None:
    layer, x = Dropout(0.3), torch.ones(4, 5, 1, 6).contiguous(memory_format=torch.channels_last)
    torch.manual_seed(2)
    first, other = layer(x), layer(x)
    torch.manual_seed(2)
    assert torch.equal(layer(x), first) and not torch.equal(first, other)
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(layer.eval()(x), x)
