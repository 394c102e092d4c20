"""A code-book of heart beats: vector-quantised reconstruction (HeartLang's VQ-HBR) around the run's own backbone.

Beat vectors are projected to z, scaled to length one and replaced by the nearest of K unit codes e; a small Transformer
rebuilds the 96 samples of every beat. Loss = mean (x - x')² + beta · mean (z - e)², over real beats only (published:
over padding too). Codes follow their vectors: e <- unit(decay · e + (1 - decay) · unit mean of the batch), an unused
code keeps its direction, nothing moves outside training. The first training batch sets the codes by ten rounds of
cosine k-means.

Source: Jin et al. 2025, PKUDigitalHealth/HeartLang (MIT), modeling_vqhbr.py, norm_ema_quantizer.py (from BEiT v2, Peng
et al. 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ecgscale import masks, ranks
from ecgscale.backbones import Backbone
from ecgscale.batch import Batch
from ecgscale.nn import SequenceEncoder, head_count
from ecgscale.objectives import Loss, Objective, ObjectiveSpec
from ecgscale.views import BEAT, BeatTokens

ROUNDS = 10  # of k-means


class BeatCodes(ObjectiveSpec):
    """The run that other runs name as their code-book."""

    title: ClassVar[str] = "beat code-book"
    paradigm: ClassVar[Literal["SL", "SSL"]] = "SSL"
    needs: ClassVar[frozenset[str]] = frozenset({"beats"})
    comparable: ClassVar[bool] = False  # its codes move

    codes: int = Field(512, ge=2)  # HeartLang 8192
    code_dim: int = Field(32, ge=1)  # HeartLang 128
    decay: float = Field(0.99, ge=0, lt=1)  # HeartLang
    beta: float = Field(1.0, ge=0)  # HeartLang
    decoder_depth: int = Field(2, ge=1)  # HeartLang
    revive: float = Field(
        0.0, ge=0
    )  # a code whose moving count falls below it restarts at a beat of the batch; 0 = never, as HeartLang

    def build(self, backbone: Backbone) -> BeatCodesModel:
        """Return the backbone, which must be one that reads beats, with quantiser and decoder."""
        return BeatCodesModel(backbone, self)


@dataclass(frozen=True, slots=True)
class Quantised:
    """`values` [batch, token, dim] straight-through; `ids` [batch, token]; `commitment`, `perplexity` scalars."""

    values: Tensor
    ids: Tensor
    commitment: Tensor
    perplexity: Tensor


class Codebook(nn.Module):
    """Unit codes that move by exponential averages; all state in buffers."""

    def __init__(self, codes: int, dim: int, decay: float, revive: float = 0.0) -> None:
        super().__init__()
        self.decay, self.revive = decay, revive
        self.register_buffer("weight", F.normalize(torch.randn(codes, dim), dim=-1))
        self.register_buffer("cluster_size", torch.zeros(codes))
        self.register_buffer("initted", torch.zeros((), dtype=torch.bool))
        self._seen_initted = False  # spares a look at the device in every step

    def forward(self, z: Tensor, valid: Tensor, generator: torch.Generator) -> Quantised:
        """Quantise z [batch, token, dim]; in training, first set the codes if nobody has, then move them.

        Args:
            z: Vectors of any length.
            valid: [batch, token] bool; other tokens get ids, but touch neither loss nor codes.
            generator: CPU generator, for the first codes and for revived ones.
        """
        z = F.normalize(z.float(), dim=-1)
        flat, real = z.detach().flatten(0, 1), valid.flatten()
        if self.training:
            self._initialise(z, valid, generator)
        ids = self.nearest(flat)
        codes = self.weight[ids].view_as(z)
        count = ranks.total(valid.sum()).clamp(min=1) * z.shape[-1]
        commitment = ((z - codes).square() * valid[..., None]).sum() / count
        uses = _count(ids, real, len(self.weight))
        if self.training:
            self._move(flat, ids, real, uses)
            if self.revive:
                self._revive(z, valid, generator)
        share = uses / uses.sum().clamp(min=1)
        perplexity = torch.exp(-(share * (share + 1e-10).log()).sum())
        return Quantised(z + (codes - z).detach(), ids.view(valid.shape), commitment, perplexity)

    def nearest(self, flat: Tensor) -> Tensor:
        """Return the id of the code of largest cosine [vector]."""
        return (flat @ self.weight.T).argmax(-1)

    def _initialise(self, z: Tensor, valid: Tensor, generator: torch.Generator) -> None:
        self._seen_initted = self._seen_initted or bool(self.initted)
        if self._seen_initted:
            return
        self.weight.copy_(self._sample(z, valid, generator))
        flat, real = z.detach().flatten(0, 1), valid.flatten()
        for _ in range(ROUNDS):
            ids = self.nearest(flat)
            self.weight.copy_(self._means(flat, ids, real, _count(ids, real, len(self.weight))))
        self.initted.fill_(True)
        self._seen_initted = True

    def _move(self, flat: Tensor, ids: Tensor, real: Tensor, uses: Tensor) -> None:
        self.cluster_size.lerp_(uses, 1 - self.decay)
        moved = self.weight.lerp(self._means(flat, ids, real, uses), 1 - self.decay)
        self.weight.copy_(F.normalize(moved, dim=-1))

    def _revive(self, z: Tensor, valid: Tensor, generator: torch.Generator) -> None:
        dead = self.cluster_size < self.revive
        self.weight.copy_(torch.where(dead[:, None], self._sample(z, valid, generator), self.weight))
        self.cluster_size.masked_fill_(dead, self.revive)

    def _means(self, flat: Tensor, ids: Tensor, real: Tensor, uses: Tensor) -> Tensor:
        """Return the unit mean of every code's vectors, the code itself where it has none."""
        sums = ranks.total(torch.zeros_like(self.weight).index_add_(0, ids, flat * real[:, None]))
        return torch.where(uses[:, None] > 0, F.normalize(sums, dim=-1), self.weight)

    def _sample(self, z: Tensor, valid: Tensor, generator: torch.Generator) -> Tensor:
        """Return one real vector of any rank per code, without repeats as long as there are enough."""
        flat, real = ranks.gather(z.detach()).flatten(0, 1), ranks.gather(valid).flatten()
        random = masks.uniform((len(flat),), generator, flat.device, by_row=False)
        order = random.masked_fill(~real, 2.0).argsort()
        return flat[order[torch.arange(len(self.weight), device=flat.device) % real.sum().clamp(min=1)]]


