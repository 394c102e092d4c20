"""Net1D on a convolutional stem: residual blocks of grouped convolutions, kernel 16, with squeeze and excitation.

A block adds g * f(x) to its input, f being three convolutions (kernels 1, 16 in groups, 1), each after a Swish, and g
in (0, 1) a gate per channel read off the mean of f(x) over the window (reduction 2). Where a stage is wider than the
one before, the input gets zero channels on both sides. No normalisation, no dropout, no down-sampling.

The convolutions reach 15 tokens each, 316 at the published depth; the mean over the window makes the receptive field
the whole window. Where `causal`, zeros are put on the left only and the gate of a token reads the mean up to it: the
release has no such form, and its predictions of the future could see it.

Source: ECGFounder (Li et al. 2024), PKUDigitalHealth/ECGFounder, net1d.py (MIT); on the stem: arXiv:2605.12241,
AI4HealthUOL/ecg-pretraining-strategies, net1d.py (recipe-pretraining §3.4); sizes: one dial, ours.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from ecgscale.backbones import BackboneSpec
from ecgscale.backbones._stem import StemBackbone

WIDTHS = (64, 128, 128, 256, 256, 512, 512)  # of the stages at dial 1
BLOCKS = (2, 2, 2, 3, 3, 4, 4)
KERNEL = 16
GROUP = 16  # channels that a grouped convolution mixes
NARROW = 1024  # input times output channels up to which a dense convolution is faster in blocks of time


class Net1d(BackboneSpec):
    """The network; the dial multiplies the seven widths, its square root (at most 2) the blocks of a stage."""

    title: ClassVar[str] = "Net1D"
    hides_tokens: ClassVar[bool] = True

    dial: float = Field(0.07, gt=0)  # published: 1
    pool: Literal["mean", "ends"] = "mean"
    stride: int = Field(2, ge=1)  # samples per token; published 2 at 240 Hz
    causal: bool = False

    def module(self, leads: int, samples: int) -> Net1dEncoder:
        """Return the network; a dial of 1 has 10.5 million parameters, 0.8 of them in the stem."""
        return Net1dEncoder(leads, *shape(self.dial), self.stride, self.causal, self.pool)


class Net1dEncoder(StemBackbone):
    """The module."""

    time_last: ClassVar[bool] = True

    def __init__(
        self,
        leads: int,
        widths: list[int],
        blocks: list[int],
        group: int,
        stride: int = 2,
        causal: bool = False,
        pool: Literal["mean", "ends"] = "mean",
    ) -> None:
        super().__init__(leads, widths[-1], stride, pool)
        self.stages = Stages(widths[-1], widths, blocks, group, causal)

    def context(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the contextual tokens and what each block of the last width added, all [batch, token, width]."""
        return self.stages(x)


