"""cpc and jepa against losses, gradients and masks of ecg-pretraining-strategies (numbers only)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ecgscale.backbones import Tokens
from ecgscale.objectives import cpc, jepa

FOLDER = "ssl_losses"


def _case(folder: Path, name: str) -> dict[str, Any]:
    cases: dict[str, Any] = json.loads((folder / FOLDER / "manifest.json").read_text())["cases"]
    return cases[name]


def _arrays(folder: Path, name: str) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value) for key, value in np.load(folder / FOLDER / f"{name}.npz").items()}


class Given(nn.Module):
    """A backbone whose tokens are known."""

    def __init__(self, values: Tensor, embedded: Tensor) -> None:
        super().__init__()
        self.given = Tokens(values, torch.ones(values.shape[:2], dtype=torch.bool), None, embedded)
        self.token_width = values.shape[-1]

    def tokens(self, batch: Any) -> Tokens:
        return self.given


def _cpc(values: Tensor, embedded: Tensor, **fields: Any) -> Any:
    model = cpc.CPC(reduction="sum", **fields).build(Given(values, embedded))
    model.head.weight.data.copy_(torch.eye(values.shape[-1]))
    return model(range(len(values)), torch.Generator().manual_seed(0))  # of a batch, only its length is asked


@pytest.mark.parametrize("name", ["cpc_same_seq", "cpc_any_seq", "cpc_interval10"])
def test_cpc_losses_and_gradients(name: str, shared_golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case, arrays = _case(shared_golden, name), _arrays(shared_golden, name)
    window = case["hparams"]["negatives_from_same_seq_only"]
    drawn = arrays["neg_time_index"]
    if not window:
        drawn = (drawn + arrays["pred"].shape[1] * arrays["neg_batch_index"]).flatten(0, 1)[None]
    monkeypatch.setattr(cpc, "others", lambda *_: drawn)
    pred, encoded = arrays["pred"].requires_grad_(), arrays["encoded"].requires_grad_()
    loss = _cpc(pred, encoded, negatives=20, negatives_from="window" if window else "batch")
    loss.value.backward()
    np.testing.assert_allclose(loss.value.item(), arrays["loss"], rtol=case["tolerance"]["loss_rtol"])
    np.testing.assert_allclose(loss.parts["accuracy"], arrays["accuracy"], rtol=1e-6)
    for tensor, wanted in ((pred, "grad_pred"), (encoded, "grad_encoded")):
        np.testing.assert_allclose(tensor.grad, arrays[wanted], atol=case["tolerance"]["grad_atol"])


def test_cpc_of_cosines_at_a_low_temperature(shared_golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = _case(shared_golden, "cpc_crosscheck_with_git_version")["result"]["cpc_normalized_t0p1"]["stored"]
    arrays = _arrays(shared_golden, "cpc_same_seq")
    monkeypatch.setattr(cpc, "others", lambda *_: arrays["neg_time_index"])
    loss = _cpc(arrays["pred"], arrays["encoded"], negatives=20, normalise=True, temperature=0.1)
    np.testing.assert_allclose(loss.value.item(), wanted, rtol=1e-5)


def test_cpc_of_constant_tokens_is_chance(shared_golden: Path) -> None:
    wanted = _case(shared_golden, "cpc_constant")["loss_zero_prediction_300_tokens"]
    loss = _cpc(torch.zeros(2, 300, 4), torch.randn(2, 300, 4))
    np.testing.assert_allclose(loss.value.item(), wanted, rtol=1e-6)
    assert math.isclose(wanted, 286 * math.log(129), rel_tol=1e-6)


@pytest.mark.parametrize(("name", "norms"), [("jepa_published", 2), ("jepa_single_norm", 1)])
def test_jepa_losses_and_gradients(name: str, norms: int, shared_golden: Path) -> None:
    case, arrays = _case(shared_golden, name), _arrays(shared_golden, name)
    target = jepa.targets(arrays["teacher_last"], norms)
    torch.testing.assert_close(target, arrays["targets"])
    pred = arrays["pred"].requires_grad_()
    value = jepa.loss(pred, target, arrays["masks_pred"], once=False)
    value.backward()
    np.testing.assert_allclose(value.item(), arrays["loss"], rtol=case["tolerance"]["loss_rtol"])
    np.testing.assert_allclose(pred.grad, arrays["grad_pred"], atol=case["tolerance"]["grad_atol"])


@pytest.mark.parametrize("name", ["jepa_mask_300", "jepa_mask_80"])
def test_jepa_masks_at_given_places(name: str, shared_golden: Path) -> None:
    case, arrays = _case(shared_golden, name), _arrays(shared_golden, name)
    count, keep = case["hparams"]["timesteps"], case["hparams"]["min_keep"]
    for i, (size, wide) in enumerate(case["block_lengths_pred_enc_per_iteration"]):
        starts = torch.cat([arrays[f"it{i}/pred_starts"], arrays[f"it{i}/enc_starts"]], 1)
        length = torch.tensor([size] * 4 + [wide]).expand(len(starts), -1)
        valid = torch.ones(len(starts), count, dtype=torch.bool)
        spare = torch.rand(valid.shape, generator=torch.Generator().manual_seed(i))
        drawn = jepa.arrange(valid, starts, length, keep, spare)
        assert torch.equal(drawn.targets, arrays[f"it{i}/masks_pred"])
        regular, wanted = arrays[f"it{i}/enc_valid"][:, 0], arrays[f"it{i}/masks_enc"][:, 0]
        assert torch.equal(drawn.context[regular], wanted[regular])
        assert torch.equal(drawn.context.sum(1), wanted.sum(1))


def test_jepa_block_lengths_follow_the_released_draws(shared_golden: Path) -> None:
    lengths = _case(shared_golden, "jepa_mask_80")["block_lengths_pred_enc_per_iteration"]
    for seed, (size, _) in enumerate(lengths):
        drawn = jepa.draw(torch.ones(2, 80, dtype=torch.bool), jepa.JEPA(), torch.Generator().manual_seed(seed))
        assert drawn.targets.sum(-1).unique().tolist() == [size]


def test_jepa_published_blocks_hide_as_much_as_the_release(shared_golden: Path) -> None:
    wanted = _case(shared_golden, "jepa_mask_rates")
    spec, valid, g = (
        jepa.JEPA(published_blocks=True),
        torch.ones(64, 300, dtype=torch.bool),
        torch.Generator().manual_seed(0),
    )
    drawn = [jepa.draw(valid, spec, g) for _ in range(150)]
    context, targets = torch.cat([d.context for d in drawn]), torch.cat([d.targets for d in drawn])
    union = targets.any(1)
    assert targets.sum(-1).unique().tolist() == wanted["pred_block_lengths_seen"]
    assert context.float().mean().item() == pytest.approx(wanted["visible_fraction"], abs=0.01)
    assert union.float().mean().item() == pytest.approx(wanted["target_union_fraction"], abs=0.01)
    fallback = (context & union).any(1).float().mean().item()
    assert fallback == pytest.approx(wanted["fallback_random_context_fraction"], abs=0.025)
