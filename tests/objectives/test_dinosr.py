"""DinoSR's code-books: who moves them, when, and what an empty word does."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from ecgscale.objectives.dinosr import CodeBooks
from ecgscale.spec import part


def _model(**fields: Any) -> Any:
    torch.manual_seed(0)
    return (
        part("objectives", {"name": "dinosr", **fields})
        .build(part("backbones", {"name": "transformer", "dial": 16.0, "dropout": 0.0}).build(12, 256))
        .train()
    )


def _features(rows: int = 60) -> torch.Tensor:
    return torch.randn(2, rows, 4, generator=torch.Generator().manual_seed(0))


def _books(**fields: Any) -> CodeBooks:
    torch.manual_seed(0)
    return CodeBooks(2, 40, 4, 0.9, **fields)


@pytest.mark.parametrize("learn_from", ["hidden", "all"])
def test_words_move_after_the_step_and_not_before(learn_from: str, make_batch: Any) -> None:
    objective, batch = _model(learn_from=learn_from), make_batch(records=3, samples=256)
    before = copy.deepcopy(objective.books.state_dict())
    parts = objective(batch, torch.Generator().manual_seed(0)).parts
    assert all(torch.equal(value, before[key]) for key, value in objective.books.state_dict().items())
    objective.after_step()
    counts = objective.books.counts
    changed = (objective.books.sums != before["sums"]).any(-1)
    assert changed.any(1).all() and not changed.all()
    taken = ((counts - before["counts"] * torch.where(changed, 0.9, 1.0)).sum(1) / 0.1).round()
    tokens = 3 * 128 * (parts["masked"] if learn_from == "hidden" else 1.0)
    torch.testing.assert_close(taken, torch.full((2,), float(tokens)))
    after = copy.deepcopy(objective.books.state_dict())
    objective.after_step()
    assert all(torch.equal(value, after[key]) for key, value in objective.books.state_dict().items())


def test_evaluation_notes_nothing(make_batch: Any) -> None:
    objective, batch = _model().eval(), make_batch(records=3, samples=256)
    before = objective.books.sums.clone()
    objective(batch, torch.Generator().manual_seed(0))
    objective.after_step()
    assert torch.equal(objective.books.sums, before)


def test_a_word_is_the_nearest_by_distance_in_its_own_book() -> None:
    books, features = _books(), _features()
    expected = torch.cdist(features, books.words).argmin(-1)
    assert torch.equal(books.nearest(features), expected)
    assert not torch.equal(expected[0], expected[1])


def test_words_become_the_mean_of_what_they_are_given() -> None:
    books, features = _books(), _features()
    weight = (torch.arange(60) < 50).float()
    for _ in range(300):
        books.note(features, weight, codes := torch.arange(60).remainder(40).expand(2, -1))
        books.move()
    for code in (0, 9, 15):
        chosen = (codes[0] == code) & (weight > 0)
        torch.testing.assert_close(books.words[:, code], features[:, chosen].mean(1))


@pytest.mark.parametrize("hold", [True, False])
def test_an_empty_word_stays_for_ever(hold: bool) -> None:
    books = _books(hold=hold)
    start = books.words.clone()
    codes = torch.zeros(2, 60, dtype=torch.int64)
    for _ in range(1000):
        books.note(_features(), torch.ones(60), codes)
        books.move()
    torch.testing.assert_close(books.words[:, 1:], start[:, 1:])
    assert (books.counts[:, 1:] == 1).all() == hold


def test_one_code_book_looks_at_the_teachers_output(make_batch: Any) -> None:
    objective, batch = _model(published_single=True, normalise="token"), make_batch(records=3, samples=256)
    seen = objective.teacher.tokens(batch)
    (features,) = objective.features(seen)
    torch.testing.assert_close(features, torch.nn.functional.layer_norm(seen.values, seen.values.shape[-1:]))
    assert objective.books.counts.shape == (1, 256)
    assert torch.isfinite(objective(batch, torch.Generator().manual_seed(0)).value)
