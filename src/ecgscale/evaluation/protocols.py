"""How features, or an encoder, become predictions: what a protocol and the kind of targets call for.

`linear` (the exact optimum; ridge for regression) and `linear_adam` (the papers' descent) read pooled features of the
frozen encoder. `frozen` and `finetune` train a network on the encoder itself; under cross-validation a quarter of the
training patients chooses their epoch, as of `linear_adam`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecgscale.evaluation import adam, early, probes, ridge
from ecgscale.evaluation.descent import Parts
from ecgscale.evaluation.encoder import Encoder
from ecgscale.evaluation.ridge import Scale
from ecgscale.evaluation.settings import Protocol, Settings
from ecgscale.evaluation.targets import Output, validation_loss
from ecgscale.evaluation.thresholds import best_thresholds, decide

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Predicted:
    """Predictions of the tested records.

    Attributes:
        values: Probabilities, or values in the targets' units, [repeat, record, label].
        decisions: Whether a label is said to be present, [repeat, record, label]; NaN without a threshold; None for
            regression.
        validation_loss: Mean over labels, nats or in the variances of `scale`; None under cross-validation.
        scale: Unit of regression losses; None for labels.
    """

    values: Array
    decisions: Array | None
    validation_loss: float | None
    scale: Scale | None


def hold_out(
    protocol: Protocol, output: Output, x: Mapping[str, Array], y: Mapping[str, Array], scale: Scale | None
) -> Predicted:
    """Fit on x["train"], choose everything on x["validation"], predict x["test"].

    Args:
        protocol: Which probe; regression targets take the ridge under "linear".
        output: What the targets are.
        x: Features [record, feature] of "train", "validation" and "test".
        y: Targets [record, label] of the first two.
        scale: In whose variances the losses of regression are given; None for labels.
    """
    known = (x["train"], y["train"], x["validation"], y["validation"])
    tests = [x["test"], x["validation"]]
    if protocol == "linear_adam":
        tested, validated = adam.adam_probe(*known, tests, output).predictions
    elif output == "regression":
        tested, validated = ridge.ridge_probe(*known, tests).predictions
    else:
        tested, validated = probes.linear_probe(*known, tests).probabilities
    return _held_out(output, y["validation"], tested, validated, scale)


def network_hold_out(
    encoder: Encoder,
    how: Settings,
    output: Output,
    y: Array,
    rows: Mapping[str, Rows],
    scale: Scale | None,
    crop_s: float | None = None,
) -> Predicted:
    """Train a network on an encoder, choose its epoch on rows["validation"], predict rows["test"].

    Args:
        encoder: The checkpoint on the corpus.
        how: The settings of `frozen` or `finetune`.
        output: What the targets are.
        y: Targets of the whole corpus [record, label].
        rows: Rows of "train", "validation" and "test".
        scale: As of `hold_out`.
        crop_s: Length of the crops that the network sees; None: whole records.
    """
    parts = Parts(rows["train"], rows["validation"], rows["test"])
    found = encoder.fit(how, y, parts, output, crop_s)
    return _held_out(output, y[parts.validation], found.tested, found.validated, scale)


def network_cross_validate(
    encoder: Encoder,
    how: Settings,
    output: Output,
    y: Array,
    patients: npt.ArrayLike,
    folds: Sequence[tuple[Rows, Rows]],
    crop_s: float | None = None,
) -> Predicted:
    """Predict every record out of fold; a quarter of the training patients of every fold chooses the epoch.

    Args:
        encoder, how, output, y, crop_s: As of `network_hold_out`.
        patients: [record].
        folds: (train rows, test rows) pairs.
    """

    def fit(train: Rows, choosing: Rows, test: Rows) -> tuple[Array, Array]:
        found = encoder.fit(how, y, Parts(train, choosing, test), output, crop_s)
        return found.tested, found.validated

    return _gathered(early.cross_validated(fit, y, patients, folds, output, how.seed), y, output)


def cross_validate(
    protocol: Protocol,
    output: Output,
    x: Array,
    targets: Sequence[Array],
    patients: npt.ArrayLike,
    folds: Sequence[tuple[Rows, Rows]],
) -> list[Predicted]:
    """Predict every record out of fold, for several tasks on the same folds.

    Args:
        protocol: Which probe.
        output: What the targets of all these tasks are; losses of regression are in variances of all records.
        x: Features [record, feature].
        targets: Of each task, [record, label].
        patients: [record].
        folds: (train rows, test rows) pairs.
    """
    if protocol == "linear_adam":  # an epoch is chosen for all labels of a task
        results = [adam.cross_validated_adam(x, y, patients, folds, output) for y in targets]
        return [_gathered(r, y, output) for r, y in zip(results, targets, strict=True)]
    solve = ridge.cross_validated_ridge if output == "regression" else probes.cross_validated_probe
    together = _gathered(solve(x, np.hstack(targets), patients, folds), np.hstack(targets), output)
    ends = np.cumsum([y.shape[1] for y in targets])[:-1]
    pieces = [np.split(a, ends, axis=2) if a is not None else [None] * len(targets)
              for a in (together.values, together.decisions)]  # fmt: skip
    scales = [Scale.of(y) if output == "regression" else None for y in targets]
    return [Predicted(v, d, None, s) for v, d, s in zip(*pieces, scales, strict=True)]


def _held_out(output: Output, y: Array, tested: Array, validated: Array, scale: Scale | None) -> Predicted:
    """Score the validation part, whose targets y [record, label] also give the thresholds of decisions."""
    loss = validation_loss(y, validated, scale, output)
    decisions = decide(tested, best_thresholds(y, validated))[None] if output == "binary" else None
    return Predicted(tested[None], decisions, loss, scale)


def _gathered(result: probes.CrossValidated, y: Array, output: Output) -> Predicted:
    decisions = np.stack(result.decisions) if result.decisions else None
    return Predicted(np.stack(result.probabilities), decisions, None, Scale.of(y) if output == "regression" else None)
