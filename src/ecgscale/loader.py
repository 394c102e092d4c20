"""From rows of a corpus to batches. A training batch is a function of (seed, step): resuming is knowing the step."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from ecgscale import ranks, rng
from ecgscale.batch import Batch
from ecgscale.data.corpus import Corpus
from ecgscale.views import crops

Rows = npt.NDArray[np.int64]


class Loader:
    """Batches of chosen rows of a corpus.

    Args:
        corpus: Where the signals are.
        rows: Rows of the corpus, in their order.
        labels: Names of the label columns a batch carries (without the prefix `label.`).
        codes: [record, lead, beat] code-book ids for the whole corpus, padded with -1, or None.

    Raises:
        ValueError: the corpus lacks a label.
    """

    def __init__(
        self, corpus: Corpus, rows: Rows, labels: tuple[str, ...] = (), codes: np.ndarray | None = None
    ) -> None:
        self.corpus, self.rows, self.codes = corpus, np.asarray(rows, np.int64), codes
        self.labels = labels
        corpus.known(self.rows[:0], labels)  # before the first step, not at it

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Rows, here: slice = slice(None)) -> Batch:
        """Return the batch of these rows of the corpus, or its rows `here`, with beats padded as for all."""
        beats = self.corpus.beats(rows)[here]
        rows = rows[here]
        labels = self.corpus.known(rows, self.labels)
        return Batch(
            signal=torch.from_numpy(self.corpus.signals(rows)),
            lead_ok=torch.from_numpy(self.corpus.lead_ok(rows)),
            beats=torch.from_numpy(beats),
            record=torch.from_numpy(rows.copy()),
            patient=torch.from_numpy(self.corpus.patients(rows)),
            rate_hz=self.corpus.rate_hz,
            labels=torch.from_numpy((labels > 0).astype(np.float32)),
            labels_ok=torch.from_numpy(labels >= 0),
            codes=None if self.codes is None else torch.from_numpy(self.codes[rows].astype(np.int64)),
        )

    def step(self, seed: int, step: int, size: int) -> Batch:
        """Return batch number `step` of an endless stream of reshuffled epochs, or this rank's rows of it."""
        return self.take(self.rows[positions(len(self.rows), seed, step, size)], ranks.part())

    def sweep(self, size: int) -> Iterator[Batch]:
        """Yield all rows once, in order."""
        for start in range(0, len(self.rows), size):
            yield self.take(self.rows[start : start + size])


class Crops(Loader):
    """Batches of which every record shows one crop, drawn anew for every step, and for a sweep always the same.

    Args:
        whole: Makes batches of whole records.
        samples: Of a crop.
    """

    def __init__(self, whole: Loader, samples: int) -> None:
        self.whole, self.samples = whole, samples
        self.corpus, self.rows, self.codes, self.labels = whole.corpus, whole.rows, None, whole.labels

    def step(self, seed: int, step: int, size: int) -> Batch:
        """Return batch number `step`, or this rank's rows of it."""
        starts = self._starts(size, seed, "crop", step)[ranks.part()]
        return crops(self.whole.step(seed, step, size), starts, self.samples)

    def sweep(self, size: int) -> Iterator[Batch]:
        """Yield all rows once, in order, each as the crop that every sweep of this size shows."""
        for number, batch in enumerate(self.whole.sweep(size)):
            yield crops(batch, self._starts(len(batch), 0, "swept crop", number), self.samples)

    def _starts(self, count: int, seed: int, *path: int | str) -> torch.Tensor:
        latest = self.corpus.samples - self.samples
        return torch.from_numpy(rng.generator(seed, *path).integers(latest + 1, size=count))


def shown(loader: Loader, samples: int) -> Loader:
    """Return batches of windows of so many samples: crops where records are longer.

    Raises:
        ValueError: the loader carries codes, which belong to whole records.
    """
    if samples >= loader.corpus.samples:
        return loader
    if loader.codes is not None:
        raise ValueError("codes belong to whole records: they have no crops")
    return Crops(loader, samples)


def positions(n: int, seed: int, step: int, size: int) -> Rows:
    """Return which of `n` records make up batch `step` of `size`: consecutive places in a stream of permutations.

    Raises:
        ValueError: there is no record.
    """
    if n < 1:
        raise ValueError("a batch needs at least one record")
    place = np.arange(step * size, (step + 1) * size)
    epoch, within = np.divmod(place, n)
    return np.concatenate([_shuffled(n, seed, int(e))[within[epoch == e]] for e in np.unique(epoch)])


@lru_cache(maxsize=2)  # a batch at the end of an epoch needs two; of a million records each takes longer than a step
def _shuffled(n: int, seed: int, epoch: int) -> Rows:
    return rng.generator(seed, "epoch", epoch).permutation(n).astype(np.int64)
