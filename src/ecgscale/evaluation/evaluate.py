"""Tasks on one corpus: from frozen features, or an encoder to train, to rows of the table.

The held-out loss of every record is kept for paired comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt, ValidationInfo, field_validator

from ecgscale.data.corpus import Corpus
from ecgscale.data.split import SplitRule, corpus_parts, crossval
from ecgscale.evaluation import bootstrap, few_labels, metrics, probes
from ecgscale.evaluation.encoder import Encoder
from ecgscale.evaluation.protocols import (
    Predicted,
    cross_validate,
    hold_out,
    network_cross_validate,
    network_hold_out,
)
from ecgscale.evaluation.ridge import Scale
from ecgscale.evaluation.settings import Protocol, Settings, settings_of
from ecgscale.loader import Rows
from ecgscale.runs import TaskField
from ecgscale.spec import Spec
from ecgscale.tasks import TaskSpec

Encode = Callable[[Rows], np.ndarray]  # rows of the corpus -> features [row, width]

BINARY = ("loss", "auroc", "auprc", "brier", "ece")  # and F1, of decisions
FOLDS, REPEATS = 2, 5  # cross-validation of small sets: 5 × 2 (Dietterich 1998)


class EvalSpec(Spec):
    """What is measured, on which records, how."""

    revision: ClassVar[int] = 4  # of this protocol

    corpus: str  # digest
    task: TaskField
    protocol: Protocol = "linear"
    settings: Settings | None = Field(None, validate_default=True)  # of `frozen` and `finetune`; in their digest only
    crop_s: PositiveFloat | None = None  # crops whose features or predictions are averaged; in the digest where given
    fraction: float = 1.0  # of training patients who keep their labels: 1, 1/2, … 1/128
    split: SplitRule
    order: int = 0
    train: PositiveInt | None = None
    validation: PositiveInt | None = None
    test: PositiveInt | None = None
    resamples: PositiveInt = 1000

    @field_validator("fraction")
    @classmethod
    def _halved(cls, value: float) -> float:
        if value not in few_labels.FRACTIONS:
            raise ValueError("a fraction of labels is 1, 1/2, 1/4, … or 1/128")
        return value

    @field_validator("settings", mode="wrap")
    @classmethod
    def _of_the_protocol(cls, value: Any, _: Any, info: ValidationInfo) -> Settings | None:
        return settings_of(info.data.get("protocol", "linear"), value)

    @property
    def trains(self) -> bool:
        """Whether it trains a network on the encoder, and so needs one; the others read features."""
        return self.settings is not None

    @property
    def protocol_name(self) -> str:
        """What the table calls the protocol: "linear", "linear-1of8" with an eighth of the labels, "linear-2500ms" on
        crops of 2.5 s."""
        crops = "" if self.crop_s is None else f"-{1000 * self.crop_s:.0f}ms"
        return self.protocol + crops + few_labels.suffix(self.fraction)

    def dump(self) -> dict[str, Any]:
        """Return all fields with the revisions of protocol and probe; settings and crops where there are any."""
        fields = super().dump()
        if self.crop_s is None:
            del fields["crop_s"]
        if self.settings is None:
            del fields["settings"]
        else:
            fields["settings"] = self.settings.dump()
        return {"revision": self.revision, "probe": probes.REVISION, **fields}

    def rows(self, corpus: Corpus) -> dict[str, Rows]:
        """Return the records of each part: {"train", "validation", "test"}, or {"all"} under cross-validation."""
        if self.task.parts == "crossval":
            return {"all": np.arange(len(corpus.index))}
        rule = self.split
        if self.task.parts == "patients" and rule.by == "folds":
            rule = SplitRule(by="patients")
        divided = _parts(corpus, rule, self.order)
        chosen = {name: divided[name][: getattr(self, name)] for name in ("train", "validation", "test")}
        return chosen | {"train": few_labels.labelled(corpus.index, chosen["train"], self.fraction, self.order)}

    def labelled(self, corpus: Corpus) -> int:
        """Return how many records may be learnt from with their labels: of one fold under cross-validation."""
        rows = self.rows(corpus)
        return len(rows["train"]) if "train" in rows else round(len(rows["all"]) * (1 - 1 / FOLDS) * self.fraction)

    def scale(self, corpus: Corpus, y: np.ndarray) -> Scale | None:
        """Return the scale of regression targets [record, target] in the training part, the same for every fraction."""
        if self.task.output == "binary":
            return None
        return Scale.of(y[self.model_copy(update={"fraction": 1.0}).rows(corpus)["train"]])

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
        rows: The table's columns protocol, label_fraction, metric, unit, value, lo, hi, n, n_pos, part; and left_out,
            how many of the task's labels have no such value.
        losses: Loss of each tested record, mean over repeats [record, label]: nats, or squared error in variances of
            the whole training part (under cross-validation, of all records); NaN where the target is unknown.
    """

    rows: list[dict[str, Any]]
    losses: np.ndarray


