"""1,000 bootstraps of L(N, D) on 60 runs: variable projection with a batched polish against two scipy bootstraps.

Prints one row of a markdown table per engine. The scipy engines run a function written for L(N, D) alone, are
timed on a few resamples and extrapolated to 1,000, which the row says. `python benchmarks/fitting.py [--draws 1000]`
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from datetime import date

import numpy as np
from scipy.optimize import minimize

from ecgscale.fitting.direct import OPTIONS
from ecgscale.fitting.engine import optimise, resolve
from ecgscale.fitting.problem import DELTA, Problem
from ecgscale.laws.scaling import Scaling

STARTS = 500  # of the usual fit: Hoffmann et al. 2022 used a grid of 4,500


def planted(runs: int = 60, noise: float = 0.02) -> Problem:
    """Return a problem on 6 sizes and 10 data sizes with known parameters."""
    n, d = (a.ravel() for a in np.meshgrid(np.geomspace(2e4, 2e7, 6), np.geomspace(250, 256000, runs // 6)))
    clean = 0.2 + 3 * n**-0.3 + 5 * d**-0.35
    noisy = clean * np.exp(noise * np.random.default_rng(0).standard_normal(len(n)))
    return Problem(Scaling(), {"N": n, "D": d}, noisy)


def main() -> None:
    """Time the three engines and compare their minima."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1000)
    draws = parser.parse_args().draws
    problem = planted()
    best = optimise(problem)
    rng = np.random.default_rng(1)
    y = problem.fitted(best.z) * np.exp(0.02 * rng.standard_normal((draws, len(problem.y))))
    resolve(problem, y[:8], best.z)
    timed = []
    for _ in range(3):
        clock = time.perf_counter(), time.process_time()
        z = resolve(problem, y, best.z)
        timed.append((time.perf_counter() - clock[0], time.process_time() - clock[1]))
    wall, cpu = min(timed)
    ours = problem.value(z, y)
    where = f"{date.today()}, {platform.machine()}, {os.cpu_count()} CPUs, one thread"
    print(f"| engine ({where}) | wall, s | CPU, s | CPU / ours | objective / ours - 1: largest, smallest |")
    print("|---|---|---|---|---|")
    print(f"| variable projection, batched, {draws} resamples (best of 3) | {wall:.2f} | {cpu:.2f} | 1 | |")
    warm = start_of(problem, best.z)[None]
    cold = np.concatenate([np.log(np.full((STARTS, 3), 1 / 3)), spread_exponents()], axis=1)
    for name, count, starts in (("warm start", 40, warm), (f"{STARTS} starts", 2, cold)):
        clock = time.perf_counter(), time.process_time()
        found = np.array([scipy_minimum(problem, row, starts) for row in y[:count]])
        times = draws / count
        wall_s, cpu_s = (time.perf_counter() - clock[0]) * times, (time.process_time() - clock[1]) * times
        ratio = found / ours[:count] - 1
        print(
            f"| scipy L-BFGS-B, {name} (extrapolated from {count} resamples) | {wall_s:.1f} | {cpu_s:.1f} | "
            f"{cpu_s / cpu:.0f} | {ratio.max():.1e}, {ratio.min():.1e} |"
        )


def spread_exponents() -> np.ndarray:
    """Return `STARTS` pairs of exponents, even in log space over the law's range."""
    axis = np.geomspace(0.02, 2.0, 25)
    return np.stack(np.meshgrid(axis, axis[: STARTS // 25]), axis=-1).reshape(-1, 2)[:STARTS]


def start_of(problem: Problem, z: np.ndarray) -> np.ndarray:
    """Return packed parameters in log-sum-exp form."""
    return np.concatenate([np.log(np.maximum(z[:3], 1e-10)), z[3:]])


def scipy_minimum(problem: Problem, y: np.ndarray, starts: np.ndarray) -> float:
    """Return the best minimum of the same objective by L-BFGS-B, written for L(N, D) alone to be fast."""
    log_n, log_d = (np.log(problem.x[c]) for c in "ND")
    log_n, log_d, log_y = log_n - log_n.mean(), log_d - log_d.mean(), np.log(y)

    def objective(p: np.ndarray) -> tuple[float, np.ndarray]:
        size, data = np.exp(p[1] - p[3] * log_n), np.exp(p[2] - p[4] * log_d)
        fitted = np.exp(p[0]) + size + data
        residual = np.log(fitted) - log_y
        wide = np.abs(residual)
        inner = np.minimum(wide, DELTA)
        pull = np.clip(residual, -DELTA, DELTA) / (fitted * DELTA)
        by_size, by_data = pull * size, pull * data
        floor = np.exp(p[0]) * pull.sum()
        slope = np.array([floor, by_size.sum(), by_data.sum(), -(by_size @ log_n), -(by_data @ log_d)])
        return float((inner * (wide - 0.5 * inner)).sum() / DELTA), slope

    bounds = [(-25.0, 10.0)] * 3 + [(0.01, 3.0)] * 2
    runs = [minimize(objective, s, jac=True, method="L-BFGS-B", bounds=bounds, options=OPTIONS) for s in starts]
    return min(run.fun for run in runs) * DELTA


if __name__ == "__main__":
    main()
