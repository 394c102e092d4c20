"""Training compute, measured: one step of the very objective, counted operation by operation.

Source: torch.utils.flop_counter (a multiply-add is 2 FLOP). Operations without a formula (element-wise, softmax,
normalisation) count as zero there and here; matrix products, convolutions and attention, forward and backward, are what
remains. Two kinds of operation that torch counts as zero are counted here: Fourier transforms, 5 n log2 n FLOP for a
complex transform of length n and half of it for a real one (Frigo & Johnson, fftw.org/speed), and the fused attention
of CPUs, as torch counts that of GPUs.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from ecgscale.batch import Batch
from ecgscale.objectives import Objective


def _fourier(real: bool) -> Callable[..., int]:
    """Return a formula for transforms over any number of axes; a real one is counted at its real side's length."""

    def count(x: tuple[int, ...], dims: list[int], *_: Any, out_shape: tuple[int, ...], **__: Any) -> int:
        shape = [max(a, b) for a, b in zip(x, out_shape, strict=True)]
        length = math.prod(shape[d] for d in dims)
        rows = math.prod(shape) // max(length, 1)
        return round((2.5 if real else 5.0) * rows * length * math.log2(max(length, 2)))

    return count


def _attention(query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...], *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(
    gradient: tuple[int, ...], query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...], *_: Any, **__: Any
) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))


_OURS: dict[Any, Callable[..., int]] = {
    torch.ops.aten._fft_r2c: _fourier(real=True),
    torch.ops.aten._fft_c2r: _fourier(real=True),
    torch.ops.aten._fft_c2c: _fourier(real=False),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
REVISION = 1  # of the formulas below and of torch's own
FORMULAS = frozenset([*flop_registry, *_OURS])  # of the operations that are counted


def per_record(objective: Objective, batches: list[Batch]) -> float:
    """Return the FLOP of forward and backward per record, averaged over `batches`.

    Sequences of beats are as long as a batch's longest, hence the mean over several batches. The objective is
    not changed.
    """
    counted = (
        copy.deepcopy(objective).cpu().train()
    )  # one place to count, so that C is the same wherever the run is computed
    total = 0
    for batch in batches:
        with FlopCounterMode(display=False, custom_mapping=_OURS) as counter:
            counted(batch.to("cpu"), torch.Generator().manual_seed(0)).value.backward()
        total += counter.get_total_flops()
    return total / sum(len(batch) for batch in batches)
