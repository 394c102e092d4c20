"""Masks: exact shares, spans that hide what they should, rows that are the chosen tokens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ecgscale import masks


def _random(records: int, tokens: int, seed: int = 0) -> Tensor:
    return torch.rand(records, tokens, generator=torch.Generator().manual_seed(seed))


def test_a_span_hides_its_start_and_what_follows() -> None:
    random = torch.full((2, 12), 0.9)
    random[0, [2, 4]], random[1, 10] = 0.01, 0.01
    hidden = masks.spans(torch.ones(2, 12, dtype=torch.bool), 0.1, 3, random)
    assert [row.nonzero().flatten().tolist() for row in hidden] == [[2, 3, 4, 5, 6], [10, 11]]


@pytest.mark.parametrize("span", [1, 4, 10])
@pytest.mark.parametrize("published", [False, True])
def test_spans_are_those_of_a_plain_loop(span: int, published: bool) -> None:
    tokens, start = 40, 0.3
    random = _random(50, tokens)
    hidden = masks.spans(torch.ones(50, tokens, dtype=torch.bool), start, span, random, 0, published)
    expected = torch.zeros_like(hidden)
    before = (span - 1) // 2 if published else 0
    for record, token in (random < (start / span if published else start)).nonzero().tolist():
        last = min(token - before + span, tokens - 1 if published else tokens)
        expected[record, max(token - before, 0) : last] = True
        expected[record, token] = True
    assert torch.equal(hidden, expected)


def test_the_default_hides_half_and_the_release_a_sixteenth() -> None:
    valid, random = torch.ones(4000, 300, dtype=torch.bool), _random(4000, 300)
    assert masks.spans(valid, 0.065, 10, random).float().mean().item() == pytest.approx(1 - 0.935**10, abs=0.01)
    published = masks.spans(valid, 0.065, 10, random, at_least=0, published=True)
    assert published.float().mean().item() == pytest.approx(0.0626, abs=0.002)
    assert (~published.any(1)).float().mean().item() == pytest.approx(0.134, abs=0.02)


def test_only_valid_tokens_are_hidden_and_every_record_with_one_has_one() -> None:
    valid = _random(200, 30, 1) < torch.linspace(0, 1, 200)[:, None]
    valid[0] = False
    hidden = masks.spans(valid, 0.001, 4, _random(200, 30))
    assert not (hidden & ~valid).any()
    assert torch.equal(hidden.any(1), valid.any(1))
    assert not masks.spans(valid, 1e-9, 4, _random(200, 30), at_least=0).any()


def test_at_least_counts_spans() -> None:
    hidden = masks.spans(torch.ones(20, 50, dtype=torch.bool), 1e-9, 1, _random(20, 50), at_least=3)
    assert hidden.sum(1).tolist() == [3] * 20
    few = torch.zeros(1, 50, dtype=torch.bool)
    few[0, :2] = True
    assert masks.spans(few, 1e-9, 1, _random(1, 50), at_least=3).sum() == 2


def test_rows_are_the_chosen_tokens_and_carry_their_gradient() -> None:
    chosen, values = _random(3, 5) < 0.5, torch.randn(3, 5, 2, requires_grad=True)
    weight, picked = masks.rows(chosen, values)
    assert torch.equal(picked, values[chosen]) and torch.equal(weight, torch.ones(int(chosen.sum())))
    picked.sum().backward()
    assert torch.equal(values.grad[..., 0], chosen.float())
    assert masks.rows(torch.zeros_like(chosen), values)[1].shape == (0, 2)


def test_a_choice_is_an_exact_share_of_the_valid_tokens() -> None:
    valid = torch.ones(4, 9, dtype=torch.bool)
    valid[1, 4:], valid[2] = False, False
    chosen = masks.choose(valid, 0.5, _random(4, 9))
    assert chosen.mask.sum(1).tolist() == masks.share(valid, 0.5).tolist() == [5, 2, 0, 5]
    assert not (chosen.mask & ~valid).any()
