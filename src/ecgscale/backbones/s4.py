"""Structured state spaces (S4) on a convolutional stem: long memory at a cost linear in time.

A block is y = k * u + D u, GELU, dropout, a linear map to twice the width, GLU, dropout, the residual, then LayerNorm;
dropout masks hold for all times. Departure from the release: C is that of the recurrence, the same for every length
(state_space.py).

Source: arXiv:2605.12241, AI4HealthUOL/ecg-pretraining-strategies; Gu, Goel & Ré 2022 (arXiv:2111.00396)
(recipe-pretraining §3.1, §3.2).
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from ecgscale.backbones import BackboneSpec
from ecgscale.backbones._stem import StemBackbone
from ecgscale.s4_layers import S4Block
from ecgscale.state_space import Kernel, StateSpace, Trained


class S4(BackboneSpec):
    """Stem and S4 blocks; the dial is their width, published at 512."""

    title: ClassVar[str] = "S4"
    hides_tokens: ClassVar[bool] = True

    dial: float = Field(32.0, gt=0)
    pool: Literal["mean", "ends"] = "mean"
    depth: PositiveInt = 4  # published: 4, and 6
    state: int = Field(8, ge=2, multiple_of=2)  # real states per channel, 4 conjugate pairs; the SSL heads have 64
    stride: int = Field(2, ge=2, multiple_of=2)  # samples per token
    causal: bool = False  # published: True for CPC only
    kernel: Kernel = "dplr"  # "diagonal": S4D-Lin with zero-order hold (state-spaces/s4, s4d.py)
    trained: Trained = "CD"  # as released, where A, P, B and dt never move; "all": they are parameters too
    dropout: float = Field(0.2, ge=0, lt=1)  # as released

    def module(self, leads: int, samples: int) -> S4Encoder:
        """Return the network; its parameters do not depend on `samples`."""
        width = max(1, round(self.dial))
        spaces = [StateSpace(width, self.state, self.causal, self.kernel, self.trained) for _ in range(self.depth)]
        blocks = [S4Block(space, self.dropout) for space in spaces]
        return S4Encoder(leads, width, blocks, self.stride, self.pool)


class S4Encoder(StemBackbone):
    """The module."""

    def __init__(
        self, leads: int, width: int, blocks: list[S4Block], stride: int = 2, pool: Literal["mean", "ends"] = "mean"
    ) -> None:
        super().__init__(leads, width, stride, pool)
        self.blocks = nn.ModuleList(blocks)

    def context(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the tokens after the last block, and each block's layer output before residual and norm."""
        added = []
        for block in self.blocks:
            x, update = block(x)
            added.append(update)
        return x, tuple(added)
