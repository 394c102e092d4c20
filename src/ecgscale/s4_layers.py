"""What S4 puts around a state space: GELU, dropout, a linear map and GLU; then dropout, the residual and LayerNorm.

Source: arXiv:2605.12241, AI4HealthUOL/ecg-pretraining-strategies; Gu, Goel & Ré 2022 (arXiv:2111.00396)
(recipe-pretraining §3.1, §3.2).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ecgscale.nn import Dropout
from ecgscale.state_space import StateSpace


class _Glu(torch.autograd.Function):
    """The first half of the columns times the sigmoid of the second: backward in three passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Return [row, column / 2] of x [row, column]."""
        value, gate = x.chunk(2, 1)
        open_ = gate.sigmoid()
        y = value * open_
        ctx.save_for_backward(open_, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return the gradient of x: y' = sigmoid for the value, y (1 - sigmoid) for the gate."""
        open_, y = ctx.saved_tensors
        found = y.new_empty(len(y), 2 * y.shape[1])
        value, gate = found.chunk(2, 1)
        torch.mul(gradient, open_, out=value)
        torch.mul(gradient, y, out=gate)
        torch.addcmul(gate, gate, open_, value=-1, out=gate)
        return found


class S4Layer(nn.Module):
    """GLU(W dropout(GELU(k * u + D u))): what the release calls its S4 module."""

    def __init__(self, space: StateSpace, dropout: float = 0.0) -> None:
        super().__init__()
        self.space = space
        self.dropout = Dropout(dropout)
        self.out = nn.Linear(len(space.D), 2 * len(space.D))

    def forward(self, u: Tensor) -> Tensor:
        """Return [batch, time, channel] of u [batch, time, channel]."""
        y = F.gelu(self.space(u).permute(2, 0, 1))  # channel batch time, as it lies in memory
        if self.training and self.dropout.p:
            y = y * self.dropout(y.new_ones(*y.shape[:2], 1), rows_at=1)
        return _Glu.apply(self.out(y.reshape(len(y), -1).t())).view(u.shape)


class S4Block(nn.Module):
    """A layer, dropout, the residual, then the norm."""

    def __init__(self, space: StateSpace, dropout: float = 0.0) -> None:
        super().__init__()
        self.layer = S4Layer(space, dropout)
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(len(space.D))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the stream and the layer's output, both [batch, time, channel]."""
        added = self.layer(x)
        if self.training and self.dropout.p:
            mask = self.dropout(added.new_ones(len(added), 1, added.shape[-1]))
            return self.norm(torch.addcmul(x, added, mask)), added
        return self.norm(x + added), added
