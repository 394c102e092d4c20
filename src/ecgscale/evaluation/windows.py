"""What an evaluation looks at: whole records, or crops of a given length that lie side by side from the start on.

What a crop lacks to the end of the record is left out. Pooled features are averaged over a record's crops, and so are
the probabilities or values that a network gives. In training a batch shows one crop of its records, drawn anew
(published: every record of the batch its own, at any sample).

Source: arXiv:2605.12241 (recipe-pretraining §7.1), crops of 2.5 s.
"""

from __future__ import annotations

from dataclasses import dataclass

from ecgscale.batch import Batch
from ecgscale.data.corpus import Corpus
from ecgscale.spec import Explained
from ecgscale.views import window


class WindowError(Explained, ValueError):
    """Crops do not fit into the records of a corpus."""


@dataclass(frozen=True, slots=True)
class Windows:
    """The crops of a corpus's records.

    Attributes:
        samples: Of a crop; None for whole records.
        count: Crops of a record.
    """

    samples: int | None = None
    count: int = 1

    @classmethod
    def of(cls, corpus: Corpus, crop_s: float | None) -> Windows:
        """Return the crops of `crop_s` seconds of a corpus; whole records where it is None.

        Raises:
            WindowError: a record is shorter, or a crop is less than a sample.
        """
        if crop_s is None:
            return cls()
        samples = round(crop_s * corpus.rate_hz)
        if not 0 < samples <= corpus.samples:
            length_s = corpus.samples / corpus.rate_hz
            raise WindowError(f"crops of {crop_s:g} s do not fit into records of {length_s:g} s of {corpus.name}")
        return cls(samples, corpus.samples // samples)

    def cut(self, batch: Batch, number: int) -> Batch:
        """Return crop `number` of every record, with its own beats and a time that starts at zero."""
        if self.samples is None:
            return batch
        return window(batch, number * self.samples, (number + 1) * self.samples)
