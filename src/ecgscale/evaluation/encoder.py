"""An encoder and a corpus: what the protocols learn from that train a network."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ecgscale import residency
from ecgscale.backbones import Backbone
from ecgscale.data.corpus import Corpus
from ecgscale.evaluation import attentive, finetune
from ecgscale.evaluation.descent import Descended, Parts
from ecgscale.evaluation.settings import Frozen, Settings
from ecgscale.evaluation.targets import Array, Output
from ecgscale.evaluation.tokens import MOST, Tokens
from ecgscale.evaluation.windows import Windows
from ecgscale.loader import Loader, Rows


class Encoder:
    """A checkpoint on a corpus; tokens are computed once, for all evaluations that ask.

    Args:
        backbone: In eval mode, on the device; it is never changed.
        corpus: The corpus.
        rows: All rows that evaluations of the frozen encoder read, rising.
        trained: Whether it was pre-trained.
        device: Where it is.
    """

    def __init__(
        self, backbone: Backbone, corpus: Corpus, rows: Rows, trained: bool = True, device: str = "cpu"
    ) -> None:
        self.backbone, self.corpus, self.rows, self.trained, self.device = backbone, corpus, rows, trained, device
        self._tokens: dict[Windows, list[Tokens]] = {}

    def tokens(self, windows: Windows) -> list[Tokens]:
        """Return the tokens of its rows, of each crop; computed once."""
        if windows not in self._tokens:
            each = MOST // windows.count
            self._tokens[windows] = [
                Tokens(self.backbone, self.corpus, self.rows, self.device, each, windows, crop)
                for crop in range(windows.count)
            ]
        return self._tokens[windows]

    @cached_property
    def loader(self) -> Loader:
        """Batches of any row of the corpus."""
        return residency.loaders(self.corpus, {"all": np.arange(len(self.corpus))}, device=self.device)["all"]

    def fit(self, how: Settings, y: Array, parts: Parts, output: Output, crop_s: float | None = None) -> Descended:
        """Train as the settings say, with an early choice on the validation part.

        Args:
            how: Of `frozen` or `finetune`.
            y: Targets of the whole corpus [record, label].
            parts: Rows of the corpus.
            output: What the targets are.
            crop_s: Length of the crops that the network sees; None: whole records.

        Raises:
            WindowError: crops do not fit into the records.
        """
        windows = Windows.of(self.corpus, crop_s)
        if isinstance(how, Frozen):
            return attentive.pool(self.tokens(windows), y, parts, output, how)
        return finetune.tune(self.backbone, self.trained, self.loader, y, parts, output, how, self.device, windows)
