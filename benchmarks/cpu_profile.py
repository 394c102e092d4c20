"""What oneDNN's matrix products, `torch.set_float32_matmul_precision("medium")`, do on this CPU: speed and numbers.

    python benchmarks/cpu_profile.py --batches 2 --repeats 6

For every backbone and size: the time of a whole supervised step (forward, backward, optimiser) under "highest" and
under "medium", each the best of --repeats turns taken in alternation; then the gradient under both against that of a
float64 copy, as the norm of the difference over the norm. Where the CPU has AMX, "medium" computes in bfloat16.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ecgscale.batch import Batch
from ecgscale.spec import part
from ecgscale.study import machine
from ecgscale.training.size import count, solve

sys.path.insert(0, str(Path(__file__).parent))
from training import LABELS, LEADS, NAMES, SAMPLES, batches, begin, options, ours_step

MODES = ("highest", "medium")


def seconds(step: Callable[[Batch], None], data: list[Batch], repeats: int) -> dict[str, float]:
    """Return the best time per batch under each mode, in turns."""
    best = dict.fromkeys(MODES, float("inf"))
    for turn in range(repeats + 1):
        for mode in MODES:
            torch.set_float32_matmul_precision(mode)
            start = time.perf_counter()
            for batch in data:
                step(batch)
            if turn:
                best[mode] = min(best[mode], (time.perf_counter() - start) / len(data))
    return best


def gradient(objective: torch.nn.Module, batch: Batch) -> Tensor:
    """Return the gradient of one batch's loss as one vector, float64; dropout off."""
    objective.zero_grad(set_to_none=True)
    objective.eval()
    objective(batch, torch.Generator().manual_seed(0)).value.backward()
    return torch.cat([p.grad.flatten().double() for p in objective.parameters() if p.grad is not None])


def errors(backbone: torch.nn.Module, batch: Batch) -> dict[str, float]:
    """Return the relative error of the gradient under each mode."""
    objective = part("objectives", {"name": "supervised", "labels": [str(i) for i in range(LABELS)]}).build(backbone)
    exact = copy.deepcopy(objective).double()
    true = gradient(exact, replace(batch, signal=batch.signal.double(), labels=batch.labels.double()))
    found = {}
    for mode in MODES:
        torch.set_float32_matmul_precision(mode)
        found[mode] = float((gradient(objective, batch) - true).norm() / true.norm())
    return found


def main() -> None:
    """Print the rows."""
    parser = options(__doc__, batches=2)
    parser.add_argument("--backbones", nargs="+", default=NAMES)
    parser.set_defaults(sizes=[20_000, 100_000, 1_000_000])
    given = begin(parser)
    print(f"flags: {' '.join(machine.flags()) or 'none known'}")
    columns = ("backbone", "N", *MODES, "speed-up", *(f"gradient error, {mode}" for mode in MODES))
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    data = batches(given.batch, given.batches, "cpu")
    for N in given.sizes:
        for name in given.backbones:
            torch.manual_seed(0)
            spec, _ = solve(part("backbones", name), N, LEADS, SAMPLES)
            backbone = spec.build(LEADS, SAMPLES)
            wrong = errors(copy.deepcopy(backbone), data[0])
            plain, fast = seconds(ours_step(backbone, "cpu", False), data, given.repeats).values()
            print(f"| {name} | {count(backbone):,} | {given.batch / plain:,.0f}/s | {given.batch / fast:,.0f}/s "
                  f"| {plain / fast:.2f} | {wrong['highest']:.1e} | {wrong['medium']:.1e} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
