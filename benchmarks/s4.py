"""Forward and backward of one S4 layer against a plain textbook implementation of it.

    python benchmarks/s4.py --threads 1 --device cpu

Both are bidirectional layers in training mode, on the same batch of tokens [batch, time, channel]
and with the same parameters; their outputs are compared first. The textbook's kernel is the complex Cauchy sum over the
nodes of a Fourier transform (Gu, Goel & Ré 2022, algorithm 1), in every step, its convolution the FFT of twice the
length under autograd. Ours is timed with C and D trained, as released, and with everything trained. Prints records per
second, the best of --repeats turns taken in alternation, and how many times the textbook's that is.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from datetime import date

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgscale.state_space import S4Layer, StateSpace
from ecgscale.study.work import set_up

LENGTHS = (300, 600, 1200, 2400)
WIDTHS = (256, 512)
DROPOUT = 0.2


class Textbook(nn.Module):
    """The layer as the paper's algorithm reads, for one length, with the parameters of one of ours."""

    def __init__(self, layer: S4Layer, length: int) -> None:
        super().__init__()
        space = layer.space
        self.length = length
        w = torch.complex(-space.log_decay.exp(), space.frequency)
        p, b = torch.view_as_complex(space.P), torch.view_as_complex(space.B)
        both = [torch.cat([half, half.conj()], -1).detach() for half in (w, p, b)]
        step, _ = space.discrete()
        c = _for_length(space.C.detach(), step, length)
        self.w, self.p, self.b = both
        self.c = nn.Parameter(torch.view_as_real(c))
        self.d = nn.Parameter(space.D.detach().clone())
        self.dt = space.log_dt.exp()
        self.out = nn.Conv1d(len(space.D), 2 * len(space.D), 1)
        self.out.load_state_dict({"weight": layer.out.weight.unsqueeze(-1), "bias": layer.out.bias})
        self.dropout = nn.Dropout1d(DROPOUT)

    def kernel(self) -> Tensor:
        """Return the kernels [direction, channel, time]."""
        half = torch.view_as_complex(self.c)
        c = torch.cat([half, half.conj()], -1)
        nodes = torch.exp(-2j * torch.pi * torch.arange(self.length // 2 + 1, device=c.device) / self.length)
        cauchy = 1 / (2 / self.dt[:, None, None] * (1 - nodes) - self.w[..., None] * (1 + nodes))  # channel state node
        k00 = ((c * self.b)[..., None] * cauchy).sum(-2)
        k01 = ((c * self.p)[..., None] * cauchy).sum(-2)
        k10 = ((self.p.conj() * self.b)[..., None] * cauchy).sum(-2)
        k11 = ((self.p.conj() * self.p)[..., None] * cauchy).sum(-2)
        return torch.fft.irfft(2 * (k00 - k01 * k10 * (1 + nodes) / (1 + k11 * (1 + nodes))), self.length)

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch, time, channel]."""
        u = x.transpose(1, 2)
        ahead, behind = self.kernel()
        kernel = F.pad(ahead, (0, self.length)) + F.pad(behind.flip(-1), (self.length, 0))
        n = 2 * self.length
        y = torch.fft.irfft(torch.fft.rfft(u, n) * torch.fft.rfft(kernel, n), n)[..., : self.length]
        y = self.dropout(F.gelu(y + self.d[:, None] * u))
        return F.glu(self.out(y), 1).transpose(1, 2)


def _for_length(c: Tensor, step: Tensor, length: int) -> Tensor:
    """Return C (1 - Ā^length) [direction, channel, pair] complex, of C [direction, channel, pair, 2]."""
    sign = c.new_tensor([1.0, -1.0])
    rows = (c * sign).flatten(2).transpose(0, 1).double()
    whole = torch.eye(step.shape[-1]).to(rows) - torch.linalg.matrix_power(step.double(), length)
    made = (rows @ whole).transpose(0, 1).to(c.dtype).unflatten(-1, (-1, 2)) * sign
    return torch.view_as_complex(made.contiguous())


def seconds(work: list[Callable[[], None]], repeats: int, device: str) -> list[float]:
    """Return the best time of each, in turns."""
    best = [float("inf")] * len(work)
    for turn in range(repeats + 2):  # two turns to warm up
        for i, each in enumerate(work):
            start = time.perf_counter()
            each()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn > 1:
                best[i] = min(best[i], time.perf_counter() - start)
    return best


def stepper(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    """Return a function that runs forward and backward, to the input too."""

    def step() -> None:
        layer.zero_grad()
        leaf = x.detach().requires_grad_()
        layer(leaf).backward(x)

    return step


def layers(width: int, state: int, length: int, device: str) -> list[nn.Module]:
    """Return the textbook layer, ours, and ours with everything trained: the same function."""
    torch.manual_seed(0)
    ours = S4Layer(StateSpace(width, state), DROPOUT)
    free = S4Layer(StateSpace(width, state, trained="all"), DROPOUT)
    free.load_state_dict(ours.state_dict())
    ours, free = ours.to(device), free.to(device)
    return [Textbook(ours, length), ours, free]


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--batch", type=int, default=16, help="records")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--state", type=int, default=8, help="real states per channel; S4's own default is 64")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    given = parser.parse_args()
    set_up(given.threads)  # as a run is trained
    machine = torch.cuda.get_device_name() if given.device == "cuda" else platform.processor() or platform.machine()
    print(f"{date.today()}, {machine}, {os.cpu_count()} cores, {given.threads} threads, torch {torch.__version__}")
    print("| tokens | width | textbook | ours, C and D | ours, all | apart |\n|---|---|---|---|---|---|")
    for length in given.lengths:
        for width in given.widths:
            x = torch.randn(given.batch, length, width, device=given.device)
            made = [layer.to(given.device) for layer in layers(width, given.state, length, given.device)]
            with torch.no_grad():
                first, *others = (layer.eval()(x) for layer in made)
            apart = max(float((other - first).abs().max()) for other in others)
            times = seconds([stepper(layer.train(), x) for layer in made], given.repeats, given.device)
            rates = [f"{given.batch / t:,.0f}/s ({times[0] / t:.1f} ×)" for t in times]
            print(f"| {length} | {width} | {' | '.join(rates)} | {apart:.0e} |", flush=True)


if __name__ == "__main__":
    main()
