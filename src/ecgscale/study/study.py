"""The study file: what a person writes. Rules live here; `expand` turns them into numbers."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ecgscale.data.corpus import Form
from ecgscale.data.split import SplitRule
from ecgscale.datasets import DatasetSpec
from ecgscale.evaluation.settings import KINDS, Protocol, Settings, settings_of
from ecgscale.runs import BackboneField, ObjectiveField, TaskField
from ecgscale.spec import Spec, SpecError, part
from ecgscale.study.cells import cells_of
from ecgscale.study.files import StudyError, packaged, read
from ecgscale.study.labels import LabelRule
from ecgscale.study.shift import Shift
from ecgscale.training.recipe import Rule

__all__ = ["Arm", "Evaluation", "Family", "Study", "StudyError", "Training", "Tune", "packaged"]


class Family(Spec):
    """A backbone × objective, trained at every size, D and seed of the grid."""

    backbone: BackboneField
    objective: ObjectiveField
    lr: NonNegativeFloat | Rule = "packaged"  # peak learning rate at the smallest size, or a rule of training.recipe
    lr_exponent: float = 0.0  # of a number: lr · (N / smallest N)^exponent
    batch: PositiveInt | None = None  # records per step; the study's when absent
    labels: LabelRule | None = None  # of the objective, by a rule instead of by name

    @model_validator(mode="after")
    def _labelled(self) -> Self:
        named, wants = bool(getattr(self.objective, "labels", ())), "labels" in self.objective.needs
        if self.labels is not None and (named or not wants):
            why = "names its labels itself" if named else "is not trained on labels"
            raise ValueError(f"labels: the objective {self.objective.part_name()} {why}; leave out one of the two")
        if wants and self.labels is None and not named:
            raise ValueError(
                f'the objective {self.objective.part_name()} has no labels: name them, labels = ["AF", …], or let the '
                'family choose them, labels = {prefix = "icd10_"}'
            )
        return self

    @property
    def name(self) -> str:
        """`<backbone>-<objective>`."""
        return f"{self.backbone.part_name()}-{self.objective.part_name()}"

    def trained_on(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Return which labels it is trained on of those that a corpus has: as named, or by its rule."""
        if self.labels is None:
            return tuple(getattr(self.objective, "labels", ()))
        return tuple(label for label in labels if label.startswith(self.labels.prefix))


class Training(Spec):
    """The one stated training rule of the study."""

    rule: Literal["equal_steps", "equal_epochs"] = "equal_steps"
    steps: PositiveInt | None = None  # equal_steps: of every cell
    epochs: PositiveInt | None = None  # equal_epochs: passes over D
    batch: PositiveInt = 32
    warmup: float = Field(0.1, ge=0, lt=1)  # fraction of the steps
    weight_decay: NonNegativeFloat = 0.05
    clip: NonNegativeFloat = 3.0
    validations: PositiveInt = 5
    validation_records: PositiveInt = 256
    test_records: PositiveInt = 512
    crop_s: PositiveFloat | None = None  # seconds of each record that a step shows, from a random sample on; None: all
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: PositiveInt = 1  # CPU threads of one run; never taken from --workers
    schedule: Literal["cosine", "wsd"] = "cosine"  # wsd: warm-up, stable, decay
    decay: float = Field(0.2, gt=0, lt=1)  # wsd: fraction of the steps; Hägele et al. 2024, arXiv:2405.18392
    branches: tuple[float, ...] = ()  # wsd: fractions of the steps at which a run also ends, for the price of a decay

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.branches and self.schedule != "wsd":
            raise ValueError('branches needs schedule = "wsd"')
        if not all(0 < share < 1 for share in self.branches):
            raise ValueError(f"branches are fractions of the steps, between 0 and 1; found {list(self.branches)}")
        if self.schedule == "wsd" and self.warmup + self.decay >= 1:
            raise ValueError(f"warmup {self.warmup:g} and decay {self.decay:g} leave nothing between them")
        return self


