"""Seventy-two labels with a long tail that share twelve causes, for worlds that have `findings`.

A finding is there where two of the causes, weighted, pass a limit: a c_i + b c_j > t with a² + b² = 1. Causes are the
six scores of an ECG and six traits of the patient's body, all of which shape the waveform, so that whoever learns a
common finding learns part of what rare ones depend on. Prevalences fall geometrically from 20 % to 0.2 %; limits follow
from them exactly, as the scores are normal around the means of age, sex and the structural condition. Names are numbers
in the order of prevalence. Which causes a finding has is drawn once, whatever its prevalence.

Source: this project's choice.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from ecgscale import rng
from ecgscale.data.simulation.worlds import AGE_SHIFT, FEMALE_SHIFT, LATENTS, STRUCTURAL_SHIFT, WORLDS, WorldName

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

COUNT = 72
FINDINGS: tuple[str, ...] = tuple(f"finding_{i:02d}" for i in range(1, COUNT + 1))
PREVALENCE: dict[str, float] = dict(zip(FINDINGS, np.geomspace(0.20, 0.002, COUNT).tolist(), strict=True))
MISSED = 0.03  # fraction of true positives written as absent
INVENTED = 0.03  # true negatives written as present, as a fraction of the prevalence

# size of P, Q and S, direction of T, rotation about two axes: places in `Latents.traits`
TRAITS: tuple[int, ...] = (3, 4, 5, 10, 13, 14)
_AGES = 512  # quantiles that stand for the distribution of age


@cache
def weights() -> Float:
    """Return the weights of the causes, scores first, then traits: [finding, cause], rows of length 1."""
    random = rng.generator(0, "simulated", "findings")
    causes = len(LATENTS) + len(TRAITS)
    found = np.zeros((COUNT, causes))
    for row in found:
        pair = random.choice(causes, 2, replace=False)
        angle = random.uniform(0, 2 * np.pi)
        row[pair] = np.cos(angle), np.sin(angle)
    return found


def present(world: WorldName, scores: Float, traits: Float, ages: Float) -> Bool:
    """Return which findings are there, [ecg, finding].

    Args:
        world: Whose limits.
        scores: [ecg, latent] columns as `LATENTS`.
        traits: [ecg, trait].
        ages: Quantiles of the world's ages at evenly spaced probabilities, years.
    """
    causes = np.concatenate([scores, traits[:, TRAITS]], axis=1)
    return np.asarray(causes @ weights().T > _limits(world, tuple(ages.tolist())))


def quantiles() -> Float:
    """Return the probabilities at which `present` wants ages."""
    return np.asarray((np.arange(_AGES) + 0.5) / _AGES)


@cache
def _limits(world: WorldName, ages: tuple[float, ...]) -> Float:
    """Return the limit of every finding: its prevalence is the mass above, by bisection of the mixture of normals."""
    row, along = WORLDS[world], weights()[:, : len(LATENTS)].T
    aged = np.outer((np.array(ages) - 55.0) / 18.0, AGE_SHIFT) @ along  # [age, finding]
    ill, woman = np.array(STRUCTURAL_SHIFT) @ along, np.array(FEMALE_SHIFT) @ along
    sick = row.prevalence["structural"]
    parts = [
        ((sick if i else 1 - sick) * (row.female if w else 1 - row.female), aged + i * ill + w * woman)
        for i, w in product((0, 1), (0, 1))
    ]
    low, high = np.full(COUNT, -12.0), np.full(COUNT, 12.0)
    for _ in range(60):
        middle = (low + high) / 2
        above = sum(weight * ndtr(mean - middle).mean(axis=0) for weight, mean in parts)
        too_many = above > np.array(list(PREVALENCE.values()))
        low, high = np.where(too_many, middle, low), np.where(too_many, high, middle)
    return np.asarray((low + high) / 2)
