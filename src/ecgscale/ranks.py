"""Processes (ranks) that train one model on one batch: which of its rows are here, and what all must agree on.

A step's batch is cut into as many runs of consecutive rows as there are ranks, and the objective runs on a rank's rows
inside `sharing`. There, a loss is this rank's *share*: the shares of all ranks add up to the loss of the whole batch,
and so do their gradients. Hence sums over the batch are divided by the whole batch's counts (`total`), and whatever
compares rows sees those of all ranks (`gather`, whose gradient adds up what every rank's share says of a row). Random
numbers are drawn for the whole batch and cut to the rows that are here (`cut`), so that any number of ranks
trains the same model up to rounding.

Outside `sharing`, and in a process of its own, every function here returns what it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True, slots=True)
class _Rows:
    """A whole batch's rows: how many, and the places of each rank's rows among them, in this rank's order."""

    total: int
    places: tuple[Tensor, ...]

    @property
    def mine(self) -> Tensor:
        return self.places[rank() if len(self.places) > 1 else 0]


_rows: list[_Rows] = []  # the innermost last


def rank() -> int:
    """Return this process's number among those that train together; 0 for one that trains alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def alone() -> bool:
    """Return whether the rows that are here are the whole batch."""
    return not _rows


@contextmanager
def sharing(total: int) -> Iterator[None]:
    """Let each rank have its run of a batch of `total` rows, at least one; nothing changes where there is one rank."""
    if count() == 1:
        yield
        return
    edges = [total * r // count() for r in range(count() + 1)]
    with _within(_Rows(total, tuple(torch.arange(*edge) for edge in pairwise(edges)))):
        yield


@contextmanager
def copies(times: int) -> Iterator[None]:
    """Say that the rows now stand under each other so many times, as `views.stack` puts them."""
    if alone():
        yield
        return
    now = _rows[-1]
    below = [torch.cat([places + now.total * i for i in range(times)]) for places in now.places]
    with _within(_Rows(now.total * times, tuple(below))):
        yield


@contextmanager
def among(members: Tensor) -> Iterator[Tensor]:
    """Work on some rows of the whole batch, of which perhaps none is here.

    Args:
        members: Their places in the whole batch [member] int64, on the CPU.

    Yields:
        Where those of them that are here stand in this rank's tensors.
    """
    if alone():
        yield members
        return
    here = torch.full((_rows[-1].total,), -1).scatter(0, _rows[-1].mine, torch.arange(len(_rows[-1].mine)))[members]
    with _within(_Rows(len(members), ((here >= 0).nonzero().squeeze(1),))):
        yield here[here >= 0]


@contextmanager
def _within(rows: _Rows) -> Iterator[None]:
    _rows.append(rows)
    try:
        yield
    finally:
        _rows.pop()


def part() -> slice:
    """Return which rows of a step's batch are this rank's."""
    return slice(None) if alone() else slice(int(_rows[-1].mine[0]), int(_rows[-1].mine[-1]) + 1)


def places(here: int) -> Tensor:
    """Return the places in the whole batch of the rows that are here, which are so many [row] int64."""
    return torch.arange(here) if alone() else _rows[-1].mine


def rows(here: int) -> int:
    """Return how many rows the whole batch has, of which so many are here."""
    return here if alone() else _rows[-1].total


def cut(make: Callable[[tuple[int, ...]], Tensor], shape: Sequence[int], at: int = 0) -> Tensor:
    """Return this rank's rows of a tensor made for the whole batch.

    Args:
        make: Makes it, given its shape.
        shape: The shape of this rank's rows.
        at: The axis of rows; it may hold several entries of a row, one after the other.
    """
    whole = list(shape)
    if alone():
        return make(tuple(whole))
    mine, total = _rows[-1].mine, _rows[-1].total
    each = whole[at] // len(mine) if len(mine) else 1
    whole[at] = total * each
    made = make(tuple(whole))
    return made.unflatten(at, (total, each)).index_select(at, mine.to(made.device)).flatten(at, at + 1)


@torch.no_grad()
def total(x: Tensor) -> Tensor:
    """Return the sum of every rank's x, without gradient."""
    return x if alone() else added(x)


def added(x: Tensor) -> Tensor:
    """Return the sum of every rank's x, without gradient, at any time."""
    if count() == 1:
        return x
    found = x.detach().clone()
    dist.all_reduce(found)
    return found


def share(value: Tensor) -> Tensor:
    """Return this rank's share of what every rank has computed from the whole batch."""
    return value if alone() else value / count()


def mean(x: Tensor) -> Tensor:
    """Return this rank's share of the mean of x [row, ...] over the rows of all ranks."""
    return x.mean() if alone() else x.sum() / (x.numel() // len(x) * _rows[-1].total)


def gather(x: Tensor) -> Tensor:
    """Return the rows [row, ...] of all ranks in their order."""
    if alone():
        return x
    found: Tensor = _Gather.apply(x)
    return found


def largest(number: int) -> int:
    """Return the largest number that a rank has."""
    if alone():
        return number
    found = torch.tensor(number)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return int(found)


def agreed(*numbers: float) -> tuple[float, ...]:
    """Return the numbers of the first rank, at any time."""
    if count() == 1:
        return numbers
    said = torch.tensor(numbers, dtype=torch.float64)
    dist.broadcast(said, 0)
    return tuple(said.tolist())


def wait() -> None:
    """Return once the first rank is here too, at any time."""
    agreed(0.0)


def whole(x: Tensor) -> Tensor:
    """Return a tensor of which each rank may hold a shard, at any time; every rank must ask."""
    return x.full_tensor() if hasattr(x, "full_tensor") else x


def local(x: Tensor) -> Tensor:
    """Return the shard of a tensor that this rank holds: all of it, unless it is sharded."""
    return x.to_local() if hasattr(x, "to_local") else x


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Return the rows of all ranks; those of a rank with fewer are padded on the way."""
        places = _rows[-1].places
        ctx.mine = places[rank()]
        most = max(len(p) for p in places)
        padded = x.new_zeros(most, *x.shape[1:], dtype=torch.uint8 if x.dtype == torch.bool else x.dtype)
        padded[: len(x)] = x
        found = [torch.empty_like(padded) for _ in places]
        dist.all_gather(found, padded)
        everyone = torch.cat([f[: len(p)] for f, p in zip(found, places, strict=True)])
        return everyone[torch.cat(places).argsort().to(x.device)].to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return what the shares of all ranks say of this rank's rows."""
        everyone = added(gradient.contiguous())
        return everyone[ctx.mine.to(everyone.device)]
