"""Every backbone that ships, found by walking the folder, keeps the same promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ecgscale.backbones import Backbone, BackboneSpec, architectures
from ecgscale.evaluation import layers
from ecgscale.spec import part, part_class
from ecgscale.training import flops, size

LEADS, SAMPLES = 12, 1000
LADDER = (20e3, 33e3, 83e3, 350e3, 1e6, 5e6, 30e6, 200e6)
CHEAP_OPERATIONS = """
_conj _local_scalar_dense _native_batch_norm_legit _softmax _softmax_backward_data _to_copy _unsafe_view add add_
addcmul alias any arange argsort as_strided bitwise_and bitwise_not cat clamp clamp_min clone constant_pad_nd copy_ cos
cudnn_batch_norm cumsum detach div div_ embedding embedding_dense_backward empty empty_like eq expand fill_ flip
floor_divide full full_like gather ge gelu gelu_backward gt index index_put index_select lift_fresh lt
masked_fill masked_fill_ max max_pool2d_with_indices max_pool2d_with_indices_backward maximum mean minimum mul mul_
native_batch_norm native_batch_norm_backward native_layer_norm native_layer_norm_backward ne neg new_empty
new_empty_strided new_full new_ones new_zeros ones ones_like permute pow randint random_ relu remainder repeat reshape
roll rsqrt rsub scalar_tensor scatter_add select select_backward sigmoid sigmoid_backward silu silu_backward sin slice
slice_backward sort split sqrt squeeze stack sub sum t threshold_backward transpose unbind unfold unfold_backward
unsqueeze view where zero_ zeros zeros_like
"""  # proportional to their input
CHEAP = frozenset(CHEAP_OPERATIONS.split())


def variants() -> list[tuple[str, str]]:
    """Every backbone with every pooling it offers, but `flatten`, which ties features to one length on purpose."""
    return [(n, pool) for n in architectures()
            for pool in get_args(part_class("backbones", n).model_fields["pool"].annotation)
            if pool != "flatten"]  # fmt: skip


@pytest.fixture(params=variants(), ids="-".join)
def spec(request: pytest.FixtureRequest) -> BackboneSpec:
    """The smallest size of each backbone, about 20,000 parameters, with each pooling."""
    name, pool = request.param
    return size.solve(part("backbones", {"name": name, "pool": pool}), 20e3, LEADS, SAMPLES)[0]


@pytest.fixture
def model(spec: BackboneSpec) -> Backbone:
    torch.manual_seed(0)
    return spec.build(LEADS, SAMPLES)


@pytest.fixture
def batch(make_batch: Callable[..., Any]) -> Any:
    return make_batch(records=5, beats=(9, 14, 0, 11))


def test_encode_gives_one_finite_vector_per_record(model: Backbone, batch: Any) -> None:
    features = model.eval().encode(batch)
    assert features.shape == (5, model.width) and features.dtype == torch.float32
    assert torch.isfinite(features).all() and features[0].std() > 0
    tokens = model.tokens(batch)
    assert tokens.values.shape[:2] == tokens.valid.shape and tokens.valid.dtype == torch.bool


def test_blocks_follow_each_other(model: Backbone, make_batch: Callable[..., Any]) -> None:
    record = make_batch(records=1, beats=(9,))
    before = layers.outputs(model.eval(), [record])
    blocks = model.blocks_in_order
    assert len(before) == len(blocks) + 1 >= 3 and all(np.isfinite(x).all() and x.shape[0] == 1 for x in before)
    changed = len(blocks) // 2
    with torch.no_grad():
        for parameter in blocks[changed].parameters():
            parameter.mul_(-0.7)
    after = layers.outputs(model, [record])
    same = [np.array_equal(x, y) for x, y in zip(before, after, strict=True)]
    assert same == [layer <= changed for layer in range(len(before))]
    assert (
        not model.time_last or model.pool != "mean" or np.allclose(model.encode(record).detach(), after[-1], atol=1e-5)
    )


def test_a_half_window_works_too(model: Backbone, make_batch: Callable[..., Any]) -> None:
    assert model.eval().encode(make_batch(records=3, samples=SAMPLES // 2, beats=(5, 7))).shape == (3, model.width)


def test_rows_do_not_depend_on_each_other_or_on_padding(
    model: Backbone, batch: Any, make_batch: Callable[..., Any]
) -> None:
    model.eval()
    together = model.encode(batch)
    for row in range(len(batch)):
        alone = model.encode(
            replace(_rows(batch, [row]), beats=torch.nn.functional.pad(batch.beats[[row]], (0, 7), value=-1))
        )
        torch.testing.assert_close(alone[0], together[row], atol=2e-5, rtol=1e-4)
    turned = model.encode(_rows(batch, [4, 3, 2, 1, 0]))
    torch.testing.assert_close(turned.flip(0), together, atol=2e-5, rtol=1e-4)


def test_the_same_input_gives_the_same_numbers(model: Backbone, batch: Any) -> None:
    model.eval()
    assert torch.equal(model.encode(batch), model.encode(batch))


def test_gradient_reaches_every_parameter(model: Backbone, spec: BackboneSpec, batch: Any) -> None:
    tokens = model.train().tokens(batch)
    total = (tokens.values * torch.randn_like(tokens.values)).sum() + (
        0 if tokens.cls is None else tokens.cls.square().sum()
    )
    if spec.hides_tokens:
        hidden = torch.arange(tokens.valid.shape[1]) % 2 == 0
        total = total + model.tokens(batch, hidden & tokens.valid).values.square().sum()
    total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_masked_tokens_do_not_touch_the_input_they_hide(model: Backbone, spec: BackboneSpec, batch: Any) -> None:
    if not spec.hides_tokens:
        pytest.skip("this backbone hides no tokens")
    signal = torch.randn_like(batch.signal).requires_grad_()
    shown = replace(batch, signal=signal)
    valid = model.eval().valid(shown)
    masked = (torch.arange(valid.shape[1]) % 5 < 2) & valid
    tokens = model.tokens(shown, masked)
    loss = (tokens.values * torch.randn_like(tokens.values)).sum()
    (gradient,) = torch.autograd.grad(loss, signal)
    touched = model.patches(replace(batch, signal=gradient)).abs().amax(-1)
    assert touched[masked].max() == 0
    assert (touched[valid & ~masked] > 0).all()


def test_a_token_stands_for_its_patch(model: Backbone, batch: Any) -> None:
    signal = torch.randn_like(batch.signal).requires_grad_()
    shown = replace(batch, signal=signal)
    valid, patches = model.valid(shown), model.eval().patches(shown)
    assert patches.shape[:2] == valid.shape == model.tokens(shown).valid.shape
    assert torch.equal(valid, model.tokens(shown).valid)
    assert set(patches[patches != 0].tolist()) <= set(signal.flatten().tolist())
    (gradient,) = torch.autograd.grad(model.patches(shown).sum(), signal)
    assert gradient.max() <= 2 and (gradient[valid.any(1)] > 0).float().mean() > 0.5


def test_a_causal_network_sees_no_later_sample(spec: BackboneSpec, batch: Any) -> None:
    if "causal" not in type(spec).model_fields:
        pytest.skip("this backbone is never causal")
    for causal in (True, False):
        torch.manual_seed(0)
        model = spec.model_copy(update={"causal": causal}).build(LEADS, SAMPLES).eval()
        signal = torch.randn_like(batch.signal).requires_grad_()
        values = model.tokens(replace(batch, signal=signal)).values
        middle = values.shape[1] // 2
        (gradient,) = torch.autograd.grad((values[:, middle] * torch.randn_like(values[:, middle])).sum(), signal)
        touched = model.patches(replace(batch, signal=gradient)).abs().amax((0, 2)) > 0
        assert touched[middle] and touched[middle + 1 :].any() != causal


def test_its_twin_is_another_network_of_the_same_kind(model: Backbone) -> None:
    torch.manual_seed(1)
    twin = model.twin()
    mine, theirs = dict(model.named_parameters()), dict(twin.named_parameters())
    assert {n: p.shape for n, p in mine.items()} == {n: p.shape for n, p in theirs.items()}
    assert any(not torch.equal(p, theirs[n]) for n, p in mine.items())


def test_sizes_grow_strictly_with_the_dial(spec: BackboneSpec) -> None:
    sizes = [size.size(spec.sized(spec.dial * 1.25**k), LEADS, SAMPLES) for k in range(18)]
    assert all(a < b for a, b in pairwise(sizes)), sizes


@pytest.mark.parametrize("target", LADDER)
def test_the_ladder_is_met_within_a_tenth(spec: BackboneSpec, target: float) -> None:
    solved, achieved = size.solve(spec, target, LEADS, SAMPLES)
    assert abs(achieved / target - 1) <= 0.1
    assert size.size(solved, LEADS, SAMPLES) == achieved


def test_parameters_do_not_depend_on_the_window(spec: BackboneSpec) -> None:
    assert size.size(spec, LEADS, SAMPLES) == size.size(spec, LEADS, SAMPLES // 2)


def test_it_builds_on_meta_without_memory(spec: BackboneSpec) -> None:
    with torch.device("meta"):
        model = spec.sized(spec.dial * 4).build(LEADS, SAMPLES)
    assert all(p.is_meta for p in model.parameters())


def test_it_survives_bfloat16(model: Backbone, batch: Any) -> None:
    plain = model.eval().encode(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model.encode(batch)
        model.train().encode(batch).float().square().sum().backward()
    assert torch.isfinite(rough).all()
    assert (rough.float() - plain).norm() < 0.1 * plain.norm()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_save_and_load(model: Backbone, spec: BackboneSpec, batch: Any) -> None:
    model.train().encode(batch)
    other = spec.build(LEADS, SAMPLES)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model.eval().encode(batch), other.eval().encode(batch))


def test_every_operation_is_counted_or_cheap(model: Backbone, batch: Any) -> None:
    seen: set[str] = set()

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func._overloadpacket not in flops.FORMULAS:
                seen.add(func._overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    with Record():
        model.train().encode(batch).square().sum().backward()
    assert seen - CHEAP == set()


def test_it_says_what_it_is(spec: BackboneSpec) -> None:
    cls = part_class("backbones", spec.part_name())
    assert isinstance(spec, cls) and cls.title and cls.__doc__


def _rows(batch: Any, rows: list[int]) -> Any:
    names = ("signal", "lead_ok", "beats", "record", "patient", "labels", "labels_ok")
    picked: dict[str, Tensor] = {name: getattr(batch, name)[rows] for name in names}
    return replace(batch, **picked, codes=None if batch.codes is None else batch.codes[rows])
