"""How large a model is, and which dial makes it as large as wanted."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ecgscale.backbones import BackboneSpec
from ecgscale.spec import Explained

S = TypeVar("S", bound=BackboneSpec)

TOLERANCE = 0.1  # of the target N
CLOSE = 0.002  # of the target N: near enough to stop
NARROW = 1.005  # ratio of two dials between which widths, being whole numbers, seldom change
STEPS = 40  # of narrowing the dial's bracket


class SizeError(Explained, ValueError):
    """No dial brings a backbone near the wanted size; the message names the nearest size that exists."""


def count(module: nn.Module) -> int:
    """Return the number of parameters of a module; buffers are none."""
    return sum(p.numel() for p in module.parameters())


RANDOM = frozenset(
    {
        Tensor.normal_,
        Tensor.uniform_,
        nn.init.normal_,
        nn.init.uniform_,
        nn.init.kaiming_normal_,
        nn.init.kaiming_uniform_,
    }
)


class _NoValues(TorchFunctionMode):
    """Skip random initial values.

    On the meta device they mean nothing, and drawing them there imports half of torch's compiler.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func in RANDOM:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def size(spec: BackboneSpec, leads: int, samples: int) -> int:
    """Return N, the parameters of the backbone `spec` builds, without allocating them."""
    with torch.device("meta"), _NoValues():
        return count(spec.build(leads, samples))


@lru_cache(maxsize=256)
def solve(spec: S, target_N: float, leads: int, samples: int) -> tuple[S, int]:
    """Find the dial at which a backbone has `target_N` parameters, by interpolation on the meta device.

    Args:
        spec: An architecture; its own dial is where the search starts.
        target_N: Wanted number of parameters.
        leads, samples: Shape of the windows.

    Returns:
        The architecture at that dial, and the parameters it really has.

    Raises:
        SizeError: the nearest size is more than 10 % away.
    """
    low, high = _bracket(spec, target_N, leads, samples)
    tried = dict([low, high])
    for step in range(STEPS):
        dial = _short(math.sqrt(low[0] * high[0]) if step % 3 == 2 else _between(low, high, target_N))
        if dial in tried or high[0] < NARROW * low[0]:
            break
        tried[dial] = size(spec.sized(dial), leads, samples)
        if abs(tried[dial] - target_N) <= CLOSE * target_N:
            break
        found = dial, tried[dial]
        low, high = (found, high) if tried[dial] < target_N else (low, found)
    dial = min(tried, key=lambda d: abs(tried[d] - target_N))
    if abs(tried[dial] - target_N) > TOLERANCE * target_N:
        raise SizeError(
            f"{spec.part_name()} cannot have {target_N:,.0f} parameters within 10 %: "
            f"the nearest is {tried[dial]:,} at dial {dial:g}"
        )
    return spec.sized(dial), tried[dial]


Sized = tuple[float, int]  # a dial and the parameters there


def _bracket(spec: BackboneSpec, target_N: float, leads: int, samples: int) -> tuple[Sized, Sized]:
    """Return two dials and their sizes: one too small (or the smallest of use), one large enough."""
    low = high = spec.dial, size(spec, leads, samples)
    for _ in range(STEPS):
        if high[1] >= target_N:
            break
        low, high = high, (2 * high[0], size(spec.sized(2 * high[0]), leads, samples))
    for _ in range(STEPS):
        if low[1] < target_N:
            break
        low, high = (low[0] / 2, size(spec.sized(low[0] / 2), leads, samples)), low
    return low, high


def _between(low: Sized, high: Sized, target_N: float) -> float:
    """Return the dial at which a power law through two sizes meets the target, inside their bracket."""
    share = math.log(target_N / low[1]) / math.log(high[1] / low[1]) if low[1] < high[1] else 0.5
    return float(low[0] * (high[0] / low[0]) ** min(max(share, 0.02), 0.98))


def _short(dial: float) -> float:
    return float(f"{dial:.4g}")
