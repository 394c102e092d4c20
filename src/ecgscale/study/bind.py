"""From names in a study to corpora in the lab.

Roots of data sets come from the command line or the user's configuration, never from a study; what was read
enters every run by digest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ecgscale import claims
from ecgscale.data.corpus import Corpus, Form, check_form, ingest
from ecgscale.data.ingestion import making
from ecgscale.data.mixture import mix
from ecgscale.lab import Lab
from ecgscale.lab import claim as hold
from ecgscale.spec import digest
from ecgscale.study.files import user_bindings
from ecgscale.study.study import Arm, Study, StudyError

WAIT_S = 1.0  # between two looks at a corpus that another process makes


@dataclass(frozen=True, slots=True)
class Source:
    """A data set of a study in one form: `label` names it in the table, `path` is its corpus in the lab."""

    name: str
    label: str
    form: Form
    root: Path | None
    path: Path
    study: Study

    def check(self) -> None:
        """Judge by the first record whether the data set can be brought to the form.

        Raises:
            Explained: it cannot, or no record is readable.
        """
        check_form(self.study.dataset(self.name), self.root, self.form)

    def open(self, processes: int = 1) -> Corpus:
        """Return the corpus, ingesting it first, in so many processes, where the lab does not hold it.

        Raises:
            ClaimLost: this process stood still for so long that another ingests it.
        """
        with _making(self.path) as claim:
            if claim:
                dataset = self.study.dataset(self.name)
                ingest(dataset, self.root, self.form, self.path, lambda _: claims.check(claim), processes)
        return Corpus.open(self.path)


@contextmanager
def _making(path: Path) -> Iterator[Path | None]:
    """Wait while another process, on any machine, makes a corpus; yield what this one claims, None where it is made."""
    claim = path.parent / f".{path.name}.claims"
    while not (path / "manifest.json").exists():
        with hold(claim) as mine:
            if mine and not (path / "manifest.json").exists():
                yield claim
                return
        time.sleep(WAIT_S)
    yield None


@dataclass(frozen=True, slots=True)
class Mixed(Source):
    """Several sources in one form, mixed by weight."""

    parts: tuple[tuple[Source, float], ...]

    def check(self) -> None:
        """Judge every source by its first record.

        Raises:
            Explained: as of a source.
        """
        for source, _ in self.parts:
            source.check()

    def open(self, processes: int = 1) -> Corpus:
        """Return the mixture, ingesting and mixing first what the lab does not hold."""
        with _making(self.path) as claim:
            if claim:
                corpora = {source.name: source.open(processes) for source, _ in self.parts}
                mix(corpora, {source.name: weight for source, weight in self.parts}, self.path)
        return Corpus.open(self.path)


class Binder:
    """Finds the roots of a study's data sets and the places of their corpora.

    Args:
        study: The study.
        lab: Where corpora stand.
        bindings: NAME → folder or file, from the command line; they win over the user's configuration.

    Raises:
        StudyError: a binding names data the study does not use, or a path that does not exist.
    """

    def __init__(self, study: Study, lab: Lab, bindings: Mapping[str, Path]) -> None:
        self.study, self.lab = study, lab
        known = {*study.trained_on(), *(e.data for e in study.evaluate), *study.data}
        for name, path in bindings.items():
            if name not in known:
                raise StudyError(
                    f"--data {name}: the study {study.name} has no data of that name; it has {', '.join(sorted(known))}"
                )
            if not path.exists():
                raise StudyError(f"--data {name}={path}: there is no such folder or file")
        self.bindings = {**user_bindings(), **bindings}

    def has(self, name: str) -> bool:
        """Whether `name` is bound to a folder or needs none."""
        return name in self.bindings or not self.study.dataset(name).needs_root

    def source(self, name: str, arm: Arm) -> Source | None:
        """Return the source of `name` in the form of `arm`; None where it is optional and not bound.

        Raises:
            StudyError: it is needed and not bound.
        """
        if not self.has(name):
            if self.study.optional(name):
                return None
            raise StudyError(
                f"data `{name}` is not bound: add --data {name}=PATH, or [data] {name} = PATH to the user configuration"
            )
        form = arm.form or self.study.form
        label = name if form == self.study.form else f"{name}.{arm.name}"
        dataset = self.study.dataset(name)
        root = self.bindings.get(name) if dataset.needs_root else None
        return Source(name, label, form, root, self.lab.corpus(digest(making(dataset, root, form))), self.study)

    def pretrain(self, arm: Arm) -> Source:
        """Return the first of the arm's pre-training data that is bound.

        Raises:
            StudyError: none is.
        """
        names = (
            self.study.pretrain
            if arm.pretrain is None
            else (arm.pretrain,)
            if isinstance(arm.pretrain, str)
            else arm.pretrain
        )
        if self.study.mix and arm.pretrain is None:
            return self._mixed(arm)
        for name in names:
            if self.has(name):
                source = self.source(name, arm)
                assert source is not None
                return source
        raise StudyError(f"none of the pre-training data {', '.join(names)} is bound: add --data {names[0]}=PATH")

    def _mixed(self, arm: Arm) -> Mixed:
        """Return the mixture of all pre-training data; those that are optional and not bound are not in it."""
        found = [(source, w) for name, w in self.study.mix.items() if (source := self.source(name, arm)) is not None]
        if len(found) < 2:
            raise StudyError(f"data.pretrain.mix needs two data sets that are bound, found {len(found)}")
        name = "+".join(source.name for source, _ in found)
        form = arm.form or self.study.form
        label = name if form == self.study.form else f"{name}.{arm.name}"
        path = self.lab.corpus(digest(["mixture", [[s.name, s.path.name, w] for s, w in found]]))
        return Mixed(name, label, form, None, path, self.study, tuple(found))
