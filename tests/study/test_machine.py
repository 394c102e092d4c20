"""What stands beside a run about the machine that computed it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ecgscale.study import machine


def test_the_environment_says_what_is_and_not_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    monkeypatch.setattr(machine.platform, "libc_ver", lambda: ("", ""))
    found = machine.environment("cpu", 3)
    assert (found["matmul"], found["allocator"], found["threads"], found["device"]) == ("medium", "system", 3, "cpu")
    assert json.loads(json.dumps(found)) == found


def test_the_vector_instructions_are_read_from_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    machine.flags.cache_clear()
    said = "processor\t: 0\nflags\t\t: fpu avx2 avx512_bf16 amx_bf16 avx512_bf\nprocessor\t: 1\nflags\t\t: fpu\n"
    monkeypatch.setattr(Path, "read_text", lambda path: said)
    assert machine.flags() == ("avx2", "avx512_bf16", "amx_bf16")
    monkeypatch.undo()
    machine.flags.cache_clear()
