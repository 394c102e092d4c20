"""The stem, `transformer` and `net1d` against outputs of AI4HealthUOL's repositories and ECGFounder (numbers only).

Left out, being features that are not offered here: sinusoidal positions with post-norm and ReLU, the input and output
layers and the pooling of `transformer_rope_in20_out7_pooled`, and both attention pools.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ecgscale.backbones._stem import Stem
from ecgscale.backbones.net1d import BLOCKS, GROUP, WIDTHS, Net1d, Stages
from ecgscale.backbones.net1d import shape as net1d_shape
from ecgscale.backbones.transformer import Transformer
from ecgscale.rotary import RotaryEncoder, even_heads
from ecgscale.training.size import count

from .golden import rule


def rebuilt(model: nn.Module, case: dict[str, Any], origins: dict[str, list[str]]) -> Any:
    """Our module with the golden weights: each of our tensors is the origin's, or several stacked."""
    shapes = {key: tuple(shape) for key, shape, _ in case["state_dict"]}
    state = model.state_dict()
    for ours, keys in origins.items():
        whole = torch.cat([rule(key, shapes[key], case["weight_scale_ndim2"]) for key in keys])
        state[ours] = whole.reshape(state[ours].shape)
    assert {key for key, tensor in state.items() if tensor.is_floating_point()} == set(origins)
    model.load_state_dict(state)
    return model.eval()


def stem_origins(layers: int = 4) -> dict[str, list[str]]:
    found = {"first.weight": ["layers.0.0.weight"]}
    found |= {f"rest.{i - 1}.weight": [f"layers.{i}.0.weight"] for i in range(1, layers)}
    for i in range(layers):
        for end in ("weight", "bias", "running_mean", "running_var"):
            found[f"norms.{i}.{end}"] = [f"layers.{i}.1.{end}"]
    return found


def transformer_origins(depth: int) -> dict[str, list[str]]:
    inner = {
        "attention.norm": ["norm1"],
        "attention.qkv": ["attn.q_proj", "attn.k_proj", "attn.v_proj"],
        "attention.out": ["attn.out_proj"],
        "feed_forward.norm": ["norm2"],
        "feed_forward.up": ["ff.linear1"],
        "feed_forward.down": ["ff.linear2"],
    }
    found = {f"norm.{end}": [f"final_norm.{end}"] for end in ("weight", "bias")}
    for i in range(depth):
        for ours, theirs in inner.items():
            for end in ("weight", "bias"):
                found[f"blocks.{i}.{ours}.{end}"] = [f"layers.{i}.{name}.{end}" for name in theirs]
    return found


def net1d_origins(blocks: list[int]) -> dict[str, list[str]]:
    inner = {"conv1": "conv1.conv", "conv2": "conv2.conv", "conv3": "conv3.conv"}
    inner |= {"gate.down": "se_fc1", "gate.up": "se_fc2"}
    found = {f"first.{end}": [f"first_conv.conv.{end}"] for end in ("weight", "bias")}
    places = [(stage, block) for stage, number in enumerate(blocks) for block in range(number)]
    for i, (stage, block) in enumerate(places):
        for ours, theirs in inner.items():
            for end in ("weight", "bias"):
                found[f"blocks.{i}.{ours}.{end}"] = [f"stage_list.{stage}.block_list.{block}.{theirs}.{end}"]
    return found


@pytest.fixture(scope="module")
def cases(shared_golden: Path) -> dict[str, Any]:
    return json.loads((shared_golden / "ssl_backbones" / "manifest.json").read_text())["cases"]


@pytest.fixture(scope="module")
def arrays(shared_golden: Path) -> Any:
    return lambda name: np.load(shared_golden / "ssl_backbones" / f"{name}.npz")


@pytest.fixture
def stages(cases: dict[str, Any]) -> Stages:
    return rebuilt(Stages(16, [16, 32], [2, 2], 8), cases["net1d_backbone_small"], net1d_origins([2, 2]))


def test_the_stem_agrees_in_eval_mode(cases: dict[str, Any], arrays: Any) -> None:
    case, golden = cases["stem_16"], arrays("stem_16")
    stem = rebuilt(Stem(12, 16), case, stem_origins())
    assert count(stem) == case["n_parameters"]
    with torch.no_grad():
        tokens = stem(torch.from_numpy(golden["input"]))
    np.testing.assert_allclose(tokens.numpy(), golden["output"], atol=case["tolerance"]["atol"], rtol=0)


