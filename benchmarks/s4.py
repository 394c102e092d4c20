"""Forward and backward of one S4 layer against plain textbook implementations of it.

    python benchmarks/s4.py --threads 1 --device cpu --kernel diagonal --state 64

All are bidirectional layers in training mode on the same batch of tokens [batch, time, channel], with the same
parameters; their outputs are compared first. The textbook makes its kernel anew in every step: "dplr" by the complex
Cauchy sum over the nodes of a Fourier transform (Gu, Goel & Ré 2022, algorithm 1), "diagonal" by the Vandermonde
product 2 Re(sum of C B̄ exp(dt A l)) with every exponential in memory (Gu et al. 2022, S4D). Its convolution is the FFT
of twice the length under autograd. Each is timed with C and D trained, as released, and with everything trained, as
the whole layer and without the dropout, GELU, linear map and GLU that follow. Prints records per second, the best of
--repeats turns taken in alternation, and ours as a multiple of the textbook's.
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

from ecgscale.s4_layers import S4Layer
from ecgscale.state_space import StateSpace
from ecgscale.study.machine import set_up

LENGTHS = (300, 600, 1200, 2400)
WIDTHS = (256, 512)
DROPOUT = 0.2


class TextbookSpace(nn.Module):
    """Kernel and convolution as the papers write them, for one length, with the parameters of one of ours."""

    def __init__(self, space: StateSpace, length: int) -> None:
        super().__init__()
        self.length, self.dplr = length, hasattr(space, "P")
        c = space.C.detach()
        if self.dplr:
            c = torch.view_as_real(_for_length(c, space.discrete()[0].detach(), length))
        self.c, self.d = nn.Parameter(c.clone()), nn.Parameter(space.D.detach().clone())
        for name in ("log_dt", "log_decay", "frequency", *(("P", "B") if self.dplr else ())):
            self.register_parameter(name, nn.Parameter(getattr(space, name).detach().clone(), not space.fixed))

    def kernel(self) -> Tensor:
        """Return the kernels [direction, channel, time]."""
        w, dt = torch.complex(-self.log_decay.exp(), self.frequency), self.log_dt.exp()
        c = torch.view_as_complex(self.c)
        return self._cauchy(w, dt, c) if self.dplr else self._vandermonde(w, dt, c)

    def _vandermonde(self, w: Tensor, dt: Tensor, c: Tensor) -> Tensor:
        turn = w * dt[:, None]
        powers = torch.exp(turn[..., None] * torch.arange(self.length, device=w.device))  # channel state time
        return 2 * torch.einsum("dhn,hnl->dhl", c * ((turn.exp() - 1) / w), powers).real

    def _cauchy(self, w: Tensor, dt: Tensor, c: Tensor) -> Tensor:
        w, p, b, c = (torch.cat([x, x.conj()], -1) for x in (w, *map(torch.view_as_complex, (self.P, self.B)), c))
        nodes = torch.exp(-2j * torch.pi * torch.arange(self.length // 2 + 1, device=c.device) / self.length)
        cauchy = 1 / (2 / dt[:, None, None] * (1 - nodes) - w[..., None] * (1 + nodes))  # channel state node
        k00 = ((c * b)[..., None] * cauchy).sum(-2)
        k01 = ((c * p)[..., None] * cauchy).sum(-2)
        k10 = ((p.conj() * b)[..., None] * cauchy).sum(-2)
        k11 = ((p.conj() * p)[..., None] * cauchy).sum(-2)
        return torch.fft.irfft(2 * (k00 - k01 * k10 * (1 + nodes) / (1 + k11 * (1 + nodes))), self.length)

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch, channel, time], as it lies in memory, of x [batch, time, channel]."""
        u, n = x.transpose(1, 2), 2 * self.length
        ahead, behind = self.kernel()
        kernel = F.pad(ahead, (0, self.length)) + F.pad(behind.flip(-1), (self.length, 0))
        y = torch.fft.irfft(torch.fft.rfft(u, n) * torch.fft.rfft(kernel, n), n)[..., : self.length]
        return y + self.d[:, None] * u


