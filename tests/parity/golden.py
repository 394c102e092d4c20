"""The rule by which the golden vectors make their weights, shared by all that rebuild an origin's network."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def rule(key: str, shape: tuple[int, ...], scale: float) -> torch.Tensor:
    """The weights of the golden vectors (their README, "Rebuilding the weights")."""
    z = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(shape).astype(np.float32)
    if len(shape) >= 2:
        return torch.from_numpy(np.float32(scale) * z)
    if key.endswith("running_var"):
        return torch.from_numpy(1 + np.float32(0.1) * np.abs(z))
    return torch.from_numpy((1 if key.endswith("weight") else 0) + np.float32(0.1) * z)
