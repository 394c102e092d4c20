"""Masks, data2vec, DinoSR and HuBERT++ against the released code of arXiv:2605.12241 (numbers only)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_allclose
from torch import Tensor

from ecgscale import masks
from ecgscale.objectives._distillation import layer_norm, mean
from ecgscale.objectives.data2vec import distance, targets
from ecgscale.objectives.dinosr import CodeBooks, cross_entropy
from ecgscale.objectives.hubert import Prototypes, cosine, prediction_loss, sinkhorn

Golden = Callable[[str], tuple[dict[str, Any], dict[str, Tensor]]]


@pytest.fixture
def golden(shared_golden: Path) -> Golden:
    folder = shared_golden / "ssl_losses"

    def read(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
        case = json.loads((folder / "manifest.json").read_text())["cases"][name]
        if "file" not in case:
            return case, {}
        with np.load(folder / case["file"]) as arrays:
            return case, {key: torch.from_numpy(arrays[key]) for key in arrays.files}

    return read


def _books(words: Tensor, decay: float) -> CodeBooks:
    books = CodeBooks(1, *words.shape, decay, hold=False)
    books.sums.copy_(words[None])
    return books


def test_span_masks(golden: Golden) -> None:
    case, arrays = golden("random_span_mask")
    probability, span = (case["hparams"][key] for key in ("mask_probability", "mask_span"))
    valid = torch.ones(arrays["mask"].shape, dtype=torch.bool)
    hidden = masks.spans(valid, probability, span, 1.0 - arrays["midpoints"], at_least=0, published=True)
    assert torch.equal(hidden, arrays["mask"])


def test_share_of_masked_tokens(golden: Golden) -> None:
    case, _ = golden("random_span_mask_rates")
    valid = torch.ones(4000, 300, dtype=torch.bool)
    random = torch.rand(valid.shape, generator=torch.Generator().manual_seed(0))
    hidden = masks.spans(valid, 0.065, 10, random, at_least=0, published=True)
    assert hidden.float().mean().item() == pytest.approx(case["mean_masked_fraction"], abs=0.003)
    assert (~hidden.any(1)).float().mean().item() == pytest.approx(case["fraction_of_windows_without_mask"], abs=0.02)


@pytest.mark.parametrize("name", ["data2vec_published", "data2vec_instance_norm", "data2vec_beta0p25_scale1"])
def test_data2vec(name: str, golden: Golden) -> None:
    case, arrays = golden(name)
    settings, tolerance = case["hparams"], case["tolerance"]
    mask, predicted = arrays["mask"], arrays["pred"].requires_grad_()
    layers = arrays["teacher_layer3"], arrays["teacher_layer4"]
    wanted = targets(layers, torch.ones_like(mask), "both" if settings["instance_norm_targets"] else "layer")
    assert_allclose(wanted, arrays["targets"], atol=tolerance["targets_atol"])
    weight, rows, wanted = masks.rows(mask, predicted, wanted)
    scale = settings["loss_scale"] or predicted.shape[-1] ** -0.5
    loss = mean(distance(rows, wanted, settings["loss_beta"]), weight) * scale
    loss.backward()
    assert_allclose(loss.item(), arrays["loss"], rtol=tolerance["loss_rtol"])
    assert_allclose(predicted.grad, arrays["grad_pred"], atol=tolerance["grad_atol"])


def test_dinosr_with_one_code_book(golden: Golden) -> None:
    case, arrays = golden("dinosr_published_quirk")
    size, mask = case["hparams"]["codebook_size"], arrays["mask"]
    books = _books(arrays["codebook0"], case["hparams"]["momentum"])
    for step in range(3):
        now = {key.removeprefix(f"it{step}/"): value for key, value in arrays.items() if key.startswith(f"it{step}/")}
        once = layer_norm(now["features"])
        assert_allclose(once.flatten(0, 1), now["features_standardised"], atol=2e-5)
        features = layer_norm(once).flatten(0, 1)  # as released: twice, which only feels its epsilon twice
        assert_allclose(features, now["features_standardised"], atol=1e-6)
        codes = books.nearest(features[None])
        clear = now["second_minus_first_distance"] > 1e-4
        assert torch.equal(codes[0][clear], now["assignments"].flatten()[clear])
        logits = arrays["logits"].clone().requires_grad_()
        loss = mean(cross_entropy(logits[mask][:, None, :size], codes[:, mask.flatten()]), torch.ones(int(mask.sum())))
        loss.backward()
        assert_allclose(loss.item(), now["loss"], rtol=case["tolerance"]["loss_rtol"])
        assert_allclose(logits.grad, now["grad_logits"], atol=1e-6)
        books.note(features[None], torch.ones(len(features)))
        books.move()
        for ours, theirs in ((books.words, "codebook"), (books.sums, "code_sum"), (books.counts, "code_cnt")):
            assert_allclose(ours[0], now[f"{theirs}_after"], atol=case["tolerance"]["codebook_atol"])


def test_dinosr_leaves_empty_words_where_they_are(golden: Golden) -> None:
    case, arrays = golden("dinosr_empty_codes")
    features = layer_norm(layer_norm(arrays["features"])).flatten(0, 1)[None]
    books = _books(arrays["codebook0"], case["hparams"]["momentum"])
    held = CodeBooks(1, *arrays["codebook0"].shape, case["hparams"]["momentum"], hold=True)
    held.load_state_dict(books.state_dict())
    for step in range(2):
        codes = books.nearest(features)
        assert torch.equal(codes[0], arrays[f"it{step}/assignments"].flatten())
        for each in (books, held):
            each.note(features, torch.ones(features.shape[1]), codes)
            each.move()
        atol = case["tolerance"]["codebook_atol"]
        assert_allclose(books.words[0], arrays[f"it{step}/codebook_after"], atol=atol)
        assert_allclose(books.counts[0], arrays[f"it{step}/code_cnt_after"], atol=atol)
    empty = torch.bincount(arrays["it0/assignments"].flatten(), minlength=64) == 0
    assert int(empty.sum()) == case["empty_codes_first"]
    assert_allclose(held.words[0][empty], arrays["codebook0"][empty])


def test_the_release_standardises_each_token(golden: Golden) -> None:
    case, arrays = golden("dinosr_instance_norm_meaning")
    assert_allclose(layer_norm(arrays["x"]), arrays["y"], atol=case["tolerance"]["atol"])


@pytest.mark.parametrize(("name", "temperature"), [("sinkhorn_k128_tau0p15", 0.15), ("sinkhorn_k128_tau0p07", 0.07)])
def test_sinkhorn_prototypes_and_loss(name: str, temperature: float, golden: Golden) -> None:
    case, arrays = golden(name)
    settings, tolerance = case["hparams"], case["tolerance"]
    prototypes = Prototypes(settings["K"], 32, settings["prototype_momentum"])
    prototypes.weight.copy_(arrays["prototypes"])
    features = F.normalize(arrays["features"], dim=-1).flatten(0, 1)
    every = torch.ones(len(features))
    shares = prototypes.assign(prototypes.weight, features, every, temperature, settings["sinkhorn_iters"])
    assert_allclose(shares.view_as(arrays["Q"]), arrays["Q"], atol=tolerance["Q_atol"])
    prototypes.move()
    assert_allclose(prototypes.weight, arrays["prototypes_after"], atol=tolerance["prototypes_atol"])
    logits, hidden = arrays["logits"].requires_grad_(), arrays["mask"].flatten().float()
    loss = prediction_loss(logits.flatten(0, 1), shares, hidden, 1 - hidden, settings["student_temperature"])
    loss.backward()
    assert_allclose(loss.item(), case["losses_by_alpha"]["0.75"]["total"], rtol=tolerance["loss_rtol"])
    assert_allclose(logits.grad, arrays["alpha0.75/grad_logits"], atol=1e-5)


def test_hubert_with_two_sets_of_prototypes(golden: Golden) -> None:
    case, arrays = golden("hubertpp_two_codebooks_step0")
    features = F.normalize(arrays["features"], dim=-1).flatten(0, 1)
    hidden, used, total = arrays["mask"].flatten().float(), case["temperatures_used"], 0.0
    for size, logits in zip((128, 256), arrays["logits"].flatten(0, 1).split([128, 256], -1), strict=True):
        scores = features @ arrays[f"prototypes{size}"].T / used["teacher"]
        shares = sinkhorn(scores, torch.ones(len(features)), 3)
        assert_allclose(shares.view_as(arrays[f"Q{size}"]), arrays[f"Q{size}"], atol=1e-5)
        total += prediction_loss(logits, shares, hidden, 1 - hidden, used["student"]).item()
    assert_allclose(total, case["total"], rtol=case["tolerance"]["loss_rtol"])


def test_temperatures(golden: Golden) -> None:
    case, _ = golden("cosine_warmup")
    for name, ends in (("student", (0.5, 0.1)), ("teacher", (0.15, 0.07))):
        for step, value in case[name].items():
            assert_allclose(cosine(*ends, int(step), 200), value, rtol=1e-12)


@pytest.mark.parametrize("size", [128, 256])
def test_equal_logits_cost_the_logarithm_of_the_number_of_codes(size: int) -> None:
    codes = torch.randint(size, (2, 50), generator=torch.Generator().manual_seed(0))
    loss = cross_entropy(torch.zeros(50, 2, size), codes)
    assert_allclose(loss, np.full(50, math.log(size)), rtol=1e-6)


def test_equal_distributions_have_no_divergence() -> None:
    logits = torch.randn(40, 64, generator=torch.Generator().manual_seed(0))
    shares, every = (logits / 0.1).softmax(-1), torch.ones(40)
    loss = prediction_loss(logits, shares, every, torch.zeros(40), 0.1, entropy=0.0)
    assert_allclose(loss.item(), 0.0, atol=1e-6)
    uniform = prediction_loss(torch.zeros(40, 64), torch.eye(64)[:40], every, 0 * every, 0.1, 1.0, entropy=0.0)
    assert_allclose(uniform.item(), math.log(64), rtol=1e-6)
