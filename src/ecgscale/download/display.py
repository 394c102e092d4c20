"""The progress of a download: a bar in a terminal, a plain line each minute elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

EVERY_S = 60.0  # between two plain lines


class Display:
    """Shows how much came, how fast, and the time left.

    Args:
        console: Where; a terminal gets a moving bar, a file or pipe a line each `every` seconds and one at the end.
        files: How many there are to come.
        size: Their bytes, perhaps estimated.
        every: Seconds between plain lines.
    """

    def __init__(self, console: Console, files: int, size: int, every: float = EVERY_S) -> None:
        self.console, self.files, self.size, self.every = console, files, size, every
        self.started = self.told = time.monotonic()
        self.line = ""
        self.bar = Progress(
            BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[line]}"),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self.task = self.bar.add_task("", total=max(size, 1), line="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.stop()
        if self.line and not self.console.is_terminal:
            self._tell()

    def update(self, files: int, came: int, settled: int) -> None:
        """Show what there is.

        Args:
            files: Complete files.
            came: Bytes that came over the network.
            settled: Bytes that are there, with those found on the disk.
        """
        elapsed = max(time.monotonic() - self.started, 1e-9)
        self.line = f"{files:,}/{self.files:,} files, {amount(settled)} of {amount(max(self.size, settled))}"
        self.line += f", {amount(round(came / elapsed))}/s"
        if 0 < settled < self.size and files < self.files:
            self.line += f", {elapsed * (self.size / settled - 1) / 60:.1f} min left"
        self.bar.update(self.task, completed=min(settled, self.size), line=self.line)
        if not self.console.is_terminal and time.monotonic() - self.told >= self.every:
            self._tell()

    def _tell(self) -> None:
        self.told = time.monotonic()
        self.console.print(self.line, soft_wrap=True)


def amount(size: int) -> str:
    """Return bytes as a person reads them: "24.6 MB"."""
    for unit, bytes_in_it in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= bytes_in_it:
            return f"{size / bytes_in_it:.1f} {unit}"
    return f"{size} bytes"
