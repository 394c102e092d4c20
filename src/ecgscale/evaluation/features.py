"""Frozen features, computed once per checkpoint and corpus and shared by all tasks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ecgscale import residency
from ecgscale.backbones import Backbone
from ecgscale.batch import Batch
from ecgscale.data.corpus import Corpus
from ecgscale.evaluation.windows import Windows
from ecgscale.loader import Rows

BATCH = 128


@torch.no_grad()
def encode(
    backbone: Backbone, corpus: Corpus, rows: Rows, device: str = "cpu", windows: Windows | None = None
) -> np.ndarray:
    """Return the pooled features of rows of a corpus [row, width] float32; the backbone is in eval mode.

    Those of crops, where `windows` says so, are averaged.
    Rows are encoded in the order of their number of beats, so that sequences of one batch have nearly one length.
    """
    order = np.argsort((corpus.beats(rows) >= 0).sum(1), kind="stable")
    batches = residency.loaders(corpus, {"all": rows[order]}, device=device)["all"].sweep(BATCH)
    windows = windows or Windows()

    def mean(batch: Batch) -> torch.Tensor:
        crops = [backbone.encode(windows.cut(batch, i)).float() for i in range(windows.count)]
        return crops[0] if len(crops) == 1 else torch.stack(crops).mean(0)

    encoded = torch.cat([mean(batch.to(device)) for batch in batches]).cpu().numpy()
    features = np.empty_like(encoded)
    features[order] = encoded
    return features


def cached(path: Path, rows: Rows) -> np.ndarray | None:
    """Return the features stored at `path` if they are complete and of as many rows."""
    features = stored(path)
    return features if features is not None and len(features) == len(rows) else None


def stored(path: Path) -> np.ndarray | None:
    """Return the array stored at `path` if it is there and complete."""
    try:
        array: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array
