"""How far a task is from pre-training, by one rule that looks at no result: source, then labels.

Same: patients of one population stand in both corpora. Shifted: of another source, and the pre-training corpus carries
at least one of the task's labels. Unseen: of another source, and it carries none. A corpus carries a label that some
record of it has; names are compared by what they mean (`data.label_names`). What a study states by hand stands in the
table; where it says nothing, the rule does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ecgscale.data.corpus import Corpus
from ecgscale.data.label_names import canonical
from ecgscale.data.mixture import Mixture

Shift = Literal["same", "shifted", "unseen"]


@dataclass(frozen=True, slots=True)
class Relation:
    """What is known of a task and a pre-training corpus before anything is trained.

    Attributes:
        source, population: Of the task's corpus: its data set, and the populations of its patients.
        same_population: Whether one of them stands in the pre-training corpus, too.
        labels: The task's, as its corpus names them.
        shared: Those of them that the pre-training corpus carries.
        supervised: Those of them that a family of the study is trained on.
        stated: What the study says by hand, None where it says nothing.
    """

    source: str
    population: tuple[str, ...]
    same_population: bool
    labels: tuple[str, ...]
    shared: tuple[str, ...]
    supervised: tuple[str, ...]
    stated: Shift | None = None

    @property
    def by_rule(self) -> Shift:
        """The relation by the rule of this module."""
        return "same" if self.same_population else "shifted" if self.shared else "unseen"

    @property
    def by_supervision(self) -> Shift:
        """The relation if only labels that a family is trained on counted, on the same source, too."""
        if not self.supervised:
            return "unseen"
        return "same" if self.same_population else "shifted"

    @property
    def shift(self) -> Shift:
        """What the table says: as stated, else by the rule."""
        return self.stated or self.by_rule


def relation(
    pretrain: Corpus, corpus: Corpus, labels: Sequence[str], trained_on: Iterable[str], stated: Shift | None
) -> Relation:
    """Return how a task stands to pre-training.

    Args:
        pretrain: The pre-training corpus.
        corpus: The task's.
        labels: What the task predicts there.
        trained_on: Labels of `pretrain` that some family is trained on.
        stated: What the study says by hand.
    """
    populations = set(corpus.manifest["populations"])
    meaning = {label: canonical(label, corpus.name) for label in labels}
    carried, supervised = meanings(pretrain), meanings(pretrain, set(trained_on))
    return Relation(
        source=corpus.name,
        population=tuple(sorted(populations)),
        same_population=bool(populations & set(pretrain.manifest["populations"])),
        labels=tuple(labels),
        shared=tuple(label for label in labels if meaning[label] in carried),
        supervised=tuple(label for label in labels if meaning[label] in supervised),
        stated=stated,
    )


def meanings(corpus: Corpus, only: set[str] | None = None) -> set[str]:
    """Return what the labels of a corpus mean that at least one record has, or those of them in `only`."""
    corpora = corpus.sources if isinstance(corpus, Mixture) else (corpus,)
    return {
        canonical(name, one.name)
        for one in corpora
        for name, counts in one.manifest["labels"].items()
        if counts["positive"] and (only is None or name in only)
    }
