"""What laws with a power of one column share: the terms 1, x^-exponent and their slopes. No part of its own."""

from __future__ import annotations

import numpy as np

from ecgscale.laws import Array


def decay_terms(x: Array, exponent: Array | float) -> Array:
    """Return the terms 1, x^-exponent: [..., point, 2] for inputs [point] and exponents [...]."""
    decay = np.exp(-np.asarray(exponent)[..., None] * np.log(x))
    return np.stack([np.ones_like(decay), decay], axis=-1)


def decay_slopes(x: Array) -> Array:
    """Return d log(terms) / d exponent: [point, 2, 1], the same for every exponent."""
    log = np.log(x)
    return np.stack([np.zeros_like(log), -log], axis=-1)[..., None]


def softplus(x: Array) -> Array:
    """Return log(1 + exp(x)) without overflow."""
    return np.asarray(np.logaddexp(0.0, x))


def share(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)) without overflow, the slope of `softplus`."""
    return np.asarray(np.exp(-softplus(-x)))
