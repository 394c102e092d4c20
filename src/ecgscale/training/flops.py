"""Training compute, measured: one step of the very objective, counted operation by operation.

Source: torch.utils.flop_counter (a multiply-add is 2 FLOP). Operations without a formula (element-wise, softmax,
normalisation) count as zero there and here; matrix products and convolutions, forward and backward, are what remains.
"""

from __future__ import annotations

import copy

import torch
from torch.utils.flop_counter import FlopCounterMode

from ecgscale.batch import Batch
from ecgscale.objectives import Objective


def per_record(objective: Objective, batches: list[Batch]) -> float:
    """Return the FLOP of forward and backward per record, averaged over `batches`.

    Sequences of beats are as long as a batch's longest, hence the mean over several batches. The objective is
    not changed.
    """
    counted = (
        copy.deepcopy(objective).cpu().train()
    )  # one place to count, so that C is the same wherever the run is computed
    total = 0
    for batch in batches:
        with FlopCounterMode(display=False) as counter:
            counted(batch.to("cpu"), torch.Generator().manual_seed(0)).value.backward()
        total += counter.get_total_flops()
    return total / sum(len(batch) for batch in batches)
