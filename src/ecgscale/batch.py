"""What every objective and backbone receives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

TENSORS = ("signal", "lead_ok", "beats", "record", "patient", "labels", "labels_ok")  # of every batch; some have codes


@dataclass(frozen=True, slots=True)
class Batch:
    """Records side by side.

    Attributes:
        signal: [batch, lead, time] float32, in the corpus's unit.
        lead_ok: [batch, lead] bool; a missing lead is all zero in `signal`.
        beats: [batch, beat] int32 sample index of each beat in the window, padded with -1 at the end.
        record: [batch] int64, row in the corpus.
        patient: [batch] int64, equal for records of one patient.
        rate_hz: Samples per second.
        labels: [batch, label] float32, 0 where unknown.
        labels_ok: [batch, label] bool, False where unknown.
        codes: [batch, lead, beat] int64 code-book ids of the beats of the whole record, padded with -1, or None.
    """

    signal: Tensor
    lead_ok: Tensor
    beats: Tensor
    record: Tensor
    patient: Tensor
    rate_hz: float
    labels: Tensor
    labels_ok: Tensor
    codes: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on `device`; the host waits only for what comes to it."""
        leaves = torch.device(device).type != "cpu"
        return self.each(lambda tensor: tensor.to(device, non_blocking=leaves))

    def each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with every tensor changed."""
        tensors = {name: change(getattr(self, name)) for name in TENSORS}
        return replace(self, **tensors, codes=None if self.codes is None else change(self.codes))

    def __len__(self) -> int:
        return self.signal.shape[0]
