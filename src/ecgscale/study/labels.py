"""Nested subsets of labels to pre-train on: a family's rule and the training part of a corpus become explicit names,
and the rows of a table curves of the loss against the number of labels.

Source: the question is that of arXiv:2605.17276 (9 to 927 labels of MIMIC-IV-ECG), which does not state how its subsets
were chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, PositiveInt

from ecgscale.data.corpus import Corpus
from ecgscale.rng import generator
from ecgscale.spec import Spec

Order = Literal["frequency", "random"]

_ROWS = 2**16  # whose labels are counted at once


class LabelRule(Spec):
    """Which labels of the pre-training corpus a family is trained on: all that begin so, and nested subsets of them.

    In the order "frequency" a subset holds the labels with most positive training records, ties by name. In the order
    "random" every seed of the study draws an order of its own.
    """

    prefix: str = Field(min_length=1)  # of the labels' names
    counts: tuple[PositiveInt, ...] = ()  # of subsets; all labels together are always trained on
    orders: tuple[Order, ...] = ("frequency", "random")  # in which subsets grow
    total: PositiveInt | None = None  # how many labels the corpus is said to have: for a plan without the data


@dataclass(frozen=True, slots=True)
class Ranked:
    """The labels of a rule in a corpus.

    Attributes:
        names: Those with a positive training record, the most frequent first.
        without: Those without one, which are left out.
        records: Training records that were counted.
    """

    names: tuple[str, ...]
    without: tuple[str, ...]
    records: int

    def said(self, rule: LabelRule, source: str) -> str:
        """Return what was chosen, as a sentence for the plan and the report."""
        text = (
            f"labels `{rule.prefix}…` of {source}: {len(self.names):,}, ordered by their positives in all "
            f"{self.records:,} training records, whatever D is"
        )
        if self.without:
            text += f"; left out, without a positive there: {len(self.without):,} ({', '.join(self.without[:5])}"
            text += ", …)" if len(self.without) > 5 else ")"
        if rule.total not in (None, len(self.names)):
            text += f"; the study expects {rule.total:,}"
        return text


@dataclass(frozen=True, slots=True)
class Subset:
    """Labels to train on, sorted by name, so that the same labels are the same run; `order` is "" for all of them."""

    order: str
    names: tuple[str, ...]


def rank(corpus: Corpus, rows: npt.NDArray[np.int64], rule: LabelRule) -> Ranked:
    """Return the labels of a rule by how many of the training records `rows` are positive; no other record counts."""
    names = sorted(name for name in corpus.labels if name.startswith(rule.prefix))
    positive = np.zeros(len(names), np.int64)
    for start in range(0, len(rows), _ROWS):
        positive += (corpus.known(rows[start : start + _ROWS], names) == 1).sum(axis=0)
    order = np.argsort(-positive, kind="stable")
    there = [names[i] for i in order if positive[i]]
    return Ranked(tuple(there), tuple(sorted(set(names) - set(there))), len(rows))


def subsets(rule: LabelRule, ranked: Ranked, seed: int) -> list[Subset]:
    """Return all labels of a rule, then its subsets: in each order every one holds those before it.

    Args:
        rule: The rule.
        ranked: Its labels.
        seed: Of the run, which draws the random order.
    """
    drawn = generator(seed, "labels").permutation(len(ranked.names))
    along = {"frequency": ranked.names, "random": tuple(sorted(ranked.names)[i] for i in drawn)}
    smaller = [count for count in sorted(set(rule.counts)) if count < len(ranked.names)]
    parts = [Subset(order, tuple(sorted(along[order][:count]))) for order in rule.orders for count in smaller]
    return [Subset("", tuple(sorted(ranked.names))), *parts]


def curves(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield, for every order, the rows of one family and task at its largest N and D: subsets, then all labels.

    Args:
        rows: With the columns of the table, of the roles `grid` and `labels`.
    """
    if not (rows["role"] == "labels").any() or (rows["protocol"] == "pretext").any():
        return  # a loss on other labels is another loss
    edge = rows[rows["N"] == rows["N"].max()]
    edge = edge[edge["D"] == edge["D"].max()]
    for order in sorted(set(edge.loc[edge["role"] == "labels", "label_order"])):
        yield order, edge[(edge["role"] == "grid") | (edge["label_order"] == order)]
