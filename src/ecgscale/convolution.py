"""Convolution over time for few channels, where a CPU library is far from its speed: one matrix product per layer.

Sixteen samples and the sixteen around them become one row of a matrix [window * channel], the kernel a block-Toeplitz
matrix [window * channel, output sample * output channel]; 32/17 of the arithmetic, in products wide enough to run at
full speed. Measured for kernel 17, batch 24, 1,024 samples, forward and backward on one thread: 12 to 3 channels 8.2 ms
by oneDNN, 3.0 ms here.

While operations are counted (any torch dispatch mode), traced or run in another precision, the library's convolution
runs instead: FLOPs mean those of the convolution.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

KERNEL = 17
HOP = 16  # samples from one window to the next
WINDOW = HOP + KERNEL - 1
NARROW = 100  # input times output channels up to which the matrix product is faster


class TimeConv(nn.Conv2d):
    """A convolution of kernel 17 over [batch, channel, 1, time], padded so that time becomes time / stride."""

    def __init__(self, before: int, width: int, stride: int = 1) -> None:
        super().__init__(before, width, (1, KERNEL), (1, stride), (0, (KERNEL - stride + 1) // 2), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch, width, 1, time / stride], channels last."""
        if not self._narrow(x):
            return super().forward(x.contiguous(memory_format=torch.channels_last))
        y = _Toeplitz.apply(x.squeeze(2), self.weight.squeeze(2), self.stride[1])  # batch time width
        return y.unsqueeze(1).permute(0, 3, 1, 2)

    def _narrow(self, x: Tensor) -> bool:
        fits = self.in_channels * self.out_channels <= NARROW and x.shape[-1] % HOP == 0 and HOP % self.stride[1] == 0
        plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        return fits and plain and not is_in_torch_dispatch_mode() and not torch.jit.is_tracing()


class _Toeplitz(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        """Convolve x [batch, channel, time] with weight [width, channel, 17] to [batch, time / stride, width]."""
        batch, channels, time = x.shape
        width = weight.shape[0]
        ctx.sizes = batch, channels, time, width, stride
        ctx.time_first = x.stride(1) == 1 and channels > 1  # channels last: memory is [batch, time, channel]
        matrix = (weight.reshape(-1, KERNEL) @ _taps(stride)).view(width, channels, WINDOW, HOP // stride)
        matrix = matrix.permute(*((2, 1) if ctx.time_first else (1, 2)), 3, 0).reshape(WINDOW * channels, -1)
        windows = _windows(x, ctx.time_first)
        ctx.save_for_backward(windows, matrix)
        return (windows @ matrix).view(batch, time // stride, width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Return the gradients of x and weight."""
        windows, matrix = ctx.saved_tensors
        batch, channels, time, width, stride = ctx.sizes
        gradient = gradient.reshape(len(windows), -1)
        to_x = to_weight = None
        if ctx.needs_input_grad[1]:
            rows = (WINDOW, channels) if ctx.time_first else (channels, WINDOW)
            found = (windows.T @ gradient).view(*rows, HOP // stride, width)
            found = found.permute(3, *((1, 0) if ctx.time_first else (0, 1)), 2).reshape(width * channels, -1)
            to_weight = (found @ _taps(stride).T).view(width, channels, KERNEL)
        if ctx.needs_input_grad[0]:
            to_x = _overlap(gradient @ matrix.T, batch, channels, time, ctx.time_first)
        return to_x, to_weight, None


@cache
def _taps(stride: int) -> Tensor:
    """Return [tap, window sample * output sample]: 1 where the tap takes that sample to that output, 0 elsewhere."""
    before = (
        HOP // 2 - (KERNEL - stride + 1) // 2
    )  # a window starts 8 samples early, the convolution's padding may be less
    taps = torch.zeros(KERNEL, WINDOW, HOP // stride)
    for out in range(HOP // stride):
        start = stride * out + before
        taps[:, start : start + KERNEL, out] = torch.eye(KERNEL)
    return taps.flatten(1)


def _windows(x: Tensor, time_first: bool) -> Tensor:
    """Return every window of x [batch, channel, time] as a row, ordered as x lies in memory."""
    padded = F.pad(x.transpose(1, 2), (0, 0, HOP // 2, HOP // 2)) if time_first else F.pad(x, (HOP // 2, HOP // 2))
    if not time_first:
        return padded.unfold(2, WINDOW, HOP).transpose(1, 2).reshape(-1, x.shape[1] * WINDOW)
    batch, time, channels = padded.shape
    shape, strides = (batch, time // HOP - 1, WINDOW * channels), (time * channels, HOP * channels, 1)
    return padded.as_strided(shape, strides).reshape(-1, WINDOW * channels)


def _overlap(rows: Tensor, batch: int, channels: int, time: int, time_first: bool) -> Tensor:
    """Add windows that overlap by half back to [batch, channel, time]."""
    if not time_first:
        rows = rows.view(-1, channels, WINDOW).transpose(1, 2)
    halves = rows.reshape(batch, time // HOP, 2, HOP * channels)
    whole = rows.new_empty(batch, time // HOP + 1, HOP * channels)
    whole[:, :-1] = halves[:, :, 0]
    whole[:, -1] = 0
    whole[:, 1:] += halves[:, :, 1]
    return whole.view(batch, -1, channels)[:, HOP // 2 : HOP // 2 + time].transpose(1, 2)
