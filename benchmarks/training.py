"""Whole training steps of every backbone against a plain textbook version of it: forward, backward and optimiser.

    python benchmarks/training.py --threads 1 --device cpu

The textbook versions are what a researcher would write with torch.nn alone: Conv1d, BatchNorm1d, TransformerEncoder and
a padding mask over all places, attention written out, grouped Conv1d, the S4 kernel summed over all Fourier nodes in
every step (benchmarks/s4.py), AdamW as it comes. Widths and depths are those of ours at the asked size; parameters of
both are printed. Both minimise the same supervised loss on the same simulated batches of 12 leads × 10 s at 100 Hz.
Prints records per second, the best of --repeats turns taken in alternation.

With --precision bf16 ours runs under autocast, the textbook stays fp32. With --compile ours is compiled first, in the
turn that is not timed.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import date
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgscale.batch import Batch
from ecgscale.nn import head_count
from ecgscale.spec import part
from ecgscale.study.machine import set_up
from ecgscale.training.size import count, solve
from ecgscale.views import cut_beats, most_beats

sys.path.insert(0, str(Path(__file__).parent))
from s4 import Textbook

LEADS, SAMPLES, LABELS = 12, 1000, 6
MODES = ("default", "reduce-overhead", "max-autotune")  # of torch.compile
NAMES = ("resnet1d", "beat_transformer", "transformer", "s4", "net1d", "inception_time", "patchtst")


def batches(size: int, number: int, device: str) -> list[Batch]:
    """Return batches of noise with 8 to 16 beats a record."""
    made = []
    for i in range(number):
        g = torch.Generator().manual_seed(i)
        beats = torch.randint(8, 17, (size,), generator=g)
        places = (torch.arange(16) * SAMPLES // beats[:, None] + 20).masked_fill(torch.arange(16) >= beats[:, None], -1)
        batch = Batch(
            signal=torch.randn(size, LEADS, SAMPLES, generator=g), lead_ok=torch.ones(size, LEADS, dtype=torch.bool),
            beats=places.int(), record=torch.arange(size), patient=torch.arange(size), rate_hz=100.0,
            labels=(torch.rand(size, LABELS, generator=g) < 0.3).float(),
            labels_ok=torch.ones(size, LABELS, dtype=torch.bool),
        )  # fmt: skip
        made.append(batch.to(device))
    return made


class PlainStem(nn.Sequential):
    """Four convolutions with batch norm and ReLU over [batch, channel, time]."""

    def __init__(self, width: int, stride: int) -> None:
        layers: list[nn.Module] = []
        for i in range(4):
            how = (stride + 1, stride, stride // 2) if i == 0 else (1, 1, 0)
            layers += [nn.Conv1d(LEADS if i == 0 else width, width, *how, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
        super().__init__(*layers)


class PlainResNet(nn.Module):
    """Ribeiro's network."""

    def __init__(self, ours: Any) -> None:
        super().__init__()
        widths = [block.conv2.out_channels for block in ours.blocks]
        self.stem = nn.Sequential(nn.Conv1d(LEADS, widths[0], 17, padding=8, bias=False), nn.BatchNorm1d(widths[0]))
        self.blocks = nn.ModuleList()
        for before, width, stride in zip([widths[0], *widths], widths, (1, 4, 4, 4, 4), strict=False):
            first = nn.Sequential(
                nn.Conv1d(before, width, 17, padding=8, bias=False), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2),
                nn.Conv1d(width, width, 17, stride, padding=(17 - stride + 1) // 2, bias=False),
            )  # fmt: skip
            skip = nn.Sequential(
                nn.MaxPool1d(stride), nn.Conv1d(before, width, 1, bias=False) if before != width else nn.Identity()
            )
            last = nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2))
            self.blocks.append(nn.ModuleDict({"first": first, "skip": skip, "last": last}))
        self.width = widths[-1]

    def forward(self, batch: Batch) -> Tensor:
        x = y = self.stem(F.pad(batch.signal, (0, -SAMPLES % 256)))
        for block in self.blocks:
            y = block["first"](x) + block["skip"](y)
            x = block["last"](y)
        return x.mean(2)