def evaluate(
    specs: Sequence[EvalSpec], corpus: Corpus, encode: Encode, seed: int = 0, encoder: Encoder | None = None
) -> dict[EvalSpec, Evaluated]:
    """Fit the probe or train the network on the training part, choose on validation, report on test.

    Args:
        specs: Evaluations on one corpus; those by cross-validation on the same folds share one call of the probe.
        corpus: The corpus they name by digest.
        encode: Gives the frozen features of rows, of the crops that the specs ask for.
        seed: Of the patient bootstrap.
        encoder: The checkpoint itself, for evaluations that train a network.

    Returns:
        For each spec the macro means of its metrics (labels: loss, AUROC, AUPRC, Brier, ECE, F1 at thresholds chosen on
        validation; regression: loss, R², MAE) with 95 % patient-bootstrap intervals, and per-record losses; where a
        validation part exists, also the loss there, which the probe was chosen by. Metrics of repeated cross-validation
        are averaged over its repeats.
    """
    targets = {spec: _targets(corpus, spec.task) for spec in specs}
    predicted: dict[EvalSpec, Predicted] = {}
    groups: dict[tuple[Any, ...], list[EvalSpec]] = {}
    for spec, y in targets.items():
        if spec.settings is not None:
            predicted[spec] = _trained(spec, spec.settings, corpus, y, encoder)
            continue
        if spec.task.parts == "crossval":
            groups.setdefault((spec.order, spec.protocol, spec.fraction, spec.task.output), []).append(spec)
            continue
        rows = spec.rows(corpus)
        x = {part: encode(r) for part, r in rows.items()}
        known = {part: y[r] for part, r in rows.items()}
        predicted[spec] = hold_out(spec.protocol, spec.task.output, x, known, spec.scale(corpus, y))
    every = encode(np.arange(len(corpus.index))) if groups else np.empty((0, 0))
    for (order, protocol, fraction, output), alike in groups.items():
        patients, folds = _labelled_folds(corpus, fraction, order)
        found = cross_validate(protocol, output, every, [targets[spec] for spec in alike], patients, folds)
        predicted |= dict(zip(alike, found, strict=True))
    return {spec: _measured(spec, corpus, y, predicted[spec], seed) for spec, y in targets.items()}


def _trained(spec: EvalSpec, how: Settings, corpus: Corpus, y: np.ndarray, encoder: Encoder | None) -> Predicted:
    """Predict by a network; by cross-validation where the task has no parts."""
    if encoder is None:
        raise ValueError(f'the protocol "{spec.protocol}" needs an encoder: hand-crafted features have none')
    if spec.task.parts == "crossval":
        folds = _labelled_folds(corpus, spec.fraction, spec.order)
        return network_cross_validate(encoder, how, spec.task.output, y, *folds, spec.crop_s)
    scale = spec.scale(corpus, y)
    return network_hold_out(encoder, how, spec.task.output, y, spec.rows(corpus), scale, spec.crop_s)