class BeatCodesModel(Objective):
    """The module."""

    def __init__(self, backbone: Backbone, spec: BeatCodes) -> None:
        super().__init__()
        self.backbone, self.beta = backbone, spec.beta
        width = backbone.token_width
        heads = head_count(width)
        self.project = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, spec.code_dim))
        self.codebook = Codebook(spec.codes, spec.code_dim, spec.decay, spec.revive)
        self.decoder = SequenceEncoder(
            spec.code_dim, width, spec.decoder_depth, heads, width // heads, round(4 * width / 3)
        )
        self.rebuild = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, BEAT))

    def forward(self, batch: Batch, generator: torch.Generator) -> Loss:
        """Return reconstruction plus commitment; `perplexity` is the effective number of codes the batch uses."""
        beats = self.backbone.cut(batch)
        quantised = self.codebook(self._project(beats), beats.valid, generator)
        rebuilt = self.rebuild(self.decoder(quantised.values, beats.lead, beats.second, beats.valid)[1])
        count = ranks.total(beats.valid.sum()).clamp(min=1)
        error = ((rebuilt - beats.values).square().mean(-1) * beats.valid).sum() / count
        parts = {"reconstruction": ranks.total(error.detach()), "perplexity": quantised.perplexity}
        return Loss(error + self.beta * quantised.commitment, parts)

    def loss_weight(self, batch: Batch) -> Tensor:
        """Return the number of real beats in all leads."""
        return self.backbone.cut(batch).valid.sum().float()

    @torch.no_grad()
    def ids(self, batch: Batch) -> Tensor:
        """Return the code of every beat [batch, lead, beat] int64, -1 where there is none: padding, a missing lead, a
        dropped beat.

        Dropout is off while it runs; a record's codes do not depend on the rest of the batch.
        """
        training = self.training
        self.eval()
        beats = self.backbone.cut(batch)
        found = self.codebook.nearest(F.normalize(self._project(beats).float(), dim=-1))
        self.train(training)
        leads, columns = batch.signal.shape[1], batch.beats.shape[1]
        place = torch.where(
            beats.valid, (beats.lead - 1) * columns + beats.beat, leads * columns
        )  # the last place is thrown away
        ids = torch.full((len(batch), leads * columns + 1), -1, dtype=torch.int64, device=found.device)
        return ids.scatter(1, place, found)[:, :-1].view(len(batch), leads, columns)

    def _project(self, beats: BeatTokens) -> Tensor:
        return self.project(self.backbone.read(beats).values)


def _count(ids: Tensor, real: Tensor, codes: int) -> Tensor:
    """Return how many real vectors of all ranks have each id [code] float32."""
    return ranks.total(torch.zeros(codes, device=ids.device).index_add_(0, ids, real.float()))
