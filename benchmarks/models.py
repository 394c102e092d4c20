"""What every backbone costs and sees: parameters, FLOP per record, tokens, receptive field. Counted, not timed.

    python benchmarks/models.py

FLOP: forward and backward of one record of 12 leads × 10 s at 100 Hz under the supervised objective, as
`training.flops` counts them for the compute C of a run. Receptive field: the samples on either side of a token's own
that change its value, found from the gradient of a token in the middle of a 30 s window of noise, untrained weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from ecgscale.backbones import BackboneSpec
from ecgscale.spec import names, part, part_class
from ecgscale.training import flops
from ecgscale.training.size import solve
from training import LABELS, LEADS, SAMPLES, batches

SIZES = (20_000, 1_000_000, 20_000_000)
LONG = 3000  # samples


def specs() -> Iterator[BackboneSpec]:
    """Yield every backbone, those that can be causal in both forms."""
    for name in names("backbones"):
        causal = "causal" in part_class("backbones", name).model_fields
        yield from (
            part("backbones", {"name": name, **({"causal": c} if causal else {})}) for c in (False, True)[: 1 + causal]
        )


def field(spec: BackboneSpec) -> str:
    """Return how many samples before and after a token's own change it; "window" where all of that side do."""
    torch.manual_seed(0)
    model = spec.build(LEADS, LONG).eval()
    batch = batches(2, 1, "cpu")[0]
    signal = torch.randn(2, LEADS, LONG, requires_grad=True)
    shown = replace(batch, signal=signal, beats=torch.arange(50, LONG, 100).int().expand(2, -1))
    tokens = model.tokens(shown).values
    middle = tokens.shape[1] // 2 if "beats" not in spec.needs else 15  # of the first lead
    if spec.part_name() == "patchtst":
        middle = -(-LONG // model.patch) // 2
    (gradient,) = torch.autograd.grad((tokens[0, middle] * torch.randn_like(tokens[0, middle])).sum(), signal)
    own = model.patches(replace(shown, signal=torch.arange(1.0, LONG + 1).expand(2, LEADS, -1)))[0, middle]
    first, last = int(own[own > 0].min()) - 1, int(own.max()) - 1
    touched = torch.nonzero(gradient[0].abs().amax(0)).flatten()
    before, after = first - int(touched.min()), int(touched.max()) - last
    return f"{_side(before, first)}, {_side(after, LONG - 1 - last)}"


def _side(reach: int, there: int) -> str:
    return "window" if reach > 0.9 * there else str(max(reach, 0))


def main() -> None:
    """Print the rows."""
    print("| backbone | tokens of 10 s | before, after | " + " | ".join(f"{s:,}" for s in SIZES) + " |")
    print("|---|---|---|" + "---|" * len(SIZES))
    batch = batches(8, 1, "cpu")
    for spec in specs():
        cells = []
        for target in SIZES:
            sized, N = solve(spec, target, LEADS, SAMPLES)
            torch.manual_seed(0)
            backbone = sized.build(LEADS, SAMPLES)
            objective = part("objectives", {"name": "supervised", "labels": [str(i) for i in range(LABELS)]})
            cost = flops.per_record(objective.build(backbone), batch)
            cells.append(f"{N:,}: {cost / 1e6:,.0f} MFLOP")
            if target == SIZES[0]:
                tokens = backbone.eval().tokens(batch[0]).values.shape[1]
                reach = field(sized)
        name = spec.part_name() + (", causal" if spec.is_causal else "")
        print(f"| `{name}` | {tokens} | {reach} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
