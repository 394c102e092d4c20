"""The one progress display of a study: a bar in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

EVERY_S = 60.0  # between two plain lines


class Display:
    """Shows how much of the work is done and the time left.

    Args:
        console: Where; a terminal gets a moving bar, a file or pipe a line each `every` seconds and one at the end.
        total: All work, in any unit.
        every: Seconds between plain lines.
    """

    def __init__(self, console: Console, total: float, every: float = EVERY_S) -> None:
        self.console, self.total, self.every = console, max(total, 1e-9), every
        self.started = self.told = time.monotonic()
        self.line = ""
        self.bar = Progress(
            TextColumn("runs {task.fields[jobs]}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"), console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self.task = self.bar.add_task("", total=self.total, jobs="", left="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.stop()
        if self.line and not self.console.is_terminal:
            self._tell()

    def update(self, completed: float, jobs: str) -> None:
        """Show that `completed` of the total is done; `jobs` counts the finished runs, such as "3/21"."""
        elapsed = time.monotonic() - self.started
        left = f"{elapsed * (self.total / completed - 1) / 60:.1f} min left" if completed > 0 else ""
        self.bar.update(self.task, completed=completed, jobs=jobs, left=left)
        self.line = f"runs {jobs}, {completed / self.total:.0%} of the work, {elapsed / 60:.1f} min"
        self.line += f", {left}" if left else ""
        if not self.console.is_terminal and time.monotonic() - self.told >= self.every:
            self._tell()

    def _tell(self) -> None:
        self.told = time.monotonic()
        self.console.print(self.line, soft_wrap=True)
