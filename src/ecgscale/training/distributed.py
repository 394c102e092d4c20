"""One run by several processes: who they are, how the model is spread over them, and its state as one process has it.

torchrun's environment (RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT) says who they are. Each holds the whole
model and they add up their gradients (DistributedDataParallel), or each holds a shard of it and of its optimiser
(fully_shard). Every rank's loss is its share of the whole batch's (see `ranks`), so gradients are summed; torch
averages them, hence the factor in `Spread.backward`. What is kept on disk does not depend on the number of processes.

Sources: Li et al. 2020, PyTorch Distributed, VLDB; Zhao et al. 2023, PyTorch FSDP, VLDB.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ecgscale import ranks
from ecgscale.batch import Batch
from ecgscale.objectives import Loss, Objective
from ecgscale.spec import Explained
from ecgscale.training.batch_norm import share_batch_norms

UNITS = ("blocks", "inceptions")  # lists of layers that are gathered one at a time where a model is sharded


class DistributedError(Explained, RuntimeError):
    """A run cannot be shared by so many processes."""


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Join the other processes that torchrun has started, and leave them at the end.

    Args:
        device: "cpu" (gloo) or "cuda" (NCCL, one GPU per process of a machine; gloo for what stays on the host).

    Raises:
        DistributedError: the environment is not torchrun's, or there are fewer GPUs than processes.
    """
    missing = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise DistributedError(f"{missing[0]} is not in the environment: start the processes with torchrun")
    if device != "cpu":
        place = int(os.environ.get("LOCAL_RANK", "0"))
        if place >= torch.cuda.device_count():
            raise DistributedError(
                f"process {place} of this machine has no GPU of its own, {torch.cuda.device_count()} are there: "
                "start as many processes as GPUs"
            )
        torch.cuda.set_device(place)
    dist.init_process_group("gloo" if device == "cpu" else "cpu:gloo,cuda:nccl")
    try:
        yield
    finally:
        dist.destroy_process_group()


class _Whole(nn.Module):
    """An objective as the one module whose forward reaches every parameter."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, batch: Batch, generator: torch.Generator | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return loss and parts; without a generator the features [record, width], and no parts."""
        if generator is None:
            return self.objective.backbone.encode(batch), {}
        loss = self.objective(batch, generator)
        return loss.value, loss.parts


class Spread:
    """An objective, on its device and spread over the ranks; in a process of its own just the objective.

    Args:
        objective: Changed in place; the same on every rank.
        device: Where to compute.
        sharded: Whether each rank keeps a shard of the parameters instead of all.
    """

    def __init__(self, objective: Objective, device: str, sharded: bool = False) -> None:
        self.objective = objective
        self._run: Callable[..., Any] = _Whole(objective)
        if ranks.count() > 1:
            share_batch_norms(objective)
        if ranks.count() > 1 and sharded:
            self._run = _sharded(self._run, device)
        objective.to(device)
        if ranks.count() > 1 and not sharded:
            self._run = _repeated(self._run)

    def loss(self, batch: Batch, generator: torch.Generator) -> Loss:
        """Return the loss of a batch, or this rank's share of it."""
        value, parts = self._run(batch, generator)
        return Loss(value, {name: part.detach() for name, part in parts.items()})

    def encode(self, batch: Batch) -> Tensor:
        """Return the backbone's features [record, width]."""
        return self._run(batch, None)[0]

    def backward(self, loss: Tensor) -> None:
        """Give every parameter the gradient of the whole batch's loss, of which `loss` is this rank's share."""
        (loss if ranks.count() == 1 else loss * ranks.count()).backward()


def _repeated(module: Any) -> nn.Module:
    """Return a module that every rank holds; its buffers move alike by themselves."""
    wrapper = nn.parallel.DistributedDataParallel
    still = "forward_sync_buffers" if "forward_sync_buffers" in signature(wrapper).parameters else "broadcast_buffers"
    return wrapper(module, find_unused_parameters=True, **{still: False})


def _sharded(module: Any, device: str) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device, (ranks.count(),))
    for parameter in module.parameters():
        parameter.data = parameter.data.contiguous()  # torch shards no other layout
    for layers in [getattr(m, name) for m in module.modules() for name in UNITS if hasattr(m, name)]:
        for layer in layers:
            fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    return fully_shard(module, mesh=mesh, reshard_after_forward=True)


def gathered(state: Any) -> Any:
    """Return a state with its shards put together, as one process has it; every rank must ask."""
    if isinstance(state, dict):
        return {key: gathered(value) for key, value in state.items()}
    if isinstance(state, list):
        return [gathered(value) for value in state]
    return ranks.whole(state) if isinstance(state, Tensor) else state


def load(module: nn.Module, state: dict[str, Any]) -> None:
    """Take a module's state as one process has it; every rank keeps its shards."""
    own = module.state_dict()
    module.load_state_dict({name: _like(value, own.get(name)) for name, value in state.items()})


def load_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take an optimiser's state as one process has it; every rank keeps its shards."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    moments = {
        place: {name: value if name == "step" else _like(value, parameters[place]) for name, value in found.items()}
        for place, found in state["state"].items()
    }
    optimiser.load_state_dict({**state, "state": moments})


def _like(value: Any, own: Any) -> Any:
    """Return this rank's shard of a tensor where its own is sharded."""
    if not hasattr(own, "placements"):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(own.device), own.device_mesh, own.placements)
