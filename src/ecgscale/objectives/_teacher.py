"""The teacher of self-distillation, and counters that cost no synchronisation.

The canonical teacher starts as a copy of the student, stays in eval mode and follows by an exponential moving average
after every optimiser step; buffers that are averages themselves (batch norm's) follow likewise, and those that a module
names in `constant_buffers` stay as they are. "frozen_random" is what the released code of arXiv:2605.12241 trains
against (recipe-pretraining §4.6): another random initialisation that never moves, in train mode, since neither its copy
nor its update matches a key.

Sources: Tarvainen & Valpola 2017; Baevski et al. 2022 (data2vec) for the linear momentum ramp.
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor, nn

from ecgscale import ranks
from ecgscale.backbones import Backbone, Tokens
from ecgscale.batch import Batch

Kind = Literal["ema", "frozen_random"]


class Updates(nn.Module):
    """How many optimiser steps an objective has seen: on the host, so that nothing waits for a device, and in the
    state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def get_extra_state(self) -> Tensor:
        """Return the count for the state dict."""
        return torch.tensor(self.count)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the count from a state dict."""
        self.count = int(state)


class Teacher(nn.Module):
    """A second backbone without gradient.

    Args:
        student: The backbone under training.
        kind: "ema" follows it, "frozen_random" is another random network.
        momentum: Share of the teacher that stays in one step.
        final: Momentum from step `ramp` on, reached linearly; None = `momentum` throughout.
        ramp: Steps of that change.
    """

    def __init__(
        self, student: Backbone, kind: Kind, momentum: float, final: float | None = None, ramp: int = 0
    ) -> None:
        super().__init__()
        self.kind, self.start, self.final, self.ramp = kind, momentum, momentum if final is None else final, ramp
        self.backbone = copy.deepcopy(student) if kind == "ema" else student.twin()
        self.backbone.requires_grad_(False)
        self.updates = Updates()
        self.constant = frozenset(
            f"{prefix}.{name}".lstrip(".")
            for prefix, module in self.backbone.named_modules()
            for name in getattr(module, "constant_buffers", ())
        )
        self.train(self.training)

    def train(self, mode: bool = True) -> Teacher:
        """Stay in eval mode, whatever the student's; a frozen random teacher follows the student's, as released."""
        super().train(mode)
        self.backbone.train(mode and self.kind == "frozen_random")
        return self

    @property
    def momentum(self) -> float:
        """The momentum of the next update."""
        share = min(self.updates.count / self.ramp, 1.0) if self.ramp else 1.0
        return self.start + (self.final - self.start) * share

    @torch.no_grad()
    def tokens(self, batch: Batch, layers: bool = False) -> Tokens:
        """Return the teacher's tokens of the whole batch; `layers`: with what each block added."""
        return self.backbone.tokens(batch, layers=layers)

    @torch.no_grad()
    def follow(self, student: Backbone) -> None:
        """Move by one optimiser step of the student."""
        weight = 1 - self.momentum
        self.updates.count += 1
        if self.kind == "frozen_random":
            return
        mine, theirs = self._state(self.backbone), self._state(student)
        floats = [(a, b) for a, b in zip(mine, theirs, strict=True) if a.is_floating_point()]
        torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], weight)
        for a, b in zip(mine, theirs, strict=True):
            if not a.is_floating_point():
                a.copy_(b)

    @torch.no_grad()
    def distance(self, student: Backbone) -> Tensor:
        """Return how far the student's parameters are from the teacher's, relative to the teacher's norm."""
        pairs = list(zip(student.parameters(), self.backbone.parameters(), strict=True))
        apart = torch.stack([ranks.whole((a - b).square().sum()) for a, b in pairs]).sum()
        return (apart / torch.stack([ranks.whole(b.square().sum()) for _, b in pairs]).sum()).sqrt()

    def _state(self, backbone: Backbone) -> list[Tensor]:
        buffers = [buffer for name, buffer in backbone.named_buffers() if name not in self.constant]
        return [*map(ranks.local, backbone.parameters()), *buffers]
