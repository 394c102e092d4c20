"""The learning curves of a study as event files of TensorBoard, a folder for every run."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from ecgscale.lab import Lab, read_curve, read_json
from ecgscale.spec import Explained
from ecgscale.study.clock import started
from ecgscale.study.plan import Plan, PlannedRun

GROUPS = {"loss": "loss/training", "validation": "loss/validation", "lr": "recipe/lr", "seen": "recipe/seen"}


class EventsError(Explained, RuntimeError):
    """Event files cannot be written; the message says why."""


def write_events(plan: Plan, lab: Lab, out: Path) -> int:
    """Write an event file for every run that has a curve, finished or not; returns how many.

    The scalars are `loss/training`, `loss/validation`, `recipe/lr`, `recipe/seen` and `health/<name>`, at the steps of
    the curve; earlier event files of these runs are replaced.

    Args:
        plan: The study's plan.
        lab: Where the curves are.
        out: Folder, made if needed; `tensorboard --logdir OUT` shows it.

    Raises:
        EventsError: the package `tensorboard` is not installed, or `out` cannot be written.
    """
    event, writer = _tensorboard()
    written = 0
    for planned in plan.runs.values():
        folder = lab.run(planned.run.uid)
        lines = read_curve(folder / "curve.jsonl")
        if not lines:
            continue
        try:
            _write(out / name_of(planned), lines, _began(folder), event, writer)
        except OSError as error:
            raise EventsError(f"{out} cannot be written: {error.strerror}; choose another with --out") from None
        written += 1
    return written


def name_of(planned: PlannedRun) -> str:
    """Return a run's folder: family, arm, size, D, seed, and the beginning of its uid."""
    run = planned.run
    family = f"{run.backbone.part_name()}-{run.objective.part_name()}"
    role = "" if planned.role == "grid" else f"-{planned.role}"
    return f"{family}/{planned.arm}{role}-N{planned.target}-D{run.D}-seed{run.seed}-{run.uid[:6]}"


def _tensorboard() -> tuple[Any, Any]:
    try:
        event = importlib.import_module("tensorboard.compat.proto.event_pb2")
        writer = importlib.import_module("tensorboard.summary.writer.event_file_writer")
    except ImportError:
        raise EventsError("event files need the package tensorboard: pip install 'ecgscale[tensorboard]'") from None
    return event, writer


def _write(folder: Path, lines: list[dict[str, float]], began: float, event: Any, writer: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    out = writer.EventFileWriter(str(folder))
    try:
        for line in lines:
            values = {GROUPS.get(name, f"health/{name}"): value for name, value in line.items() if name != "step"}
            said = event.Event(wall_time=began + line["step"], step=int(line["step"]))
            for tag, value in values.items():
                said.summary.value.add(tag=tag, simple_value=float(value))
            out.add_event(said)
    finally:
        out.close()


def _began(folder: Path) -> float:
    """Return when the run began: a curve has no clock, so a step stands for a second in TensorBoard's wall time."""
    return started(read_json(folder / "env.json") or {}) or 0.0
