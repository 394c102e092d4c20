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

from ecgscale import claims
from ecgscale.lab import refused, write_atomic

CHECKSUM = 32  # bytes before a state


def keep(module: nn.Module, path: Path, about: dict[str, str]) -> None:
    """Write a module's state as safetensors, atomically; `about` stands in the file's header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    write_atomic(path, save(tensors, about))


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the state to resume from; the previous generation stays until the next is complete."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    newest = folder / "state.pt"
    claims.check(newest)
    if newest.exists():
        newest.replace(folder / "state-previous.pt")
    data = buffer.getvalue()
    write_atomic(newest, _checksum(data) + data)


def load_state(folder: Path) -> dict[str, Any] | None:
    """Return the newest whole state, or None. Only tensors and plain values are unpickled."""
    for name in ("state.pt", "state-previous.pt"):
        path = folder / name
        data = path.read_bytes() if path.exists() else b""
        if data[:CHECKSUM] == _checksum(data[CHECKSUM:]):  # torch reads tensors that have changed on the disk
            return torch.load(io.BytesIO(data[CHECKSUM:]), map_location="cpu", weights_only=True)
    return None


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=CHECKSUM).digest()


def drop_state(folder: Path) -> None:
    """Remove the resume state of a finished run."""
    claims.check(folder)
    for name in ("state.pt", "state-previous.pt"):
        (folder / name).unlink(missing_ok=True)


class Curve:
    """The learning curve on disk: one JSON object per logged step; lines at or past `step` are dropped on resume."""

    def __init__(self, path: Path, step: int) -> None:
        kept = [line for line in read_curve(path) if line["step"] <= step]
        write_atomic(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self.path = path

    def log(self, **values: float) -> None:
        """Append a line.

        Raises:
            LabError: it cannot be written; a part of it that was is dropped on resume.
            ClaimLost: another process has the run.
        """
        claims.check(self.path)
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise refused(self.path, error) from None


def read_curve(path: Path) -> list[dict[str, float]]:
    """Return the complete lines of a curve; a line torn by a kill is left out."""
    lines = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines
