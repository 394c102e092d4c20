"""beat_transformer and beat_codes against outputs of PKUDigitalHealth/HeartLang (MIT)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ecgscale.backbones.beat_transformer import BeatEncoder, BeatTransformer
from ecgscale.nn import SequenceEncoder
from ecgscale.objectives.beat_codes import Codebook
from ecgscale.training.size import count
from ecgscale.views import BeatTokens

from .golden import rule

PARTS = {
    "mask_token": "mask_token",
    "cls": "cls_token",
    "positions": "pos_embed",
    "embed.weight": "token_embed.tokenConv.weight",
    "lead.weight": "spa_embed.embed.weight",
    "second.weight": "tem_embed.embed.weight",
    "norm.weight": "norm_layer.weight",
    "norm.bias": "norm_layer.bias",
}
LAYERS = {
    "attention.norm": "0.norm",
    "attention.qkv": "0.to_qkv",
    "attention.out": "0.to_out.0",
    "feed_forward.norm": "1.net.0",
    "feed_forward.up": "1.net.1",
    "feed_forward.down": "1.net.4",
}
SHAPES = {"mask_token": (1, 1), "positions": (1,)}  # leading axes the origin has and we have not


def origin_key(ours: str) -> str:
    """Name map: our encoder's state_dict key to the origin's."""
    if ours in PARTS:
        return PARTS[ours]
    _, layer, module, part, kind = ours.split(".")
    return f"transformer.layers.{layer}.{LAYERS[f'{module}.{part}']}.{kind}"


def fill(encoder: SequenceEncoder, scale: float, prefix: str = "") -> None:
    """Give one of our encoders the golden weights."""
    state = encoder.state_dict()
    for ours, tensor in state.items():
        shape = (*SHAPES.get(ours, ()), *tensor.shape)
        state[ours] = rule(prefix + origin_key(ours), shape, scale).reshape(tensor.shape)
    encoder.load_state_dict(state)


def encoder_of(config: dict[str, Any], features: int = 96, depth: int | None = None) -> SequenceEncoder:
    sizes = config["embed_dim"], depth or config["depth"], config["heads"], config["dim_head"], config["mlp_dim"]
    return SequenceEncoder(features, *sizes, positions=257, published=True)


@pytest.fixture(scope="module")
def folder(shared_golden: Path) -> Path:
    return shared_golden / "heartlang"


@pytest.fixture(scope="module")
def cases(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())["cases"]


@pytest.fixture(scope="module")
def beats(folder: Path) -> BeatTokens:
    golden = np.load(folder / "tokenizer_8_records.npz")
    lead, second = (torch.from_numpy(golden[key]).long() for key in ("lead_index", "time_index"))
    return BeatTokens(torch.from_numpy(golden["tokens"]), lead, second, torch.zeros_like(lead), lead > 0)


def first(beats: BeatTokens, records: int, embedded: bool = True) -> BeatTokens:
    lead, second = beats.lead[:records], beats.second[:records]
    return BeatTokens(
        beats.values[:records], lead * embedded, second * embedded, beats.beat[:records], beats.valid[:records]
    )


def test_masked_model(cases: dict[str, Any], folder: Path, beats: BeatTokens) -> None:
    case, golden = cases["masked_model_small"], np.load(folder / "masked_model_small.npz")
    scale, atol = case["weight_scale_ndim2"], case["tolerance"]["atol"]
    encoder = encoder_of(case["constructor"])
    fill(encoder, scale)
    model = BeatEncoder(encoder, 64, "cls", 256).eval()
    mask = torch.from_numpy(golden["mask"])
    with torch.no_grad():
        cls, masked = encoder(*_inputs(first(beats, 4)), mask)[:2]
        logits = masked[mask] @ rule("lm_head.weight", (48, 64), scale).T + rule("lm_head.bias", (48,), scale)
        plain = model.read(first(beats, 2)).values
        encoder.lead.weight.zero_(), encoder.second.weight.zero_()
        unplaced = model.read(first(beats, 2)).values
    np.testing.assert_allclose(logits.numpy(), golden["logits_masked"], atol=atol)
    np.testing.assert_allclose(torch.cat([cls[:, None], masked], 1)[:2].numpy(), golden["all_tokens_masked"], atol=atol)
    np.testing.assert_allclose(plain.numpy(), golden["qrs_tokens_unmasked"], atol=atol)
    np.testing.assert_allclose(unplaced.numpy(), golden["qrs_tokens_without_lead_time"], atol=atol)


def _inputs(beats: BeatTokens) -> tuple[Tensor, ...]:
    return beats.values, beats.lead, beats.second, beats.valid


def test_fine_tuned_model(cases: dict[str, Any], folder: Path, beats: BeatTokens) -> None:
    case, golden = cases["finetune_small"], np.load(folder / "finetune_small.npz")
    scale = case["weight_scale_ndim2"]
    encoder = encoder_of(case["constructor"])
    fill(encoder, scale, "backbone.")
    with torch.no_grad():
        cls = BeatEncoder(encoder, 64, "cls", 256).eval().read(beats).cls
    assert cls is not None
    logits = cls @ rule("mlp_head.weight", (5, 64), scale).T + rule("mlp_head.bias", (5,), scale)
    np.testing.assert_allclose(logits.numpy(), golden["logits"], atol=case["tolerance"]["atol"])


def test_the_published_size_is_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        encoder = SequenceEncoder(96, 768, 12, 8, 64, 1024, positions=257, published=True)
    assert count(encoder) == 38_262_528


def test_the_published_field_builds_the_published_layout(make_batch: Any) -> None:
    model = BeatTransformer(dial=16.0, published_truncation=True, pool="cls").build(12, 1000).eval()
    tokens = model.tokens(make_batch(records=2, beats=(12, 25)))
    assert tokens.values.shape[1] == 256
    assert tokens.valid.sum(1).tolist() == [144, 256]
    assert model.encoder.positions is not None and model.encoder.positions.shape[0] == 257


def test_codebook_moves_as_the_origin(cases: dict[str, Any], folder: Path) -> None:
    case, golden = cases["norm_ema_quantizer_train"], np.load(folder / "norm_ema_quantizer_train.npz")
    sizes = case["hparams"]
    book = Codebook(sizes["n_embed"], sizes["dim"], sizes["decay"])
    book.weight.copy_(torch.from_numpy(golden["codebook0"]))
    book.initted.fill_(True)
    book.train()
    for step in range(3):
        z = torch.from_numpy(golden[f"it{step}/z"]).requires_grad_()
        valid = torch.ones(z.shape[:2], dtype=torch.bool)
        quantised = book(z, valid, torch.Generator())
        loss = sizes["beta"] * quantised.commitment
        (0.5 * quantised.values.sum() + loss).backward()
        assert quantised.ids.flatten().tolist() == golden[f"it{step}/codes"].tolist()
        after = {"codebook_after": book.weight, "cluster_size_after": book.cluster_size}
        for key, ours in {"loss": loss, "z_q": quantised.values, "grad_z": z.grad, **after}.items():
            np.testing.assert_allclose(ours.detach(), golden[f"it{step}/{key}"], atol=1e-5, err_msg=f"{step} {key}")


def test_codes_of_the_quantising_network(cases: dict[str, Any], folder: Path, beats: BeatTokens) -> None:
    case, golden = cases["vqhbr_small"], np.load(folder / "vqhbr_small.npz")
    scale = case["weight_scale_ndim2"]
    encoder = encoder_of(case["constructor"]["encoder_config"])
    fill(encoder, scale, "encoder.")
    encoder.eval()
    project = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 16))
    for key, tensor in project.state_dict().items():
        tensor.copy_(rule(f"encode_task_layer.{key}", tuple(tensor.shape), scale))
    book = Codebook(64, 16, case["constructor"]["decay"])
    book.weight.copy_(nn.functional.normalize(rule("quantize.embedding.weight", (64, 16), scale), dim=-1))
    book.initted.fill_(True)
    book.eval()
    with torch.no_grad():
        features = encoder(*_inputs(beats))[1] * (beats.values != 0).any(-1, keepdim=True)
        z = project(features)
        ids = book(z, torch.ones_like(beats.valid), torch.Generator()).ids
    np.testing.assert_allclose(z[:2].numpy(), golden["quantizer_input"], atol=2e-4)
    sure = golden["code_margin"] > 1e-4
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(ids.numpy()[sure], golden["codes"][sure])
