"""Operations are counted as by hand: a multiply-add is 2 FLOP, the backward pass as much again for every operand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgscale.batch import Batch
from ecgscale.objectives import Loss, Objective
from ecgscale.training import flops
from ecgscale.training.peak import peak_flops

LEADS, SAMPLES = 12, 96


class Counted(Objective):
    """One operation on the signal [batch, lead, time], with one parameter that needs a gradient."""

    def __init__(self, operation: Callable[[Tensor, nn.Parameter], Tensor], *shape: int) -> None:
        super().__init__()
        self.weight, self.operation = nn.Parameter(torch.randn(shape)), operation

    def forward(self, batch: Batch, generator: torch.Generator) -> Loss:
        return Loss(self.operation(batch.signal, self.weight).sum())


def _attend(signal: Tensor, weight: Tensor) -> Tensor:
    heads = (signal * weight).unflatten(2, (4, 24)).permute(0, 2, 1, 3)  # 4 heads, 12 tokens, width 24
    return F.scaled_dot_product_attention(heads, heads, heads)


ATTENTION = 4 * 12 * 12 * 24  # heads × queries × keys × width: multiply-adds of one product
FOURIER = 2.5 * LEADS * SAMPLES * math.log2(SAMPLES)  # of a real transform of every lead


@pytest.mark.parametrize(
    ("objective", "by_hand"),
    [
        # forward, and the gradient of the weight: the signal needs none
        pytest.param(Counted(lambda x, w: x @ w, SAMPLES, 7), 2 * (2 * LEADS * SAMPLES * 7), id="linear"),
        pytest.param(
            Counted(lambda x, w: F.conv1d(x, w, stride=2, padding=2), 8, LEADS, 5),
            2 * (2 * 8 * (SAMPLES // 2) * LEADS * 5),
            id="convolution",
        ),
        # two products forward; backward the scores anew and four products
        pytest.param(Counted(_attend, SAMPLES), 2 * 2 * ATTENTION + 5 * 2 * ATTENTION, id="attention"),
        # there and back, each way real; of the gradients torch computes one as a complex transform, twice the work
        pytest.param(
            Counted(lambda x, w: torch.fft.irfft(torch.fft.rfft(x * w), n=SAMPLES), SAMPLES), 5 * FOURIER, id="fourier"
        ),
    ],
)
def test_flop_per_record_are_those_counted_by_hand(
    objective: Counted, by_hand: float, make_batch: Callable[..., Any]
) -> None:
    batch = make_batch(records=6, samples=SAMPLES, beats=(1,))
    before = objective.weight.detach().clone()
    assert flops.per_record(objective, [batch, batch]) == pytest.approx(by_hand, rel=1e-5)
    assert torch.equal(objective.weight, before)
    assert objective.weight.grad is None


def test_the_peak_is_measured_once_and_no_product_is_faster() -> None:
    peak = peak_flops("cpu")
    assert peak == peak_flops("cpu")
    assert 1e8 < peak < 1e14
