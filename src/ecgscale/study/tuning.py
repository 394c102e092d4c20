"""The search of a learning rate: as many trials for every family, one extension where the best is at an edge.

What is searched here are rates; which runs they mean and what they scored is asked of the caller.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

Score = Callable[[float], float | None]  # of a rate: lower is better, infinite where its run failed, None: not run yet


@dataclass(frozen=True, slots=True)
class Tuned:
    """A search, finished or under way.

    Attributes:
        trials: Rate → score, in the order of the rates.
        lr: The best rate; None while a trial is missing, or if all failed.
        distance: Steps of the grid from the best rate to its nearer edge.
        extended: Whether the grid was extended.
    """

    trials: dict[float, float | None]
    lr: float | None
    distance: int
    extended: bool

    @property
    def waiting(self) -> bool:
        """Whether a trial is missing."""
        return any(score is None for score in self.trials.values())

    @property
    def at_edge(self) -> bool:
        """Whether the best rate of a finished search is at an edge, though the grid was extended."""
        return self.lr is not None and self.distance == 0


def search(lr: float, factors: tuple[float, ...], score: Score) -> Tuned:
    """Search around a rate.

    Args:
        lr: The family's own rate.
        factors: Multiples of it, at least three.
        score: Asked once for each rate.

    Returns:
        The search as far as it has come.
    """
    grid = sorted(lr * factor for factor in factors)
    trials = {rate: score(rate) for rate in grid}
    found = _chosen(trials, extended=False)
    if found.lr is None or found.distance > 0:
        return found
    beyond = grid[0] ** 2 / grid[1] if found.lr == grid[0] else grid[-1] ** 2 / grid[-2]
    trials[beyond] = score(beyond)
    return _chosen(dict(sorted(trials.items())), extended=True)


def _chosen(trials: dict[float, float | None], extended: bool) -> Tuned:
    scores = {rate: value for rate, value in trials.items() if value is not None and math.isfinite(value)}
    if None in trials.values() or not scores:
        return Tuned(trials, None, 0, extended)
    best = min(scores, key=lambda rate: scores[rate])
    place = list(trials).index(best)
    return Tuned(trials, best, min(place, len(trials) - 1 - place), extended)
