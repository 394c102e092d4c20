"""Who works on a folder: one process at a time, on whatever machine, and not for longer than it lives.

A claim is a file `claim-N` in the folder, made exclusively; the highest N holds. Its owner touches it every `BEAT_S`
seconds. It is over when it was given back, when its owner is a process of this machine that is gone, or when it was not
touched for `LEASE_S` seconds by the clock of the file system; then another may take N + 1. An owner that was frozen so
long finds the higher number when it comes back (`check`), and writes nothing more.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ecgscale.spec import Explained

LEASE_S = 180.0  # without a beat, after which a claim is over; caches of network file systems last up to 60 s
BEAT_S = 15.0

_NAME = re.compile(r"claim-(\d+)(\.free)?")


class ClaimLost(Explained, RuntimeError):
    """This process was silent for so long that another took its folder; it must not write there."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A process: the machine (as long as it is up), the process there, and when that began, against reused numbers."""

    machine: str
    pid: int
    started: str


def this_process() -> Owner:
    """Return who asks."""
    pid = os.getpid()
    return Owner(_machine(), pid, _started(pid) or "")


def _machine() -> str:
    """Name this machine so that no two with processes of the same numbers are one: containers have their own."""
    words = [socket.gethostname(), f"{uuid.getnode():x}"]
    with suppress(OSError):
        words += [
            Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            str(Path("/proc/self/ns/pid").readlink()),
        ]
    return " ".join(words)


def _started(pid: int) -> str | None:
    """Return when a process of this machine began, in the kernel's words; None where it has ended."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else rest[18]
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""


def _clock() -> float:
    """Seconds that also pass while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(slots=True)
class Claim:
    """What a process holds: number N in a folder; `beaten`: when it last showed that it lives, by `_clock`."""

    folder: Path
    number: int
    owner: Owner
    beaten: float
    lost: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def path(self) -> Path:
        return self.folder / f"claim-{self.number}"

    def beat(self) -> None:
        """Show that the owner lives; one that was silent for so long that another may follow takes a new number."""
        with self.lock:
            if self.lost:
                return
            now = _clock()
            try:
                if now - self.beaten > LEASE_S * 2 / 3:
                    self.lost = _top(self.folder) != (self.number, False) or (
                        _make(self.folder, self.number + 1, self.owner) is None
                    )
                    self.number += not self.lost
                else:
                    os.utime(self.path)
                    self.lost = _top(self.folder) != (self.number, False)
            except FileNotFoundError:
                self.lost = True
            except OSError:  # the file system does not answer: the next beat may find it again
                return
            self.beaten = now

    def check(self) -> None:
        """Go on only as the owner.

        Raises:
            ClaimLost: another has the folder, or its file system did not answer for so long that another may.
        """
        if _clock() - self.beaten > LEASE_S / 3:
            self.beat()
        if self.lost or _clock() - self.beaten > LEASE_S * 2 / 3:
            raise ClaimLost(f"{self.folder} was taken over by another process while this one stood still")

    def release(self) -> None:
        """Give the folder back."""
        with self.lock, suppress(FileNotFoundError):
            if not self.lost:
                self.path.rename(self.path.with_name(f"{self.path.name}.free"))
            self.lost = True


def take(folder: Path, owner: Owner | None = None) -> Claim | None:
    """Claim a folder; returns None where a live process holds it.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number, free = _top(folder)
    if not free and not _over(folder, number):
        return None
    return _make(folder, number + 1, owner or this_process())


def held(folder: Path) -> bool:
    """Return whether a live process holds a folder."""
    number, free = _top(folder)
    return not free and not _over(folder, number)


def _top(folder: Path) -> tuple[int, bool]:
    """Return the highest number in a folder, and whether it was given back; (0, True) of a folder never claimed."""
    try:
        found = [match for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    except FileNotFoundError:
        return 0, True
    number, taken = max(((int(m[1]), m[2] is None) for m in found), default=(0, False))
    return number, not taken


def _make(folder: Path, number: int, owner: Owner) -> Claim | None:
    """Make the claim of a number unless another process was first; forget those before it."""
    now = _clock()
    path = folder / f"claim-{number}"
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return None
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(asdict(owner), file)
    except OSError:
        path.unlink()
        raise
    if _top(folder) != (number, False):  # what was seen before was an old list of the folder
        path.unlink(missing_ok=True)
        return None
    for other in folder.glob("claim-*"):
        match = _NAME.fullmatch(other.name)
        if match and (int(match[1]) < number or match[2]):
            other.unlink(missing_ok=True)
    return Claim(folder, number, owner, now)


def _over(folder: Path, number: int) -> bool:
    """Return whether the owner of a claim is gone, or was not heard of for too long."""
    try:
        with (folder / f"claim-{number}").open() as file:  # opening it asks a network file system for its present state
            touched, text = os.fstat(file.fileno()).st_mtime, file.read()
    except FileNotFoundError:  # given back, or taken over, at this moment
        return False
    with suppress(ValueError, TypeError):  # not yet written
        owner = Owner(**json.loads(text))
        if owner.machine == _machine() and owner.started != _started(owner.pid):
            return True
    return _now(folder) - touched > LEASE_S


def _now(folder: Path) -> float:
    """Return the time by the clock of the file system, which may be another machine's."""
    probe = folder / f".clock-{uuid.uuid4().hex}"
    try:
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
    except OSError:  # it may be read only, or full
        return time.time()
    return now


_mine: dict[Path, Claim] = {}  # of this process


@contextmanager
def holding(folder: Path) -> Iterator[bool]:
    """Hold a folder while the block lasts, touching its claim in a thread; yields False where another process holds it.

    Inside a block that holds the folder, the same process may hold it again.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = folder.resolve()
    if folder in _mine:
        yield True
        return
    claim = take(folder)
    if claim is None:
        yield False
        return
    end = threading.Event()
    threading.Thread(target=_beats, args=(claim, end), daemon=True).start()
    _mine[folder] = claim
    try:
        yield True
    finally:
        end.set()
        del _mine[folder]
        claim.release()


def _beats(claim: Claim, end: threading.Event) -> None:
    while not end.wait(BEAT_S):
        claim.beat()


def check(path: Path) -> None:
    """Refuse to write a file in a folder that this process has claimed and lost.

    Raises:
        ClaimLost: it has.
    """
    for folder in (path, *path.parents) if _mine else ():
        if claim := _mine.get(folder):
            claim.check()
