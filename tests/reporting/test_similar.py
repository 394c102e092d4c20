"""What a report says of how alike the models are."""

from __future__ import annotations

import pytest

from ecgscale.reporting import similar as page
from ecgscale.reporting import similar_figure


@pytest.mark.parametrize("models", [[], [{"backbone": "a", "objective": "b", "size": 1, "seed": 0}]])
def test_without_two_models_nothing_is_said(models: list[dict[str, object]]) -> None:
    assert page.sentences({"models": models, "values": [[1.0]], "setting": {"records": 9, "corpus": "c"}}) == []


def test_models_of_one_family_stand_against_those_of_two() -> None:
    models = [{"backbone": b, "objective": o, "size": s, "seed": 0}
              for b, o, s in (("a", "x", 1), ("a", "x", 2), ("b", "x", 1), ("b", "random", 1))]  # fmt: skip
    values = [[1.0, 0.9, 0.2, 0.5], [0.9, 1.0, 0.4, 0.5], [0.2, 0.4, 1.0, 0.5], [0.5, 0.5, 0.5, 1.0]]
    found = {"models": models, "values": values, "setting": {"records": 9, "corpus": "c", "D": 4, "missing": 0}}
    (said,) = page.sentences(found)
    assert "median CKA of 0.90, of two families 0.30 (1 and 2 pairs, 9 records of c)" in said
    drawn = similar_figure.draw(found, salt="s", stamp="simulated ECG")
    assert "simulated ECG" in drawn.svg
    assert len(drawn.frame) == 16
