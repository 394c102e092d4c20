"""What a run keeps: checkpoints as safetensors, two generations of its state to resume from, a curve as JSON lines."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from ecgscale import claims, ranks
from ecgscale.lab import read_curve, refused, write_atomic

CHECKSUM = 32  # bytes before a state


def keep(module: nn.Module, path: Path, about: dict[str, str]) -> None:
    """Write a module's state as safetensors, atomically; `about` stands in the file's header.

    Every rank must ask, the first one writes.
    """
    state = {name: ranks.whole(value.detach()) for name, value in module.state_dict().items()}
    if ranks.rank() == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, save({name: value.cpu().contiguous() for name, value in state.items()}, about))


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the state to resume from; the previous generation stays until the next is complete."""
    newest = folder / "state.pt"
    claims.check(newest)
    if newest.exists():
        newest.replace(folder / "state-previous.pt")
    _write(newest, state)


def load_state(folder: Path) -> dict[str, Any] | None:
    """Return the newest readable state, or None. Only tensors and plain values are unpickled."""
    newest = _read(folder / "state.pt")
    return _read(folder / "state-previous.pt") if newest is None else newest


def _write(path: Path, state: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    write_atomic(path, _checksum(data) + data)


def _read(path: Path) -> dict[str, Any] | None:
    data = path.read_bytes() if path.exists() else b""
    if data[:CHECKSUM] != _checksum(data[CHECKSUM:]):  # torch reads tensors that have changed on the disk
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(data[CHECKSUM:]), map_location="cpu", weights_only=True)
    return state


class Trunk:
    """What a run shares with longer ones of its "wsd" schedule: the state in which the decay of the last one began.

    Args:
        folder: Where it stands.
        more: Whether longer runs are to come; only then is a state left for them.
    """

    def __init__(self, folder: Path, more: bool) -> None:
        self.folder, self.more = folder, more

    def load(self, step: int) -> dict[str, Any] | None:
        """Return the furthest readable state that lies no further than `step`, or None."""
        for path in sorted(self.folder.glob("*.pt"), key=_step, reverse=True):
            state = _read(path) if _step(path) <= step else None
            if state is not None:
                return state
        return None

    def leave(self, state: dict[str, Any]) -> None:
        """Keep a state for longer runs; those of earlier steps are dropped."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(self.folder / f"{state['step']}.pt", state)
        for path in self.folder.glob("*.pt"):
            if _step(path) < state["step"]:
                path.unlink()


def _step(path: Path) -> int:
    return int(path.stem)


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=CHECKSUM).digest()


def drop_state(folder: Path) -> None:
    """Remove the resume state of a finished run."""
    claims.check(folder)
    for name in ("state.pt", "state-previous.pt"):
        (folder / name).unlink(missing_ok=True)


class Curve:
    """The learning curve on disk: one JSON object per logged step. The first rank writes it.

    Args:
        path: The file.
        step: Lines past it are dropped.
        lines: What it begins with, of a run that goes on from another's state; its own lines when None.
    """

    def __init__(self, path: Path, step: int, lines: list[dict[str, float]] | None = None) -> None:
        self.path = path
        if ranks.rank():
            return
        kept = [line for line in (read_curve(path) if lines is None else lines) if line["step"] <= step]
        write_atomic(path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def log(self, **values: float) -> None:
        """Append a line.

        Raises:
            LabError: it cannot be written; a part of it that was is dropped on resume.
            ClaimLost: another process has the run.
        """
        if ranks.rank():
            return
        claims.check(self.path)
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise refused(self.path, error) from None
