"""How far a study is: what is done, running, waiting and failed, how fast it goes and when it ends.

A run is running where a live process holds its claim, on this machine or another on the same file system.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from ecgscale.lab import Lab, read_curve, read_json
from ecgscale.study.clock import started
from ecgscale.study.index import IndexedLab
from ecgscale.study.watched import Watch, Watched

BARS = "▁▂▃▄▅▆▇█"
WIDE = 24  # characters of a curve


@dataclass(frozen=True, slots=True)
class Running:
    """A run that a live process holds.

    Attributes:
        step: The last that its curve names.
        seconds: Since this process took it.
        rate: Records per second since then; None before its second line.
        losses: Training losses of the curve's lines.
    """

    run: Watched
    step: int
    seconds: float
    rate: float | None
    losses: list[float]


@dataclass(frozen=True, slots=True)
class Status:
    """All runs of a plan.

    Attributes:
        done, waiting: Numbers of runs.
        running: Those under way.
        failed: Run key → reason.
        seconds_left: At the present rate of the runs under way; None where none has got anywhere.
    """

    done: int
    waiting: int
    running: list[Running]
    failed: dict[str, str]
    seconds_left: float | None


def status_of(watch: Watch, lab: Lab, failures: dict[str, str]) -> Status:
    """Read the status of a study from its lab; `failures` says why runs failed, by uid."""
    lab = IndexedLab(lab, watch.study, values=False)
    todo = [run for run in watch.runs.values() if not (run.provisional or run.done(lab))]
    lab.save()
    held = [run for run in todo if lab.held(lab.run(run.uid))]
    under_way = [_running(run, lab) for run in held]
    taken = {run.uid for run in held}
    failed = {run.uid: failures[run.uid] for run in todo if run.uid in failures and run.uid not in taken}
    provisional = sum(run.provisional for run in watch.runs.values())
    return Status(
        done=len(watch.runs) - len(todo) - provisional,
        waiting=provisional + sum(run.uid not in taken | failed.keys() for run in todo),
        running=under_way,
        failed=failed,
        seconds_left=_seconds_left([run for run in todo if run.uid not in failed], under_way),
    )


def _running(run: Watched, lab: Lab) -> Running:
    folder = lab.run(run.uid)
    lines = read_curve(folder / "curve.jsonl")
    about = read_json(folder / "env.json") or {}
    began, first = started(about), int(about.get("step", 0))
    step = int(lines[-1]["step"]) if lines else 0
    seconds = 0.0 if began is None else max(time.time() - began, 0.0)
    rate = (step - first) * run.batch / seconds if step > first and seconds > 0 else None
    return Running(run, step, seconds, rate, [line["loss"] for line in lines])


def _seconds_left(todo: list[Watched], running: list[Running]) -> float | None:
    steps = {r.run.uid: r.step for r in running}
    left = sum(run.weight - run.trained(steps.get(run.uid, 0)) for run in todo)
    speed = sum(r.run.trained(1) * (r.rate / r.run.batch) for r in running if r.rate is not None)
    return left / speed if speed > 0 else None


def plot(values: list[float], width: int = WIDE) -> str:
    """Return a curve as one line of bars, the lowest value the lowest bar; the last of every group of values."""
    shown = [v for v in values if v == v and abs(v) != float("inf")]
    if not shown:
        return ""
    count = min(width, len(shown))
    chosen = [shown[(i + 1) * len(shown) // count - 1] for i in range(count)]
    low, high = min(chosen), max(chosen)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((v - low) * scale)] for v in chosen)
