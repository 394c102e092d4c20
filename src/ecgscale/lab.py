"""The results directory: at most one result per spec, written last, found again by re-hashing what is stored.

lab/corpora/<uid>/     a corpus (see data.corpus)
lab/runs/<uid>/        spec.json first, result.json last; between them a run is unfinished and may be resumed
lab/features/          frozen features, one file per checkpoint and corpus
lab/studies/<name>/    what a study left: its runs, one table, fits, report
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ecgscale.spec import Explained, digest

COLUMNS: tuple[str, ...] = (  # of a study's table: one row is one measured number
    *("study", "run", "cell", "seed", "step", "role", "backbone", "objective", "paradigm", "pretrain", "eval_corpus"),
    *("N", "N_total", "D", "seen", "C", "lr", "batch", "steps", "schedule", "labels", "label_set", "label_fraction"),
    *("checkpoint", "branch", "split", "shift", "part", "task", "protocol", "metric", "unit"),
    *("value", "lo", "hi", "n", "n_pos", "status", "reason"),
)


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
            for name in ("corpora", "runs", "features", "studies"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LabError(
                f"the lab {self.root} cannot be written: {error.strerror}; choose another with --lab"
            ) from None
        if not all(os.access(self.root / name, os.W_OK) for name in ("corpora", "runs", "features", "studies")):
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
            for path in folder.iterdir():  # a torn or foreign folder: keep the claim file that guards it
                if path.name != "claim":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "spec.json").exists():
            write_json(folder / "spec.json", spec)
        return folder

    def finish(self, uid: str, result: dict[str, Any]) -> None:
        """Write `result.json`: from now on the run is done."""
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

    @contextmanager
    def claim(self, folder: Path) -> Iterator[bool]:
        """Hold `folder` for this process; yields False where another live process holds it.

        The claim is a kernel lock on the file `claim`: it ends with the process, however that dies.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "claim").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)

    def held(self, folder: Path) -> bool:
        """Return whether a live process holds `folder`."""
        try:
            with (folder / "claim").open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False


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
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise refused(path, error) from None


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