class Tune(Spec):
    """How learning rates are searched with rates = "tuned": per family and size, at the middle D, with the first seed.

    The criterion is the validation loss where the objective's is comparable, else the in-distribution probe loss on the
    validation part. A best rate at the edge extends the grid once; one that stays there is flagged.
    """

    factors: tuple[PositiveFloat, ...] = Field((0.125, 0.5, 2.0, 8.0), min_length=3)  # of the family's own rate


class CodebookRule(Spec):
    """The run whose codes `masked_beats` predicts: one per study, on the largest pre-training subset."""

    backbone: BackboneField
    objective: ObjectiveField
    size: PositiveInt
    steps: PositiveInt
    lr: NonNegativeFloat
    batch: PositiveInt = 32


class Arm(Spec):
    """A grid on one pre-training corpus in one form."""

    name: str = "main"
    pretrain: str | tuple[str, ...] | None = None  # names of data; the first that is bound; default data.pretrain
    sizes: tuple[PositiveInt, ...]
    records: tuple[PositiveInt, ...]  # D
    seeds: tuple[NonNegativeInt, ...] = (0,)
    extra_seeds: tuple[NonNegativeInt, ...] = ()  # for the sizes in `extra_sizes`
    extra_sizes: tuple[PositiveInt, ...] = ()
    families: tuple[str, ...] = ()  # names; all when empty
    form: Form | None = None  # of this arm; the study's when absent
    fit: bool = True  # do its rows enter the laws (role `grid`), or stand beside them


class Evaluation(Spec):
    """One task on one corpus."""

    data: str
    task: TaskField
    shift: Shift | None = None  # how far from pre-training, by hand; None: by the rule of study.shift
    split: Literal["id", "ood"] | None = Field(None, validate_default=True)  # None: "id" where the rule says "same"
    protocol: Protocol = "linear"
    settings: Settings | None = Field(
        None, validate_default=True
    )  # of `frozen` and `finetune`: epochs, batch, rates, …
    crop_s: PositiveFloat | None = None  # seconds of crops whose features or predictions are averaged; None: whole
    fraction: float = 1.0  # of training patients who keep their labels: 1, 0.5, … 0.0078125
    fractions: tuple[float, float, float] | None = (
        None  # of patients, where this corpus is parted otherwise than the study says
    )
    by: Literal["folds", "patients"] | None = None  # how this corpus is parted, where otherwise than the study says
    train: PositiveInt | None = None  # records; all when absent
    validation: PositiveInt | None = None
    test: PositiveInt | None = None

    @field_validator("split")
    @classmethod
    def _of_the_shift(cls, value: Any, info: ValidationInfo) -> Any:
        return "ood" if value is None and info.data.get("shift") else value

    @field_validator("settings", mode="wrap")
    @classmethod
    def _of_the_protocol(cls, value: Any, _: Any, info: ValidationInfo) -> Settings | None:
        return settings_of(info.data.get("protocol", "linear"), value)


