"""Records per second of the simulator beside neurokit2's, 12 leads x 10 s x 100 Hz, in one run; prints a Markdown row.

    python benchmarks/simulator.py [--workers 2] [--count 4000] [--neurokit 3]

neurokit2 is wanted for the ratio only: pip install "ecgscale[bench]".
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
import platform
import sys
import time
import warnings

from ecgscale.datasets.simulated import Simulated

_REPEATS = 3


def consume(job: tuple[int, int]) -> int:
    """Generate `count` records under a seed and return how many came."""
    count, seed = job
    return sum(1 for _ in Simulated(count=count, seed=seed).records(None))


def ours(count: int, workers: int) -> float:
    """Records per second of `workers` processes that make `count` records each, start-up not counted; best repeat."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.map(consume, [(200, 0)] * workers, chunksize=1)
        best = 0.0
        for _ in range(_REPEATS):
            start = time.perf_counter()
            made = sum(pool.map(consume, [(count, seed) for seed in range(workers)], chunksize=1))
            best = max(best, made / (time.perf_counter() - start))
        return best


def neurokit(count: int) -> float | None:
    """Records per second of neurokit2's 12-lead simulator on one core (best single record), or None without it."""
    try:
        import neurokit2
    except ImportError as error:
        print(f'neurokit2 is not here ({error}): pip install "ecgscale[bench]" to see the ratio', file=sys.stderr)
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        neurokit2.ecg_simulate(duration=10, sampling_rate=100, method="multileads", random_state=0)
        seconds = []
        for seed in range(count):
            start = time.perf_counter()
            neurokit2.ecg_simulate(duration=10, sampling_rate=100, method="multileads", random_state=seed)
            seconds.append(time.perf_counter() - start)
        return 1 / min(seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--count", type=int, default=4000, help="records per worker")
    parser.add_argument("--neurokit", type=int, default=3, help="records of neurokit2")
    args = parser.parse_args()
    one, many, theirs = ours(args.count, 1), ours(args.count, args.workers), neurokit(args.neurokit)
    ratio = f"{theirs:.2f} | {one / theirs:,.0f}" if theirs else "- | -"
    print(f"| date | machine | records/s, 1 core | {args.workers} cores | neurokit2, 1 core | ratio, 1 core |")
    print("|---|---|---|---|---|---|")
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    print(f"| {datetime.date.today()} | {machine} | {one:,.0f} | {many:,.0f} | {ratio} |")


if __name__ == "__main__":
    main()
