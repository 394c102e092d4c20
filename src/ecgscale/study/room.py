"""What this machine has room for, and what of a plan would fit where the whole does not."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from ecgscale.lab import Lab
from ecgscale.spec import Explained
from ecgscale.study.bench import Bench, kind
from ecgscale.study.plan import Plan, PlannedRun
from ecgscale.study.price import Estimate

SPARE = 0.95  # of free memory and disk that may be planned with


class CannotFit(Explained, RuntimeError):
    """A plan needs more than this machine has; the message says what would fit."""


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that are free: memory, memory of the GPU (None without one), disk of the lab."""

    memory: float
    device: float | None
    disk: float

    @classmethod
    def here(cls, lab: Lab, device: str) -> Room:
        """Return what is free now."""
        free = float(torch.cuda.mem_get_info()[0]) if device == "cuda" else None
        return cls(_memory(), free, float(shutil.disk_usage(lab.root).free))


def _memory() -> float:
    """Return the bytes that processes may still take: the least of what the kernel and the control group allow."""
    found = [float("inf")]
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        found.append(1024.0 * int(lines["MemAvailable"].split()[0]))
    except (OSError, KeyError, ValueError):
        pass
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            found.append(float(Path(limit).read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return min(found)


def refusals(plan: Plan, estimate: Estimate, timed: Bench, room: Room) -> list[str]:
    """Return a sentence for everything that cannot fit, with what would; none where all fits."""
    workers, on_device = timed.machine.workers, room.device is not None
    found = []
    if on_device:
        found.append(_memory_refusal(plan, estimate, timed, room.device or 0.0, "memory of the GPU", workers, False))
        found.append(_memory_refusal(plan, estimate, timed, room.memory, "memory", workers, True))
    else:
        found.append(_memory_refusal(plan, estimate, timed, room.memory, "memory", workers, False))
    found.append(_disk_refusal(plan, estimate, room.disk, workers))
    return [sentence for sentence in found if sentence]


def side_by_side(needs: Iterable[float], workers: int) -> float:
    """Return what the most demanding runs need at once."""
    return sum(sorted(needs, reverse=True)[:workers])


def _memory_refusal(
    plan: Plan, estimate: Estimate, timed: Bench, free: float, what: str, workers: int, beside: bool
) -> str | None:
    free *= SPARE
    prices = {key: estimate.prices[key] for key in estimate.todo}
    needs = {key: p.beside if beside else p.memory for key, p in prices.items()}
    total = side_by_side(needs.values(), workers)
    if total <= free:
        return None
    told = f"{what}: {min(workers, len(needs))} runs side by side need {size(total)}, {size(free)} are free"
    fewer = max((k for k in range(1, workers) if side_by_side(needs.values(), k) <= free), default=0)
    if fewer:
        return f"{told}; --workers {fewer} would fit ({size(side_by_side(needs.values(), fewer))})"
    key = max(needs, key=lambda k: needs[k])
    planned = plan.runs[key]
    told = f"{what}: {_name(planned)} alone needs {size(needs[key])}, {size(free)} are free"
    rates = timed.rates[kind(planned.run)]
    batch = planned.run.recipe.batch
    smaller = int(batch - (needs[key] - free) / rates.per_record) if rates.per_record and not beside else 0
    fits = {plan.runs[k].target for k in needs if all(needs[o] <= free for o in _up_to(plan, needs, k))}
    options = [f"a batch of {smaller}"] if smaller > 1 else []
    options += [f"sizes up to {max(fits):,}"] if fits else []
    return f"{told}; {' or '.join(options) or 'nothing of this study'} would fit with --workers 1"


def _disk_refusal(plan: Plan, estimate: Estimate, free: float, workers: int) -> str | None:
    free *= SPARE
    needs = disk(estimate, estimate.todo, workers)
    if needs <= free:
        return None
    targets = {plan.runs[key].target for key in estimate.todo}
    fits = [t for t in targets if disk(estimate, _up_to(plan, estimate.todo, target=t), workers) <= free]
    told = f"disk: the lab needs {size(needs)}, {size(free)} are free"
    if fits:
        return f"{told}; sizes up to {max(fits):,} would fit, or a lab on another disk (--lab)"
    alone = f"its corpora alone take {size(estimate.corpora)}; " if estimate.corpora > free else ""
    return f"{told}; {alone}only a lab on another disk (--lab) would fit"


def disk(estimate: Estimate, keys: Iterable[str], workers: int) -> float:
    """Return the bytes that corpora, what runs keep, and the states of those side by side take."""
    prices = [estimate.prices[key] for key in keys]
    return estimate.corpora + sum(p.bytes for p in prices) + side_by_side((p.state for p in prices), workers)


def _up_to(plan: Plan, keys: Iterable[str], key: str | None = None, target: int | None = None) -> list[str]:
    """Return the keys of runs that are no larger than a run, or than `target` parameters."""
    limit = plan.runs[key].target if key is not None else target
    return [k for k in keys if plan.runs[k].target <= (limit or 0)]


def _name(planned: PlannedRun) -> str:
    run = planned.run
    return f"{run.family} at {planned.target:,} parameters in batches of {run.recipe.batch}"


def size(count: float) -> str:
    """Return bytes in words, e.g. "1.4 GB"."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"
