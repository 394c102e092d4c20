"""The results directory: at most one result per spec, written last, found again by re-hashing what is stored.

lab/corpora/<uid>/     a corpus (see data.corpus)
lab/runs/<uid>/        spec.json first, result.json last; between them a run is unfinished and may be resumed
lab/features/          frozen features, one file per checkpoint and corpus
lab/flops/             measured FLOP per record, one file per backbone, objective, corpus and batch
lab/trunks/            where runs of one "wsd" schedule part, while longer ones are to come
lab/studies/<name>/    what a study left: its runs, one table, fits, report
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ecgscale import claims
from ecgscale.spec import Explained, digest

COLUMNS: tuple[str, ...] = (  # of a study's table: one row is one measured number
    *("study", "run", "cell", "seed", "step", "role", "backbone", "objective", "paradigm", "pretrain", "eval_corpus"),
    *("N", "N_total", "D", "seen", "C", "lr", "batch", "steps", "schedule", "labels", "label_set", "label_order"),
    *("label_fraction", "labelled"),  # labelled: records of the task's training part, where a study keeps few labels
    *("checkpoint", "branch", "split", "shift", "part", "task", "protocol", "metric", "unit"),
    *("value", "lo", "hi", "n", "n_pos", "left_out", "status", "reason"),
)


FOLDERS = ("corpora", "runs", "features", "flops", "trunks", "studies")


class LabError(Explained, RuntimeError):
    """The results directory cannot be used; the message says which path and why."""


class DiskFull(LabError):
    """No room is left for results; what stood there is whole."""


class Lab:
    """One directory of results. The only object that decides where anything is kept.

    Args:
        root: The directory; made if it is not there.

    Raises:
        LabError: it cannot be made or written.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).resolve()
        try:
            for name in FOLDERS:
                (self.root / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LabError(
                f"the lab {self.root} cannot be written: {error.strerror}; choose another with --lab"
            ) from None
        if not all(os.access(self.root / name, os.W_OK) for name in FOLDERS):
            raise LabError(f"the lab {self.root} cannot be written: permission denied; choose another with --lab")

    def corpus(self, uid: str) -> Path:
        """Return where the corpus with this key stands or will stand."""
        return self.root / "corpora" / uid

    def study(self, name: str) -> Path:
        """Return the folder of a study, made if needed."""
        folder = self.root / "studies" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def run(self, uid: str) -> Path:
        """Return the folder of a run."""
        return self.root / "runs" / uid

    def features(self, *key: str) -> Path:
        """Return the file that holds what was computed once from these checkpoints and corpora."""
        return self.root / "features" / ("-".join(key) + ".npy")

    def codes(self, codebook: str, corpus: str) -> Path:
        """Return the file of the code-book ids of a corpus: [record, lead, beat] int16, padded with -1."""
        return self.features("codes", codebook, corpus)

    def flops(self, key: str) -> Path:
        """Return the file that holds the measured FLOP per record of what has this key."""
        return self.root / "flops" / f"{key}.json"

    def trunk(self, key: str) -> Path:
        """Return the folder of what runs that part later have in common."""
        return self.root / "trunks" / key

    def bench(self, machine: str) -> Path:
        """Return the file of what was timed on a machine."""
        return self.root / "benches" / f"{machine}.json"

    def begin(self, uid: str, spec: dict[str, Any]) -> Path:
        """Make a run's folder and write its spec; where the stored spec does not hash to `uid`, replace the folder.

        Raises:
            LabError: the folder cannot be written.
        """
        folder = self.run(uid)
        if folder.exists() and not self._honest(uid):
            self.discard(uid)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "spec.json").exists():
            write_json(folder / "spec.json", spec)
        return folder

    def discard(self, uid: str) -> None:
        """Empty the folder of a run, but for the claim that guards it and the logs of its jobs."""
        for path in self.run(uid).iterdir():
            claims.check(path)
            if not path.name.startswith(("claim-", "slurm-")):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def finish(self, uid: str, result: dict[str, Any]) -> None:
        """Write `result.json`: from now on the run is done.

        Raises:
            ClaimLost: this process held the run, and another has it now.
        """
        write_json(self.run(uid) / "result.json", result)

    def result(self, uid: str) -> dict[str, Any] | None:
        """Return a finished run's result; None where it is not done or torn, or its stored spec has another hash."""
        if not self._honest(uid):
            return None
        result: dict[str, Any] | None = read_json(self.run(uid) / "result.json")
        return result

    def evaluation(self, uid: str, name: str) -> list[dict[str, Any]] | None:
        """Return the rows of a run's evaluation; None where it is not there or torn, or its spec has another hash."""
        stored = read_json(self.run(uid) / "evaluations" / f"{name}.json")
        return stored["rows"] if stored and digest(stored["spec"]) == name else None

    def _honest(self, uid: str) -> bool:
        spec = read_json(self.run(uid) / "spec.json")
        return spec is not None and digest(spec) == uid

    def claim(self, folder: Path) -> AbstractContextManager[bool]:
        """Hold `folder` for this process; gives False where another live process holds it (see `claim` below)."""
        return claim(folder)

    def held(self, folder: Path) -> bool:
        """Return whether a live process holds `folder`, on any machine."""
        return claims.held(folder)


@contextmanager
def claim(folder: Path) -> Iterator[bool]:
    """Hold `folder` for this process; yields False where another live process holds it, on any machine.

    The claim ends with the process, however that dies (see claims); writes after it was lost are refused.

    Raises:
        LabError: the folder cannot be written; DiskFull: the disk is full.
    """
    holding = claims.holding(folder)
    try:
        mine = holding.__enter__()
    except OSError as error:
        raise refused(folder, error) from None
    with ExitStack() as stack:
        stack.push(holding)
        yield mine


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader finds the old file or the new one, never a part.

    Raises:
        LabError: the folder cannot be written; DiskFull: the disk is full.
    """
    write_atomic(path, json.dumps(value, indent=1, sort_keys=True).encode())


def write_atomic(path: Path, data: bytes) -> None:
    """Write bytes through a temporary sibling and a rename.

    Raises:
        LabError: the folder cannot be written, or DiskFull; nothing that stood there is lost.
        ClaimLost: the file stands in a folder that this process has claimed and lost.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # processes of several machines may write at once
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        claims.check(path)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise refused(path, error) from None
    except claims.ClaimLost:
        temporary.unlink(missing_ok=True)
        raise


def refused(path: Path, error: OSError) -> LabError:
    """Return what to say of a write that failed."""
    kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else LabError
    return kind(f"{path} could not be written: {error.strerror}; nothing that stood there was lost")


def read_json(path: Path) -> Any:
    """Return the JSON of a file, or None where it is absent or torn."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def read_curve(path: Path) -> list[dict[str, float]]:
    """Return the complete lines of a curve; a line torn by a kill is left out."""
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def read_failures(lab: Lab, study: str) -> dict[str, str]:
    """Return why runs of a study failed when they were last tried, by uid."""
    return read_json(lab.study(study) / "failures.json") or {}