def _measured(spec: EvalSpec, corpus: Corpus, targets: np.ndarray, predicted: Predicted, seed: int) -> Evaluated:
    """Score what was predicted of the tested records."""
    rows = spec.tested(corpus)
    truth, patients = targets[rows], corpus.index["patient"].factorize()[0][rows]
    intervals = partial(bootstrap.intervals, patients=patients, resamples=spec.resamples, seed=seed)
    score = _labels if predicted.scale is None else _values
    scores, losses = score(truth, predicted, intervals, spec.task)
    table = [
        {"part": "test", "metric": s.metric, "unit": s.unit, **s.interval._asdict(), **_counts(truth, spec.task),
         "left_out": s.left_out} for s in scores
    ]  # fmt: skip
    if predicted.validation_loss is not None:
        counts = _counts(targets[spec.rows(corpus)["validation"]], spec.task)
        table.append({"part": "validation", "metric": "loss", "unit": scores[0].unit,
                      "value": predicted.validation_loss, **counts})  # fmt: skip
    name = {"protocol": spec.protocol_name, "label_fraction": spec.fraction}
    return Evaluated([name | row for row in table], losses)


class _Score(NamedTuple):
    metric: str
    unit: str
    interval: bootstrap.Interval
    left_out: int  # labels without this metric


def _labels(
    y: np.ndarray, predicted: Predicted, intervals: Callable[..., Any], task: TaskSpec
) -> tuple[list[_Score], np.ndarray]:
    """Score probabilities and decisions; return the losses too."""
    found = intervals(y, predicted.values, metrics=BINARY) | intervals(y, predicted.decisions, metrics=("f1",))
    given = dict.fromkeys(BINARY, predicted.values[0]) | {"f1": predicted.decisions[0]}  # type: ignore[index]
    units = dict.fromkeys(found, "1") | {"loss": "nats"}
    scores = [_Score(m, units[m], found[m], _left_out(m, y, given[m])) for m in found]
    return scores, np.mean([metrics.record_losses(y, p) for p in predicted.values], axis=0)


def _values(
    y: np.ndarray, predicted: Predicted, intervals: Callable[..., Any], task: TaskSpec
) -> tuple[list[_Score], np.ndarray]:
    """Score values: loss in variances of the training part, absolute error in the task's unit or in deviations."""
    deviation = predicted.scale.deviation  # type: ignore[union-attr]
    truth, values = y / deviation, predicted.values / np.nan_to_num(deviation, nan=1.0)
    in_units = (y, predicted.values) if task.unit else (truth, values)
    found = intervals(truth, values, metrics=("mse", "r2")) | intervals(*in_units, metrics=("mae",))
    named = {"mse": ("loss", "sd2"), "r2": ("r2", "1"), "mae": ("mae", task.unit or "sd")}
    scores = [_Score(*named[m], found[m], _left_out(m, truth, values[0])) for m in found]
    return scores, np.mean((truth - values) ** 2, axis=0)


def _left_out(name: str, y: np.ndarray, scores: np.ndarray) -> int:
    return int(np.isnan(metrics.named(name)(y, scores)).sum())


def _counts(y: np.ndarray, task: TaskSpec) -> dict[str, int | None]:
    """Records with a known target, and positives where there are classes."""
    known = int((~np.isnan(y)).any(axis=1).sum())
    return {"n": known, "n_pos": int((y == 1).sum()) if task.output == "binary" else None}


@lru_cache(maxsize=32)
def _targets(corpus: Corpus, task: TaskSpec) -> np.ndarray:
    """The targets of a task [record, label], read once per process."""
    return task.targets(corpus.index).to_numpy(np.float64)


@lru_cache(maxsize=32)
def _parts(corpus: Corpus, rule: SplitRule, order: int) -> dict[str, Rows]:
    """The parts of a corpus, divided once per process."""
    return corpus_parts(corpus, rule, order)


def _labelled_folds(corpus: Corpus, fraction: float, order: int) -> tuple[np.ndarray, list[tuple[Rows, Rows]]]:
    """The patient of every record [record], and the folds, in whose training parts a fraction keeps its labels."""
    folds = [(few_labels.labelled(corpus.index, a, fraction, order), b) for a, b in _folds(corpus, order)]
    return corpus.index["patient"].factorize()[0], folds


@lru_cache(maxsize=32)
def _folds(corpus: Corpus, order: int) -> list[tuple[Rows, Rows]]:
    """The folds of a corpus, dealt once per process by all of its labels, so that they serve all of its tasks."""
    return crossval(corpus.index, corpus.index.filter(regex=r"^label\."), FOLDS, REPEATS, order)
