"""A study without its data: samples stand in for the corpora, so that it can be priced before anything is downloaded.

Every data set writes a small sample of its own format (`DatasetSpec.sample`); what the study needs and the sample does
not carry (labels, folds, the unit and band it declares) is made up, since a price does not depend on it. Sizes are
declared: the simulator's `count`, `[data.NAME] records`, or else what the study asks for. All of it stands in a folder
of its own.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ecgscale import rng
from ecgscale.data.corpus import Corpus, ingest
from ecgscale.data.ingestion import making
from ecgscale.data.record import Record, Rejected
from ecgscale.data.split import SplitRule, corpus_parts
from ecgscale.datasets import DatasetSpec
from ecgscale.lab import Lab, read_json, write_json
from ecgscale.spec import digest, part
from ecgscale.study.bind import Binder, Mixed, Source
from ecgscale.study.expand import expand
from ecgscale.study.plan import Plan, PlannedRun
from ecgscale.study.price import Sizes
from ecgscale.study.study import Arm, Study, StudyError
from ecgscale.tasks import Statements

SIMULATED = 400  # records of the simulator that stand for all, and more where a part would else have fewer than
IN_PART = 8  # of them
FOLDS = 10
WIDE = 0.1  # of the patients: the least share of a part that is held out of a sample


class _Sampled:
    """A data set's sample with what a study needs and the sample lacks; else it is the data set."""

    simulated = True  # whatever the source: nobody was measured

    def __init__(
        self, spec: DatasetSpec, name: str, labels: tuple[str, ...], totals: Mapping[str, int],
        described: Mapping[str, Any], most: int | None,
    ) -> None:  # fmt: skip
        self._spec, self._name, self._labels, self._totals, self._most = spec, name, labels, dict(totals), most
        unit = described.get("unit", "")
        self._z = unit if unit.startswith("z") else None  # volts of any size can be brought to any other
        self._band = tuple(described["band_hz"]) if self._z and described.get("band_hz") else None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # not there yet, while a worker unpickles it
            raise AttributeError(name)
        return getattr(self._spec, name)

    @property
    def title(self) -> str:
        """The data set's, as that of a sample."""
        return f"sample in the format of {self._spec.title}"

    def completed_with(self) -> list[Any]:
        """Return what decides what is added to the sample."""
        return [self._name, self._labels, self._totals, self._z, self._band, self._most]

    def read(self, root: Path | None, portion: Any) -> Iterator[Record | Rejected]:
        """Yield the records of a portion, at most so many, completed."""
        for item in islice(self._spec.read(root, portion), self._most):
            yield self._completed(item) if isinstance(item, Record) else item

    def _completed(self, record: Record) -> Record:
        draw = rng.generator(0, "declared", self._name, record.record)
        asked = [*self._labels, *_numbered(self._totals, {*record.labels, *self._labels})]
        missing = {label: float(draw.random() < 0.3) for label in asked if label not in record.labels}
        number = int.from_bytes(hashlib.sha256(record.patient.encode()).digest()[:4])
        return replace(
            record,
            patient=f"{self._name}:{record.patient.replace(':', '-')}",  # samples of two data sets share no patient
            labels={**record.labels, **missing},
            fold=number % FOLDS + 1,
            signal=_standardised(record.signal) if self._z else record.signal,
            unit=self._z or record.unit,
            band_hz=self._band or record.band_hz,
        )


def _numbered(totals: Mapping[str, int], there: Collection[str]) -> list[str]:
    """Return names that bring the labels with each prefix to its total."""
    has = {prefix: sum(name.startswith(prefix) for name in there) for prefix in totals}
    return [f"{prefix}{i:04d}" for prefix, total in totals.items() for i in range(total - has[prefix])]


def _standardised(signal: np.ndarray) -> np.ndarray:
    spread = signal.std(1, keepdims=True)
    scaled: np.ndarray = (signal - signal.mean(1, keepdims=True)) / np.where(spread > 0, spread, 1)
    return scaled


@dataclass(frozen=True, slots=True)
class _Standin(Source):
    """A source whose corpus is made of a sample."""

    sampled: _Sampled

    def check(self) -> None:
        """Nothing is checked: the sample is not the user's."""

    def open(self, processes: int = 1) -> Corpus:
        """Return the corpus of the sample, ingesting it first in this process."""
        if not (self.path / "manifest.json").exists():
            ingest(self.sampled, self.root, self.form, self.path)
        return Corpus.open(self.path)


