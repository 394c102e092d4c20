"""Processes that other processes start."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # found before a fork: nothing is looked up after it


def end_with_parent(how: int) -> None:
    """Let the kernel send this process the signal `how` when the one that started it ends (Linux)."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, how)


def die_with(parent: int) -> None:
    """Let this process end with the one that started it, however that dies (Linux); an interrupt is for that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(signal.SIGKILL)
    if sys.platform == "linux" and os.getppid() != parent:
        os._exit(1)
