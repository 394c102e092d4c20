"""Effective rank and spread against closed forms, and what a run says of its health."""

from __future__ import annotations

import pytest
import torch

from ecgscale.training import health


def test_the_rank_of_equal_orthogonal_directions_is_their_number() -> None:
    features = torch.cat([torch.eye(8), -torch.eye(8)])
    assert health.rankme(features).item() == pytest.approx(8, rel=1e-4)


def test_features_on_one_line_have_rank_one_and_equal_features_too() -> None:
    line = torch.linspace(-1, 1, 30)[:, None] * torch.randn(1, 12)
    assert health.rankme(line + 5).item() == pytest.approx(1, abs=1e-3)
    assert health.rankme(torch.full((30, 12), 3.0)).item() == pytest.approx(1, abs=1e-3)
    assert health.measure(torch.full((30, 12), 3.0))["feature_std"] == 0


def test_the_rank_does_not_depend_on_scale_or_rotation() -> None:
    torch.manual_seed(0)
    features = torch.randn(64, 10) * torch.logspace(0, -2, 10)
    turned = features @ torch.linalg.qr(torch.randn(10, 10)).Q * 7
    assert 1 < health.rankme(features) < 10
    torch.testing.assert_close(health.rankme(turned), health.rankme(features), atol=1e-4, rtol=1e-4)