class Standins(Binder):
    """Binds every data set of a study to a sample of it.

    Args:
        study: The study.
        folder: For samples, which are written once; nothing of it is real.
        lab: For their corpora; one in the folder by default.
        most: Records of a sample; all by default.
    """

    def __init__(self, study: Study, folder: Path, lab: Lab | None = None, most: int | None = None) -> None:
        super().__init__(study, lab or Lab(folder / "lab"), {})
        self.folder, self.seconds, self.most = folder, dict[Path, float](), most
        self._made: dict[str, tuple[_Sampled, Path | None]] = {}

    def has(self, name: str) -> bool:
        """Whether a sample can stand for `name`: it always can."""
        return True

    def source(self, name: str, arm: Arm) -> Source:
        """Return the source of the sample of `name` in the form of `arm`, its corpus made."""
        sampled, root = self._sample(name)
        form = arm.form or self.study.form
        label = name if form == self.study.form else f"{name}.{arm.name}"
        path = self.lab.corpus(digest([sampled.completed_with(), making(sampled, root, form)]))
        source = _Standin(name, label, form, root, path, self.study, sampled)
        if path not in self.seconds:
            began = time.perf_counter()
            records = len(source.open())
            self.seconds[path] = (time.perf_counter() - began) / records
        return source

    def _sample(self, name: str) -> tuple[_Sampled, Path | None]:
        if name not in self._made:
            asked = self.study.dataset(name)
            root: Path | None = self.folder / "samples" / name
            if asked.simulated:
                enough = self.most or max(SIMULATED, math.ceil(IN_PART / min(_fractions(self.study))))
                root, spec = None, asked.model_copy(update={"count": min(asked.count, enough)})  # type: ignore[attr-defined]
            else:
                spec = self._written(name, type(asked))
            described = self.study.data.get(name, {})
            labels = _labels(self.study, name, self.most is None)
            totals = {} if asked.simulated or self.most is not None else _totals(self.study, name)
            self._made[name] = _Sampled(spec, name, labels, totals, described, self.most), root
        return self._made[name]

    def _written(self, name: str, kind: type[DatasetSpec]) -> DatasetSpec:
        """Return the data set that reads its sample, written first where it is not there whole."""
        root, about = self.folder / "samples" / name, self.folder / "samples" / f"{name}.json"
        stored = read_json(about)
        if stored is not None:
            return part("datasets", stored)  # type: ignore[no-any-return]
        spec = kind.sample(root, seed=len(self._made))
        write_json(about, spec.dump())
        return spec


def _fractions(study: Study) -> list[float]:
    """Return the shares of patients that the study's parts have."""
    rules = [study.split.fractions, *(e.fractions for e in study.evaluate if e.fractions)]
    return [share for fractions in rules for share in fractions if share > 0]


def _labels(study: Study, name: str, all_of_them: bool) -> tuple[str, ...]:
    """Return the labels that families are trained on, and those that tasks predict on the data of this name.

    Unless all are asked for, tasks that take whatever labels a corpus has are left with the sample's own.
    """
    trains = name in study.trained_on()
    trained = [label for f in study.family for label in getattr(f.objective, "labels", ()) if trains]
    tested = [label for e in study.evaluate if e.data == name or (trains and e.data == "pretrain")
              if all_of_them or not isinstance(e.task, Statements) for label in _predicted(e.task)]  # fmt: skip
    return tuple(dict.fromkeys([*trained, *tested]))


def _totals(study: Study, name: str) -> dict[str, int]:
    """Return how many labels a data set is said to have that families choose by a rule, prefix → total.

    Raises:
        StudyError: a rule does not say it.
    """
    rules = [(f.name, f.labels) for f in study.family if f.labels is not None and name in study.trained_on()]
    for family, rule in rules:
        if rule.total is None:
            raise StudyError(
                f"{study.name}: how many labels `{rule.prefix}…` {name} has is not known without the data: write "
                f"`total` in the `labels` of {family}"
            )
    return {rule.prefix: rule.total for _, rule in rules if rule.total is not None}


def _predicted(task: Any) -> tuple[str, ...]:
    return tuple(task.label_sets.get(task.labels) or getattr(task, "columns", ()))


@dataclass(frozen=True, slots=True)
class Declared:
    """A plan on stand-ins.

    Attributes:
        plan: With the D, steps and warm-up of the real study.
        sizes: Of the corpora, as said.
        said: Label of a source → records and who says so, in words.
    """

    plan: Plan
    sizes: Sizes
    said: dict[str, tuple[int, str]]


