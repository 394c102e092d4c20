"""What a machine can compute at most: the FLOP per second of a large matrix product, against which a run is judged."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Literal

import torch

SIZE = {"cpu": 1024, "cuda": 8192}  # rows and columns: large enough that nothing but the product is measured
SECONDS = {"cpu": 0.3, "cuda": 0.2}  # of products, after one that is not timed


@lru_cache(maxsize=8)
def peak_flops(device: str = "cpu", precision: Literal["fp32", "bf16"] = "fp32") -> float:
    """Return the FLOP per second of a matrix product, measured once per process in less than a second.

    A multiply-add is 2 FLOP, as in `training.flops`. On a CPU it is what the threads of this process reach; with other
    processes at work beside it, what they leave.

    Args:
        device: "cpu" or "cuda".
        precision: Of the operands; products of fp32 may use TF32 where torch allows it for the run, too.
    """
    size = SIZE[device]
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    out = a @ b
    best = float("inf")
    _wait(device)
    begun = time.perf_counter()
    while (started := time.perf_counter()) - begun < SECONDS[device]:
        torch.matmul(a, b, out=out)
        _wait(device)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
