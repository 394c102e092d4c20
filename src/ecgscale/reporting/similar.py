"""How alike the models are: the CKA of `study.similar` as a sentence, a caption and a frame to draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ecgscale.reporting.style import count, missing


def names(similar: dict[str, Any]) -> list[str]:
    """Return what the figure calls the models: family, size, and the seed where there are several."""
    several = {m["seed"] for m in similar["models"]} != {0}
    return [called_of(m) + (f" seed {m['seed']}" if several else "") for m in similar["models"]]


def layers_frame_of(similar: dict[str, Any]) -> pd.DataFrame:
    """Return a row for every pair of layers of a model."""
    rows = [
        {"panel": called_of(model), "kind": "pair", "drawn": "point", "a": a, "b": b, "value": value}
        for model in similar["layers"]
        for a, row in enumerate(model["values"])
        for b, value in enumerate(row)
    ]
    return pd.DataFrame(rows)


def called_of(model: dict[str, Any]) -> str:
    """Return what a figure calls a model: family and size."""
    return f"{model['backbone']} {model['objective']} {count(model['size'])}"


def layers_caption_of(similar: dict[str, Any]) -> str:
    """Return what the maps of layers show."""
    return (
        f"Linear CKA without bias between the layers of one model per family, of some of the same records of "
        f"{similar['setting']['corpus']}: 0 is what enters the first block, k what leaves block k, averaged over time. "
        "A map that is dark throughout belongs to a network whose depth changes little. What enters the first block of "
        "a ResNet is a linear filter of the signal, whose average over time is next to nothing."
    )


def frame_of(similar: dict[str, Any]) -> pd.DataFrame:
    """Return a row for every pair of models."""
    called = names(similar)
    rows = [
        {"panel": "similarity", "kind": "pair", "drawn": "point", "a": a, "b": b, "value": value}
        for a, row in zip(called, similar["values"], strict=True)
        for b, value in zip(called, row, strict=True)
    ]
    return pd.DataFrame(rows)


def caption_of(similar: dict[str, Any]) -> str:
    """Return what the map shows."""
    setting = similar["setting"]
    left = f" {setting['missing']} models have left no features." if setting["missing"] else ""
    return (
        f"Linear CKA without bias between the features that the probes saw, of the same {setting['records']:,} records "
        f"of {setting['corpus']}: 1 where two models' features differ by rotation, scale and shift only, 0 where they "
        f"have nothing in common. Trained models at D = {setting['D']:,}, smallest and largest size.{left}"
    )


def sentences(similar: dict[str, Any]) -> list[str]:
    """Return a finding: models of one family against models of two; nothing without both."""
    if not similar.get("models"):
        return []
    models = similar["models"]
    family = [(m["backbone"], m["objective"]) for m in models]
    trained = [i for i, m in enumerate(models) if m["objective"] not in ("random", "external")]
    pairs = [(i, j) for i in trained for j in trained if i < j]
    value = similar["values"]
    within = [value[i][j] for i, j in pairs if family[i] == family[j] and not missing(value[i][j])]
    across = [value[i][j] for i, j in pairs if family[i] != family[j] and not missing(value[i][j])]
    return [*_alike(similar, within, across), *_deep(similar)]


def _alike(similar: dict[str, Any], within: list[float], across: list[float]) -> list[str]:
    if not within or not across:
        return []
    return [
        f"Features of two models of one family (other size or seed) have a median CKA of {np.median(within):.2f}, of "
        f"two families {np.median(across):.2f} ({len(within)} and {len(across)} pairs, "
        f"{similar['setting']['records']:,} records of {similar['setting']['corpus']})."
    ]


def _deep(similar: dict[str, Any]) -> list[str]:
    """Return how far the trained models' last blocks are from their first."""
    ends = {called_of(m): m["values"][1][-1] for m in similar.get("layers", ()) if m["objective"] != "random"}
    known = {name: value for name, value in ends.items() if not missing(value)}
    if len(known) < 2:
        return []
    least, most = min(known, key=lambda n: known[n]), max(known, key=lambda n: known[n])
    return [
        f"Between what leaves the first block and what leaves the last, CKA is lowest in {least} ({known[least]:.2f}) "
        f"and highest in {most} ({known[most]:.2f})."
    ]
