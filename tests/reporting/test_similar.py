"""What a report says of how alike the models are."""

from __future__ import annotations

import numpy as np
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


def test_layers_are_drawn_once_a_model_and_the_ends_of_depth_are_named() -> None:
    models = [{"backbone": b, "objective": o, "size": 20_000, "seed": 0, "values": [[1.0, -0.001], [-0.001, 1.0]]}
              for b, o in (("a", "x"), ("a", "random"))]  # fmt: skip
    models += [{"backbone": "b", "objective": "x", "size": 20_000, "seed": 0, "values": np.eye(3).tolist()}]
    found = {"models": [{k: m[k] for k in ("backbone", "objective", "size", "seed")} for m in models],
             "values": np.eye(3).tolist(), "setting": {"records": 9, "corpus": "c", "D": 4, "missing": 0},
             "layers": models}  # fmt: skip
    said = page.sentences(found)[-1]
    assert "CKA is lowest in b x 20K (0.00) and highest in a x 20K (1.00)" in said
    drawn = similar_figure.draw_layers(found, salt="s", stamp="simulated ECG")
    assert len(drawn.frame) == 4 + 4 + 9 and set(drawn.frame["panel"]) == {"a x 20K", "a random 20K", "b x 20K"}
    assert ">0.00<" in drawn.svg and "−0.00" not in drawn.svg
