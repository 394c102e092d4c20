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
from ecgscale.evaluation.tokens import Tokens
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

    @cached_property
    def tokens(self) -> Tokens:
        """The tokens of its rows."""
        return Tokens(self.backbone, self.corpus, self.rows, self.device)

    @cached_property
    def loader(self) -> Loader:
        """Batches of any row of the corpus."""
        return residency.loaders(self.corpus, {"all": np.arange(len(self.corpus))}, device=self.device)["all"]

    def fit(self, how: Settings, y: Array, parts: Parts, output: Output) -> Descended:
        """Train as the settings say, with an early choice on the validation part.

        Args:
            how: Of `frozen` or `finetune`.
            y: Targets of the whole corpus [record, label].
            parts: Rows of the corpus.
            output: What the targets are.
        """
        if isinstance(how, Frozen):
            return attentive.pool(self.tokens, y, parts, output, how)
        return finetune.tune(self.backbone, self.trained, self.loader, y, parts, output, how, self.device)
