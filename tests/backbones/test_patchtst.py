"""Leads do not see each other, missing ones count for nothing, and a mean still tells leads apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from ecgscale.backbones import Backbone
from ecgscale.backbones.patchtst import PatchTST


@pytest.fixture
def model() -> Backbone:
    torch.manual_seed(0)
    return PatchTST(dial=24.0, patch=16).build(12, 500).eval()


def test_a_missing_lead_changes_nothing_and_counts_for_nothing(model: Backbone, make_batch: Callable[..., Any]) -> None:
    batch = make_batch(records=2, samples=500)
    ok = batch.lead_ok.clone()
    ok[:, 3] = False
    silent = replace(batch, signal=batch.signal * ok[..., None], lead_ok=ok)
    loud = replace(silent, signal=batch.signal)
    tokens = model.tokens(silent)
    assert torch.equal(tokens.valid, ok.repeat_interleave(32, 1))
    there = tokens.valid[0]
    torch.testing.assert_close(tokens.values[:, there], model.tokens(batch).values[:, there])
    torch.testing.assert_close(model.encode(silent), model.encode(loud))
    assert not torch.allclose(model.encode(silent), model.encode(batch), atol=1e-4)


def test_patches_are_the_samples_lead_by_lead(model: Backbone, make_batch: Callable[..., Any]) -> None:
    batch = make_batch(records=1, samples=500)
    patches = model.patches(batch)
    assert patches.shape == (1, 12 * 32, model.patch_width)
    assert torch.equal(patches[0, 2 * 32 + 5], batch.signal[0, 2, 80:96])
    assert patches[0, 31, 4:].abs().max() == 0


def test_the_mean_knows_which_lead_said_what(model: Backbone, make_batch: Callable[..., Any]) -> None:
    batch = make_batch(records=1, samples=500)
    turned = replace(batch, signal=batch.signal.roll(1, 1))
    assert not torch.allclose(model.encode(batch), model.encode(turned), atol=1e-5)
    with torch.no_grad():
        model.lead.zero_()
    torch.testing.assert_close(model.encode(batch), model.encode(turned))


def test_what_blocks_added_keeps_the_order_of_tokens(model: Backbone, make_batch: Callable[..., Any]) -> None:
    batch = make_batch(records=2, samples=500)
    tokens = model.tokens(batch, layers=True)
    assert len(tokens.layers) == len(model.encoder.blocks)
    assert all(added.shape == tokens.values.shape == tokens.embedded.shape for added in tokens.layers)
