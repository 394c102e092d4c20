"""The runs of a study as a competent user would write them: plain PyTorch, scikit-learn, one run after the other.

Two ways to feed them: `Files`, one NPY file per record through a DataLoader with worker processes, and `Tensors`, all
records in memory. Models and objectives are the textbook versions of benchmarks/training.py at the widths and depths of
ours. Intervals, the hand-crafted baseline, law fits, checkpoints to resume from and the report are left out, so a rival
does less work than `ecgscale run`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from ecgscale.batch import Batch
from ecgscale.data.corpus import Corpus
from ecgscale.data.split import corpus_parts
from ecgscale.evaluation.evaluate import EvalSpec
from ecgscale.runs import RunSpec, build
from ecgscale.study.plan import PlannedRun
from ecgscale.study.work import opened
from ecgscale.views import cut_beats, most_beats
from training import LEADS, PlainBeats, PlainResNet

EVALUATION_BATCH = 128
C = tuple(np.logspace(-3, 3, 7))  # inverse penalties that validation chooses from; ours has ten


class Net(PlainResNet):
    """The textbook ResNet for windows of any length."""

    def forward(self, batch: Batch) -> Tensor:
        return self.encode(batch.signal)

    def encode(self, signal: Tensor) -> Tensor:
        x = y = self.stem(F.pad(signal, (0, -signal.shape[-1] % 256)))
        for block in self.blocks:
            y = block["first"](x) + block["skip"](y)
            x = block["last"](y)
        return x.mean(2)


class Beats(PlainBeats):
    """The textbook beat Transformer with its tokens, some of them hidden."""

    def tokens(self, batch: Batch, hidden: Tensor | None = None) -> tuple[Tensor, Any]:
        beats = cut_beats(batch, LEADS * most_beats(batch.signal.shape[-1]))
        values = beats.values if hidden is None else beats.values.masked_fill(hidden[..., None], 0.0)
        x = self.embed(values.transpose(1, 2)).transpose(1, 2)
        x = x + self.lead(beats.lead) + self.second(beats.second.clamp(max=15))
        return self.encoder(x, src_key_padding_mask=~beats.valid), beats

    def forward(self, batch: Batch) -> Tensor:
        x, beats = self.tokens(batch)
        weight = beats.valid[..., None].float()
        return (x * weight).sum(1) / weight.sum(1).clamp(min=1)


NETS: dict[str, Callable[[Any], Any]] = {"resnet1d": Net, "beat_transformer": Beats}


class Supervised(nn.Module):
    """A linear head and binary cross-entropy."""

    def __init__(self, net: Any, run: RunSpec) -> None:
        super().__init__()
        self.net, self.head = net, nn.Linear(net.width, len(run.objective.labels))

    def forward(self, batch: Batch) -> Tensor:
        loss = F.binary_cross_entropy_with_logits(self.head(self.net(batch)), batch.labels, reduction="none")
        return (loss * batch.labels_ok).sum() / batch.labels_ok.sum().clamp(min=1)


class Contrastive(nn.Module):
    """The two halves of a recording against those of the others, patient by patient."""

    def __init__(self, net: Net, run: RunSpec) -> None:
        super().__init__()
        self.net, self.temperature = net, run.objective.temperature

    def forward(self, batch: Batch) -> Tensor:
        first, second = (F.normalize(self.net.encode(half), dim=1) for half in batch.signal.chunk(2, -1))
        scores = (first @ second.T / self.temperature).exp()
        losses = [-(scores.diagonal() / scores.sum(1)).log().mean(), -(scores.diagonal() / scores.sum(0)).log().mean()]
        pairs = [(i, j) for i in range(len(batch)) for j in range(len(batch))
                 if i != j and batch.patient[i] == batch.patient[j]]  # fmt: skip
        if pairs:
            i, j = torch.tensor(pairs).T
            losses.append(-(scores[i, j] / scores.sum(1)[i]).log().mean())
        return torch.stack(losses).mean()


class Masked(nn.Module):
    """Half of the beats hidden and their codes predicted."""

    def __init__(self, net: Beats, run: RunSpec) -> None:
        super().__init__()
        self.net, self.ratio, self.head = net, run.objective.mask_ratio, nn.Linear(net.width, run.objective.codes)

    def forward(self, batch: Batch) -> Tensor:
        beats = cut_beats(batch, LEADS * most_beats(batch.signal.shape[-1]))
        hidden = beats.valid & (torch.rand(beats.valid.shape) < self.ratio)
        x, beats = self.net.tokens(batch, hidden)
        assert batch.codes is not None
        row = torch.arange(len(batch))[:, None]
        wanted = batch.codes[row, (beats.lead - 1).clamp(min=0), beats.beat]
        usable = hidden & (wanted >= 0)
        return F.cross_entropy(self.head(x)[usable], wanted[usable]) if usable.any() else self.head(x).sum() * 0


OBJECTIVES: dict[str, Callable[[Any, RunSpec], nn.Module]] = {
    "supervised": Supervised, "cmsc": Contrastive, "masked_beats": Masked,
}  # fmt: skip


class Records(Dataset[dict[str, Any]]):
    """Records of a corpus, each read from its own NPY file."""

    def __init__(self, corpus: Corpus, folder: Path, rows: np.ndarray, labels: tuple[str, ...], codes: Any) -> None:
        self.folder, self.rows, self.codes, self.rate_hz = folder, rows, codes, corpus.rate_hz
        beats, index = corpus.beats(np.arange(len(corpus))), corpus.index
        self.beats, self.patient = torch.from_numpy(beats), torch.from_numpy(corpus.patients(np.arange(len(corpus))))
        known = index[[f"label.{name}" for name in labels]].to_numpy(np.float32, copy=True)
        self.labels = torch.from_numpy(known)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> dict[str, Any]:
        row = int(self.rows[place])
        item = {"signal": torch.from_numpy(np.load(self.folder / f"{row}.npy")), "row": row, "beats": self.beats[row],
                "patient": self.patient[row], "labels": self.labels[row]}  # fmt: skip
        return item if self.codes is None else {**item, "codes": torch.from_numpy(self.codes[row].astype(np.int64))}


def batch_of(items: dict[str, Tensor], rate_hz: float) -> Batch:
    """Return a batch of ours, which only carries the tensors."""
    labels, signal = items["labels"], items["signal"]
    return Batch(
        signal=signal, lead_ok=torch.ones(signal.shape[:2], dtype=torch.bool), beats=items["beats"],
        record=items["row"], patient=items["patient"], rate_hz=rate_hz, labels=labels.nan_to_num(0.0),
        labels_ok=~labels.isnan(), codes=items.get("codes"),
    )  # fmt: skip


class Files:
    """Batches through a DataLoader over one file per record."""

    name = "files, DataLoader, scikit-learn"

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder, self.workers = folder, workers

    def prepare(self, corpus: Corpus) -> None:
        """Write the files, as a data set on disk has them; not timed."""
        folder = self.folder / corpus.digest
        folder.mkdir(parents=True, exist_ok=True)
        for row in range(len(corpus)):
            np.save(folder / f"{row}.npy", corpus.signals([row])[0])

    def batches(
        self, corpus: Corpus, rows: np.ndarray, labels: tuple[str, ...], codes: Any, size: int, steps: int | None
    ) -> Iterator[Batch]:
        """Yield `steps` shuffled batches, or all records once in order."""
        data = Records(corpus, self.folder / corpus.digest, rows, labels, codes)
        drawn = (
            None
            if steps is None
            else RandomSampler(data, num_samples=steps * size, replacement=steps * size > len(data))
        )
        for items in DataLoader(data, size, sampler=drawn, num_workers=self.workers):
            yield batch_of(items, corpus.rate_hz)


class Tensors:
    """Batches out of tensors that hold the whole corpus."""

    name = "tensors in memory, scikit-learn"

    def __init__(self) -> None:
        self.held: dict[str, Tensor] = {}

    def prepare(self, corpus: Corpus) -> None:
        """Read the corpus; not timed."""
        self.held[corpus.digest] = torch.from_numpy(corpus.signals(np.arange(len(corpus))))

    def batches(
        self, corpus: Corpus, rows: np.ndarray, labels: tuple[str, ...], codes: Any, size: int, steps: int | None
    ) -> Iterator[Batch]:
        """Yield `steps` shuffled batches, or all records once in order."""
        data = Records(corpus, Path(), rows, labels, codes)
        order = np.arange(len(rows))
        if steps is not None:
            epochs = math.ceil(steps * size / len(rows))
            order = np.concatenate([np.random.permutation(len(rows)) for _ in range(epochs)])[: steps * size]  # noqa: NPY002
        for start in range(0, len(order), size):
            chosen = torch.from_numpy(rows[order[start : start + size]])
            items = {"signal": self.held[corpus.digest][chosen], "row": chosen, "beats": data.beats[chosen],
                     "patient": data.patient[chosen], "labels": data.labels[chosen]}  # fmt: skip
            if codes is not None:
                items["codes"] = torch.from_numpy(codes[chosen.numpy()].astype(np.int64))
            yield batch_of(items, corpus.rate_hz)


Feed = Files | Tensors


def run_as_user(planned: PlannedRun, feed: Feed, codes: Any) -> list[float]:
    """Train a run and probe it on its tasks; returns the metrics."""
    run, corpus = planned.run, opened(planned.source.path)
    torch.manual_seed(run.seed)
    net = NETS[run.backbone.part_name()](build(run)[0])
    if run.objective is not None:
        _train(OBJECTIVES[run.objective.part_name()](net, run), run, corpus, feed, codes)
    return [value for e in planned.evaluations for value in _probe(net.eval(), e.spec, opened(e.source.path), feed)]


def _train(model: nn.Module, run: RunSpec, corpus: Corpus, feed: Feed, codes: Any) -> None:
    parts, recipe = corpus_parts(corpus, run.split, run.order), run.recipe
    labels = run.labels
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.lr, total_steps=recipe.steps + 1)
    held_out = parts["validation"][: recipe.validation_records]
    checks = {round(recipe.steps * (i + 1) / recipe.validations) for i in range(recipe.validations)}
    batches = feed.batches(corpus, np.asarray(parts["train"][: run.D]), labels, codes, recipe.batch, recipe.steps)
    for step, batch in enumerate(batches, 1):
        model.train()
        optimiser.zero_grad()
        model(batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimiser.step()
        schedule.step()
        if step in checks:
            _loss(model, feed.batches(corpus, np.asarray(held_out), labels, codes, 64, None))
    tested = np.asarray(parts["test"][: recipe.test_records])
    _loss(model, feed.batches(corpus, tested, labels, codes, 64, None))


@torch.no_grad()
def _loss(model: nn.Module, batches: Iterator[Batch]) -> float:
    model.eval()
    return float(np.mean([float(model(batch)) for batch in batches]))


@torch.no_grad()
def _features(net: nn.Module, corpus: Corpus, rows: np.ndarray, feed: Feed) -> np.ndarray:
    return torch.cat([net(b) for b in feed.batches(corpus, rows, (), None, EVALUATION_BATCH, None)]).numpy()


def _probe(net: nn.Module, spec: EvalSpec, corpus: Corpus, feed: Feed) -> list[float]:
    """Fit a logistic regression per label, the penalty chosen on validation; return AUROC, AUPRC and loss."""
    y = spec.task.targets(corpus.index).to_numpy()
    rows = {name: np.asarray(r) for name, r in spec.rows(corpus).items()}
    x = {name: _features(net, corpus, r, feed) for name, r in rows.items()}
    scores = []
    for label in range(y.shape[1]):
        t = {name: y[r, label] for name, r in rows.items()}
        if any(len(np.unique(v)) < 2 for v in (t["train"], t["test"])):
            continue
        fitted = [
            make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000)).fit(x["train"], t["train"])
            for c in C
        ]
        losses = [log_loss(t["validation"], f.predict_proba(x["validation"])[:, 1], labels=[0, 1]) for f in fitted]
        p = fitted[int(np.argmin(losses))].predict_proba(x["test"])[:, 1]
        scores.append([roc_auc_score(t["test"], p), average_precision_score(t["test"], p), log_loss(t["test"], p)])
    return [float(v) for v in np.mean(scores, axis=0)] if scores else []


__all__ = ["Files", "Tensors", "run_as_user"]
