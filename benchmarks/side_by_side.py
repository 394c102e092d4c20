"""Several small models at once on one device: records per second of K processes together, each training its own.

    python benchmarks/side_by_side.py --device cuda --precision bf16 --batch 128 --side 1 2 4 8

Prints a row per backbone, size and K: the sum over the processes, and that over one process alone. On a GPU each keeps
its batches there, as resident rows of a corpus are; start nvidia-cuda-mps-control beforehand to let their kernels
overlap. With --compile the objective is compiled first.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import torch

from ecgscale.spec import part
from ecgscale.study.machine import set_up
from ecgscale.training.size import count, solve

sys.path.insert(0, str(Path(__file__).parent))
from training import LEADS, MODES, NAMES, SAMPLES, batches, begin, options, ours_step


def train(
    given: argparse.Namespace, name: str, N: int, side: int, start: Barrier, rates: multiprocessing.Queue[float]
) -> None:
    """Train for `given.seconds` once all processes are ready, and put records per second."""
    set_up(given.threads, side)
    torch.manual_seed(0)
    backbone = solve(part("backbones", name), N, LEADS, SAMPLES)[0].build(LEADS, SAMPLES)
    step = ours_step(backbone, given.device, given.precision == "bf16", given.compile)
    data = batches(given.batch, given.batches, given.device)

    def through() -> float:
        for batch in data:
            step(batch)
        if given.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    through()
    start.wait()
    began, passes, now = time.perf_counter(), 0, 0.0
    while now < began + given.seconds:
        now, passes = through(), passes + 1
    rates.put(passes * given.batches * given.batch / (now - began))


def together(given: argparse.Namespace, name: str, N: int, side: int) -> float:
    """Return the records per second of `side` processes."""
    context = multiprocessing.get_context("spawn")
    start, rates = context.Barrier(side), context.Queue()
    processes = [context.Process(target=train, args=(given, name, N, side, start, rates)) for _ in range(side)]
    for process in processes:
        process.start()
    total = sum(rates.get(timeout=600) for _ in processes)
    for process in processes:
        process.join()
    return total


def main() -> None:
    """Print the rows."""
    parser = options(__doc__, batches=4)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--backbones", nargs="+", default=NAMES)
    parser.add_argument("--compile", choices=MODES)
    parser.add_argument("--side", type=int, nargs="+", default=[1, 2], help="processes")
    parser.add_argument("--seconds", type=float, default=10.0, help="of training per row")
    given = begin(parser)
    print("| backbone | N | processes | together | over one |\n|---|---|---|---|---|")
    for N in given.sizes:
        for name in given.backbones:
            size, alone = count(solve(part("backbones", name), N, LEADS, SAMPLES)[0].build(LEADS, SAMPLES)), 0.0
            for side in given.side:
                rate = together(given, name, N, side)
                alone = alone or rate / side
                print(f"| {name} | {size:,} | {side} | {rate:,.0f}/s | {rate / alone:.2f} |", flush=True)


if __name__ == "__main__":
    main()
