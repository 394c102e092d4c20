"""What every block of a network makes of a record: its output, averaged over tokens.

Source: arXiv:2605.12241, whose maps compare the time-averaged outputs of the layers (recipe-pretraining §7.5).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ecgscale.backbones import Backbone
from ecgscale.batch import Batch


@torch.no_grad()
def outputs(backbone: Backbone, records: Iterable[Batch], device: str = "cpu") -> list[npt.NDArray[np.float32]]:
    """Return what enters the first block and what leaves each, a [record, width] per layer.

    Args:
        backbone: In eval mode, on the device; its blocks are `Backbone.blocks_in_order`.
        records: Batches of one record each, so that no padding of a longer neighbour is averaged.
        device: Where the backbone is.
    """
    seen: list[list[npt.NDArray[np.float32]]] = []

    def keep(x: Tensor) -> None:
        others = [axis for axis in range(x.dim()) if axis != (1 if backbone.time_last else x.dim() - 1)]
        seen[-1].append(x.float().mean(others).cpu().numpy())

    def enters(_: nn.Module, given: tuple[Any, ...]) -> None:
        keep(given[0])

    def leaves(_: nn.Module, __: Any, made: Any) -> None:
        keep(made[0] if isinstance(made, tuple) else made)

    blocks = backbone.blocks_in_order
    hooks = [blocks[0].register_forward_pre_hook(enters), *(b.register_forward_hook(leaves) for b in blocks)]
    try:
        for record in records:
            seen.append([])
            backbone.tokens(record.to(device))
    finally:
        for hook in hooks:
            hook.remove()
    return [np.stack(layer) for layer in zip(*seen, strict=True)]
