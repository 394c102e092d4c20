"""mae: what is hidden stays hidden, and only that is scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ecgscale.backbones import Backbone
from ecgscale.backbones._stem import StemBackbone
from ecgscale.backbones.beat_transformer import BeatEncoder, BeatTransformer
from ecgscale.backbones.resnet1d import ResNet1d
from ecgscale.objectives import mae

SAMPLES = 250  # no multiple of a patch or of any token


class Plain(StemBackbone):
    """A stem and a convolution."""

    def __init__(self) -> None:
        super().__init__(12, 8, 4)
        self.layer = nn.Conv1d(8, 8, 9, padding="same")

    def context(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self.layer(x.transpose(1, 2)).transpose(1, 2), ()


BACKBONES: dict[str, Callable[[], Backbone]] = {
    "stem": Plain,
    "resnet": lambda: ResNet1d(dial=0.05, dropout=0.0).build(12, SAMPLES),
    "beats": lambda: BeatTransformer(dial=16.0, dropout=0.0).build(12, SAMPLES),
}


@pytest.fixture(params=BACKBONES)
def build(request: pytest.FixtureRequest) -> Callable[..., Any]:
    def made(**fields: Any) -> Any:
        torch.manual_seed(0)
        return mae.MAE(**fields).build(BACKBONES[request.param]())

    return made


@pytest.fixture
def batch(make_batch: Callable[..., Any]) -> Any:
    made = make_batch(records=4, samples=SAMPLES, beats=(2, 3))
    made.signal[1, 5], made.lead_ok[1, 5] = 0, False
    return made


def run(model: Any, batch: Any, seed: int = 1) -> Any:
    return model(batch, torch.Generator().manual_seed(seed))


def hidden(batch: Any, spec: mae.MAE, seed: int = 1) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return mae.hide(batch, spec.patch_s, spec.ratio, spec.across == "lead", g)


def spied(model: Any) -> dict[str, Tensor]:
    """Keep what the decoder gives."""
    seen: dict[str, Tensor] = {}
    model.head.register_forward_hook(lambda _, __, out: seen.update(out=out))
    return seen


@pytest.mark.parametrize("across", ["time", "lead"])
def test_the_prediction_does_not_depend_on_hidden_samples(build: Any, batch: Any, across: str) -> None:
    model = build(across=across).eval()
    seen, signal = spied(model), batch.signal.clone().requires_grad_()
    run(model, replace(batch, signal=signal))
    (gradient,) = torch.autograd.grad((seen["out"] * torch.randn_like(seen["out"])).sum(), signal)
    where = hidden(batch, model.spec)
    assert gradient[where].abs().max() == 0 and gradient[~where].abs().max() > 0


@pytest.mark.parametrize("across", ["time", "lead"])
def test_predicting_zero_costs_the_mean_square_of_what_is_hidden(build: Any, batch: Any, across: str) -> None:
    model = build(across=across).eval()
    model.head[-1].weight.data.zero_(), model.head[-1].bias.data.zero_()
    loss = run(model, batch)
    where = hidden(batch, model.spec) & batch.lead_ok[..., None]
    beneath = model.backbone.patches(replace(batch, signal=where.float())).bool()
    beneath &= model.backbone.valid(batch)[..., None]
    torch.testing.assert_close(loss.value, model.backbone.patches(batch)[beneath].square().mean())
    assert loss.parts["explained"].abs() < 1e-6
    if not isinstance(model.backbone, BeatEncoder):  # every sample lies beneath one token
        torch.testing.assert_close(loss.value, batch.signal[where].square().mean())


def test_samples_that_are_shown_or_missing_are_not_scored(build: Any, batch: Any) -> None:
    model = build().eval()
    seen = spied(model)
    value = run(model, batch).value
    (gradient,) = torch.autograd.grad(value, seen["out"])
    where = hidden(batch, model.spec) & batch.lead_ok[..., None]
    beneath = model.backbone.patches(replace(batch, signal=where.float())).bool()
    beneath &= model.backbone.valid(batch)[..., None]
    assert torch.equal(gradient != 0, beneath)


def test_tokens_that_are_not_real_are_not_scored(batch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = mae.MAE().build(Plain()).eval()
    valid = model.backbone.valid(batch)
    valid[:, 40:] = False
    monkeypatch.setattr(model.backbone, "valid", lambda _: valid)
    seen = spied(model)
    (gradient,) = torch.autograd.grad(run(model, batch).value, seen["out"])
    assert gradient[valid].abs().max() > 0 and gradient[~valid].abs().max() == 0
    assert model.loss_weight(batch) == 40 * len(batch)


def test_another_record_changes_nothing(build: Any, batch: Any) -> None:
    model = build().eval()
    seen = spied(model)
    run(model, batch)
    first, changed = seen["out"], batch.signal.clone()
    changed[3] += 1
    run(model, replace(batch, signal=changed))
    torch.testing.assert_close(seen["out"][:3], first[:3], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(seen["out"][3], first[3])


def test_the_generator_decides_alone(build: Any, batch: Any) -> None:
    model = build().eval()
    assert torch.equal(run(model, batch).value, run(model, batch).value)
    assert not torch.equal(run(model, batch, 1).value, run(model, batch, 2).value)


def test_normalised_targets_do_not_depend_on_amplitude(build: Any, batch: Any) -> None:
    model = build(norm_targets=True).eval()
    model.head[-1].weight.data.zero_(), model.head[-1].bias.data.zero_()
    torch.testing.assert_close(
        run(model, batch).value, run(model, replace(batch, signal=5 * batch.signal)).value, rtol=1e-3, atol=0
    )


def test_standardised_patches_have_mean_zero_and_variance_one() -> None:
    patches = 3 + 2 * torch.randn(2, 4, 50, generator=torch.Generator().manual_seed(0))
    real = (torch.arange(50) < 40).expand(2, 4, -1).float()
    done = mae.standardised(patches, real)
    assert done[..., 40:].abs().max() == 0
    torch.testing.assert_close(done[..., :40].mean(-1), torch.zeros(2, 4), atol=1e-6, rtol=0)
    torch.testing.assert_close(done[..., :40].var(-1, correction=0), torch.ones(2, 4), atol=1e-5, rtol=0)
    assert mae.standardised(torch.ones(1, 1, 5), torch.ones(1, 1, 5)).abs().max() == 0


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.75])
def test_an_exact_share_of_patches_is_hidden(batch: Any, ratio: float) -> None:
    time = hidden(batch, mae.MAE(ratio=ratio))
    assert (time == time[:, :1]).all()
    patches = torch.nn.functional.pad(time[:, 0], (0, 10)).unflatten(-1, (13, 20))  # 0.2 s at 100 Hz, the last is short
    assert (patches[:, :12].all(-1) | ~patches[:, :12].any(-1)).all()
    assert patches[..., 0].sum(1).tolist() == [int(13 * ratio + 0.5)] * 4
    lead = hidden(batch, mae.MAE(ratio=ratio, across="lead"))
    assert not (lead == lead[:, :1]).all() and not lead[1, 5].any()
    first = lead[..., ::20].sum((1, 2)).tolist()
    assert first == [int(13 * n * ratio + 0.5) for n in batch.lead_ok.sum(1).tolist()]


def test_a_patch_is_at_least_one_sample(batch: Any) -> None:
    assert hidden(batch, mae.MAE(patch_s=1e-4))[0, 0].sum() == SAMPLES // 2
