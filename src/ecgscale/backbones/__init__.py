"""What turns a batch into tokens and a vector per record: one module per architecture, each a `BackboneSpec`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import ClassVar, Literal, Self

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from ecgscale.batch import Batch
from ecgscale.spec import Plugin, names, part_class

Pool = Literal["mean", "cls", "flatten", "ends"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """One sequence per record.

    Attributes:
        values: Tokens [batch, token, width].
        valid: Which tokens are real [batch, token] bool.
        cls: The summary token [batch, width], or None.
        embedded: The tokens as they entered the first block [batch, token, width], or None.
        layers: Where asked for: what each block added to the stream [batch, token, width], first block first.
    """

    values: Tensor
    valid: Tensor
    cls: Tensor | None = None
    embedded: Tensor | None = None
    layers: tuple[Tensor, ...] = ()

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of `values` [batch, token, width] over the valid tokens; zeros where there is none."""
        weight = self.valid[..., None].to(values.dtype)
        return (values * weight).sum(1) / weight.sum(1).clamp(min=1)


class BackboneSpec(Plugin):
    """An architecture with one dial for its size.

    One that can be causal has a field `causal: bool`: a token then depends on no sample after its own.
    """

    kind: ClassVar[str] = "backbones"
    title: ClassVar[str]  # as a figure's legend names it
    needs: ClassVar[frozenset[str]] = frozenset()  # "beats": reads Batch.beats; rate fixed to 100 Hz, …
    hides_tokens: ClassVar[bool] = False  # `tokens` accepts `masked`
    comes_trained: ClassVar[bool] = False  # comes with weights: no run trains it, at no size

    dial: PositiveFloat  # the one size parameter; `training.size.solve` finds it for a target N
    # over valid tokens, so that N and features do not depend on the window; "ends" is the mean before the first block
    # beside the mean after the last: networks that predict codes give their last blocks to the codes
    pool: Pool = "mean"

    def sized(self, dial: float) -> Self:
        """Return this architecture at another size."""
        return self.model_copy(update={"dial": float(dial)})

    def build(self, leads: int, samples: int) -> Backbone:
        """Return a freshly initialised module for windows [lead, time] of this shape (global torch RNG)."""
        backbone = self.module(leads, samples)
        backbone.twin = partial(self.module, leads, samples)
        return backbone

    @abstractmethod
    def module(self, leads: int, samples: int) -> Backbone:
        """Return the module `build` gives, without its `twin`."""

    @property
    def called(self) -> str:
        """What a table calls it; one that is no part of its own may say more than its part's name."""
        return self.part_name()

    @property
    def is_causal(self) -> bool:
        """Whether this very network sees no sample after a token's own."""
        return bool(getattr(self, "causal", False))


def architectures() -> list[str]:
    """Return the names of the backbones that runs train, at any size."""
    return [name for name in names("backbones") if not part_class("backbones", name).comes_trained]  # type: ignore[attr-defined]


class Backbone(nn.Module, ABC):
    """A module that encodes records."""

    width: int  # of `encode`'s output
    token_width: int  # of `tokens`
    patch_width: int  # samples of `patches`
    pool: Pool
    time_last: ClassVar[bool] = False  # blocks give [batch, width, …, time]; others [batch, token, width]
    twin: Callable[[], Backbone]  # builds the same architecture with other initial values

    @abstractmethod
    def valid(self, batch: Batch) -> Tensor:
        """Return which tokens `tokens` gives are real [batch, token] bool, without computing them."""

    @abstractmethod
    def patches(self, batch: Batch) -> Tensor:
        """Return the samples each token stands for [batch, token, sample], zero where there is none: a choice of
        elements of `batch.signal`."""

    @abstractmethod
    def tokens(self, batch: Batch, masked: Tensor | None = None, layers: bool = False) -> Tokens:
        """Return the token sequence.

        Args:
            batch: Records.
            masked: Tokens whose input is hidden [batch, token] bool, where the backbone `hides_tokens`.
            layers: Whether `Tokens.layers` is wanted.
        """

    @property
    def blocks_in_order(self) -> nn.ModuleList:
        """The blocks that follow each other, next to the signal first: the longest list of modules behind the stem."""
        lists = (m for name, m in self.named_modules() if isinstance(m, nn.ModuleList) and name.split(".")[0] != "stem")
        return max(lists, key=len, default=nn.ModuleList())

    def lower(self) -> Iterable[nn.Parameter]:
        """Return the parameters next to the signal, which fine-tuning moves least.

        Here the first half of the blocks and all that is defined before them.
        """
        blocks = self.blocks_in_order
        upper = {id(p) for block in blocks[len(blocks) // 2 :] for p in block.parameters()}
        return takewhile(lambda parameter: id(parameter) not in upper, self.parameters())

    def encode(self, batch: Batch) -> Tensor:
        """Return one vector per record [batch, width], pooled as `pool` says; zeros without a valid token."""
        tokens = self.tokens(batch)
        if self.pool == "cls":
            assert tokens.cls is not None, "this backbone has no class token"
            return tokens.cls
        if self.pool == "flatten":
            return (tokens.values * tokens.valid[..., None]).flatten(1)
        if self.pool == "ends":
            assert tokens.embedded is not None, "this backbone has no embedded tokens"
            return torch.cat([tokens.mean(tokens.embedded), tokens.mean(tokens.values)], 1)
        return tokens.mean(tokens.values)
