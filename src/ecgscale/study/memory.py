"""The memory of this process, and of a GPU: the most it held since it was last asked to forget."""

from __future__ import annotations

import ctypes
import platform
import resource
from pathlib import Path

import torch


def wait(device: str) -> None:
    """Wait for a GPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def forget(device: str) -> None:
    """Give freed memory back and let the highest use be counted anew."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # then the highest use since the process began is what is known


def peak(device: str) -> int:
    """Return the most bytes held since `forget`: of the GPU where one computes, else of this process."""
    return int(torch.cuda.max_memory_reserved()) if device == "cuda" else host_peak()


def host_peak() -> int:
    """Return the most bytes this process held since `forget`, without mapped files, which processes share."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {name: int(value.split()[0]) for name, value in (line.split(":") for line in lines) if "kB" in value}
    return 1024 * (found["VmHWM"] - found.get("RssFile", 0))
