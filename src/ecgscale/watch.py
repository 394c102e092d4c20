"""What `ecgscale status` prints: how far a study is, from the plan its lab keeps; without one it is planned first."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ecgscale.lab import Lab, read_failures
from ecgscale.study.status import Running, plot, status_of
from ecgscale.study.watched import Watch, asked_for, keep, kept

WATCH_S = 5.0  # between two looks at a lab that is watched


def show_status(
    study: str, lab: Path, data: Mapping[str, Path], changes: Mapping[str, Any], watch: bool = False
) -> None:
    """Print what is done, running, waiting and failed; nothing is ingested or trained.

    Args:
        study: Its file or name.
        lab: Its results. What is printed is of the plan that was last made of this study with these data and changes.
        data: NAME → folder or file.
        changes: Of the study's keys.
        watch: Print again every few seconds until nothing is left to do.
    """
    where, out = Lab(lab), Console(highlight=False)
    if not watch:
        out.print(_look(study, where, data, changes)[0], soft_wrap=True)
        return
    with Live(console=out, auto_refresh=False) as live, suppress(KeyboardInterrupt):
        while True:
            shown, left = _look(study, where, data, changes)
            live.update(shown, refresh=True)
            if not left:
                return
            time.sleep(WATCH_S)


def _look(study: str, lab: Lab, data: Mapping[str, Path], changes: Mapping[str, Any]) -> tuple[RenderableType, bool]:
    """Return what to print, and whether anything is left to do."""
    found = _plan(study, lab, data, changes)
    return (Text(found), True) if isinstance(found, str) else _status(found, lab)


def _plan(study: str, lab: Lab, data: Mapping[str, Path], changes: Mapping[str, Any]) -> Watch | str:
    """Return what is watched, or a sentence about what must be ingested before that is known."""
    name, asked = asked_for(study, data, changes)
    stored = kept(lab, name, asked)
    if stored is not None:
        return stored
    from ecgscale.study import execute
    from ecgscale.study.bind import Binder
    from ecgscale.study.expand import expand
    from ecgscale.study.study import Study

    loaded = Study.load(study, dict(changes))
    binder = Binder(loaded, lab, data)
    unread = execute.missing(loaded, binder)
    if unread:
        return (
            f"{loaded.name}: not ingested yet: {', '.join(s.label for s in unread)}; which runs are done is known once "
            "they are (`ecgscale run` and `ecgscale plan` ingest them)"
        )
    made = execute.watch(expand(loaded, binder))
    keep(lab, made, asked)
    return made


def _status(watch: Watch, lab: Lab) -> tuple[Group, bool]:
    """Return what to print, and whether anything is left to do."""
    found = status_of(watch, lab, read_failures(lab, watch.study))
    measured = sum(lab.evaluation(uid, name) is not None for uid, name in watch.handcrafted)
    left = f", about {found.seconds_left / 60:.0f} minutes left at this rate" if found.seconds_left else ""
    lines: list[RenderableType] = [
        Text(f"{watch.study}: {found.done} done, {len(found.running)} running, {found.waiting} waiting, "
             f"{len(found.failed)} failed{left}"),
        Text(f"hand-crafted baseline: {measured} of {len(watch.handcrafted)} evaluations"),
    ]  # fmt: skip
    if found.running:
        grid = Table("running", "size", "D", "seed", "step", "loss", "", "records/s")
        for running in found.running:
            grid.add_row(*_cells(running))
        lines.append(grid)
    lines += [Text(f"failed {uid}: {reason}") for uid, reason in found.failed.items()]
    return Group(*lines), bool(found.running or found.waiting)


def _cells(running: Running) -> list[str]:
    run = running.run
    return [
        run.family, f"{run.size:,}", f"{run.D:,}", str(run.seed), f"{running.step:,}/{run.steps:,}",
        f"{running.losses[-1]:.3g}" if running.losses else "", plot(running.losses),
        f"{running.rate:,.0f}" if running.rate else "",
    ]  # fmt: skip