class Textbook(nn.Module):
    """The layer on it."""

    def __init__(self, layer: S4Layer, length: int) -> None:
        super().__init__()
        self.space = TextbookSpace(layer.space, length)
        self.out = nn.Conv1d(layer.out.in_features, layer.out.out_features, 1)
        self.out.load_state_dict({"weight": layer.out.weight.unsqueeze(-1), "bias": layer.out.bias})
        self.dropout = nn.Dropout1d(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch, time, channel]."""
        return F.glu(self.out(self.dropout(F.gelu(self.space(x)))), 1).transpose(1, 2)


class OurSpace(nn.Module):
    """Ours with the output as it lies in memory, [channel, batch, time]."""

    def __init__(self, space: StateSpace) -> None:
        super().__init__()
        self.space = space

    def forward(self, x: Tensor) -> Tensor:
        """Return [channel, batch, time] of x [batch, time, channel]."""
        return self.space(x).permute(2, 0, 1)


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


def stepper(module: nn.Module, x: Tensor) -> Callable[[], None]:
    """Return a function that runs forward and backward, to the input too."""
    with torch.no_grad():
        gradient = torch.randn(module(x).shape, device=x.device)

    def step() -> None:
        module.zero_grad()
        module(x.detach().requires_grad_()).backward(gradient)

    return step


def layers(width: int, state: int, length: int, kernel: str, device: str) -> list[tuple[Textbook, S4Layer]]:
    """Return textbook and ours with C and D trained, and with everything trained: all the same function."""
    torch.manual_seed(0)
    ours = S4Layer(StateSpace(width, state, kernel=kernel), DROPOUT)
    free = S4Layer(StateSpace(width, state, kernel=kernel, trained="all"), DROPOUT)
    free.load_state_dict(ours.state_dict())
    return [(Textbook(layer, length).to(device), layer.to(device)) for layer in (ours, free)]


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--batch", type=int, default=16, help="records")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--state", type=int, default=8, help="real states per channel; S4's own default is 64")
    parser.add_argument("--kernel", nargs="+", default=["dplr", "diagonal"], choices=["dplr", "diagonal"])
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    return parser.parse_args()


def table(kernel: str, given: argparse.Namespace) -> None:
    """Print the rows of one kernel."""
    print(f"\n{kernel}, {given.state} states, {given.batch} records\n")
    print("| tokens | width | part | textbook, C and D | ours | textbook, all | ours | apart |\n" + "|---" * 8 + "|")
    for length in given.lengths:
        for width in given.widths:
            x = torch.randn(given.batch, length, width, device=given.device)
            pairs = layers(width, given.state, length, kernel, given.device)
            made: list[nn.Module] = [layer for pair in pairs for layer in pair]
            with torch.no_grad():
                first, *others = (layer.eval()(x) for layer in made)
            apart = max(float((other - first).abs().max()) for other in others)
            for layer in made:
                layer.train()
            made += [part for book, ours in pairs for part in (book.space, OurSpace(ours.space))]
            times = seconds([stepper(module, x) for module in made], given.repeats, given.device)
            for part, found in (("layer", times[:4]), ("kernel and convolution only", times[4:])):
                rates = [f"{given.batch / t:,.0f}/s" for t in found]
                for i in (1, 3):
                    rates[i] += f" ({found[i - 1] / found[i]:.1f} ×)"
                print(f"| {length} | {width} | {part} | {' | '.join(rates)} | {apart:.0e} |", flush=True)


def main() -> None:
    """Print the tables."""
    given = parse()
    set_up(given.threads)  # as a run is trained
    machine = torch.cuda.get_device_name() if given.device == "cuda" else platform.processor() or platform.machine()
    print(f"{date.today()}, {machine}, {os.cpu_count()} cores, {given.threads} threads, torch {torch.__version__}")
    for kernel in given.kernel:
        table(kernel, given)


if __name__ == "__main__":
    main()
