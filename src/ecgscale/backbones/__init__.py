"""What turns a batch into tokens and a vector per record: one module per architecture, each a `BackboneSpec`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from ecgscale.batch import Batch
from ecgscale.spec import Plugin

Pool = Literal["mean", "cls", "flatten", "ends"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """One sequence per record.

    Attributes:
        values: Tokens [batch, token, width].
        valid: Which tokens are real [batch, token] bool.
        cls: The summary token [batch, width], or None.
        embedded: The tokens as they entered the first block [batch, token, width], or None.
    """

    values: Tensor
    valid: Tensor
    cls: Tensor | None = None
    embedded: Tensor | None = None

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of `values` [batch, token, width] over the valid tokens; zeros where there is none."""
        weight = self.valid[..., None].to(values.dtype)
        return (values * weight).sum(1) / weight.sum(1).clamp(min=1)


class BackboneSpec(Plugin):
    """An architecture with one dial for its size."""

    kind: ClassVar[str] = "backbones"
    title: ClassVar[str]  # as a figure's legend names it
    needs: ClassVar[frozenset[str]] = frozenset()  # "beats": reads Batch.beats; rate fixed to 100 Hz, …
    causal: ClassVar[bool] = False
    drops_tokens: ClassVar[bool] = False  # accepts `masked`

    dial: PositiveFloat  # the one size parameter; `training.size.solve` finds it for a target N
    # over valid tokens, so that N and features do not depend on the window; "ends" is the mean before the first block
    # beside the mean after the last: networks that predict codes give their last blocks to the codes
    pool: Pool = "mean"

    def sized(self, dial: float) -> Self:
        """Return this architecture at another size."""
        return self.model_copy(update={"dial": float(dial)})

    @abstractmethod
    def build(self, leads: int, samples: int) -> Backbone:
        """Return a freshly initialised module for windows [lead, time] of this shape (global torch RNG)."""


class Backbone(nn.Module, ABC):
    """A module that encodes records."""

    width: int  # of `encode`'s output
    token_width: int  # of `tokens`
    pool: Pool

    @abstractmethod
    def tokens(self, batch: Batch, masked: Tensor | None = None) -> Tokens:
        """Return the token sequence; `masked` [batch, token] bool hides the input of those tokens where supported."""

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
