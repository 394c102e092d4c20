"""What a look at a study needs of its plan, kept beside its results, so that neither torch nor the rules are asked."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ecgscale
from ecgscale.lab import Lab, LabError, read_json, write_json
from ecgscale.spec import digest
from ecgscale.study.files import name_of, read, user_bindings

FILE = "runs.json"
EVALUATION = 1500  # records drawn in training that cost as much as a run's evaluations


@dataclass(frozen=True, slots=True)
class Watched:
    """A planned run.

    Attributes:
        size: Parameters asked for.
        begins: Step from which it goes on where it begins on another run's trunk.
        measured: Names of its evaluations.
        codes: Digest of the corpus whose code-book ids it leaves; None of other runs.
        provisional: Whether its learning rate is still searched: it is not run as it stands.
    """

    uid: str
    family: str
    arm: str
    role: str
    size: int
    D: int
    seed: int
    steps: int
    batch: int
    begins: int
    measured: tuple[str, ...]
    codes: str | None
    provisional: bool

    @property
    def weight(self) -> float:
        """Its expected share of the work: records drawn, times a cost growing with size, and evaluation."""
        return float((self.steps - self.begins) * self.batch + EVALUATION) * (1 + self.size / 50_000)

    def trained(self, step: int) -> float:
        """Return the part of its weight that is done when its training has reached `step`."""
        own = self.steps - self.begins
        drawn = self.batch * min(max(step - self.begins, 0), own)
        return self.weight * drawn / (self.batch * own + EVALUATION)

    def done(self, lab: Lab) -> bool:
        """Return whether it is trained and fully evaluated."""
        if lab.result(self.uid) is None:
            return False
        if self.codes is not None:
            return lab.codes(self.uid, self.codes).exists()
        return all(lab.evaluation(self.uid, name) is not None for name in self.measured)


@dataclass(frozen=True, slots=True)
class Watch:
    """All runs of a study, by their key, and the evaluations [uid, name] of the hand-crafted baseline."""

    study: str
    runs: dict[str, Watched]
    handcrafted: list[tuple[str, str]]


def keep(lab: Lab, watch: Watch, asked: str | None) -> None:
    """Keep a plan for later looks at what was asked for; a lab that cannot be written is planned anew every time.

    Args:
        lab: The study's.
        watch: What to keep.
        asked: As `asked_for` says it; None where no file did.
    """
    runs = {key: asdict(run) for key, run in watch.runs.items()}
    with suppress(LabError):
        write_json(lab.study(watch.study) / FILE, {"asked": asked, "runs": runs, "handcrafted": watch.handcrafted})


def kept(lab: Lab, study: str, asked: str) -> Watch | None:
    """Return the plan that was last kept of a study; None where something else was asked for."""
    stored = read_json(lab.root / "studies" / study / FILE)
    if not stored or stored.get("asked") != asked:
        return None
    runs = {key: Watched(**{**run, "measured": tuple(run["measured"])}) for key, run in stored["runs"].items()}
    return Watch(study, runs, [(uid, name) for uid, name in stored["handcrafted"]])


def asked_for(study: str | Path, data: Mapping[str, Path], changes: Mapping[str, Any]) -> tuple[str, str]:
    """Return a study's name, and a digest of what decides its plan but for the data's content: file, bindings, code.

    Raises:
        StudyError: no such study, or it is not TOML or has no name.
    """
    bound = {name: str(path.resolve()) for name, path in {**user_bindings(), **data}.items()}
    named = str(changes.get("name") or name_of(study))
    return named, digest([read(study)[0], bound, dict(changes), _code()])


def _code() -> list[int]:
    """Return what changes with the code of this package: how many files it has, and the time of the newest."""
    times = [path.stat().st_mtime_ns for path in Path(ecgscale.__file__).parent.rglob("*.py")]
    return [len(times), max(times)]
