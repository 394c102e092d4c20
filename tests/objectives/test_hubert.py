"""HuBERT++: prototypes, their first places, and Sinkhorn's balance."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F

from ecgscale.objectives.hubert import Prototypes, prediction_loss, sinkhorn, spread
from ecgscale.spec import part


def _model(**fields: Any) -> Any:
    torch.manual_seed(0)
    return (
        part("objectives", {"name": "hubert", **fields})
        .build(part("backbones", {"name": "transformer", "dial": 16.0, "dropout": 0.0}).build(12, 256))
        .train()
    )


def _unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_prototypes_move_after_the_step_and_not_before(make_batch: Any) -> None:
    objective, batch = _model(), make_batch(records=4, samples=256)
    for _ in range(2):
        before = copy.deepcopy(objective.sets.state_dict())
        objective(batch, torch.Generator().manual_seed(0))
        assert all(torch.equal(value, before[key]) for key, value in objective.sets.state_dict().items())
        objective.after_step()
        assert all(not torch.equal(value, before[key]) for key, value in objective.sets.state_dict().items())
    before = copy.deepcopy(objective.sets.state_dict())
    objective.eval()(batch, torch.Generator().manual_seed(0))
    objective.after_step()
    assert all(torch.equal(value, before[key]) for key, value in objective.sets.state_dict().items())


def test_the_first_step_starts_from_tokens_of_the_batch(make_batch: Any) -> None:
    objective, batch = _model(prototype_momentum=1.0), make_batch(records=4, samples=256)
    objective(batch, torch.Generator().manual_seed(0))
    objective.after_step()
    tokens = F.normalize(objective.teacher.tokens(batch).values, dim=-1).flatten(0, 1)
    for prototypes in objective.sets:
        torch.testing.assert_close((prototypes.weight @ tokens.T).amax(1), torch.ones(len(prototypes.weight)))


def test_first_prototypes_are_distinct_valid_and_spread() -> None:
    centres = 10 * torch.eye(16)
    noise = 0.1 * torch.randn(800, 16, generator=torch.Generator().manual_seed(1))
    features = F.normalize(centres.repeat_interleave(50, 0) + noise, dim=-1)
    valid = (torch.arange(800) % 50 < 25).float()
    found = spread(features, valid, 16, torch.Generator().manual_seed(0))
    even = features[torch.randperm(800, generator=torch.Generator().manual_seed(0))[:16]]
    reached = [(chosen @ features.T).amax(0).mean().item() for chosen in (found, even)]
    assert reached[0] > reached[1] + 0.1, "no better spread than a random choice"
    place = (found @ features.T).argmax(1)
    assert len(place.unique()) == 16 and bool(valid[place].all())
    few = spread(features[:3], torch.tensor([0.0, 1, 1]), 16, torch.Generator())
    assert few.shape == (16, 16) and (few @ features[1:3].T).amax(1).min() > 1 - 1e-5


def test_a_batch_without_valid_tokens_leaves_the_prototypes() -> None:
    prototypes = Prototypes(8, 4, 0.99).train()
    start = prototypes.weight.clone()
    chosen = prototypes.first(_unit(20, 4), torch.zeros(20), torch.Generator())
    assert torch.equal(chosen, start)
    prototypes.assign(chosen, _unit(20, 4), torch.zeros(20), 0.1, 3)
    prototypes.move()
    torch.testing.assert_close(prototypes.weight, start)


def test_sinkhorn_balances_and_ignores_rows_without_weight() -> None:
    scores = 3 * torch.randn(90, 10, generator=torch.Generator().manual_seed(0))
    weight = (torch.arange(90) < 80).float()
    shares = sinkhorn(scores, weight, 100)
    torch.testing.assert_close(shares.sum(1), weight)
    torch.testing.assert_close(shares.sum(0), torch.full((10,), 8.0), rtol=1e-4, atol=0)
    torch.testing.assert_close(shares[:80], sinkhorn(scores[:80], torch.ones(80), 100))


def test_hidden_and_seen_tokens_have_their_weights() -> None:
    logits, shares = torch.randn(6, 5), torch.eye(6)[:, :5] + 1e-9
    hidden = torch.tensor([1.0, 1, 0, 0, 0, 0])
    both = prediction_loss(logits, shares, hidden, 1 - hidden, 0.5, 0.75, 0.0)
    alone = [prediction_loss(logits, shares, hidden, 1 - hidden, 0.5, weight, 0.0) for weight in (1.0, 0.0)]
    torch.testing.assert_close(both, 0.75 * alone[0] + 0.25 * alone[1])


def test_temperatures_follow_the_number_of_steps(make_batch: Any) -> None:
    objective, batch = _model(prototype_momentum=1.0, momentum=1.0), make_batch(records=4, samples=256)
    objective(batch, torch.Generator().manual_seed(0))
    objective.after_step()
    objective.eval()
    values = []
    for count in (1, 100, 200, 500):
        objective.teacher.updates.count = count
        values.append(objective(batch, torch.Generator().manual_seed(0)).value.item())
    assert len(set(values)) == 3 and values[2] == values[3]
