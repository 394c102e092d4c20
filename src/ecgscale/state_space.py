"""Linear state spaces over time, one for each channel: x' = A x + B u, y = Re(C x) + D u.

A is minus a half plus an imaginary part, and for S4 minus a product of rank one, of HiPPO-LegS ("dplr"); or it is
diagonal (S4D-Lin, "diagonal"). A step dt turns it into x_t = Ā x_(t-1) + B̄ u_t, a convolution with k_t = 2 Re(C Ā^t B̄)
over one of each conjugate pair of states:

    dplr      Ā = 2 M - 1, B̄ = dt M B, M = (1 - dt/2 A)^-1 by Woodbury, A = diag(w) - P P*      (bilinear)
    diagonal  Ā = exp(dt A), B̄ = (Ā - 1) / A                                                    (zero-order hold)

Where all of it is trained, k comes of baby steps and giant steps: rows C Ā^(T i) times columns Ā^j B̄ is k_(T i + j).
States are pairs (real, imaginary) side by side, so every product is one of real matrices. C is that of the recurrence
and the same for every length; the released code stores C (1 - Ā^L) of one length L.

Sources: Gu, Goel & Ré 2022 (arXiv:2111.00396); Gu et al. 2022 (S4D, arXiv:2206.11893); the released s42.py of
AI4HealthUOL/ecg-fm-benchmarking and s4d.py of state-spaces/s4 (Apache-2.0) (recipe-pretraining §3.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import _disable_current_modes, is_in_torch_dispatch_mode

from ecgscale.state_blocks import block_maps, block_weights, blocks_of, carried, powers_of

Kernel = Literal["dplr", "diagonal"]
Trained = Literal["CD", "all"]
Made = tuple[Tensor, ...]

STEP = (0.001, 0.1)  # range of dt, log-uniform
SMALL = 16  # states up to which blocks are faster than Fourier transforms on a CPU


def hippo_legs(state: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return w, P, B [state / 2] complex of HiPPO-LegS, A = diag(w) - P P*, in the basis that makes A + P P* diagonal.

    Source: Gu, Goel & Ré 2022, appendix C: A_nk = -sqrt((2n+1)(2k+1)) below the diagonal, -(n+1) on it;
    B_n = sqrt(2n+1), P_n = sqrt(n+1/2).
    """
    n = np.arange(state)
    root = np.sqrt(2 * n + 1.0)
    half = np.tril(np.outer(root, root), -1) / -2
    values, vectors = np.linalg.eigh(-1j * (half - half.T))
    top = values.argsort()[: state // 2 - 1 : -1]  # one of each pair, the fastest first
    basis = vectors[:, top].conj().T
    return -0.5 + 1j * values[top], basis @ np.sqrt(n + 0.5), basis @ root


class StateSpace(nn.Module):
    """One state space per channel, in one direction of time or both.

    Args:
        width: Channels.
        state: Real states per channel, even.
        causal: Forward only; otherwise a second C reads the future, k1_0 standing for the next sample.
        kernel: "dplr" or "diagonal", see above.
        trained: "CD" as released: A, P, B and dt are buffers, and k a fixed linear map of C; "all": parameters.
    """

    def __init__(
        self, width: int, state: int = 8, causal: bool = False, kernel: Kernel = "dplr", trained: Trained = "CD"
    ) -> None:
        super().__init__()
        self.fixed = trained == "CD"
        self.C = nn.Parameter(torch.empty(1 if causal else 2, width, state // 2, 2).normal_(std=math.sqrt(0.5)))
        self.D = nn.Parameter(torch.empty(width).normal_())
        self._keep("log_dt", torch.empty(width).uniform_(*map(math.log, STEP)))
        w = -0.5 + 1j * np.pi * np.arange(state // 2)
        if kernel == "dplr":
            w, p, b = hippo_legs(state)
            self._keep("P", _spread([p.real, p.imag], width))
            self._keep("B", _spread([b.real, b.imag], width))
        self._keep("log_decay", _spread([np.log(-w.real)], width).squeeze(-1))  # of -Re A, which stays negative
        self._keep("frequency", _spread([w.imag], width).squeeze(-1))
        self.constant_buffers = frozenset(name for name, _ in self.named_buffers())  # no teacher need follow these
        self._made = _Cache()

    def _keep(self, name: str, values: Tensor) -> None:
        if self.fixed:
            self.register_buffer(name, values)
        else:
            self.register_parameter(name, nn.Parameter(values))

    def forward(self, u: Tensor) -> Tensor:
        """Return y [batch, time, channel] of u [batch, time, channel], in the precision of the parameters.

        A CPU computes fixed state spaces of few states in blocks. Otherwise, and while operations are counted or
        traced, it is Fourier transforms: FLOPs mean those.
        """
        u = u.to(self.C.dtype)
        blocks = self.fixed and u.device.type == "cpu" and 2 * self.C.shape[2] <= SMALL
        with torch.autocast(u.device.type, enabled=False):
            if blocks and not is_in_torch_dispatch_mode() and not torch.jit.is_tracing():
                return self._in_blocks(u)
            return _Convolve.apply(u, self.kernel(u.shape[1]), self.D)

    def kernel(self, length: int) -> Tensor:
        """Return the kernels [channel, direction, length]."""
        if not self.fixed:
            return self._sampled(length)
        (basis,) = self._make(lambda step, start: (powers_of(step, start[:, :, None], length),), "basis", length)
        return torch.bmm(self._readout(), basis)

    def _sampled(self, length: int) -> Tensor:
        """Return the kernels by baby steps and giant steps, with T of the order of √length."""
        doublings = int(math.log2(length) / 2)
        baby = 2**doublings
        giant = -(-length // baby)
        if hasattr(self, "P"):
            step, start = self.discrete()
            columns, jump = _doubled(step, start[:, :, None], doublings)
            rows = powers_of(jump.mT, self._readout().mT, giant).mT.unflatten(1, (giant, -1)).transpose(1, 2)
        else:
            turn, start = _turn(*self._system())
            ticks = torch.arange(max(baby, giant), device=turn.device)[:, None]
            columns = _pairs(_exp(turn[:, None] * ticks[:baby])).mT  # channel state time
            c = (torch.view_as_complex(self.C) * start).transpose(0, 1)[:, :, None]
            rows = _pairs((c * _exp(turn[:, None] * (baby * ticks[:giant]))[:, None]).conj() * 2)
        return torch.bmm(rows.flatten(1, 2), columns).view(len(start), len(self.C), -1)[..., :length]

    def discrete(self) -> tuple[Tensor, Tensor]:
        """Return Ā [channel, state, state] and B̄ [channel, state], states as pairs (real, imaginary)."""
        return _discrete(*self._system())

    def _system(self) -> list[Tensor]:
        names = ("log_dt", "log_decay", "frequency", "P", "B")
        return [getattr(self, name) for name in names if hasattr(self, name)]

    def _make(self, make: Callable[[Tensor, Tensor], Made], *key: Any) -> Made:
        return self._made.get(self._system(), make, *key)

    def _readout(self) -> Tensor:
        """Return what multiplies the states: 2 Re and -2 Im of C [channel, direction, state]."""
        sign = torch.arange(2, -3, -4, dtype=self.C.dtype, device=self.C.device)  # 2, -2, made where it is used
        return (self.C * sign).flatten(2).transpose(0, 1)

    def _in_blocks(self, u: Tensor) -> Tensor:
        """Return y by blocks of samples (state_blocks.py): every step is one batched product without a copy."""
        batch, time, width = u.shape
        block, groups = blocks_of(time)
        two = len(self.C) == 2
        maps, into, *levels = self._make(
            lambda step, start: block_maps(step, start, block, groups, two), "blocks", block, groups
        )
        inside, outof = block_weights(torch.bmm(self._readout(), maps), self.D, block)
        padding = block * math.prod(groups) - time
        if padding:
            u = F.pad(u, (0, 0, 0, padding))
        x = _Turned.apply(u.reshape(-1, width)).view(width, -1, block)
        y = torch.bmm(x, inside)
        if levels:
            y = torch.baddbmm(y, carried(torch.bmm(x, into), levels), outof)
        y = y.view(width, batch, -1)
        return (y[..., :time] if padding else y).permute(1, 2, 0)


def _spread(parts: list[np.ndarray], width: int) -> Tensor:
    """Return the parts side by side, the same for every channel [channel, state, part]."""
    return torch.tensor(np.stack(parts, -1).tolist()).repeat(width, 1, 1)


def _discrete(
    log_dt: Tensor, log_decay: Tensor, frequency: Tensor, p: Tensor | None = None, b: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    if p is None or b is None:
        turn, start = _turn(log_dt, log_decay, frequency)
        return _block_diagonal(turn.exp()), _pairs(start)
    dt = log_dt.exp()[:, None]
    a = torch.complex(-log_decay.exp(), frequency)
    p, b = torch.view_as_complex(p), torch.view_as_complex(b)
    inverse = (1 - dt / 2 * a).reciprocal()
    out, row = inverse * p, inverse * p.conj()
    gain = dt / (1 + dt * (row * p).real.sum(1, keepdim=True))
    start = dt * (inverse * b - gain * (row * b).real.sum(1, keepdim=True) * out)
    solve = _block_diagonal(inverse) - _pairs(gain * out)[:, :, None] * _pairs(row.conj())[:, None]
    return 2 * solve - torch.eye(solve.shape[-1], dtype=solve.dtype, device=solve.device), _pairs(start)


def _turn(log_dt: Tensor, log_decay: Tensor, frequency: Tensor) -> tuple[Tensor, Tensor]:
    """Return dt A and B̄ of a diagonal state space, complex [channel, state / 2]."""
    a = torch.complex(-log_decay.exp(), frequency)
    turn = a * log_dt.exp()[:, None]
    return turn, (turn.exp() - 1) / a


def _exp(z: Tensor) -> Tensor:
    return torch.polar(z.real.exp(), z.imag)  # complex exp is many times slower on a CPU


def _doubled(step: Tensor, first: Tensor, times: int) -> tuple[Tensor, Tensor]:
    """Return Ā^t X for t < 2^times of X [channel, state, k], side by side, and Ā^(2^times)."""
    found = first
    for _ in range(times):
        found = torch.cat([found, step @ found], -1)
        step = step @ step
    return found, step


def _pairs(z: Tensor) -> Tensor:
    return torch.view_as_real(z.resolve_conj()).flatten(-2)


def _block_diagonal(z: Tensor) -> Tensor:
    """Return the matrices that multiply pairs by z [channel, n]: [channel, 2 n, 2 n]."""
    turns = torch.stack([z.real, -z.imag, z.imag, z.real], -1).unflatten(-1, (2, 2))  # channel n row column
    same = torch.eye(z.shape[1], dtype=turns.dtype, device=turns.device)
    return (turns.unsqueeze(3) * same[:, None, :, None]).flatten(3).flatten(1, 2)


class _Cache:
    """What follows from a fixed state space and a length, in float64 on the host, then as the parameters are.

    It is no state: copies and pickles start empty, and it is emptied once a buffer's values have changed.
    """

    def __init__(self) -> None:
        self.made: dict[Any, Made] = {}
        self.buffers: list[Tensor] = []
        self.versions: list[int] = []
        self.values: list[Tensor] = []

    def __reduce__(self) -> tuple[type[_Cache], tuple[()]]:
        return _Cache, ()

    def get(self, buffers: list[Tensor], make: Callable[[Tensor, Tensor], Made], *key: Any) -> Made:
        """Return `make` of the discrete state space; `key` names what is made."""
        with torch.inference_mode(False), torch.no_grad(), _disable_current_modes():
            self._refresh(buffers)
            if key not in self.made:
                step, start = _discrete(*(buffer.cpu().double() for buffer in buffers))
                self.made[key] = tuple(t.to(buffers[0]).contiguous() for t in make(step, start))
        return self.made[key]

    def _refresh(self, buffers: list[Tensor]) -> None:
        versions = [buffer._version for buffer in buffers]
        same = len(buffers) == len(self.buffers) and all(a is b for a, b in zip(buffers, self.buffers, strict=True))
        if same and versions == self.versions:
            return
        if not same or not all(map(torch.equal, buffers, self.values)):  # the same values written anew: a loaded state
            self.made, self.values = {}, [buffer.clone() for buffer in buffers]
        self.buffers, self.versions = buffers, versions


class _Turned(torch.autograd.Function):
    """The transpose of a matrix, in memory too, forward and backward: three times as fast as a permuted copy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.t().contiguous()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.t().contiguous()


class _Convolve(torch.autograd.Function):
    """y = k * u + D u over time by Fourier transforms of at least twice the length, and its gradient by three more."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, kernels: Tensor, d: Tensor) -> Tensor:
        """Convolve u [batch, time, channel] with kernels [channel, direction, time]; d [channel]."""
        time = u.shape[1]
        ctx.length, ctx.two = next_fast_len(2 * time, real=True), kernels.shape[1] == 2
        taps = F.pad(kernels[:, 0], (0, ctx.length - time))
        taps[:, 0] += d
        if ctx.two:
            taps[:, -time:] += kernels[:, 1].flip(-1)
        signal, filters = torch.fft.rfft(u.transpose(1, 2), ctx.length), torch.fft.rfft(taps)
        ctx.save_for_backward(signal, filters)
        return torch.fft.irfft(signal * filters, ctx.length)[..., :time].transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """Return the gradients of u, kernels and d."""
        signal, filters = ctx.saved_tensors
        time = gradient.shape[1]
        spectrum = torch.fft.rfft(gradient.transpose(1, 2), ctx.length)
        taps = torch.fft.irfft((spectrum * signal.conj()).sum(0), ctx.length)
        kernels = [taps[:, :time], taps[:, -time:].flip(-1)] if ctx.two else [taps[:, :time]]
        to_u = None
        if ctx.needs_input_grad[0]:
            to_u = torch.fft.irfft(spectrum * filters.conj(), ctx.length)[..., :time].transpose(1, 2)
        return to_u, torch.stack(kernels, 1), taps[:, 0].clone()