def test_the_stem_agrees_in_train_mode_and_tracks_the_same_statistics(cases: dict[str, Any], arrays: Any) -> None:
    golden, atol = arrays("stem_16_train_mode"), cases["stem_16_train_mode"]["tolerance"]["atol"]
    stem = rebuilt(Stem(12, 16), cases["stem_16"], stem_origins()).train()
    with torch.no_grad():
        tokens = stem(torch.from_numpy(golden["input"]))
    np.testing.assert_allclose(tokens.numpy(), golden["output"], atol=atol, rtol=0)
    np.testing.assert_allclose(stem.norms[0].running_mean, golden["bn0_running_mean_after"], atol=atol, rtol=0)
    np.testing.assert_allclose(stem.norms[0].running_var, golden["bn0_running_var_after"], atol=atol, rtol=0)


def test_the_published_stem_has_its_size_and_an_odd_window_its_length(cases: dict[str, Any]) -> None:
    with torch.device("meta"):
        assert count(Stem(12, 512)) == cases["stem_512_count"]["n_parameters"]
    odd = cases["stem_odd_length"]
    assert Stem(12, 16)(torch.randn(2, 12, odd["input_length"])).shape[1] == odd["output_length"]


@pytest.mark.parametrize("name", ["transformer_rope", "transformer_rope_longer_than_max_len"])
def test_the_transformer_agrees(name: str, cases: dict[str, Any], arrays: Any) -> None:
    case, golden = cases[name], arrays(name)
    model = rebuilt(RotaryEncoder(32, 2, 4, 64), case, transformer_origins(2))
    assert count(model) == case["n_parameters"]
    np.testing.assert_allclose(model.frequency, golden["kept/pos_encoding.inv_freq"], rtol=1e-6)
    with torch.no_grad():
        tokens, _ = model(torch.from_numpy(golden["input"]))
    np.testing.assert_allclose(tokens.numpy(), golden["output"], atol=case["tolerance"]["atol"], rtol=0)


def test_the_published_transformer_has_its_size(cases: dict[str, Any]) -> None:
    with torch.device("meta"):
        for depth, parameters in cases["transformer_512_counts"]["counts"].items():
            assert count(RotaryEncoder(512, int(depth), even_heads(512), 2048)) == parameters
        encoder = Transformer(dial=512).module(12, 600).encoder
    assert count(encoder) == cases["transformer_512_counts"]["counts"]["6"]
    assert encoder.blocks[0].attention.heads == 8


def test_net1d_agrees(stages: Stages, cases: dict[str, Any], arrays: Any) -> None:
    case, golden = cases["net1d_backbone_small"], arrays("net1d_backbone_small")
    with torch.no_grad():
        tokens, _ = stages(torch.from_numpy(golden["input"]).transpose(1, 2))
    np.testing.assert_allclose(tokens.numpy(), golden["output"], atol=case["tolerance"]["atol"], rtol=0)


def test_the_published_net1d_has_its_size(cases: dict[str, Any]) -> None:
    parameters = cases["net1d_backbone_published_count"]["n_without_unused_bn"]
    assert net1d_shape(1.0) == (list(WIDTHS), list(BLOCKS), GROUP)
    with torch.device("meta"):
        assert count(Net1d(dial=1.0).module(12, 600).stages) == parameters


def test_only_the_causal_net1d_keeps_the_past_from_the_future(stages: Stages, cases: dict[str, Any]) -> None:
    causal = Stages(16, [16, 32], [2, 2], 8, causal=True).eval()
    causal.load_state_dict(stages.state_dict())
    first = torch.randn(1, 60, 16, generator=torch.Generator().manual_seed(0))
    other = torch.cat([first[:, :30], first[:, 30:] + 1], 1)
    moved = [(m(first)[0] - m(other)[0]).abs().amax((0, 2)) > 1e-4 for m in (stages, causal)]
    assert moved[0].nonzero()[0] == cases["net1d_future_leak"]["first_changed_output_when_input_changes_from_30"]
    assert moved[1].nonzero()[0] == 30
