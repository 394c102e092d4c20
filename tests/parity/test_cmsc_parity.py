"""cmsc against losses and gradients of CLOCS and fairseq-signals (numbers only)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ecgscale.nn import unit
from ecgscale.objectives.cmsc import published, symmetric

CASES = [
    "T11_distinct",
    "T11_repeat",
    "T12_constant_B4",
    "T12_constant_B4_repeat",
    "T13_T1_distinct",
    "T13_T1_repeat",
    "random1_distinct",
    "random3_uneven",
    "random3_uneven_permuted",
]


@pytest.mark.parametrize("name", CASES)
def test_losses_and_true_gradients(name: str, shared_golden: Path) -> None:
    case: dict[str, Any] = json.loads((shared_golden / "cmsc" / "manifest.json").read_text())["cases"][name]
    arrays = np.load(shared_golden / "cmsc" / f"{name}.npz")
    patient = torch.from_numpy(arrays["patient"])
    same = patient[:, None] == patient
    for loss, key in ((published, "clocs"), (symmetric, "fairseq")):
        z1, z2 = (torch.from_numpy(arrays[z]).requires_grad_() for z in ("z1", "z2"))
        value = loss(unit(z1) @ unit(z2).T / case["temperature"], same)
        value.backward()
        np.testing.assert_allclose(value.item(), case[f"{key}_float64"], rtol=1e-5, atol=1e-6)
        if key == "clocs":  # fairseq's gradient goes through a detached norm, ours does not
            np.testing.assert_allclose(z1.grad.numpy(), arrays["grad_z1_clocs"], atol=case["tolerance"]["grad_atol"])
            np.testing.assert_allclose(z2.grad.numpy(), arrays["grad_z2_clocs"], atol=case["tolerance"]["grad_atol"])


def test_a_zero_embedding_is_finite_in_value_and_gradient() -> None:
    z = torch.zeros(2, 4, requires_grad=True)
    value = published(unit(z) @ unit(z).T / 0.1, torch.eye(2, dtype=torch.bool))
    value.backward()
    np.testing.assert_allclose(value.item(), np.log(2), rtol=1e-6)
    assert torch.isfinite(z.grad).all() and z.grad.abs().max() < 100


def test_symmetric_does_not_depend_on_the_order_of_the_batch() -> None:
    g = torch.Generator().manual_seed(0)
    scores, patient = torch.randn(6, 6, generator=g), torch.tensor([0, 0, 1, 2, 2, 2])
    turned = torch.arange(5, -1, -1)
    same = patient[:, None] == patient
    assert torch.allclose(symmetric(scores, same), symmetric(scores[turned][:, turned], same[turned][:, turned]))
    assert not torch.allclose(published(scores, same), published(scores[turned][:, turned], same[turned][:, turned]))
