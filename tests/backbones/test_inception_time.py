"""The receptive field, the widths of the branches, and tokens of several samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from ecgscale.backbones.inception_time import InceptionTime
from ecgscale.training.size import count


def test_a_token_sees_229_samples(make_batch: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    model = InceptionTime(dial=8.0).build(12, 600).eval()
    batch = make_batch(records=8, samples=600)
    signal = batch.signal.clone().requires_grad_()
    model.tokens(replace(batch, signal=signal)).values[:, 300].square().sum().backward()
    seen = signal.grad.abs().amax((0, 1)).nonzero().flatten()
    assert (seen[0].item(), seen[-1].item()) == (300 - 114, 300 + 114)


def test_the_published_size_follows_from_its_layers() -> None:
    with torch.device("meta"):
        model = InceptionTime(dial=32.0).module(12, 1000)
    width, branch = 128, 32
    first = 12 * branch + 67 * branch**2 + 12 * branch
    later = 2 * width * branch + 67 * branch**2
    skips = 12 * width + width**2 + 2 * 2 * width
    assert count(model) == first + 5 * later + 6 * 2 * width + skips


WIDTHS = {6.0: [6, 6, 6], 6.5: [6, 6, 7], 6.75: [6, 7, 7], 65.0: [64, 64, 64], 68.0: [64, 64, 72], 72.0: [72, 72, 72]}


@pytest.mark.parametrize("dial", WIDTHS)
def test_short_kernels_widen_first(dial: float) -> None:
    with torch.device("meta"):
        model = InceptionTime(dial=dial).module(12, 1000)
    assert [conv.out_channels for conv in model.inceptions[0].convs] == WIDTHS[dial]


def test_a_token_of_several_samples_is_their_mean(make_batch: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    fine = InceptionTime(dial=4.0).build(12, 250).eval()
    coarse = InceptionTime(dial=4.0, stride=4).build(12, 250).eval()
    coarse.load_state_dict(fine.state_dict())
    batch = make_batch(records=2, samples=250)
    each, tokens = fine.tokens(batch).values, coarse.tokens(batch).values
    assert tokens.shape[1] == coarse.valid(batch).shape[1] == 63
    torch.testing.assert_close(tokens[:, 5], each[:, 20:24].mean(1))
    torch.testing.assert_close(tokens[:, 62], each[:, 248:250].mean(1))


def test_hidden_tokens_are_refused(make_batch: Callable[..., Any]) -> None:
    model = InceptionTime(dial=4.0).build(12, 250)
    batch = make_batch(records=1, samples=250)
    with pytest.raises(ValueError, match="cannot hide tokens"):
        model.tokens(batch, model.valid(batch))
