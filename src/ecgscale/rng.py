"""Named, counter-based random numbers: every draw is a function of a seed and a path of names.

`generator(0, "batch", 17)` gives the same stream on every machine, in every process, whatever was drawn before it.

Source: Salmon et al. 2011, Philox, as numpy.random.Philox.
"""

from __future__ import annotations

import hashlib

import numpy as np


def key(seed: int, *path: str | int) -> int:
    """Return the 128-bit key of a stream: a hash of the seed and the path, order and types included."""
    text = "\x1f".join([str(seed), *(f"{type(p).__name__}:{p}" for p in path)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def generator(seed: int, *path: str | int) -> np.random.Generator:
    """Return the NumPy generator of the stream named by `path` under `seed`."""
    return np.random.Generator(np.random.Philox(key=key(seed, *path)))


def seed_of(seed: int, *path: str | int) -> int:
    """Return a 63-bit seed for another library's generator (torch.Generator.manual_seed)."""
    return key(seed, *path) & (2**63 - 1)
