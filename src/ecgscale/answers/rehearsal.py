"""Can this grid identify these exponents? Asked of simulated losses before anything is spent.

A law with planted exponents gives every run of the grid a loss, normal noise on its logarithm; each simulated study is
fitted and bootstrapped as a real one. In the middle of the grid (on log axes) the loss is 1, of which `floor` is E and
the terms of N and D have equal parts of the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ecgscale.answers.families import AdviceError
from ecgscale.fitting.compare import WIDE, smallest_ratio
from ecgscale.fitting.diagnose import identified
from ecgscale.fitting.engine import optimise
from ecgscale.fitting.points import problem_of
from ecgscale.fitting.uncertainty import bootstrap, too_few
from ecgscale.laws.scaling import Scaling
from ecgscale.planning import loss
from ecgscale.reference import published
from ecgscale.rng import generator

SIMULATIONS, DRAWS = 200, 100


@dataclass(frozen=True)
class Planted:
    """The truth that is simulated: exponents, the standard deviation of a run's log loss, E's share of the loss."""

    alpha: float
    beta: float
    noise: float = 0.02
    floor: float = 0.3


@dataclass(frozen=True)
class Rehearsal:
    """What a grid would have said.

    Attributes:
        runs: In the grid.
        identified: Share of the simulated studies whose exponents the fit calls identified.
        factors: {exponent: median over the studies of the factor within which its 95 % interval knows it}.
        held: {exponent: share of the intervals that hold the planted value}.
        detectable: {exponent: smallest ratio of two families' exponents that is found in 80 % of such studies}.
    """

    planted: Planted
    runs: int
    identified: float
    factors: dict[str, float]
    held: dict[str, float]
    detectable: dict[str, float]


def planted_of(family: str, noise: float, floor: float, alpha: float | None, beta: float | None) -> Planted:
    """Return the truth to plant: the given exponents, else the family's published ones in distribution.

    Raises:
        AdviceError: neither is there.
    """
    found = {}
    for name, given in (("alpha", alpha), ("beta", beta)):
        rows = published(quantity=name, family=family, task="id")["value"]
        if given is None and rows.empty:
            raise AdviceError(f"no {name} was published for {family}; give --alpha and --beta")
        found[name] = float(rows.iloc[0]) if given is None else given
    return Planted(found["alpha"], found["beta"], noise, floor)


def simulate(
    size: Sequence[float], records: Sequence[float], planted: Planted, simulations: int = SIMULATIONS, seed: int = 0
) -> Rehearsal:
    """Return what simulated studies on these runs say.

    Args:
        size, records: N and D of every run, seeds repeated.
        planted: The truth.
        simulations: Studies.
        seed: Of the noise.

    Raises:
        AdviceError: the grid has too few runs or levels for any interval.
    """
    n, d = np.asarray(size, float), np.asarray(records, float)
    law = _law(n, d, planted)
    clean, rng = loss(law, n, d), generator(seed, "rehearsal")
    frame = pd.DataFrame({"N": n, "D": d, "value": clean})
    if few := too_few(problem_of(Scaling(), frame)[0]):
        raise AdviceError(f"this grid cannot identify any exponent: {few}")
    clear, ends = [], []
    for i in range(simulations):
        rows = frame.assign(value=clean * np.exp(planted.noise * rng.standard_normal(len(n))))
        problem, columns, _ = problem_of(Scaling(), rows)
        optimum = optimise(problem, starts=8)
        samples, _ = bootstrap(problem, optimum, columns, DRAWS, i)
        clear.append(identified(problem, samples, optimum.condition) is None)
        ends.append([np.percentile(samples[name], [2.5, 97.5]) for name in ("alpha", "beta")])
    low, high = np.moveaxis(np.array(ends), -1, 0)  # [simulation, exponent]
    half = np.median(np.log(high / low) / 2, axis=0)
    truth = np.array([planted.alpha, planted.beta])
    held = ((low <= truth) & (truth <= high)).mean(axis=0)
    ratios = np.array([smallest_ratio(float(np.sqrt(2) * h / WIDE)) for h in half])
    return Rehearsal(planted, len(n), float(np.mean(clear)), _named(np.exp(half)), _named(held), _named(ratios))


def _law(n: np.ndarray, d: np.ndarray, planted: Planted) -> dict[str, float]:
    """Return the parameters whose loss is 1 in the middle of the runs."""
    part = (1 - planted.floor) / 2
    middle = {"A": planted.alpha * np.log(n).mean(), "B": planted.beta * np.log(d).mean()}
    scales = {name: float(part * np.exp(power)) for name, power in middle.items()}
    return {"E": planted.floor, **scales, "alpha": planted.alpha, "beta": planted.beta}


def _named(values: np.ndarray) -> dict[str, float]:
    return dict(zip(("alpha", "beta"), map(float, values), strict=True))
