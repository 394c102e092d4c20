"""A state space over blocks of samples: Toeplitz matrices inside a block, the state from block to block.

With S the state that enters a block of T samples and S' the one it leaves behind, i, j < T:

    y_i = C Ā^(i+1) S + sum of k_(i-j) u_j        S' = Ā^T S + sum of Ā^(T-1-j) B̄ u_j

and likewise backward in time. Blocks pass states on in groups, and groups in larger ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

GROUP = 8  # blocks whose states pass in one product
WIDE = 16  # columns that a product with a power of Ā takes at once


def powers_of(step: Tensor, first: Tensor, count: int) -> Tensor:
    """Return Ā^t X for t < count of X [channel, state, k], side by side [channel, state, count * k].

    By doubling up to `WIDE` columns, then so many at a time: squaring Ā once more would cost more.
    """
    found, wanted = first, count * first.shape[-1]
    while found.shape[-1] < min(wanted, WIDE):
        found = torch.cat([found, step @ found[..., : wanted - found.shape[-1]]], -1)
        if found.shape[-1] < wanted:
            step = step @ step
    parts = [found]
    while len(parts) * found.shape[-1] < wanted:
        parts.append(step @ parts[-1])
    return torch.cat(parts, -1)[..., :wanted]


def blocks_of(time: int) -> tuple[int, tuple[int, ...]]:
    """Return the samples of a block, how many blocks make a group, how many groups a larger one, ...: little work."""

    def work(block: int) -> float:
        padded = block * math.prod(_groups(-(-time // block)))
        return padded * (block + 1500 / block) * (1.2 if padded > time else 1)

    block = min(range(min(time, 24), min(time, 64) + 1), key=work)
    return block, _groups(-(-time // block))


def _groups(count: int) -> tuple[int, ...]:
    """Return numbers of at most 8 whose product is `count`, or little more."""
    if count <= GROUP:
        return (count,)
    first = min(range(GROUP, 3, -1), key=lambda size: -count % size)
    return first, *_groups(-(-count // first))


def block_maps(step: Tensor, start: Tensor, block: int, groups: tuple[int, ...], two: bool) -> tuple[Tensor, ...]:
    """Return what belongs to blocks of T samples.

    Returns:
        What multiplies C: Ā^t B̄ for t < T, then Ā^t for t <= T [channel, state, T + (T + 1) state]; what takes a block
        to the state it leaves behind [channel, T, direction * state]; and what `carried` multiplies with.
    """
    width, state = start.shape
    powers = powers_of(step, torch.eye(state).to(step).expand(width, -1, -1), block + 1)
    basis = (powers.reshape(width, -1, state) @ start[:, :, None]).view(width, state, -1)[..., :block]
    into = torch.cat([basis.flip(-1), basis], 1) if two else basis.flip(-1)
    levels: list[Tensor] = []
    jump = powers[..., -state:]
    for size in groups if math.prod(groups) > 1 else ():
        made, jump = _level(jump, size, two)
        levels += made
    return torch.cat([basis, powers], -1), into.mT, *levels[:-2]


def _level(jump: Tensor, size: int, two: bool) -> tuple[list[Tensor], Tensor]:
    """Return, for groups of `size` blocks of which one moves a state by `jump`, and states as rows:

    Returns:
        From the states left behind to those that enter each block [channel, size * states, size * states]; from there
        to the state the group leaves [channel, size * states, states]; from the state that enters it to those that
        enter its blocks [channel, states, size * states]; and the jump of the group.
    """
    width, state = jump.shape[:2]
    powers = powers_of(jump, torch.eye(state).to(jump).expand(width, -1, -1), size + 1)
    moves = powers.view(width, state, size + 1, state).permute(0, 2, 3, 1)  # channel power from to
    place = torch.arange(size, device=jump.device)
    ahead = (place[None] - place[:, None] - 1).clamp(min=-1) % (size + 1)  # from, to; the last stands for none
    some = torch.cat([moves[:, :size], torch.zeros_like(moves[:, :1])], 1)
    carry = _both(some[:, ahead], some[:, ahead.T], two).transpose(2, 3).flatten(1, 2).flatten(2)
    near, far = moves[:, :size], moves[:, :size].flip(1)
    up, down = _both(far, near, two).flatten(1, 2), _both(near, far, two).transpose(1, 2).flatten(2)
    return [carry, up, down], powers[..., -state:]


def _both(forward: Tensor, backward: Tensor, two: bool) -> Tensor:
    """Return block-diagonal matrices for the states of both directions, or the forward ones."""
    if not two:
        return forward
    none = torch.zeros_like(forward)
    return torch.cat([torch.cat([forward, none], -1), torch.cat([none, backward], -1)], -2)


def block_weights(read: Tensor, d: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Return the Toeplitz matrix inside a block [channel, from, to] and what reads the states that enter it
    [channel, direction * state, to], of C times the maps [channel, direction, ...] and D."""
    kernels, rows = read[..., :block], read[..., block:].unflatten(-1, (block + 1, -1))
    two = read.shape[1] == 2
    ahead = kernels[:, 1, : block - 1].flip(-1) if two else torch.zeros_like(kernels[:, 0, : block - 1])
    taps = torch.cat([ahead, kernels[:, 0, :1] + d[:, None], kernels[:, 0, 1:]], 1)
    outof = torch.cat([rows[:, 0, 1:], rows[:, 1, :-1].flip(1)], -1) if two else rows[:, 0, 1:]
    return taps.unfold(1, block, 1).flip(1), outof.mT


def carried(left: Tensor, levels: list[Tensor]) -> Tensor:
    """Return the states that enter each block, of those that each leaves behind [channel, batch * block, states]."""
    carry, *rest = levels
    grouped = left.view(len(left), -1, carry.shape[1])
    entering = torch.bmm(grouped, carry)
    if rest:
        up, down, *outer = rest
        entering = torch.baddbmm(entering, carried(torch.bmm(grouped, up), outer), down)
    return entering.view_as(left)
