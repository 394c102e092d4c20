"""What evaluations cost that train a network (`frozen`, `finetune`): timed on a few records, counted in records times
epochs."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
from pydantic import NonNegativeFloat, NonNegativeInt

from ecgscale.data.corpus import Corpus
from ecgscale.evaluation.descent import Parts
from ecgscale.evaluation.encoder import Encoder
from ecgscale.evaluation.evaluate import FOLDS, REPEATS, EvalSpec
from ecgscale.evaluation.folds import INNER_FOLDS
from ecgscale.evaluation.tokens import MOST
from ecgscale.evaluation.windows import Windows
from ecgscale.runs import RunSpec, build
from ecgscale.spec import Spec, digest
from ecgscale.study.memory import forget, peak, wait

FEW = 2  # records of a step that tells what a record of a batch adds to the memory
BACKWARD = 3  # times as dear as encoding a record: a guess, of how many records can be timed
LABELS = 4


class Network(Spec):
    """Of one kind of network, in one of the processes that work side by side."""

    seconds: NonNegativeFloat  # per record of a training step
    memory: NonNegativeInt  # bytes of the process at most; of the GPU where it computes there
    tokens: NonNegativeFloat = 0.0  # bytes per record that are kept, of `frozen`


def network(run: RunSpec, spec: EvalSpec) -> str:
    """Return what decides the cost of a step: backbone, shape, protocol, batch."""
    assert spec.settings is not None
    return digest([run.backbone.dump(), run.leads, run.samples, spec.protocol, spec.settings.batch, spec.crop_s])


def measure_network(
    run: RunSpec, spec: EvalSpec, corpus: Corpus, encoding: float, seconds: float, device: str
) -> Network:
    """Time training steps of a network for about `seconds`.

    Args:
        run: Whose encoder.
        spec: The evaluation.
        corpus: Any of the run's form; labels are random.
        encoding: Records/s that the encoder takes.
        seconds: Of timed work; where a batch would take longer, a smaller one stands for it.
        device: "cpu" or "cuda".
    """
    assert spec.settings is not None
    backbone = build(run)[0].to(device).eval().requires_grad_(False)
    whole = min(spec.settings.batch, len(corpus))
    timed = max(min(whole, int(seconds * encoding / BACKWARD / 3)), min(FEW, whole))
    y = np.random.default_rng(0).integers(0, 2, (len(corpus), LABELS)).astype(np.float64)
    y[:2] = [[0.0], [1.0]]
    how, rows = spec.settings, np.arange(timed)
    encoder = Encoder(backbone, corpus, rows, device=device)

    def taken(records: int, epochs: int) -> float:
        parts = Parts(rows[:records], rows[:1], rows[:1])
        began = time.perf_counter()
        encoder.fit(how.model_copy(update={"epochs": epochs, "batch": whole}), y, parts, "binary", spec.crop_s)
        wait(device)
        return time.perf_counter() - began

    taken(min(FEW, timed), 1)  # what is done only once, tokens too
    forget(device)
    taken(min(FEW, timed), 1)
    few = peak(device)
    forget(device)
    of_one, of_three = taken(timed, 1), taken(timed, 3)
    most = peak(device)
    per_record = max(0.0, (most - few) / (timed - FEW)) if timed > FEW else few / FEW
    stores = encoder.tokens(Windows.of(corpus, spec.crop_s)) if spec.protocol == "frozen" else []
    return Network(
        seconds=max(0.0, of_three - of_one) / 2 / timed,
        memory=round(most + per_record * (whole - timed)),
        tokens=sum(s.kept.numel() * s.kept.element_size() for s in stores if s.kept is not None) / timed,
    )


def network_s(spec: EvalSpec, parts: Mapping[str, int], cost: Network, encoding: float) -> float:
    """Return the seconds of an evaluation, without the one pass that the tokens of all `frozen` ones take.

    Args:
        spec: The evaluation.
        parts: Records of each of its parts, or {"all"} under cross-validation.
        cost: Of its kind of network.
        encoding: Records/s of the encoder.
    """
    assert spec.settings is not None
    fits, train, choosing, tested = _drawn(spec, parts)
    epochs = spec.settings.epochs
    if spec.protocol == "frozen":
        again = 0.0 if cost.tokens * sum(parts.values()) <= MOST else 1 / encoding
        return fits * (epochs * (train + choosing) + tested) * (cost.seconds + again)
    return fits * (epochs * (train * cost.seconds + choosing / encoding) + (choosing + tested) / encoding)


def _drawn(spec: EvalSpec, parts: Mapping[str, int]) -> tuple[int, float, float, float]:
    """Return how many networks are trained, and the records each is trained on, chosen by and tested on."""
    if "all" not in parts:
        return 1, parts["train"], parts["validation"], parts["test"]
    known = parts["all"] * (1 - 1 / FOLDS) * spec.fraction
    return FOLDS * REPEATS, known * (1 - 1 / INNER_FOLDS), known / INNER_FOLDS, parts["all"] / FOLDS
