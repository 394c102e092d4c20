"""Whole training steps of the self-supervised objectives on S4, forward to optimiser, against plain versions.

    python benchmarks/objectives.py --threads 1 --device cpu

The plain versions follow how the code released with arXiv:2605.12241 goes about it (recipe-pretraining §10), written
anew: masks drawn span by span and block by block in Python loops, CPC's negatives gathered as vectors, DinoSR's words
updated one by one, the teacher copied tensor by tensor, and a second, clean pass of the student whose result nobody
uses; the S4 kernel is summed over all Fourier nodes in every step (benchmarks/s4.py). They have ours' widths, losses
and numbers of targets. Prints records per second, the best of --repeats turns taken in alternation.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgscale.batch import Batch
from ecgscale.spec import part
from ecgscale.training.size import solve
from training import LEADS, SAMPLES, PlainS4, batches, begin, options, seconds

SPAN, START, NEGATIVES, HORIZON, CODES = 10, 0.065, 128, 14, 256


class PlainEncoder(nn.Module):
    """The textbook S4 with a mask token; returns stem tokens, context tokens and the layers' outputs."""

    def __init__(self, ours: Any) -> None:
        super().__init__()
        self.net = PlainS4(ours)
        self.width = self.net.width
        self.mask = nn.Parameter(torch.randn(self.width))

    def forward(self, batch: Batch, masked: Tensor | None = None) -> tuple[Tensor, Tensor, list[Tensor]]:
        z = self.net.stem(batch.signal).transpose(1, 2)
        x = z
        if masked is not None:
            x = x.clone()
            x[masked] = self.mask
        layers = []
        for layer, norm in zip(self.net.layers, self.net.norms, strict=True):
            layers.append(layer(x))
            x = norm(x + self.net.dropout(layers[-1].transpose(1, 2)).transpose(1, 2))
        return z, x, layers


def spans(batch: int, tokens: int) -> Tensor:
    """Draw spans one by one."""
    mask = torch.zeros(batch, tokens, dtype=torch.bool)
    for row in range(batch):
        for place in torch.nonzero(torch.rand(tokens) < START).flatten().tolist():
            mask[row, place : place + SPAN] = True
    return mask


class Plain(nn.Module):
    """What the plain objectives share: student, teacher and a clean pass."""

    def __init__(self, ours: Any, out: int, teacher: bool = True) -> None:
        super().__init__()
        self.student = PlainEncoder(ours)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False) if teacher else None
        self.head = nn.Linear(self.student.width, out)

    def after(self) -> None:
        """Move the teacher tensor by tensor."""
        if self.teacher is not None:
            with torch.no_grad():
                for a, b in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                    a.data = 0.9996 * a.data + 0.0004 * b.data

    def passes(self, batch: Batch, mask: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, list[Tensor]]]:
        """Return the head's output on the masked input, and what the teacher makes of the clean one."""
        with torch.no_grad():
            seen = self.teacher(batch)  # type: ignore[misc]
        self.student(batch)  # the clean pass that nobody uses
        return self.head(self.student(batch, mask.to(batch.signal.device))[1]), seen


class PlainCPC(Plain):
    """Negatives gathered as vectors."""

    def __init__(self, ours: Any) -> None:
        super().__init__(ours, ours.token_width, teacher=False)

    def forward(self, batch: Batch) -> Tensor:
        z, c, _ = self.student(batch)
        rows, tokens, _ = z.shape
        q, wanted = self.head(c[:, :-HORIZON]), z[:, HORIZON:]
        count = tokens - HORIZON
        place = torch.arange(HORIZON, tokens)[None, :, None]
        drawn = torch.randint(0, tokens - 1, (rows, count, NEGATIVES))
        drawn = drawn + (drawn >= place).long()
        others = z[torch.arange(rows)[:, None, None], drawn.to(z.device)]  # record position negative width
        candidates = torch.cat([wanted[:, :, None], others], 2)
        scores = (q[:, :, None] * candidates).sum(-1).flatten(0, 1)
        return F.cross_entropy(scores, scores.new_zeros(len(scores), dtype=torch.long))


