"""The tokens of a frozen encoder, computed once per checkpoint and corpus and shared by the tasks evaluated together.

They are kept as float16, real tokens only, where all of them take no more than `MOST` bytes, as the first batch
foretells; else they are computed again whenever they are asked for, which costs a pass of the encoder per epoch. They
are rounded to float16 either way, so that numbers do not depend on where tokens stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from ecgscale import residency
from ecgscale.backbones import Backbone
from ecgscale.data.corpus import Corpus
from ecgscale.evaluation.features import BATCH
from ecgscale.evaluation.windows import Windows
from ecgscale.loader import Rows

MOST: Final = 1 << 30  # bytes of a process, on the device where one computes; ours
LARGEST: Final = float(torch.finfo(torch.float16).max)


class Tokens:
    """The tokens of rows of a corpus.

    Args:
        backbone: In eval mode, on the device.
        corpus: The corpus.
        rows: All that will be asked for, rising.
        device: Where the backbone is.
        most: Bytes that may be kept.
        windows, crop: Which crop of every record; the whole by default.
    """

    def __init__(
        self,
        backbone: Backbone,
        corpus: Corpus,
        rows: Rows,
        device: str = "cpu",
        most: int = MOST,
        windows: Windows | None = None,
        crop: int = 0,
    ) -> None:
        self.backbone, self.rows, self.device = backbone, rows, device
        self.windows, self.crop = windows or Windows(), crop
        self.loader = residency.loaders(corpus, {"all": rows}, device=device)["all"]
        self.kept: Tensor | None = None  # [token, width], record after record
        self._keep(most)

    @property
    def width(self) -> int:
        """Of a token."""
        return self.backbone.token_width

    def take(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Return tokens [row, token, width] float32, zero where there is none, and which are real [row, token]."""
        if self.kept is None:
            values, valid = self._computed(rows)
            return values.float() * valid[..., None], valid
        places = np.searchsorted(self.rows, rows)
        start, length = (torch.from_numpy(a[places]).to(self.kept.device) for a in (self.starts, self.lengths))
        position = torch.arange(max(1, int(self.lengths[places].max(initial=0))), device=self.kept.device)
        valid = position < length[:, None]
        values = self.kept[torch.where(valid, start[:, None] + position, 0)]
        return values.float() * valid[..., None], valid

    def _keep(self, most: int) -> None:
        found: list[Tensor] = []
        lengths: list[Tensor] = []
        for part in _blocks(self.rows):
            values, valid = self._computed(part)
            found.append(values[valid])
            lengths.append(valid.sum(1).cpu())
            if len(found) == 1 and found[0].numel() * found[0].element_size() * len(self.rows) > most * len(part):
                return
        if not sum(map(len, found)):
            return
        self.kept = torch.cat(found)
        self.lengths = torch.cat(lengths).numpy().astype(np.int64)
        self.starts = np.cumsum(self.lengths) - self.lengths

    @torch.no_grad()
    def _computed(self, rows: Rows) -> tuple[Tensor, Tensor]:
        tokens = self.backbone.tokens(self.windows.cut(self.loader.take(rows).to(self.device), self.crop))
        return tokens.values.float().clamp(-LARGEST, LARGEST).half(), tokens.valid


def moments(crops: Sequence[Tokens], rows: Rows) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the real tokens of all crops of rows, both [width] float32."""
    count, total, squares = 0, *(torch.zeros(crops[0].width, dtype=torch.float64) for _ in range(2))
    for part in _blocks(rows):
        for tokens in crops:
            values, valid = tokens.take(part)
            real = values[valid].cpu().double()
            count, total, squares = count + len(real), total + real.sum(0), squares + real.square().sum(0)
    mean = total / max(1, count)
    return mean.float(), (squares / max(1, count) - mean.square()).clamp(min=0).sqrt().float()


def _blocks(rows: Rows) -> list[Rows]:
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
