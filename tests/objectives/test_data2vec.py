"""data2vec: targets, distances and what collapse looks like."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ecgscale.objectives.data2vec import distance, targets
from ecgscale.spec import part


def _layers(seed: int = 0) -> tuple[Tensor, Tensor]:
    first, second = torch.randn(2, 3, 20, 8, generator=torch.Generator().manual_seed(seed)).mul(3).add(1)
    return first, second


def _model(**fields: Any) -> Any:
    torch.manual_seed(0)
    return part("objectives", {"name": "data2vec", **fields}).build(
        part("backbones", {"name": "transformer", "dial": 16.0, "dropout": 0.0}).build(12, 256)
    )


@pytest.mark.parametrize(("normalise", "axis"), [("layer", -1), ("both", -1), ("instance", 1)])
def test_a_single_layer_is_standardised_along_its_axis(normalise: Any, axis: int) -> None:
    wanted = targets(_layers()[:1], torch.ones(3, 20, dtype=torch.bool), normalise)
    torch.testing.assert_close(wanted.mean(axis), torch.zeros_like(wanted.mean(axis)), atol=1e-5, rtol=0)
    torch.testing.assert_close(wanted.var(axis, correction=0), torch.ones_like(wanted.mean(axis)), atol=1e-3, rtol=0)


def test_targets_are_the_mean_over_layers() -> None:
    layers, valid = _layers(), torch.ones(3, 20, dtype=torch.bool)
    apart = [targets((layer,), valid, "layer") for layer in layers]
    torch.testing.assert_close(targets(layers, valid, "layer"), (apart[0] + apart[1]) / 2)


def test_the_distance_is_smooth_l1_and_at_beta_zero_the_square() -> None:
    predicted, wanted = torch.tensor([[0.5, 3.0]]), torch.zeros(1, 2)
    assert distance(predicted, wanted, 1.0).tolist() == [0.125 + 2.5]
    assert distance(predicted, wanted, 0.0).tolist() == [0.25 + 9.0]
    assert distance(wanted, wanted, 2.0).tolist() == [0.0]


def test_the_scale_is_one_over_the_root_of_the_width(make_batch: Any) -> None:
    batch, losses = make_batch(records=3, samples=256), []
    for scale in (None, 1.0):
        objective = _model(scale=scale).eval()
        losses.append(objective(batch, torch.Generator().manual_seed(0)).value)
    torch.testing.assert_close(losses[0] * objective.backbone.token_width**0.5, losses[1])


def test_a_collapsed_teacher_shows(make_batch: Any) -> None:
    objective, batch = _model(), make_batch(records=3, samples=256)
    healthy = objective(batch, torch.Generator().manual_seed(0)).parts["target_std"]
    objective.targets = lambda seen: torch.ones_like(seen.values)
    collapsed = objective(batch, torch.Generator().manual_seed(0)).parts["target_std"]
    assert healthy > 0.5 and collapsed < 1e-5
