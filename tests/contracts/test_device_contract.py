"""No step waits for its device: on `meta`, where tensors have no values, whoever looks at one fails."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from ecgscale.backbones import architectures
from ecgscale.spec import names, part, part_class
from ecgscale.training import size

LEADS, SAMPLES = 12, 512
FIELDS: dict[str, dict[str, Any]] = {
    "s4": {"trained": "all"},  # otherwise its kernels follow once from buffers that are read on the host
    "supervised": {"labels": ["a", "b", "c"]},
    "beat_codes": {"codes": 24, "revive": 0.5},
    "masked_beats": {"codes": 24},
    "cpc": {"horizon": 3},
    "hubert": {"prototypes": (8, 16)},
}
PAIRS = [("beat_transformer", o) for o in names("objectives") if o != "cpc"]  # it reads beats and hides tokens
PAIRS += [(b, "cpc" if "causal" in part_class("backbones", b).model_fields else "mae") for b in architectures()]


@pytest.mark.parametrize(("backbone", "objective"), sorted(set(PAIRS)))
def test_no_value_is_read_on_the_host_after_the_first_step(
    backbone: str, objective: str, make_batch: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    autocast = torch.autocast
    monkeypatch.setattr(
        torch, "autocast", lambda kind, **how: nullcontext() if kind == "meta" else autocast(kind, **how)
    )
    fields = FIELDS.get(backbone, {}) | ({"causal": True} if objective == "cpc" else {})
    spec, _ = size.solve(part("backbones", {"name": backbone, **fields}), 20e3, LEADS, SAMPLES)
    model = part("objectives", {"name": objective, **FIELDS.get(objective, {})}).build(spec.build(LEADS, SAMPLES))
    if objective == "beat_codes":
        model.codebook._seen_initted = True  # which the first step looks up
    model.to("meta").train()
    batch = make_batch(records=4, samples=SAMPLES, beats=(4, 6, 7), codes=24).to("meta")
    loss = model(batch, torch.Generator().manual_seed(0))
    loss.value.backward()
    model.after_step()
    assert loss.value.is_meta and model.loss_weight(batch) is not None
