"""Tasks on one corpus: from frozen features to rows of the table.

The held-out loss of every record is kept for paired comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import PositiveInt

from ecgscale.data.corpus import Corpus
from ecgscale.data.split import SplitRule, corpus_parts, crossval
from ecgscale.evaluation import bootstrap, metrics, probes
from ecgscale.loader import Rows
from ecgscale.runs import TaskField
from ecgscale.spec import Spec
from ecgscale.tasks import TaskSpec

Encode = Callable[[Rows], np.ndarray]  # rows of the corpus -> features [row, width]

FOLDS, REPEATS = 2, 5  # cross-validation of small sets: 5 × 2 (Dietterich 1998)


class EvalSpec(Spec):
    """What is measured, on which records, how."""

    revision: ClassVar[int] = 3  # of this protocol

    corpus: str  # digest
    task: TaskField
    protocol: Literal["linear"] = "linear"
    split: SplitRule
    order: int = 0
    train: PositiveInt | None = None
    validation: PositiveInt | None = None
    test: PositiveInt | None = None
    resamples: PositiveInt = 1000

    def dump(self) -> dict[str, Any]:
        """Return all fields with the revisions of protocol and probe."""
        return {"revision": self.revision, "probe": probes.REVISION, **super().dump()}

    def rows(self, corpus: Corpus) -> dict[str, Rows]:
        """Return the records of each part: {"train", "validation", "test"}, or {"all"} under cross-validation."""
        if self.task.parts == "crossval":
            return {"all": np.arange(len(corpus.index))}
        rule = self.split
        if self.task.parts == "patients" and rule.by == "folds":
            rule = SplitRule(by="patients")
        divided = _parts(corpus, rule, self.order)
        return {name: divided[name][: getattr(self, name)] for name in ("train", "validation", "test")}

    def tested(self, corpus: Corpus) -> Rows:
        """Return the records whose labels are predicted."""
        chosen = self.rows(corpus)
        return chosen["all"] if "all" in chosen else chosen["test"]

    def needed(self, corpus: Corpus) -> Rows:
        """Return all records whose features are read, sorted."""
        return np.unique(np.concatenate(list(self.rows(corpus).values())))


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What one evaluation measured.

    Attributes:
        rows: The table's columns metric, unit, value, lo, hi, n, n_pos, part.
        losses: Loss of each tested record, mean over repeats, nats [record, label]; NaN where the target is unknown.
    """

    rows: list[dict[str, Any]]
    losses: np.ndarray


def evaluate(specs: Sequence[EvalSpec], corpus: Corpus, encode: Encode, seed: int = 0) -> dict[EvalSpec, Evaluated]:
    """Fit the probe on the training part, choose on validation, report on test.

    Args:
        specs: Evaluations on one corpus; those by cross-validation on the same folds share one call of the probe.
        corpus: The corpus they name by digest.
        encode: Gives the frozen features of rows.
        seed: Of the patient bootstrap.

    Returns:
        For each spec macro AUROC, macro AUPRC and mean loss with 95 % patient-bootstrap intervals, and per-record
        losses; where a validation part exists, also the loss there, which the probe was chosen by. Metrics of repeated
        cross-validation are averaged over its repeats.
    """
    targets = {spec: _targets(corpus, spec.task) for spec in specs}
    crossed = [spec for spec in targets if spec.task.parts == "crossval"]
    held_out = {spec: _hold_out(spec, corpus, y, encode) for spec, y in targets.items() if spec not in crossed}
    probabilities = {spec: tested for spec, (tested, _) in held_out.items()}
    for order in {spec.order for spec in crossed}:
        alike = {spec: targets[spec] for spec in crossed if spec.order == order}
        probabilities |= _cross_validate(alike, order, corpus, encode)
    measured = {spec: _measured(spec, corpus, y, probabilities[spec], seed) for spec, y in targets.items()}
    for spec, (_, chosen_on) in held_out.items():
        measured[spec].rows.append(chosen_on)
    return measured


def _measured(spec: EvalSpec, corpus: Corpus, targets: np.ndarray, probabilities: np.ndarray, seed: int) -> Evaluated:
    """Score probabilities [repeat, record, label] of the tested records."""
    rows = spec.tested(corpus)
    truth, patients = targets[rows], corpus.index["patient"].factorize()[0][rows]
    losses = np.mean([metrics.record_losses(truth, p) for p in probabilities], axis=0)
    intervals = bootstrap.intervals(truth, probabilities, patients, resamples=spec.resamples, seed=seed)
    counts = metrics.counts(truth)
    units = {"loss": "nats", "auroc": "1", "auprc": "1"}
    return Evaluated(
        [
            {"metric": m, "unit": units[m], "value": value, "lo": lo, "hi": hi, "n": counts.n, "n_pos": counts.n_pos,
             "part": "test"}
            for m, (value, lo, hi) in intervals.items()
        ],
        losses,
    )  # fmt: skip


def _hold_out(spec: EvalSpec, corpus: Corpus, targets: np.ndarray, encode: Encode) -> tuple[np.ndarray, dict[str, Any]]:
    """Return probabilities [1, record, label] of the test part, and the row of the loss on the validation part."""
    chosen = spec.rows(corpus)
    x = {part: encode(rows) for part, rows in chosen.items()}
    y = {part: targets[rows] for part, rows in chosen.items()}
    probe = probes.linear_probe(x["train"], y["train"], x["validation"], y["validation"], [x["test"], x["validation"]])
    tested, validated = probe.probabilities
    loss, counts = metrics.macro(metrics.label_losses(y["validation"], validated)), metrics.counts(y["validation"])
    row = {"metric": "loss", "unit": "nats", "value": loss, "n": counts.n, "n_pos": counts.n_pos, "part": "validation"}
    return tested[None], row


def _cross_validate(
    targets: dict[EvalSpec, np.ndarray], order: int, corpus: Corpus, encode: Encode
) -> dict[EvalSpec, np.ndarray]:
    """Return probabilities [repeat, record, label] of every record for tasks on the same folds."""
    patients = corpus.index["patient"].factorize()[0]
    x = encode(np.arange(len(corpus.index)))
    result = probes.cross_validated_probe(x, np.hstack(list(targets.values())), patients, _folds(corpus, order))
    ends = np.cumsum([y.shape[1] for y in targets.values()])[:-1]
    return dict(zip(targets, np.split(np.stack(result.probabilities), ends, axis=2), strict=True))


@lru_cache(maxsize=32)
def _targets(corpus: Corpus, task: TaskSpec) -> np.ndarray:
    """The targets of a task [record, label], read once per process."""
    return task.targets(corpus.index).to_numpy(np.float64)


@lru_cache(maxsize=32)
def _parts(corpus: Corpus, rule: SplitRule, order: int) -> dict[str, Rows]:
    """The parts of a corpus, divided once per process."""
    return corpus_parts(corpus, rule, order)


@lru_cache(maxsize=32)
def _folds(corpus: Corpus, order: int) -> list[tuple[Rows, Rows]]:
    """The folds of a corpus, dealt once per process by all of its labels, so that they serve all of its tasks."""
    return crossval(corpus.index, corpus.index.filter(regex=r"^label\."), FOLDS, REPEATS, order)
