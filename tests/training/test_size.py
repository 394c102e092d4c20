"""The dial that gives a wanted size, and the sentence when there is none."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import nn

from ecgscale.backbones import BackboneSpec
from ecgscale.spec import part
from ecgscale.training.size import SizeError, count, size, solve


class Steps(BackboneSpec):
    """A backbone whose size jumps: 1000 parameters for each whole turn of the dial."""

    title: ClassVar[str] = "steps"
    dial: float = 1.0

    def module(self, leads: int, samples: int) -> nn.Module:  # type: ignore[override]
        return nn.Linear(1000, max(1, int(self.dial)), bias=False)


def test_count_is_parameters_without_buffers() -> None:
    assert count(nn.BatchNorm1d(7)) == 14


def test_size_does_not_allocate_or_touch_the_random_state() -> None:
    before = torch.random.get_rng_state()
    assert size(part("backbones", {"name": "resnet1d", "dial": 5.4}), 12, 1024) > 2e8
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("start", [0.001, 1.0, 700.0])
def test_the_answer_does_not_need_a_good_start(start: float) -> None:
    spec, achieved = solve(Steps(dial=start), 7000, 12, 1000)
    assert achieved == 7000 and 7 <= spec.dial < 8


def test_an_unreachable_size_names_the_nearest() -> None:
    with pytest.raises(SizeError, match=r"1,300 parameters within 10 %: the nearest is 1,000 at dial"):
        solve(Steps(), 1300, 12, 1000)


def test_the_rest_of_the_spec_is_kept() -> None:
    spec, _ = solve(part("backbones", {"name": "resnet1d", "dropout": 0.4}), 50e3, 12, 1000)
    assert spec.dropout == 0.4