class Stages(nn.Module):
    """A first convolution to the first width, then the blocks of all stages."""

    def __init__(self, before: int, widths: list[int], blocks: list[int], group: int, causal: bool = False) -> None:
        super().__init__()
        self.first = BlockedConv(before, widths[0], causal=causal)
        outs = [width for width, count in zip(widths, blocks, strict=True) for _ in range(count)]
        pairs = zip([widths[0], *outs[:-1]], outs, strict=True)
        self.blocks = nn.ModuleList(_Block(a, b, group, causal, i > 0) for i, (a, b) in enumerate(pairs))

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the tokens and what each block of the last width added [batch, token, width]."""
        x = F.silu(self.first(x.transpose(1, 2)))  # batch channel token
        layers = []
        for block in self.blocks:
            x, added = block(x)
            layers.append(added.transpose(1, 2))
        return x.transpose(1, 2), tuple(added for added in layers if added.shape[2] == x.shape[1])


class _Block(nn.Module):
    """Kernels 1, 16 and 1, then the gate; the very first block's input is active already."""

    def __init__(self, before: int, width: int, group: int, causal: bool, activate: bool) -> None:
        super().__init__()
        self.conv1 = Pointwise(before, width, 1)
        self.conv2 = BlockedConv(width, width, width // group, causal)
        self.conv3 = Pointwise(width, width, 1)
        self.gate = _Gate(width, causal)
        self.activate = activate
        self.sides = (width - before) // 2, width - before - (width - before) // 2  # of zero channels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the stream and what was added to it, both [batch, width, token]."""
        y = self.conv1(F.silu(x) if self.activate else x)
        added = self.gate(self.conv3(F.silu(self.conv2(F.silu(y)))))
        return (F.pad(x, (0, 0, *self.sides)) if any(self.sides) else x) + added, added


class Pointwise(nn.Conv1d):
    """A convolution of kernel 1; on a CPU a matrix product, a fifth of a whole step faster, unless channels outnumber
    tokens: the weight's gradient is first one per record."""

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch, width, token]."""
        if x.device.type != "cpu" or x.shape[2] < self.out_channels:
            return super().forward(x)
        return torch.baddbmm(self.bias[:, None], self.weight.squeeze(-1).expand(len(x), -1, -1), x)


class _Gate(nn.Module):
    """Squeeze and excitation over tokens."""

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.down, self.up, self.causal = nn.Linear(width, width // 2), nn.Linear(width // 2, width), causal

    def forward(self, x: Tensor) -> Tensor:
        """Return x [batch, width, token] times its gate: one of the whole window, or of all tokens so far."""
        if self.causal:
            counts = torch.arange(1, x.shape[2] + 1, device=x.device)
            mean = (x.float().cumsum(2) / counts).transpose(1, 2)  # batch token width
        else:
            mean = x.mean(2)[:, None]
        return x * self.up(F.silu(self.down(mean))).sigmoid().transpose(1, 2)


class BlockedConv(nn.Conv1d):
    """A convolution of kernel 16 over [batch, channel, token] that keeps the length, for few channels or small groups.

    Tokens are cut into blocks of 16. A block x[n] of the padded input bears on its own outputs and on those of the
    block before, so one matrix product with a block-Toeplitz matrix M gives both shares, and nothing is unfolded:

        y[n] = first half of (x[n] M) + second half of (x[n + 1] M)

    This is twice the convolution's arithmetic. Measured on one CPU thread, forward and backward, 24 windows of 500
    tokens: 32 channels in groups of 2 take 2.5 times as long by the library; groups of 4 to 16 about the same in both.
    While operations are counted (any torch dispatch mode), the products are exactly the convolution's (`_Counted`):
    torch's formula multiplies the weight gradient of a grouped convolution by the number of groups.
    """

    def __init__(self, before: int, width: int, groups: int = 1, causal: bool = False) -> None:
        super().__init__(before, width, KERNEL, groups=groups)
        self.left = KERNEL - 1 if causal else (KERNEL - 1) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch, width, token]."""
        counted = is_in_torch_dispatch_mode()
        dense = self.groups == 1 and (self.in_channels * self.out_channels > NARROW or counted)
        if not dense and not counted:
            return self._in_blocks(x) + self.bias[:, None]
        padded = F.pad(x, (self.left, KERNEL - 1 - self.left))
        if dense:
            return super().forward(padded)
        return _Counted.apply(padded, self.weight, self.groups) + self.bias[:, None]

    def _in_blocks(self, x: Tensor) -> Tensor:
        batch, _, tokens = x.shape
        blocks = -(-tokens // KERNEL) + 1
        padded = F.pad(x, (self.left, blocks * KERNEL - self.left - tokens))
        rows = padded.unflatten(2, (blocks, KERNEL)).transpose(1, 2).reshape(batch * blocks, self.groups, -1)
        shares = torch.bmm(rows.transpose(0, 1), self._matrix())
        shares = shares.view(self.groups, batch, blocks, 2, -1, KERNEL)
        y = shares[:, :, :-1, 0] + shares[:, :, 1:, 1]  # group batch block width token
        return y.permute(1, 0, 3, 2, 4).reshape(batch, self.out_channels, -1)[..., :tokens]

    def _matrix(self) -> Tensor:
        """Return M [group, channel * input token, half * width * output token]: tap s - o where token s bears on o.

        Rows of 33 read as rows of 32 slip by one token a row.
        """
        rows = F.pad(self.weight, (0, KERNEL + 1)).unsqueeze(2).expand(-1, -1, KERNEL, -1).flatten(2)
        skewed = rows[..., : 2 * KERNEL**2].reshape(self.groups, -1, self.weight.shape[1], KERNEL, 2, KERNEL)
        return skewed.permute(0, 2, 5, 4, 1, 3).reshape(self.groups, self.weight.shape[1] * KERNEL, -1)


class _Counted(torch.autograd.Function):
    """The library's grouped convolution with a weight gradient, tap by tap, whose products can be counted."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, weight: Tensor, groups: int) -> Tensor:
        """Convolve padded [batch, channel, token + 15] to [batch, width, token]."""
        ctx.save_for_backward(padded, weight)
        ctx.groups = groups
        return F.conv1d(padded, weight, groups=groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients of the padded input and of the weight."""
        padded, weight = ctx.saved_tensors
        tokens = gradient.shape[2]
        wanted = _by_group(gradient, ctx.groups)
        taps = [
            torch.bmm(wanted, _by_group(padded[..., k : k + tokens], ctx.groups).transpose(1, 2)) for k in range(KERNEL)
        ]
        return F.conv_transpose1d(gradient, weight, groups=ctx.groups), torch.stack(taps, -1).flatten(0, 1), None


def _by_group(x: Tensor, groups: int) -> Tensor:
    """Return x [batch, channel, token] as [group, channel, batch * token]."""
    return x.unflatten(1, (groups, -1)).permute(1, 2, 0, 3).flatten(2)


def shape(dial: float) -> tuple[list[int], list[int], int]:
    """Return the stages' widths and blocks, and the channels of a group.

    A stage has no less than one block. Widths are those that give the wanted blocks, rounded, the parameters of the
    wanted ones, so that N is nearly continuous; they are multiples of the group, which is the power of two below 1/16
    of the last width, 2 to the published 16.
    """
    wanted = [max(1.0, blocks * min(math.sqrt(dial), 2.0)) for blocks in BLOCKS]
    blocks = [round(count) for count in wanted]
    spent, given = (sum(n * w * w for n, w in zip(counts, WIDTHS, strict=True)) for counts in (wanted, blocks))
    scale = dial * math.sqrt(spent / given)
    group = min(max(2, 2 ** math.floor(math.log2(scale * WIDTHS[-1] / 16))), GROUP)
    return [max(group, group * round(scale * width / group)) for width in WIDTHS], blocks, group
