"""resnet1d against outputs of antonior92/ecg-age-prediction (MIT), resnet.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ecgscale.backbones.resnet1d import ResNet, ResNet1d
from ecgscale.training.size import count, size

from .golden import rule


def origin_key(ours: str) -> str:
    """Name map: our state_dict key to the origin's."""
    words = ours.split(".")
    stem = {"stem": "conv1", "norm": "bn1"}
    if words[0] in stem:
        return ".".join([stem[words[0]], *words[1:]])
    inner = {"conv1": "conv1", "norm1": "bn1", "conv2": "conv2", "norm2": "bn2", "skip": "skip_connection.1"}
    first = words[1] == "0" or None  # the first block does not pool, its skip would stand at index 0
    assert not (first and words[2] == "skip")
    return ".".join([f"resblock1d_{words[1]}", inner[words[2]], *words[3:]])


def rebuilt(widths: list[int], scale: float) -> ResNet:
    """Our network with the golden weights."""
    model = ResNet(12, widths)
    state = model.state_dict()
    for ours, tensor in state.items():
        if tensor.is_floating_point():
            shape = tuple(n for i, n in enumerate(tensor.shape) if not (tensor.ndim == 4 and i == 2))
            state[ours] = rule(origin_key(ours), shape, scale).reshape(tensor.shape)
    model.load_state_dict(state)
    return model.eval()


@pytest.fixture(scope="module")
def cases(shared_golden: Path) -> dict[str, Any]:
    return json.loads((shared_golden / "ribeiro_resnet1d" / "manifest.json").read_text())["cases"]


@pytest.mark.parametrize("name", ["x0p1_1024_all_intermediates", "published_1024", "published_4096"])
def test_every_block_agrees_with_the_origin(
    name: str, cases: dict[str, Any], shared_golden: Path, make_batch: Any
) -> None:
    case = cases[name]
    arrays = np.load(shared_golden / "ribeiro_resnet1d" / f"{name}.npz")
    scale = case["weight_scale_ndim2"]
    model = rebuilt([width for width, _ in case["constructor"]["blocks_dim"]], scale)
    streams: dict[str, torch.Tensor] = {}
    for i, block in enumerate(model.blocks):
        block.register_forward_hook(
            lambda _, __, out, i=i: streams.update({f"resblock1d_{i}.x": out[0], f"resblock1d_{i}.y": out[1]})
        )
    with torch.no_grad():
        tokens = model.tokens(make_batch(signal=torch.from_numpy(arrays["input"])))
    for key, value in streams.items():
        if f"inter/{key}" in arrays:
            np.testing.assert_allclose(value.squeeze(2).numpy(), arrays[f"inter/{key}"], atol=2e-5, err_msg=key)
    flat = tokens.values.transpose(1, 2).flatten(1)
    head = rule("lin.weight", (6, flat.shape[1]), scale), rule("lin.bias", (6,), scale)
    logits = torch.nn.functional.linear(flat, *head)
    np.testing.assert_allclose(logits.numpy(), arrays["output"], atol=case["tolerance"]["atol"])


def test_sizes_are_the_published_ones(cases: dict[str, Any]) -> None:
    for dial, row in cases["parameter_counts"]["table"].items():
        spec = ResNet1d(dial=float(dial))
        head = 6 * (row["widths"][-1] * 4 + 1)  # the origin's head on four flattened positions
        assert size(spec, 12, 1024) + head == row["n_1024"], dial
    with torch.device("meta"):
        model = ResNet1d(dial=1.0).build(12, 4096)
    assert count(model) + 6 * (320 * 16 + 1) == 6_950_310
