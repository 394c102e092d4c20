"""The protocol `frozen`: a head that attends to the tokens of an encoder which stays as it is.

One learned query per task attends with 16 heads to the tokens x of a record; with the query's share q_h of head h,

    a_h = softmax_t(x_t · K_h' q_h / sqrt(e)),  v_h = V_h Σ_t a_ht x_t,  scores = O [v_1 … v_H] + b,

e the width of a head. Published: the learned query, 16 heads, query, key and value maps of the tokens' width without
bias, AdamW at 1e-3. Ours: the largest divisor of the width where 16 is none; tokens standardised on the training part,
since encoders differ in scale, and with that the bias b (published: raw tokens, none); keys and values are never
computed for each token, which the formula above makes needless.

Source: arXiv:2605.12241, AI4HealthUOL/ecg-fm-benchmarking, heads.py (recipe-pretraining §7.1).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ecgscale.evaluation.descent import Descended, Parts, descend, seeded
from ecgscale.evaluation.settings import Frozen
from ecgscale.evaluation.targets import Array, Output
from ecgscale.evaluation.tokens import Tokens, moments
from ecgscale.loader import Rows


class AttentiveHead(nn.Module):
    """Tokens to scores.

    Args:
        width: Of a token.
        outputs: Labels.
        heads: At most; the largest number that divides the width is taken.
        mean, deviation: Of the tokens [width]; a feature that does not vary is left out.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, outputs: int, heads: int, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.heads = max(h for h in range(1, heads + 1) if width % h == 0)
        self.query = nn.Parameter(torch.empty(width).normal_(std=0.02))
        self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.out = nn.Linear(width, outputs)
        varies = deviation > 1e-6 * mean.abs().clamp(min=1e-6)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", torch.where(varies, 1 / deviation.clamp(min=1e-12), 0.0))

    def forward(self, tokens: tuple[Tensor, Tensor]) -> Tensor:
        """Return scores [row, label] of tokens [row, token, width] and which of them are real [row, token]."""
        values, valid = tokens
        x = (values - self.mean) * self.scale * valid[..., None]
        maps = self.q(self.query), self.k.weight, self.v.weight
        query, key, value = (each.unflatten(0, (self.heads, -1)) for each in maps)
        towards = torch.einsum("he,hed->dh", query, key) * key.shape[1] ** -0.5
        weight = (x @ towards).masked_fill(~valid[..., None], torch.finfo(x.dtype).min / 2).softmax(1)
        mixed = torch.einsum("hed,bhd->bhe", value, weight.transpose(1, 2) @ x)
        return self.out(mixed.flatten(1))


def pool(crops: Sequence[Tokens], y: Array, parts: Parts, output: Output, how: Frozen) -> Descended:
    """Train a head on the tokens of the training part.

    Args:
        crops: The tokens of all these records, crop by crop; one of whole records.
        y: Targets of the whole corpus [record, label].
        parts: Rows of the corpus.
        output: What the targets are.
        how: The settings.
    """
    mean, deviation = moments(crops, parts.train)
    width, device = crops[0].width, crops[0].device
    with seeded(device, how.seed, "head"):
        head = AttentiveHead(width, y.shape[1], how.heads, mean, deviation).to(device)

    def take(rows: Rows, crop: int) -> tuple[Tensor, Tensor]:
        return crops[crop].take(rows)

    groups = [{"params": list(head.parameters()), "lr": how.rate}]
    return descend(head, groups, take, y, parts, output, how, device, len(crops))