class PlainBeats(nn.Module):
    """A TransformerEncoder over places for every beat of every lead."""

    def __init__(self, ours: Any) -> None:
        super().__init__()
        width, depth = ours.token_width, len(ours.encoder.blocks)
        self.embed = nn.Conv1d(96, width, 3, padding=1, bias=False)
        self.lead, self.second = nn.Embedding(16, width), nn.Embedding(16, width)
        layer = nn.TransformerEncoderLayer(
            width, head_count(width), round(4 * width / 3), 0.1, F.gelu, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.width = width

    def forward(self, batch: Batch) -> Tensor:
        beats = cut_beats(batch, LEADS * most_beats(SAMPLES))
        x = self.embed(beats.values.transpose(1, 2)).transpose(1, 2)
        x = x + self.lead(beats.lead) + self.second(beats.second.clamp(max=15))
        x = self.encoder(x, src_key_padding_mask=~beats.valid)
        weight = beats.valid[..., None].float()
        return (x * weight).sum(1) / weight.sum(1).clamp(min=1)


class PlainTransformer(nn.Module):
    """Stem and blocks with attention and rotation written out."""

    def __init__(self, ours: Any) -> None:
        super().__init__()
        width, depth = ours.token_width, len(ours.encoder.blocks)
        self.heads, self.width = ours.encoder.blocks[0].attention.heads, width
        self.stem = PlainStem(width, ours.stem.stride)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({
                "norm1": nn.LayerNorm(width), "norm2": nn.LayerNorm(width),
                **{name: nn.Linear(width, width) for name in "qkvo"},
                "up": nn.Linear(width, 4 * width), "down": nn.Linear(4 * width, width), "dropout": nn.Dropout(0.1),
            }) for _ in range(depth)
        )  # fmt: skip
        self.norm = nn.LayerNorm(width)

    def forward(self, batch: Batch) -> Tensor:
        x = self.stem(batch.signal).transpose(1, 2)
        half = self.width // self.heads // 2
        angle = torch.arange(x.shape[1], device=x.device)[:, None] * 1e4 ** -(
            torch.arange(half, device=x.device) / half
        )
        for block in self.blocks:
            h = block["norm1"](x)
            q, k, v = (block[name](h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for name in "qkv")
            q, k = _turned(q, angle), _turned(k, angle)
            weights = block["dropout"]((q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1))
            x = x + block["dropout"](block["o"]((weights @ v).transpose(1, 2).flatten(2)))
            inner = block["dropout"](F.gelu(block["up"](block["norm2"](x))))
            x = x + block["dropout"](block["down"](inner))
        return self.norm(x).mean(1)


def _turned(x: Tensor, angle: Tensor) -> Tensor:
    u, v = x.chunk(2, -1)
    return torch.cat([u * angle.cos() - v * angle.sin(), v * angle.cos() + u * angle.sin()], -1)


class PlainS4(nn.Module):
    """Stem and textbook S4 layers."""

    def __init__(self, ours: Any) -> None:
        super().__init__()
        self.stem = PlainStem(ours.token_width, ours.stem.stride)
        length = -(-SAMPLES // ours.stem.stride)
        self.layers = nn.ModuleList(Textbook(block.layer, length) for block in ours.blocks)
        self.norms = nn.ModuleList(nn.LayerNorm(ours.token_width) for _ in ours.blocks)
        self.dropout, self.width = nn.Dropout1d(0.2), ours.token_width

    def forward(self, batch: Batch) -> Tensor:
        x = self.stem(batch.signal).transpose(1, 2)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = norm(x + self.dropout(layer(x).transpose(1, 2)).transpose(1, 2))
        return x.mean(1)


class PlainNet1d(nn.Module):
    """Stem and grouped convolutions with squeeze and excitation."""

    def __init__(self, ours: Any) -> None:
        super().__init__()
        self.stem = PlainStem(ours.token_width, ours.stem.stride)
        first = ours.stages.first
        self.first = nn.Conv1d(first.in_channels, first.out_channels, 16, padding="same")
        self.blocks = nn.ModuleList()
        for block in ours.stages.blocks:
            width = block.conv2.out_channels
            self.blocks.append(nn.ModuleDict({
                "a": nn.Conv1d(block.conv1.in_channels, width, 1),
                "b": nn.Conv1d(width, width, 16, padding="same", groups=block.conv2.groups),
                "c": nn.Conv1d(width, width, 1),
                "down": nn.Linear(width, width // 2), "up": nn.Linear(width // 2, width),
            }))  # fmt: skip
        self.width = ours.token_width

    def forward(self, batch: Batch) -> Tensor:
        x = F.silu(self.first(self.stem(batch.signal)))
        for i, block in enumerate(self.blocks):
            y = block["c"](F.silu(block["b"](F.silu(block["a"](F.silu(x) if i else x)))))
            y = y * block["up"](F.silu(block["down"](y.mean(2)))).sigmoid()[..., None]
            more = y.shape[1] - x.shape[1]
            x = F.pad(x, (0, 0, more // 2, more - more // 2)) + y
        return x.mean(2)


class PlainInception(nn.Module):
    """InceptionTime with Conv1d over [batch, channel, time]."""

    def __init__(self, ours: Any) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for module in ours.inceptions:
            before, narrow = module.bottleneck.in_features, module.bottleneck.out_features
            convs = [nn.Conv1d(narrow, c.out_channels, c.kernel_size[1], padding="same", bias=False)
                     for c in module.convs]  # fmt: skip
            maxima = nn.Sequential(nn.MaxPool1d(3, 1, 1), nn.Conv1d(before, module.maxima.out_features, 1, bias=False))
            self.blocks.append(nn.ModuleDict({
                "narrow": nn.Conv1d(before, narrow, 1, bias=False), "convs": nn.ModuleList(convs), "maxima": maxima,
                "norm": nn.BatchNorm1d(ours.token_width),
            }))  # fmt: skip
        self.skips = nn.ModuleList(
            nn.Sequential(nn.Conv1d(s.in_features, ours.token_width, 1, bias=False), nn.BatchNorm1d(ours.token_width))
            for s in ours.skips
        )
        self.width = ours.token_width

    def forward(self, batch: Batch) -> Tensor:
        x = start = batch.signal
        for i, block in enumerate(self.blocks):
            narrow = block["narrow"](x)
            x = F.relu(block["norm"](torch.cat([*(conv(narrow) for conv in block["convs"]), block["maxima"](x)], 1)))
            if i % 3 == 2:
                x = start = F.relu(x + self.skips[i // 3](start))
        return x.mean(2)


class PlainPatches(nn.Module):
    """PatchTST with torch's TransformerEncoder and learned positions."""

    def __init__(self, ours: Any) -> None:
        super().__init__()
        width, depth = ours.token_width, len(ours.encoder.blocks)
        self.patch, self.width = ours.patch, width
        self.embed = nn.Linear(ours.patch, width)
        self.position = nn.Parameter(torch.randn(-(-SAMPLES // ours.patch), width) * 0.02)
        heads = ours.encoder.blocks[0].attention.heads
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, 0.2, F.gelu, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, batch: Batch) -> Tensor:
        cut = F.pad(batch.signal, (0, -SAMPLES % self.patch)).unflatten(-1, (-1, self.patch)).flatten(0, 1)
        return self.encoder(self.embed(cut) + self.position).unflatten(0, (-1, LEADS)).mean((1, 2))


PLAIN: dict[str, Callable[[Any], nn.Module]] = {
    "resnet1d": PlainResNet, "beat_transformer": PlainBeats, "transformer": PlainTransformer, "s4": PlainS4,
    "net1d": PlainNet1d, "inception_time": PlainInception, "patchtst": PlainPatches,
}  # fmt: skip


def ours_step(backbone: Any, device: str, bf16: bool, compiled: str | None = None) -> Callable[[Batch], None]:
    """Return one training step of our backbone under the supervised objective, as `training.pretrain` takes it, or with
    the objective compiled in a mode of `torch.compile`."""
    objective = part("objectives", {"name": "supervised", "labels": [str(i) for i in range(LABELS)]}).build(backbone)
    objective.to(device).train()
    optimiser = torch.optim.AdamW(objective.parameters(), lr=1e-4, fused=True)
    forward = objective if compiled is None else torch.compile(objective, mode=compiled)

    def step(batch: Batch) -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16) if bf16 else nullcontext():
            loss = forward(batch, torch.Generator()).value
        loss.backward()
        optimiser.step()

    return step


def plain_step(model: Any, device: str) -> Callable[[Batch], None]:
    """Return one training step of a textbook model with a linear head."""
    head = nn.Linear(model.width, LABELS)
    whole = nn.ModuleList([model, head]).to(device).train()
    optimiser = torch.optim.AdamW(whole.parameters(), lr=1e-4)

    def step(batch: Batch) -> None:
        optimiser.zero_grad()
        F.binary_cross_entropy_with_logits(head(model(batch)), batch.labels).backward()
        optimiser.step()

    return step


def seconds(steps: list[Callable[[Batch], None]], data: list[Batch], repeats: int) -> list[float]:
    """Return the best time per batch of each, in turns."""
    best = [float("inf")] * len(steps)
    for turn in range(repeats + 1):
        for i, step in enumerate(steps):
            start = time.perf_counter()
            for batch in data:
                step(batch)
            if data[0].signal.device.type == "cuda":
                torch.cuda.synchronize()
            if turn:
                best[i] = min(best[i], (time.perf_counter() - start) / len(data))
    return best


def options(doc: str | None, batches: int) -> argparse.ArgumentParser:
    """Return a parser of what every benchmark of whole steps takes."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0] if doc else None)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--batch", type=int, default=16, help="records")
    parser.add_argument("--batches", type=int, default=batches)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 1_000_000], help="parameters")
    return parser


def begin(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the options, with the process set up as a run is trained, and print the machine."""
    given = parser.parse_args()
    set_up(given.threads)
    machine = torch.cuda.get_device_name() if given.device == "cuda" else platform.processor() or platform.machine()
    print(f"{date.today()}, {machine}, {os.cpu_count()} cores, {given.threads} threads, torch {torch.__version__}")
    return given


def main() -> None:
    """Print the rows."""
    parser = options(__doc__, batches=3)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--backbones", nargs="+", default=NAMES)
    parser.add_argument("--compile", choices=MODES, help="ours under torch.compile; reduce-overhead: CUDA graphs")
    given = begin(parser)
    print("| backbone | N, ours | N, textbook | ours | textbook | ratio |\n|---|---|---|---|---|---|")
    data = batches(given.batch, given.batches, given.device)
    for N in given.sizes:
        for name in given.backbones:
            torch.manual_seed(0)
            spec, _ = solve(part("backbones", name), N, LEADS, SAMPLES)
            backbone = spec.build(LEADS, SAMPLES)
            plain = PLAIN[name](backbone)
            sizes = count(backbone), count(plain)
            mine = ours_step(backbone, given.device, given.precision == "bf16", given.compile)
            steps = [mine, plain_step(plain, given.device)]
            ours, theirs = (given.batch / t for t in seconds(steps, data, given.repeats))
            print(f"| {name} | {sizes[0]:,} | {sizes[1]:,} | {ours:,.0f}/s | {theirs:,.0f}/s | {ours / theirs:.2f} |",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
