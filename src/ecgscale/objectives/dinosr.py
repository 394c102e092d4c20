"""DinoSR: the student names, at hidden tokens, the cluster of what each of the teacher's last blocks adds there.

Every such block has its own code-book of words e_v = s_v / n_v. A normalised feature belongs to the nearest word,
argmin |x - e_v|, and the loss is the cross-entropy of the student's logits against that choice, averaged over hidden
tokens and code-books. After each step s_v <- d s_v + (1 - d) Σ x and n_v <- d n_v + (1 - d) count, over what was
assigned.

Default as DinoSR: features instance-normed over time, words learned from the hidden tokens, and a word that nothing was
assigned to keeps s_v and n_v; heads are linear. The release of arXiv:2605.12241 standardises each token over its
features, learns from all tokens, lets s_v and n_v of an empty word decay (the word stays; here until n_v is 1e-30, or
it would become 0/0), has an S4 layer before the heads (`head = "s4"`), and hooks one module where its settings speak
of two: `published_single` is one code-book over the teacher's final output.

Sources: Liu et al. 2023, arXiv:2305.10005, Alexander-H-Liu/dinosr; AI4HealthUOL/ecg-pretraining-strategies
(recipe-pretraining §4.3).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ecgscale import masks, ranks
from ecgscale.backbones import Backbone, Tokens
from ecgscale.batch import Batch
from ecgscale.objectives import Loss
from ecgscale.objectives._distillation import (
    Distillation,
    Distiller,
    head,
    hidden_share,
    instance_norm,
    last_layers,
    layer_norm,
    mean,
    perplexity,
)

SMALLEST = 1e-30  # a count below it decays no further


class DinoSR(Distillation):
    """DinoSR on any backbone that hides tokens."""

    title: ClassVar[str] = "DinoSR"

    layers: int = Field(2, ge=1)  # last blocks, each with a code-book; arXiv:2605.12241; DinoSR 8 of 12
    codes: int = Field(256, ge=2)  # per code-book; DinoSR, arXiv:2605.12241
    decay: float = Field(0.9, ge=0, lt=1)  # DinoSR, arXiv:2605.12241
    normalise: Literal["instance", "token"] = "instance"  # DinoSR; "token": arXiv:2605.12241
    learn_from: Literal["hidden", "all"] = "hidden"  # tokens that move the words: DinoSR; "all": arXiv:2605.12241
    empty: Literal["hold", "decay"] = "hold"  # DinoSR; "decay": arXiv:2605.12241
    published_single: bool = False  # one code-book over the teacher's output, as released by arXiv:2605.12241

    def build(self, backbone: Backbone) -> DinoSRModel:
        """Return the backbone with its heads, teacher and code-books."""
        return DinoSRModel(backbone, self)


class DinoSRModel(Distiller):
    """The module."""

    def __init__(self, backbone: Backbone, spec: DinoSR) -> None:
        super().__init__(backbone, spec)
        self.layers = 0 if spec.published_single else spec.layers
        self.normalise, self.learn_from_all = spec.normalise, spec.learn_from == "all"
        books = max(self.layers, 1)
        self.books = CodeBooks(books, spec.codes, backbone.token_width, spec.decay, spec.empty == "hold")
        self.head = head(spec.head, backbone.token_width, books * spec.codes)

    def forward(self, batch: Batch, generator: torch.Generator) -> Loss:
        """Return the cross-entropy in nats; `perplexity`: how many words of a code-book the hidden tokens use.

        Raises:
            SpecError: the backbone has fewer blocks than `layers`.
        """
        seen = self.teacher.tokens(batch, layers=self.layers > 0)
        hidden = self.hide(seen.valid, generator)
        values, features = self.student(batch, hidden), self.features(seen)
        weight, values, *chosen = masks.rows(hidden, values, *features)
        codes = self.books.nearest(torch.stack(chosen))
        uses = self.books.count(codes, weight)
        if self.training and self.learn_from_all:
            every, *features = masks.rows(seen.valid, *features)
            self.books.note(torch.stack(features), every)
        elif self.training:
            self.books.note(torch.stack(chosen), weight, codes)
        logits = self.head(values).float().unflatten(-1, (len(codes), -1))
        value = mean(cross_entropy(logits, codes), weight)
        right = (logits.detach().argmax(-1) == codes.T).float().mean(1)
        parts = {"accuracy": ranks.total(mean(right, weight)), "perplexity": perplexity(uses)}
        return Loss(value, {**parts, "masked": hidden_share(hidden, seen.valid)})

    def features(self, seen: Tokens) -> list[Tensor]:
        """Return what is clustered: normalised features [batch, token, width], one for each code-book."""
        layers = last_layers(seen, self.layers) if self.layers else (seen.values,)
        return [layer_norm(x) if self.normalise == "token" else instance_norm(x, seen.valid) for x in layers]

    def after_step(self) -> None:
        """Let the teacher follow and move the words."""
        super().after_step()
        self.books.move()


class CodeBooks(nn.Module):
    """Words that are moving averages of what was assigned to them; all state in buffers.

    Args:
        books, codes, width: Sizes.
        decay: Share that stays in one step.
        hold: Whether an empty word keeps its sum and count instead of letting both decay.
    """

    def __init__(self, books: int, codes: int, width: int, decay: float, hold: bool = True) -> None:
        super().__init__()
        self.decay, self.hold = decay, hold
        self.register_buffer("sums", layer_norm(torch.randn(books, codes, width)))
        self.register_buffer("counts", torch.ones(books, codes))
        self._noted: tuple[Tensor, Tensor] | None = None

    @property
    def words(self) -> Tensor:
        """The code words [book, code, width]."""
        return self.sums / self.counts[..., None]

    @torch.no_grad()
    def nearest(self, features: Tensor) -> Tensor:
        """Return the nearest word's number [book, row] for features [book, row, width] float32."""
        words = self.words
        with torch.autocast(features.device.type, enabled=False):
            score = torch.baddbmm(words.square().sum(-1)[:, None], features, words.transpose(1, 2), alpha=-2)
        return score.argmin(-1)

    def count(self, codes: Tensor, weight: Tensor) -> Tensor:
        """Return the weight of the rows, those of all ranks, that each word has [book, code]."""
        return ranks.total(torch.zeros_like(self.counts).scatter_add_(1, codes, weight.expand_as(codes)))

    @torch.no_grad()
    def note(self, features: Tensor, weight: Tensor, codes: Tensor | None = None) -> None:
        """Remember for `move` what features [book, row, width] of weight [row] are assigned to."""
        codes = self.nearest(features) if codes is None else codes
        assigned = weight.new_zeros(*self.counts.shape, len(weight))
        assigned.scatter_(1, codes[:, None], weight.expand_as(codes)[:, None])  # book code row
        with torch.autocast(features.device.type, enabled=False):
            self._noted = ranks.total(torch.bmm(assigned, features)), ranks.total(assigned.sum(-1))

    @torch.no_grad()
    def move(self) -> None:
        """Move the words by what was noted since the last call."""
        if self._noted is None:
            return
        sums, counts = self._noted
        moves = counts > 0 if self.hold else (counts > 0) | (self.counts > SMALLEST)
        weight = moves * (1 - self.decay)
        self.counts.lerp_(counts, weight)
        self.sums.lerp_(sums, weight[..., None])
        self._noted = None


def cross_entropy(logits: Tensor, codes: Tensor) -> Tensor:
    """Return the cross-entropy of logits [row, book, code] for codes [book, row], averaged over code-books [row]."""
    losses = F.cross_entropy(logits.flatten(0, 1), codes.T.flatten(), reduction="none")
    return losses.view(logits.shape[:2]).mean(1)
