"""The protocols that train a network: what a head that attends finds, how an encoder moves, and which epoch is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecgscale.backbones import Backbone, Tokens, architectures
from ecgscale.batch import Batch
from ecgscale.data.corpus import Corpus
from ecgscale.data.split import SplitRule
from ecgscale.evaluation import attentive, features, tokens
from ecgscale.evaluation.descent import Parts, descend, masked_loss
from ecgscale.evaluation.encoder import Encoder
from ecgscale.evaluation.evaluate import EvalSpec, evaluate
from ecgscale.evaluation.finetune import Tuned, tune
from ecgscale.evaluation.settings import Finetune, Frozen
from ecgscale.evaluation.windows import WindowError, Windows
from ecgscale.loader import Loader
from ecgscale.spec import part
from ecgscale.views import time_patches

STRIDE, TOKENS = 4, 6


@dataclass(eq=False)
class Small:
    """As much of a corpus as networks read: two leads, one known rate, patients of two records."""

    signal: np.ndarray
    index: pd.DataFrame
    path: Path = Path()
    digest: str = "0"
    rate_hz: float = 100.0

    name: str = "small"

    def __len__(self) -> int:
        return len(self.signal)

    @property
    def samples(self) -> int:
        return self.signal.shape[2]

    def signals(self, rows: np.ndarray) -> np.ndarray:
        return self.signal[rows]

    def beats(self, rows: np.ndarray) -> np.ndarray:
        return np.zeros((len(rows), 1), np.int32)

    def lead_ok(self, rows: np.ndarray) -> np.ndarray:
        return np.ones((len(rows), 2), bool)

    def patients(self, rows: np.ndarray) -> np.ndarray:
        return rows // 2

    def known(self, rows: np.ndarray, labels: tuple[str, ...]) -> np.ndarray:
        return np.zeros((len(rows), len(labels)), np.int8)


class Patches(Backbone):
    """Tokens are the samples themselves; of every third record the last tokens are none, of the first record all."""

    def __init__(self, ragged: bool = False) -> None:
        super().__init__()
        self.pool, self.ragged = "mean", ragged
        self.width = self.token_width = self.patch_width = 2 * STRIDE

    def valid(self, batch: Batch) -> Tensor:
        place = torch.arange(TOKENS).expand(len(batch), -1)
        last = torch.where(batch.record % 3 == 1, 4, TOKENS) * (batch.record > 0)
        return place < (last if self.ragged else last.fill_(TOKENS))[:, None]

    def patches(self, batch: Batch) -> Tensor:
        return time_patches(batch.signal, STRIDE)

    def tokens(self, batch: Batch, masked: Tensor | None = None, layers: bool = False) -> Tokens:
        return Tokens(self.patches(batch), self.valid(batch))


def _corpus(records: int, seed: int = 0) -> tuple[Corpus, np.ndarray]:
    """Records with a label that only a token's place tells: one token is marked by +3 in the second lead and carries
    the label's sign in the first, another is marked by -3 and carries the opposite sign: over all tokens they cancel.
    """
    draw = np.random.default_rng(seed)
    signal = 0.1 * draw.standard_normal((records, 2, STRIDE * TOKENS))
    y = draw.integers(0, 2, records).astype(float)
    for i, (here, there) in enumerate(draw.permuted(np.tile(np.arange(TOKENS), (records, 1)), axis=1)[:, :2]):
        for place, sign in ((here, 1), (there, -1)):
            signal[i, :, place * STRIDE : (place + 1) * STRIDE] += sign * np.array([[2 * y[i] - 1], [3]])
    index = pd.DataFrame({"patient": [f"p{i // 2}" for i in range(records)], "label.structural": y, "label.lvh": y,
                          "label.shuffled": draw.permutation(y)})  # fmt: skip
    return cast(Corpus, Small(signal.astype(np.float32), index)), y


def _spec(protocol: Any, task: Any = None, **settings: Any) -> EvalSpec:
    task = part("tasks", task or {"name": "simulated", "labels": "structural"})
    return EvalSpec(corpus="0", task=task, split=SplitRule(by="patients", fractions=(0.6, 0.2, 0.2)), resamples=20,
                    protocol=protocol, settings=settings or None)  # fmt: skip


def _auroc(found: Any, spec: EvalSpec) -> float:
    return next(r["value"] for r in found[spec].rows if r["metric"] == "auroc")


def test_a_head_that_attends_finds_what_the_mean_over_tokens_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecgscale.evaluation.evaluate.corpus_parts", lambda c, *how: _parts(len(c)))
    corpus, _ = _corpus(320)
    encoder = Encoder(Patches().eval(), corpus, np.arange(320))
    columns = {"name": "columns", "labels": "shuffled", "columns": ["shuffled"]}
    linear, frozen = _spec("linear"), _spec("frozen", epochs=8, rate=2e-2, batch=32)
    shuffled = _spec("frozen", columns, epochs=8, rate=2e-2, batch=32)
    found = evaluate([linear, frozen, shuffled], corpus, lambda r: features.encode(Patches(), corpus, r),
                     encoder=encoder)  # fmt: skip
    assert _auroc(found, frozen) > 0.98
    assert _auroc(found, linear) < 0.7 and 0.3 < _auroc(found, shuffled) < 0.7
    assert {row["protocol"] for row in found[frozen].rows} == {"frozen"}
    with pytest.raises(ValueError, match="needs an encoder"):
        evaluate([frozen], corpus, lambda r: np.zeros((len(r), 1)))


def _parts(records: int) -> dict[str, np.ndarray]:
    return dict(zip(("train", "validation", "test"), np.split(np.arange(records), [records // 2, 3 * records // 4]),
                    strict=True))  # fmt: skip


def test_the_head_is_multi_head_attention_of_one_query() -> None:
    torch.manual_seed(0)
    x, valid = torch.randn(5, 7, 24), torch.rand(5, 7) < 0.6
    valid[:, 0], valid[4] = True, False  # the last has no token
    head = attentive.AttentiveHead(24, 3, 16, x.mean((0, 1)), x.std((0, 1)))
    nn.init.normal_(head.query)
    assert head.heads == 12
    z = (x - head.mean) / x.std((0, 1))
    q, k, v = (a.unflatten(-1, (12, 2)).transpose(-2, -3) for a in (head.q(head.query)[None], head.k(z), head.v(z)))
    mixed = F.scaled_dot_product_attention(q.expand(5, -1, -1, -1), k, v, attn_mask=valid[:, None, None, :])
    expected = head.out(mixed.nan_to_num(0.0).transpose(1, 2).flatten(1))
    torch.testing.assert_close(head((x, valid)), expected)
    torch.testing.assert_close(head((x.masked_fill(~valid[..., None], 9.0), valid)), expected)


def test_tokens_are_the_same_kept_and_computed_again() -> None:
    corpus, y = _corpus(90)
    rows = np.arange(90)
    kept, again = (tokens.Tokens(Patches(ragged=True).eval(), corpus, rows, most=most) for most in (1 << 20, 0))
    assert kept.kept is not None and again.kept is None
    assert len(kept.kept) == 29 * TOKENS + 30 * 4 + 30 * TOKENS
    for found, expected in zip(*(tokens.moments([store], rows) for store in (kept, again)), strict=True):
        torch.testing.assert_close(found, expected)
    parts, how = Parts(rows[:40], rows[40:60], rows[60:]), Frozen(epochs=3, heads=4)
    one, two = (attentive.pool([t], y[:, None], parts, "binary", how) for t in (kept, again))
    np.testing.assert_allclose(one.tested, two.tested, atol=1e-5)
    assert one.tested.std() > 1e-3


def test_unknown_targets_have_no_part_in_a_loss() -> None:
    scores = torch.randn(6, 2, requires_grad=True)
    y = torch.tensor([[0.0, 1.0], [1.0, torch.nan], [torch.nan, 0.0], [1.0, 1.0], [torch.nan] * 2, [0.0, 1.0]])
    known = ~torch.isnan(y)
    loss = masked_loss(scores, y, "binary")
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(scores[known], y[known]))
    loss.backward()
    assert ((scores.grad != 0) == known).all()
    torch.testing.assert_close(masked_loss(scores, y, "regression"), F.mse_loss(scores[known], y[known]))
    assert masked_loss(scores, y * torch.nan, "binary") == 0


def _network(name: str = "resnet1d", **more: Any) -> Backbone:
    torch.manual_seed(0)
    return part("backbones", {"name": name, "dial": 0.03, **more}).build(2, STRIDE * TOKENS).eval()


def test_three_rates_move_the_encoder_and_the_loss_of_one_batch_halves() -> None:
    corpus, y = _corpus(24)
    signs = np.where(y > 0, 1, -1)[:, None, None]
    cast(Small, corpus).signal += signs.astype(np.float32)  # now a mean tells the label, too
    rows = np.arange(24)
    parts, how = Parts(rows, rows, rows), Finetune(epochs=1, weight_decay=0, rates=(1e-2, 1e-3, 1e-4))
    network = Tuned(_network(dropout=0.0), 1)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    loader = Loader(corpus, rows)
    found = descend(network, network.groups(how, True), lambda r, _: loader.take(r), y[:, None], parts, "binary", how)
    assert found.epoch == 1
    steps = {name: float((p.detach() - before[name]).abs().max()) for name, p in network.named_parameters()}
    for start, rate in {"head": 1e-2, "backbone.blocks.4": 1e-3, "backbone.stem": 1e-4}.items():
        of_it = [step for name, step in steps.items() if name.startswith(start)]
        assert max(of_it) == pytest.approx(rate, rel=0.01)  # Adam's first step
    assert {group["lr"] for group in network.groups(how, False)} == {how.scratch}
    longer = tune(_network(), True, loader, y[:, None], parts, "binary",
                  Finetune(epochs=25, rates=(1e-2, 1e-2, 1e-2)))  # fmt: skip
    assert longer.validation_losses[-1] < longer.validation_losses[0] / 2


def test_the_encoder_that_was_given_stays_and_the_seed_decides_every_bit() -> None:
    corpus, y = _corpus(40)
    rows, backbone = np.arange(40), _network().requires_grad_(False)
    encoder = Encoder(backbone, corpus, rows)
    before, state = {k: v.clone() for k, v in backbone.state_dict().items()}, torch.get_rng_state()
    parts = Parts(rows[:20], rows[20:30], rows[30:])
    for kind in (Frozen, Finetune):
        one, two, other = (encoder.fit(kind(epochs=2, batch=8, seed=s), y[:, None], parts, "binary") for s in (0, 0, 1))
        np.testing.assert_array_equal(one.tested, two.tested)
        assert one.validation_losses == two.validation_losses != other.validation_losses
        torch.rand(3)  # what stands in torch's own generators is of no account
    after = backbone.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before) and not backbone.training
    torch.set_rng_state(state)
    encoder.fit(Finetune(epochs=1), y[:, None], parts, "binary")
    assert torch.equal(torch.get_rng_state(), state)


def test_the_best_epoch_is_kept_where_later_ones_overfit() -> None:
    corpus, y = _corpus(120)
    cast(Small, corpus).signal += np.random.default_rng(2).standard_normal((120, 2, 24)).astype(np.float32)
    noisy = np.where(np.random.default_rng(1).random(120) < 0.25, 1 - y, y)[:, None]
    rows = np.arange(120)
    how = Frozen(epochs=30, rate=2e-2, batch=10)
    store = tokens.Tokens(Patches().eval(), corpus, rows)
    found = attentive.pool([store], noisy, Parts(rows[:20], rows[20:], rows[20:]), "binary", how)
    losses = found.validation_losses
    assert found.epoch == int(np.argmin(losses)) and 0 < found.epoch < 30
    assert losses[-1] > losses[found.epoch] + 0.3  # it did overfit
    p, t = found.tested, noisy[20:]
    assert -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean() == pytest.approx(losses[found.epoch], rel=1e-5)


def test_cross_validation_and_regression_take_networks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, y = _corpus(160)
    rows = np.arange(160)
    encoder = Encoder(Patches().eval(), corpus, rows)
    lvh = _spec("frozen", {"name": "ludb", "labels": "lvh"}, epochs=8, rate=2e-2, batch=16)
    found = evaluate([lvh], corpus, lambda r: r, encoder=encoder)
    assert _auroc(found, lvh) > 0.9 and found[lvh].losses.shape == (160, 1)
    age = 60 + 20 * y[:, None] + np.random.default_rng(0).normal(size=(160, 1))
    age[::7] = np.nan
    fitted = encoder.fit(Frozen(epochs=30, rate=2e-2, batch=20), age, Parts(rows[:100], rows[100:130], rows[130:]),
                         "regression")  # fmt: skip
    assert np.nanmean(np.abs(fitted.tested - age[130:])) < 6


def test_crops_are_averaged_and_one_at_a_time_is_trained_on() -> None:
    (one, y), (two, _) = _corpus(40), _corpus(40, seed=1)
    a, b = cast(Small, one).signal, cast(Small, two).signal
    b[:30] = a[:30]  # crops differ in the test part only
    rows, crop_s = np.arange(40), a.shape[2] / 100
    joined = np.concatenate([a, b, np.full_like(a[..., :5], 9)], axis=2)  # what does not fill a crop is left out
    both = cast(Corpus, Small(joined, one.index))
    windows = Windows.of(both, crop_s)
    assert windows == Windows(a.shape[2], 2)
    x, left, right = (features.encode(_network(), c, rows, windows=w) for c, w in
                      ((both, windows), (one, None), (two, None)))  # fmt: skip
    np.testing.assert_allclose(x, (left + right) / 2, atol=1e-6)
    parts = Parts(rows[:20], rows[20:30], rows[30:])
    for backbone, how in ((Patches().eval(), Frozen(epochs=2, rate=1e-2, batch=8)),
                          (_network(), Finetune(epochs=2, batch=8))):  # fmt: skip
        found, first, second = (Encoder(backbone, c, rows).fit(how, y[:, None], parts, "binary", s).tested
                                for c, s in ((both, crop_s), (one, None), (two, None)))  # fmt: skip
        np.testing.assert_allclose(found, (first + second) / 2, atol=1e-5)
        assert np.abs(first - second).max() > 1e-3
    with pytest.raises(WindowError, match=r"crops of 1 s do not fit into records of 0.53 s of small"):
        Windows.of(both, 1.0)
    cropped = _spec("linear").model_copy(update={"crop_s": 2.5})
    assert cropped.protocol_name == "linear-2500ms" and cropped.dump()["crop_s"] == 2.5
    assert "crop_s" not in _spec("linear").dump()


@pytest.mark.parametrize("name", architectures())
def test_the_lower_part_of_an_encoder_is_a_part_of_it(name: str) -> None:
    with torch.device("meta"):
        backbone = part("backbones", name).build(12, 1000)
    below, every = {id(p) for p in backbone.lower()}, {id(p) for p in backbone.parameters()}
    assert set() < below < every
    if hasattr(backbone, "mask_token") and hasattr(backbone, "stem"):
        assert below == {id(p) for p in backbone.stem.parameters()}


def test_settings_enter_the_digest_of_their_protocol_only() -> None:
    plain = _spec("linear")
    assert "settings" not in plain.dump()
    assert _spec("finetune").dump()["settings"] == Finetune().dump() and Finetune().dump()["revision"] == 1
    assert len({_spec("finetune").uid, _spec("finetune", epochs=7).uid, _spec("frozen").uid, plain.uid}) == 4
    assert _spec("finetune", epochs=100).uid == _spec("finetune").uid
    for protocol, settings, sentence in (
        ("linear", {"epochs": 3}, 'the protocol "linear" has no settings'),
        ("frozen", {"epoch": 3}, 'unknown key `epoch`; did you mean "epochs"?'),
        ("finetune", {"rates": [1e-3]}, "rates"),
    ):
        with pytest.raises(ValueError, match=sentence.replace("?", r"\?")):
            _spec(protocol, **settings)
