"""The machine that runs are computed on: a process is set up for it once, and a run's `env.json` says what it was.

The CPU profile: glibc keeps freed blocks instead of returning them to the kernel; AdamW is fused (`training/optim.py`)
and convolutions are laid out channels-last (`convolution.py`) wherever a run is computed. Products of matrices stay in
fp32: oneDNN's (`torch.set_float32_matmul_precision("medium")`) were measured and not adopted (LOG, 2026-11-21).
"""

from __future__ import annotations

import ctypes
import os
import platform
import socket
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ecgscale import residency
from ecgscale.runs import RunResult, RunSpec
from ecgscale.study import clock
from ecgscale.training.peak import peak_flops

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's mallopt
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")  # that change kernels


def set_up(threads: int, side_by_side: int = 1) -> None:
    """Prepare a process for training.

    Args:
        threads: CPU threads.
        side_by_side: Processes that share a device with it, itself included.
    """
    torch.set_num_threads(threads)
    residency.share_among(side_by_side)
    if allocator() == "glibc, kept":
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def allocator() -> str:
    """Return how memory is handed out here after `set_up`."""
    return "glibc, kept" if platform.libc_ver()[0] == "glibc" else "system"


@cache
def flags() -> tuple[str, ...]:
    """Return which instructions of `FLAGS` the CPU has, as Linux names them; nothing elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ()
    said = next((line.partition(":")[2] for line in lines if line.lower().startswith(("flags", "features"))), "")
    return tuple(flag for flag in FLAGS if flag in said.split())


def environment(device: str, threads: int) -> dict[str, Any]:
    """Return where a run is computed."""
    return {
        "host": socket.gethostname(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "flags": list(flags()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": device if device == "cpu" else torch.cuda.get_device_name(),
        "threads": threads,
        "allocator": allocator(),
        "matmul": torch.get_float32_matmul_precision(),
        "started": clock.now(),
    }


def speed(run: RunSpec, result: RunResult, device: str, processes: int = 1) -> dict[str, float]:
    """Return what a run's training reached: records and FLOP per second, and their share of what is possible (MFU).

    Source of the share: Chowdhery et al. 2022 (PaLM), appendix B, here of the measured peak of `training/peak.py`.
    """
    if not result.training_seconds:
        return {}
    records = result.steps * run.recipe.batch / result.training_seconds
    flop = records * result.flop_per_record
    best = peak_flops("cuda" if device != "cpu" else "cpu", run.precision) * processes
    return {"records_per_s": records, "flop_per_s": flop, "mfu": flop / best}
