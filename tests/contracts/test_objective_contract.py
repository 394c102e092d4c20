"""Every objective that ships, with every backbone it can be paired with, keeps the same promises; found by walking."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ecgscale.backbones import architectures
from ecgscale.objectives import Objective, ObjectiveSpec
from ecgscale.spec import names, part, part_class
from ecgscale.training import size

LEADS, SAMPLES = 12, 512
FIELDS: dict[str, Any] = {"labels": ["a", "b", "c"], "codes": 24, "code_dim": 8, "dropout": 0.0}


def _spec(kind: str, name: str) -> Any:
    fields = {k: v for k, v in FIELDS.items() if k in part_class(kind, name).model_fields}
    return part(kind, {"name": name, **fields})


def _pairs() -> list[tuple[str, str]]:
    """Objectives with the backbones that offer what they need: beats, causality, dropped tokens."""
    found = []
    for objective in names("objectives"):
        for backbone in architectures():
            cls: Any = part_class("backbones", backbone)
            offers = (
                cls.needs
                | {"labels", "codes"}
                | ({"causal"} if "causal" in cls.model_fields else set())
                | ({"hides_tokens"} if cls.hides_tokens else set())
            )
            if part_class("objectives", objective).needs <= offers:  # type: ignore[attr-defined]
                found.append((objective, backbone))
    return found


PAIRS = _pairs()


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[ObjectiveSpec, Any]:
    objective, backbone = (
        _spec(kind, name) for kind, name in zip(("objectives", "backbones"), request.param, strict=True)
    )
    if "causal" in objective.needs:
        backbone = backbone.model_copy(update={"causal": True})
    return objective, size.solve(backbone, 20e3, LEADS, SAMPLES)[0]


@pytest.fixture
def build(pair: tuple[ObjectiveSpec, Any]) -> Callable[[], Objective]:
    def made() -> Objective:
        torch.manual_seed(0)
        return pair[0].build(pair[1].build(LEADS, SAMPLES))

    return made


@pytest.fixture(scope="module")
def batch(make_batch: Callable[..., Any]) -> Any:
    return make_batch(records=6, samples=SAMPLES, beats=(4, 6, 7), codes=24)


def run(model: Objective, batch: Any, seed: int = 3) -> Any:
    torch.manual_seed(seed)
    return model(batch, torch.Generator().manual_seed(seed))


def test_every_objective_has_a_backbone() -> None:
    assert {objective for objective, _ in PAIRS} == set(names("objectives"))


def test_the_loss_is_one_finite_number_and_its_parts_carry_no_gradient(
    build: Callable[[], Objective], batch: Any
) -> None:
    loss = run(build().train(), batch)
    assert loss.value.ndim == 0 and torch.isfinite(loss.value)
    assert loss.parts and all(v.ndim == 0 and torch.isfinite(v) and not v.requires_grad for v in loss.parts.values())


def test_the_same_random_numbers_give_the_same_loss(build: Callable[[], Objective], batch: Any) -> None:
    one, two = build().train(), build().train()
    assert torch.equal(run(one, batch).value, run(two, batch).value)


def test_gradient_reaches_the_encoder(build: Callable[[], Objective], batch: Any) -> None:
    model = build().train()
    run(model, batch).value.backward()
    gradients = {name: p.grad for name, p in model.backbone.named_parameters() if not name.endswith("mask_token")}
    assert [
        name for name, g in gradients.items() if g is None or not torch.isfinite(g).all() or not g.abs().sum() > 0
    ] == []


def test_the_loss_falls_by_half_on_one_batch(build: Callable[[], Objective], batch: Any) -> None:
    model = build().train()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3, weight_decay=0.0)
    start = run(model, batch).value.item()
    for _ in range(200):
        optimiser.zero_grad()
        loss = run(model, batch).value
        if loss.item() < 0.45 * start:
            break
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.5 * start, (start, loss.item())


def test_evaluation_changes_nothing(build: Callable[[], Objective], batch: Any) -> None:
    model = build().train()
    run(model, batch)
    model.eval()
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        first, second = run(model, batch).value, run(model, batch).value
    assert torch.equal(first, second)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_the_state_dict_holds_all_state(build: Callable[[], Objective], batch: Any) -> None:
    model, other = build().train(), build().train()
    run(model, batch)
    model.after_step()
    other.load_state_dict(model.state_dict())
    assert torch.equal(run(model, batch, 5).value, run(other, batch, 5).value)
    assert all(torch.equal(other.state_dict()[key], value) for key, value in model.state_dict().items())


def test_the_validation_weight_is_a_positive_number(build: Callable[[], Objective], batch: Any) -> None:
    weight = build().loss_weight(batch)
    assert weight.ndim == 0 and weight.item() >= 1


def test_it_survives_bfloat16(build: Callable[[], Objective], batch: Any) -> None:
    model = build().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = run(model, batch).value
    value.backward()
    assert torch.isfinite(value)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_a_batch_whose_records_have_no_beats_is_finite(
    build: Callable[[], Objective], make_batch: Callable[..., Any]
) -> None:
    model = build().train()
    run(model, make_batch(records=4, samples=SAMPLES, codes=24))
    value = run(model, make_batch(records=4, samples=SAMPLES, beats=(0,), codes=24)).value
    value.backward()
    assert torch.isfinite(value)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.fixture(scope="module")
def beats_backbone() -> Any:
    return size.solve(_spec("backbones", "beat_transformer"), 20e3, LEADS, SAMPLES)[0]


def test_masked_beats_hides_half_of_the_real_beats_and_scores_nothing_else(beats_backbone: Any, batch: Any) -> None:
    model = _spec("objectives", "masked_beats").build(beats_backbone.build(LEADS, SAMPLES)).eval()
    read, seen = model.backbone.read, {}

    def spy(beats: Any, masked: Tensor) -> Any:
        seen["values"], seen["masked"], seen["valid"] = beats.values.requires_grad_(), masked, beats.valid
        return read(beats, masked)

    model.backbone.read = spy
    run(model, batch).value.backward()
    masked, valid, gradient = seen["masked"], seen["valid"], seen["values"].grad
    assert masked.sum(1).tolist() == [int(n * 0.5 + 0.5) for n in valid.sum(1).tolist()]
    assert not (masked & ~valid).any()
    assert gradient[masked].abs().max() == 0, "hidden samples leak into the loss"
    assert (gradient[valid & ~masked].abs().amax(-1) > 0).all()
    assert model.loss_weight(batch).item() == masked.sum().item()
    changed = batch.codes.clone()
    changed[:, :, 0] = (changed[:, :, 0] + 1) % 24
    assert run(model, replace(batch, codes=changed)).value != run(model, batch).value


def test_masked_beats_names_what_is_missing(beats_backbone: Any, batch: Any) -> None:
    model = _spec("objectives", "masked_beats").build(beats_backbone.build(LEADS, SAMPLES))
    with pytest.raises(ValueError, match="train a beat_codes run"):
        run(model, replace(batch, codes=None))


def test_beat_codes_gives_every_real_beat_an_id_whatever_the_batch(beats_backbone: Any, batch: Any) -> None:
    torch.manual_seed(0)
    model = _spec("objectives", "beat_codes").build(beats_backbone.build(LEADS, SAMPLES)).train()
    run(model, batch)
    ids = model.ids(batch)
    assert model.training
    assert ids.shape == batch.codes.shape and torch.equal(ids >= 0, batch.codes >= 0)
    assert ids.unique().numel() > 8
    for row in range(len(batch)):
        alone = replace(batch, **{k: getattr(batch, k)[[row]] for k in ("signal", "lead_ok", "beats")})
        assert torch.equal(model.ids(alone)[0], ids[row])


def test_beat_codes_learns_nothing_from_padding(beats_backbone: Any, make_batch: Callable[..., Any]) -> None:
    model = _spec("objectives", "beat_codes").build(beats_backbone.build(LEADS, SAMPLES)).train()
    short = make_batch(records=2, beats=(5, 5))
    longer = make_batch(
        records=3, signal=torch.cat([short.signal, torch.zeros(1, 12, 1000)]), peaks=[*_peaks(short), []]
    )
    twin = copy.deepcopy(model)
    model.codebook.initted.fill_(True), twin.codebook.initted.fill_(True)
    torch.testing.assert_close(run(model, short).value, run(twin, longer).value)
    torch.testing.assert_close(model.codebook.weight, twin.codebook.weight)


def _peaks(batch: Any) -> list[list[int]]:
    return [[p for p in row if p >= 0] for row in batch.beats.tolist()]


def test_dead_codes_are_revived_only_when_asked(beats_backbone: Any, batch: Any) -> None:
    from ecgscale.objectives.beat_codes import Codebook

    vectors = torch.randn(2, 30, 8, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(2, 30, dtype=torch.bool)
    far = torch.nn.functional.normalize(-vectors.flatten(0, 1).mean(0), dim=0)
    for revive, moves in ((0.0, False), (0.05, True)):
        book = Codebook(4, 8, decay=0.5, revive=revive).train()
        book.initted.fill_(True)
        book.weight.copy_(torch.stack([vectors[0, 0], vectors[0, 1], far, far]).div(1.0))
        before = book.weight[3].clone()
        book(vectors, valid, torch.Generator().manual_seed(1))
        assert (not torch.equal(book.weight[3], before)) == moves
