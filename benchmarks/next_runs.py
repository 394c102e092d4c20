"""Does `ecgscale next` save compute? Simulated truths, refitted for real after every round of proposed runs.

Each truth is a law L(N, D) with noise; the full grid is 6 sizes x 6 data sizes x 3 seeds. The compute of a run is
N^0.9, every run having as many steps (the default rule of a study), or N^0.9 D with `--rule "equal epochs"`. All
begin with the 9 cheapest cells, once each. Then `next` proposes runs round by round, up to 6 seeds of a cell; its
rivals take runs of the same pool in random order and cheapest first, and the grid's own 108 runs in random order. The
width is the geometric mean of hi / lo, as logarithms, of the bootstrap intervals of alpha and beta. "Reached" is the
smallest of the stated shares of the grid's compute at which the width is no larger than the full grid's.

    OMP_NUM_THREADS=1 python benchmarks/next_runs.py --truths 50
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from ecgscale.answers.next_runs import HUBER, Cell, Design, propose
from ecgscale.fitting.engine import optimise
from ecgscale.fitting.points import problem_of
from ecgscale.fitting.uncertainty import bootstrap
from ecgscale.laws.scaling import Scaling
from ecgscale.planning import loss
from ecgscale.rng import generator

SIZES, RECORDS, SEEDS, REPEATS = np.geomspace(2e4, 2e7, 6), np.geomspace(1e3, 1e6, 6), 3, 6
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 1.0)
DRAWS = 200
RULES = {"equal steps": 0.0, "equal epochs": 1.0}  # exponent of D in the compute of a run
Runs = list[Cell]


class Grid:
    """The full grid under one training rule, and the cheapest cells with which every plan begins."""

    def __init__(self, rule: str) -> None:
        self.cells = [Cell("", float(n), float(d), float(n**0.9 * d ** RULES[rule])) for n in SIZES for d in RECORDS]
        self.full = SEEDS * sum(c.cost for c in self.cells)
        self.pilot = [c for c in self.cells if c.N in SIZES[:3] and c.D in RECORDS[:3]]


class World:
    """A planted law whose runs can be done."""

    def __init__(self, seed: int) -> None:
        rng = generator(seed, "truth")
        alpha, beta = rng.uniform(0.15, 0.6, 2)
        shares = rng.uniform(0.1, 1.0, 3)
        self.params = {
            "E": float(shares[0]), "alpha": float(alpha), "beta": float(beta),
            "A": float(shares[1] * np.exp(alpha * np.log(SIZES).mean())),
            "B": float(shares[2] * np.exp(beta * np.log(RECORDS).mean())),
        }  # fmt: skip
        self.noise = float(np.exp(rng.uniform(np.log(0.003), np.log(0.02))))
        self.rng = generator(seed, "noise")

    def measure(self, runs: Runs) -> pd.DataFrame:
        """Return the rows of runs."""
        n, d = np.array([c.N for c in runs]), np.array([c.D for c in runs])
        scatter = np.exp(self.noise * self.rng.standard_normal(len(runs)))
        return pd.DataFrame({"N": n, "D": d, "value": loss(self.params, n, d) * scatter})


def refit(rows: pd.DataFrame, seed: int) -> tuple[dict[str, Any], float]:
    """Return the bootstrap samples and the noise of a fit."""
    problem, frame, _ = problem_of(Scaling(), rows)
    optimum = optimise(problem, starts=8)
    residual = problem.residual(problem.fitted(optimum.z), problem.y / problem.scale)
    noise = float(np.sqrt((residual**2).sum() / max(len(residual) - 5, 1)))
    return bootstrap(problem, optimum, frame, DRAWS, seed)[0], noise


def judged(samples: dict[str, Any], truth: dict[str, float]) -> dict[str, float]:
    """Return the width, and the share of the intervals of alpha and beta that hold the truth."""
    ends = {name: np.percentile(samples[name], [2.5, 97.5]) for name in ("alpha", "beta")}
    wide = np.exp(np.mean([np.log(max(np.log(hi / lo), 1e-9)) for lo, hi in ends.values()]))
    return {"width": float(wide), "held": float(np.mean([e[0] <= truth[n] <= e[1] for n, e in ends.items()]))}


def proposed(world: World, grid: Grid, seed: int) -> Iterator[dict[str, float]]:
    """Yield what the proposed runs give at every share."""
    cells, full, pilot = grid.cells, grid.full, grid.pilot
    rows, spent = world.measure(pilot), sum(c.cost for c in pilot)
    left = dict.fromkeys(cells, REPEATS)
    samples, noise = refit(rows, seed)
    for share in SHARES:
        pool = [c for c in cells for _ in range(left[c]) if spent + c.cost <= share * full]
        if pool:
            design = Design(samples, rows, max(noise, 1e-4) * HUBER)
            picks = propose({"": design}, pool, share * full - spent, repeats=1).picks
            for pick in picks:
                left[pick.cell] -= 1
            rows = pd.concat([rows, world.measure([p.cell for p in picks])], ignore_index=True)
            spent += picks[-1].spent
        samples, noise = refit(rows, seed)
        expected = Design(samples, rows, noise * HUBER).factors()
        guess = float(np.exp(np.mean([np.log(2 * np.log(f)) for f in expected.values()])))
        yield {"share": share, "runs": len(rows), "guess": guess, **judged(samples, world.params)}


def in_order(world: World, grid: Grid, order: Runs, seed: int) -> Iterator[dict[str, float]]:
    """Yield what the pilot and then runs in an order give at every share; one that does not fit is passed over."""
    full = grid.full
    for share in (0.1, 0.2, 0.4):
        runs, spent = list(grid.pilot), sum(c.cost for c in grid.pilot)
        for c in order:
            if spent + c.cost <= share * full:
                runs.append(c)
                spent += c.cost
        samples, _ = refit(world.measure(runs), seed)
        yield {"share": share, "runs": len(runs), **judged(samples, world.params)}


def compare(seed: int, grid: Grid) -> pd.DataFrame:
    """Return a row per plan and share for one truth."""
    world, rng = World(seed), generator(seed, "order")
    whole = judged(refit(world.measure(grid.cells * SEEDS), seed)[0], world.params)
    rows: list[dict[str, Any]] = [{"plan": "full grid", "share": 1.0, "runs": len(grid.cells) * SEEDS, **whole}]
    rows += [{"plan": "next", **r} for r in proposed(world, grid, seed)]
    pool, own = grid.cells * REPEATS, grid.cells * SEEDS
    orders = {
        "random order": [pool[i] for i in rng.permutation(len(pool))],
        "the grid's runs at random": [own[i] for i in rng.permutation(len(own))],
        "cheapest first": sorted(pool, key=lambda c: c.cost),
    }
    for name, order in orders.items():
        rows += [{"plan": name, **r} for r in in_order(world, grid, order, seed)]
    return pd.DataFrame(rows).assign(truth=seed)


def main() -> None:
    """Print medians over truths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truths", type=int, default=50)
    parser.add_argument("--rule", choices=RULES, default="equal steps")
    chosen, begun = parser.parse_args(), time.perf_counter()
    grid = Grid(chosen.rule)
    table = pd.concat([compare(seed, grid) for seed in range(chosen.truths)])
    full = table[table["plan"] == "full grid"].set_index("truth")["width"]
    table["ratio"] = table["width"] / table["truth"].map(full)
    found = table.groupby(["plan", "share"]).agg(
        runs=("runs", "median"), ratio=("ratio", "median"), upper=("ratio", lambda r: r.quantile(0.9)),
        held=("held", "mean"), guess=("guess", "median"), width=("width", "median"),
    )  # fmt: skip
    print(found.round(3).to_string())
    steps = table[(table["plan"] == "next") & (table["ratio"] <= 1)]
    reached = steps.groupby("truth")["share"].min().reindex(full.index).fillna(np.inf)
    print(f"share of the grid's compute at which the grid's width is reached: median {reached.median():g}; "
          f"at 40 % by {(reached <= 0.4).mean():.0%} of truths")  # fmt: skip
    at = table[table["share"] == 0.4].pivot_table(index="truth", columns="plan", values="width")
    for rival in at.columns.drop("next"):
        print(f"at 40 %: narrower than {rival} for {(at['next'] < at[rival]).mean():.0%} of truths, "
              f"median width ratio {(at['next'] / at[rival]).median():.2f}")  # fmt: skip
    print(f"{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