def declare(study: Study, folder: Path) -> Declared:
    """Return the plan of a study whose data are not here.

    The samples are too small for the D of a study, so the plan is made with 1, 2, 3 … records instead of the first,
    second, third … D, which then take their places.

    Args:
        study: The study.
        folder: For samples and their corpora.
    """
    records = sorted({D for arm in study.arm for D in arm.records})
    rank = {D: place for place, D in enumerate(records, 1)}
    arms = tuple(arm.model_copy(update={"records": tuple(rank[D] for D in arm.records)}) for arm in study.arm)
    binder = Standins(study.model_copy(update={"arm": arms, "split": _wide(study.split)}), folder)
    plan = expand(binder.study, binder)
    plan.study, plan.notes, plan.overlaps = study, _said_of_labels(study), []
    told: dict[str, tuple[int, str]] = {}
    pretrain = {p.source.label for p in plan.runs.values() if p.run.objective is not None}
    for label, source in plan.sources.items():
        told[label] = _said(study, source, label in pretrain, max(records))
    _restore(plan, records, told)
    sizes = Sizes({s.path: told[label][0] for label, s in plan.sources.items()}, _seconds(plan, binder.seconds))
    return Declared(plan, sizes, told)


def _said_of_labels(study: Study) -> list[str]:
    rules = dict.fromkeys(f.labels for f in study.family if f.labels is not None and f.labels.total is not None)
    return [f"labels `{r.prefix}…`: taken to be {r.total:,}, all with a positive training record" for r in rules]


def _said(study: Study, source: Source, pretrain: bool, most: int) -> tuple[int, str]:
    """Return how many records a source is said to have, and by whom."""
    if isinstance(source, Mixed):
        parts = [_said(study, part, False, most) for part, _ in source.parts]
        return sum(count for count, _ in parts), "the sum of its sources"
    written = study.data.get(source.name, {})
    asked = study.dataset(source.name)
    if asked.simulated:
        return int(asked.count), "simulated"  # type: ignore[attr-defined]
    if "records" in written:
        return int(written["records"]), "declared in the study"
    if pretrain:
        return math.ceil(most / _share(study, source.open())), "taken to hold the largest D"
    parts_of = [(e.train, e.validation, e.test) for e in study.evaluate if e.data == source.name]
    limits = [sum(filter(None, parts)) for parts in parts_of if all(parts)]
    if limits:
        return max(limits), "taken to hold what is evaluated"
    return len(source.open()), f"not declared (write `records` in [data.{source.name}]): its sample's size"


def _wide(rule: SplitRule) -> SplitRule:
    """Return a rule whose held-out parts are wide enough for a sample to have records in them."""
    _, *held_out = (max(share, WIDE) if share else 0.0 for share in rule.fractions)
    return rule.model_copy(update={"fractions": (1 - sum(held_out), *held_out)})


def _share(study: Study, corpus: Corpus) -> float:
    """Return the share of a corpus that is trained on."""
    if study.split.by == "patients":
        return study.split.fractions[0]
    return max(len(corpus_parts(corpus, study.split, study.order)["train"]), 1) / len(corpus)


def _restore(plan: Plan, records: list[int], told: Mapping[str, tuple[int, str]]) -> None:
    """Give the runs the D of the study, and the steps that follow from it; leave out what a source cannot hold."""
    shares = {label: _share(plan.study, s.open()) for label, s in plan.sources.items()}
    for key, planned in list(plan.runs.items()):
        run = planned.run
        if run.objective is None:
            continue
        label, D = planned.source.label, records[run.D - 1]
        holds = math.floor(told[label][0] * shares[label] + 1e-9)
        if holds < D and planned.role != "codebook":
            plan.skip(f"D = {D:,} on {label}", f"its training part is said to have about {holds:,} records")
            del plan.runs[key]
            continue
        steps = _steps(plan.study, planned, D)
        recipe = run.recipe.model_copy(update={"steps": steps, "warmup": round(plan.study.training.warmup * steps)})
        fresh = run.model_copy(update={"D": min(D, holds), "recipe": recipe, "D_by_source": None})
        plan.runs[key] = replace(planned, run=fresh)
    plan.tuning = [replace(s, D=records[s.D - 1]) for s in plan.tuning]


def _steps(study: Study, planned: PlannedRun, D: int) -> int:
    rule, recipe = study.training, planned.run.recipe
    if rule.rule == "equal_steps" or planned.role == "codebook":
        return recipe.steps
    return max(1, round((rule.epochs or 1) * D / rule.batch))


def _seconds(plan: Plan, made: Mapping[Path, float]) -> dict[Path, float]:
    """Return the seconds per record of making each corpus; a mixture's are its sources'."""
    seconds = dict(made)
    for source in plan.sources.values():
        if isinstance(source, Mixed):
            seconds[source.path] = float(np.mean([made[part.path] for part, _ in source.parts]))
    return seconds
