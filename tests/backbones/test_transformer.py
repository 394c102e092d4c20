"""The rotation knows distances only; the depth follows the dial or the field."""

from __future__ import annotations

import pytest
import torch

from ecgscale.backbones.transformer import Transformer
from ecgscale.rotary import RotaryEncoder, even_heads, shape, turn


def test_turned_products_depend_on_the_distance_alone() -> None:
    q, k = torch.randn(2, 1, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    angle = torch.arange(40.0, dtype=torch.float64)[:, None] * 10_000.0 ** -(torch.arange(4) / 4)
    cos, sin = torch.cat([angle, angle], 1).cos(), torch.cat([-angle, angle], 1).sin()
    scores = turn(q, cos, sin) @ turn(k, cos, sin).T
    for distance in (-7, 0, 3):
        along = scores.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along))
    assert (scores[0, :5] - scores[0, 1:6]).abs().min() > 1e-3
    u, v = k[0].chunk(2)
    expected = torch.cat([u * angle[9].cos() - v * angle[9].sin(), v * angle[9].cos() + u * angle[9].sin()])
    torch.testing.assert_close(turn(k, cos, sin)[9], expected)


def test_weights_start_xavier_uniform_and_biases_zero() -> None:
    torch.manual_seed(0)
    encoder = RotaryEncoder(64, 1, 2, 256)
    bounds = {"attention.qkv": 128, "attention.out": 128, "feed_forward.up": 320, "feed_forward.down": 320}
    for name, fans in bounds.items():
        linear = encoder.blocks[0].get_submodule(name)
        torch.testing.assert_close(linear.weight.abs().max().item(), (6 / fans) ** 0.5, rtol=0.01, atol=0)
        assert linear.bias.abs().max() == 0


@pytest.mark.parametrize(("dial", "depth", "blocks"), [(512.0, None, 6), (32.0, None, 2), (32.0, 5, 5), (128.0, 1, 1)])
def test_the_depth_follows_the_dial_unless_it_is_given(dial: float, depth: int | None, blocks: int) -> None:
    with torch.device("meta"):
        encoder = Transformer(dial=dial, depth=depth).module(12, 500).encoder
    assert len(encoder.blocks) == blocks


def test_heads_have_an_even_number_of_features() -> None:
    for width in range(2, 2050, 2):
        assert width % even_heads(width) == 0 and width // even_heads(width) % 2 == 0
    assert even_heads(512) == 8 and even_heads(32) == 1


def test_a_whole_depth_keeps_the_dial_as_width() -> None:
    assert shape(512, 6.0, (12.0, 13.0), (3.0, 47.0)) == (512, 6)
    assert shape(32, 1.0, (12.0, 13.0), (3.0, 47.0)) == (32, 1)