class Study(Spec):
    """A complete study."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str
    description: str = ""
    data: dict[str, dict[str, Any]] = Field(default_factory=dict)
    pretrain: tuple[str, ...]  # data.pretrain: the first of these that is bound
    mix: dict[str, PositiveFloat] = Field(default_factory=dict)  # data.pretrain.mix: name → weight; all of `pretrain`
    form: Form = Form()
    split: SplitRule
    order: NonNegativeInt = 0  # seed of the order of patients
    training: Training
    family: tuple[Family, ...]
    external: tuple[BackboneField, ...] = ()  # checkpoints from elsewhere that stand beside the families
    arm: tuple[Arm, ...]
    codebook: CodebookRule | None = None
    evaluate: tuple[Evaluation, ...]
    # "packaged": tuned before, on other ECGs; "tuned": searched by the study itself; printed in the report
    rates: Literal["packaged", "given", "tuned"] = "given"
    tune: Tune = Tune()
    resamples: PositiveInt = 1000  # of patients
    fit_resamples: PositiveInt = 1000  # of runs
    seconds: PositiveInt | None = None  # wall time the study was designed for, printed by plan
    notes: tuple[str, ...] = ()

    @classmethod
    def load(cls, study: str | Path, changes: dict[str, Any] | None = None) -> Study:
        """Read a study from a file, or by the name of a packaged one.

        Args:
            study: A path ending in .toml, or a name `ecgscale list studies` prints.
            changes: `{"training.steps": 400}`: keys replaced after reading; they enter the hash.

        Raises:
            StudyError: no such file or name, not TOML, an unknown key or part.
        """
        text, where = read(study)
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise StudyError(f"{where} is not TOML: {error}") from None
        for key, value in (changes or {}).items():
            _put(table, key, value)
        table |= {"evaluate": _spelled_out(table["evaluate"])} if "evaluate" in table else {}
        data = table.get("data", {})
        if isinstance(data, dict) and "pretrain" in data:
            table |= _pretrain(data.pop("pretrain"))
        try:
            return cls.parse(table)
        except SpecError as error:
            raise StudyError(f"{where}: {error}") from None

    def dataset(self, name: str) -> DatasetSpec:
        """Return the data set that `name` means: the section [data.name], or the module of that name.

        Raises:
            StudyError: neither exists, or a key of the section is wrong.
        """
        table = dict(self.data.get(name, {}))
        for key in ("optional", "records"):  # of the study, not of the data set: see [data.NAME] in docs/data.md
            table.pop(key, None)
        table["name"] = table.pop("dataset", name)
        try:
            dataset: DatasetSpec = part("datasets", table, f"data.{name}")
        except SpecError as error:
            raise StudyError(f"{self.name}: {error}") from None
        return dataset

    def cells(self, family: str) -> tuple[list[float], list[float]]:
        """Return the N asked for and the D of every run of a family that enters its laws, seeds repeated."""
        return cells_of([arm.dump() for arm in self.arm], family)

    def trained_on(self) -> set[str]:
        """Return the names of all data that an arm may be pre-trained on."""
        named = [(arm.pretrain,) if isinstance(arm.pretrain, str) else arm.pretrain or () for arm in self.arm]
        return {*self.pretrain, *(name for names in named for name in names)}

    def optional(self, name: str) -> bool:
        """Whether runs and tasks that need `name` may be dropped where it is not bound."""
        return bool(self.data.get(name, {}).get("optional", False))


def _pretrain(chosen: Any) -> dict[str, Any]:
    """Read `data.pretrain`: a name, a list or `first_of` of names of which the first bound is taken, or `mix`."""
    if isinstance(chosen, dict) and "mix" in chosen:
        return {"pretrain": list(chosen["mix"]), "mix": chosen["mix"]}
    names = chosen.get("first_of", ()) if isinstance(chosen, dict) else chosen
    return {"pretrain": [names] if isinstance(names, str) else list(names)}


def _spelled_out(entries: Any) -> Any:
    """Return an entry for each protocol and fraction where one names several; settings go to those that have some."""
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return entries
    return [single for entry in entries for single in _singles(entry)]


def _singles(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    several = {key: value for key in ("protocol", "fraction") if isinstance(value := entry.get(key), list) and value}
    for values in product(*several.values()):
        single = entry | dict(zip(several, values, strict=True))
        if "protocol" in several and single["protocol"] not in KINDS:
            single.pop("settings", None)
        yield single


def _put(table: dict[str, Any], key: str, value: Any) -> None:
    """Replace `a.b.c`, where a number selects from a list (`arm.0.sizes`).

    Raises:
        StudyError: a step of the path does not exist.
    """
    *path, last = key.split(".")
    place: Any = table
    for step in path:
        try:
            place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
        except (ValueError, IndexError, AttributeError):
            raise StudyError(f"--set {key}: there is no `{step}` in the study") from None
    if isinstance(place, list):
        try:
            place[int(last)] = value
        except (ValueError, IndexError):
            raise StudyError(f"--set {key}: there is no `{last}` in the study") from None
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise StudyError(f"--set {key}: `{path[-1]}` is a value, not a table")
