"""Batch normalisation over the rows of all ranks; torch's own SyncBatchNorm refuses tensors of a CPU.

With n, m and M each rank's count, mean and sum of squared distances from it, the whole batch has N = Σ n,
mean = Σ n m / N and M = Σ (M + n (m - mean)²). Backward needs two sums of all ranks per channel: that of the gradient
g and that of g x̂; then dx = w / sqrt(M / N + eps) · (g - Σ g / N - x̂ Σ g x̂ / N), while the gradients of w and of the
bias remain this rank's share.

Sources: Ioffe & Szegedy 2015; Chan, Golub & LeVeque 1979 (merging of variances).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from ecgscale import ranks


class SharedBatchNorm(_BatchNorm):
    """A batch norm that, in training, normalises by the statistics of the whole batch where ranks share it."""

    def _check_input_dim(self, x: Tensor) -> None:
        """Accept whatever the layer it replaces has accepted."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x [row, channel, ...] normalised per channel."""
        if not self.training or ranks.alone():
            return super().forward(x)
        y, mean, variance, count = _Normalise.apply(x, self.weight, self.bias, self.eps)
        self.num_batches_tracked.add_(1)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1).clamp(min=1)), self.momentum)
        return y


def share_batch_norms(module: nn.Module) -> None:
    """Replace every batch norm inside a module by one over all ranks, with the very parameters and buffers."""
    for name, child in module.named_children():
        if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)):
            shared = SharedBatchNorm(child.num_features, child.eps, child.momentum)
            for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                setattr(shared, kind, getattr(child, kind))
            setattr(module, name, shared.train(child.training))
        else:
            share_batch_norms(child)


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
        """Return the normalised x in its own precision, and mean, variance [channel] and count of the whole batch."""
        wide = x.float()
        exact = torch.float64 if x.device.type == "cpu" else torch.float32  # as torch's own add up
        axes = [axis for axis in range(x.ndim) if axis != 1]
        here = x.numel() // x.shape[1]
        variance, mean = torch.var_mean(wide.to(exact), axes, correction=0)
        mine = torch.cat([mean.new_tensor([float(here)]), mean, variance])
        found = [torch.empty_like(mine) for _ in range(ranks.count())]
        dist.all_gather(found, mine)
        counts, means, variances = torch.stack(found).split([1, len(mean), len(mean)], 1)
        count = counts.sum()
        mean = (counts * means).sum(0) / count
        variance = (counts * (variances + (means - mean).square())).sum(0) / count
        scale = (variance + eps).rsqrt().float()
        normed = (wide - _along(mean.float(), x)) * _along(scale, x)
        ctx.save_for_backward(normed, weight, scale, count)
        ctx.axes, ctx.exact = axes, exact
        mean, variance, count = mean.float(), variance.float(), count.float()
        ctx.mark_non_differentiable(mean, variance, count)
        return (normed * _along(weight, x) + _along(bias, x)).to(x.dtype), mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, weight and bias."""
        normed, weight, scale, count = ctx.saved_tensors
        wide = gradient.float()
        sums = torch.stack([x.sum(ctx.axes, dtype=ctx.exact) for x in (wide, wide * normed)])
        to_bias, to_weight = sums.float()
        dist.all_reduce(sums)
        mean, slope = (sums / count).float()
        centred = wide - _along(mean, wide) - normed * _along(slope, wide)
        return (centred * _along(weight * scale, wide)).to(gradient.dtype), to_weight, to_bias, None


def _along(values: Tensor, x: Tensor) -> Tensor:
    """Return [channel] so that it broadcasts over x [row, channel, ...]."""
    return values.view(-1, *[1] * (x.ndim - 2))