class PlainJEPA(Plain):
    """Blocks drawn record by record."""

    def __init__(self, ours: Any) -> None:
        super().__init__(ours, ours.token_width)

    def forward(self, batch: Batch) -> Tensor:
        rows, tokens = len(batch), -(-SAMPLES // self.student.net.stem[0].stride[0])
        length, context = int(tokens * 0.175), int(tokens * 0.925)
        targets = torch.zeros(rows, 4, tokens, dtype=torch.bool)
        hidden = torch.ones(rows, tokens, dtype=torch.bool)
        for row in range(rows):
            start = int(torch.randint(0, tokens - context + 1, ()))
            hidden[row, start : start + context] = False
            for block in range(4):
                start = int(torch.randint(0, tokens - length + 1, ()))
                targets[row, block, start : start + length] = True
                hidden[row, start : start + length] = True
        h, (_, seen, _) = self.passes(batch, hidden)
        wanted = F.layer_norm(seen, seen.shape[-1:])
        parts = [F.smooth_l1_loss(h[row, targets[row, block]], wanted[row, targets[row, block]])
                 for row in range(rows) for block in range(4)]  # fmt: skip
        return torch.stack(parts).mean()


class PlainData2Vec(Plain):
    """Targets of the last two layers."""

    def __init__(self, ours: Any) -> None:
        super().__init__(ours, ours.token_width)

    def forward(self, batch: Batch) -> Tensor:
        mask = spans(len(batch), -(-SAMPLES // self.student.net.stem[0].stride[0]))
        h, (_, _, layers) = self.passes(batch, mask)
        target = sum(F.instance_norm(x.transpose(1, 2)).transpose(1, 2) for x in layers[-2:]) / 2
        return F.smooth_l1_loss(h[mask], target[mask], reduction="sum") / mask.sum() / h.shape[-1] ** 0.5


class PlainDinoSR(Plain):
    """Words updated one by one."""

    def __init__(self, ours: Any) -> None:
        super().__init__(ours, 2 * CODES)
        for name, value in (("sums", torch.randn(2, CODES, ours.token_width)), ("counts", torch.ones(2, CODES))):
            self.register_buffer(name, value)

    def forward(self, batch: Batch) -> Tensor:
        mask = spans(len(batch), -(-SAMPLES // self.student.net.stem[0].stride[0]))
        logits, (_, _, layers) = self.passes(batch, mask)
        total = logits.new_zeros(())
        for book, x in enumerate(layers[-2:]):
            features = F.instance_norm(x.transpose(1, 2)).transpose(1, 2)[mask]
            words = self.sums[book] / self.counts[book][:, None]
            ids = torch.cdist(features, words).argmin(-1)
            total = total + F.cross_entropy(logits.chunk(2, -1)[book][mask], ids)
            for word in range(CODES):
                mine = ids == word
                if mine.any():
                    self.sums[book, word] = 0.9 * self.sums[book, word] + 0.1 * features[mine].sum(0)
                    self.counts[book, word] = 0.9 * self.counts[book, word] + 0.1 * mine.sum()
        return total / 2


class PlainHuBERT(Plain):
    """Sinkhorn over both sets of prototypes."""

    def __init__(self, ours: Any) -> None:
        super().__init__(ours, 384)
        width = ours.token_width
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 384))
        self.register_buffer("first", F.normalize(torch.randn(128, width), dim=-1))
        self.register_buffer("second", F.normalize(torch.randn(256, width), dim=-1))

    def forward(self, batch: Batch) -> Tensor:
        mask = spans(len(batch), -(-SAMPLES // self.student.net.stem[0].stride[0]))
        logits, (_, seen, _) = self.passes(batch, mask)
        features = F.normalize(seen, dim=-1).flatten(0, 1)
        total = logits.new_zeros(())
        for name, own in zip(("first", "second"), logits.split((128, 256), -1), strict=True):
            prototypes = getattr(self, name)
            scores = features @ prototypes.T / 0.1
            share = (scores - scores.max(-1, keepdim=True).values).exp()
            for _ in range(3):
                share = share / (share.sum(0, keepdim=True) + 1e-8)
                share = share / (share.sum(1, keepdim=True) + 1e-8)
            share = share.view_as(own)
            for where, weight in ((mask, 0.75), (~mask, 0.25)):
                log = (own[where] / 0.3).log_softmax(-1)
                total = total + weight * F.kl_div(log, share[where], reduction="batchmean")
            entropy = -(own.softmax(-1) * own.log_softmax(-1)).sum(-1).mean()
            total = total + 0.001 * entropy
            moved = F.normalize(share.flatten(0, 1).T @ features, dim=-1)
            setattr(self, name, F.normalize(0.99 * prototypes + 0.01 * moved, dim=-1))
        return total


class PlainMAE(Plain):
    """Patches hidden one by one, rebuilt from the tokens."""

    def __init__(self, ours: Any) -> None:
        super().__init__(ours, ours.patch_width, teacher=False)
        width = self.student.width
        self.head = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, ours.patch_width))

    def forward(self, batch: Batch) -> Tensor:
        stride, length = self.student.net.stem[0].stride[0], 20
        hidden = torch.zeros(len(batch), SAMPLES, dtype=torch.bool)
        for row in range(len(batch)):
            for place in torch.randperm(SAMPLES // length)[: SAMPLES // length // 2].tolist():
                hidden[row, place * length : (place + 1) * length] = True
        signal = batch.signal.clone()
        for row in range(len(batch)):
            signal[row, :, hidden[row]] = 0
        shown = Batch(signal, *(getattr(batch, n) for n in
                      ("lead_ok", "beats", "record", "patient", "rate_hz", "labels", "labels_ok")))  # fmt: skip
        built = self.head(self.student(shown)[1]).unflatten(-1, (LEADS, stride)).transpose(1, 2).flatten(2)
        error = (built[..., :SAMPLES] - batch.signal).square()
        return error.transpose(1, 2)[hidden].mean()


PLAIN: dict[str, Callable[[Any], Plain]] = {
    "cpc": PlainCPC, "jepa": PlainJEPA, "data2vec": PlainData2Vec, "dinosr": PlainDinoSR, "hubert": PlainHuBERT,
    "mae": PlainMAE,
}  # fmt: skip


def ours_step(name: str, backbone: Any, device: str) -> Callable[[Batch], None]:
    """Return one training step of ours, as `training.pretrain` takes it."""
    objective = part("objectives", name).build(backbone).to(device).train()
    optimiser = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=1e-4, fused=True)

    def step(batch: Batch) -> None:
        optimiser.zero_grad(set_to_none=True)
        objective(batch, torch.Generator().manual_seed(0)).value.backward()
        optimiser.step()
        objective.after_step()

    return step


def plain_step(model: Plain, device: str) -> Callable[[Batch], None]:
    """Return one training step of a plain version."""
    model.to(device).train()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def step(batch: Batch) -> None:
        optimiser.zero_grad()
        model(batch).backward()
        optimiser.step()
        model.after()

    return step


def main() -> None:
    """Print the rows."""
    given = begin(options(__doc__, batches=2))
    print("| objective on s4 | N | ours | plain | ratio |\n|---|---|---|---|---|")
    data = batches(given.batch, given.batches, given.device)
    for N in given.sizes:
        for name, plain in PLAIN.items():
            torch.manual_seed(0)
            spec, achieved = solve(part("backbones", {"name": "s4", "causal": False}), N, LEADS, SAMPLES)
            backbone = spec.build(LEADS, SAMPLES)  # bidirectional for CPC too: the same work on both sides
            steps = [ours_step(name, backbone, given.device), plain_step(plain(backbone), given.device)]
            ours, theirs = (given.batch / t for t in seconds(steps, data, given.repeats))
            print(f"| {name} | {achieved:,} | {ours:,.1f}/s | {theirs:,.1f}/s | {ours / theirs:.2f} |", flush=True)


if __name__ == "__main__":
    main()
