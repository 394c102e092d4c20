"""What a study's runs left, read from one file instead of from every folder; each folder is still looked at.

A result is taken from the index only where every file it came from has the time, size and inode it had when it was read
and found whole and honest; all others are read anew. What escapes is a file rewritten in place with the same size and
time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pydantic_core import from_json

from ecgscale.lab import Lab, LabError, write_atomic

FORMAT = 1

Stamp = list[int]  # time (ns), size and inode of a file


class IndexedLab(Lab):
    """A lab that remembers what it read of a study's runs.

    Its file has a line of JSON that names, for every result and evaluation, the stamps of its files and the line below
    that holds it: a line is parsed when it is asked for.

    Args:
        lab: The lab.
        study: Name of the study whose index it is.
        values: False where only what is there is asked: results and rows that are known then come empty.
    """

    def __init__(self, lab: Lab, study: str, values: bool = True) -> None:
        self.root, self._values = lab.root, values
        self._runs = str(self.root / "runs")
        self._file = lab.study(study) / "index.jsonl"
        self._known: dict[str, tuple[list[Stamp], bytes]] = {}  # name → stamps and JSON text
        self._changed = False
        with suppress(OSError, ValueError, LookupError, TypeError):
            self._load()

    def _load(self) -> None:
        head, *lines = self._file.read_bytes().split(b"\n")
        stored = json.loads(head)
        if stored["format"] == FORMAT:
            self._known = {name: (stamps, lines[line]) for line, (name, stamps) in enumerate(stored["entries"])}

    def result(self, uid: str) -> dict[str, Any] | None:
        """Return a finished run's result, as `Lab.result` does."""
        folder = f"{self._runs}/{uid}"
        paths = f"{folder}/spec.json", f"{folder}/result.json"
        found = self._remembered(uid, paths, lambda: super(IndexedLab, self).result(uid))
        return None if found is None else dict(found)

    def evaluation(self, uid: str, name: str) -> list[dict[str, Any]] | None:
        """Return the rows of an evaluation, as `Lab.evaluation` does."""
        path = f"{self._runs}/{uid}/evaluations/{name}.json"
        found = self._remembered(f"{uid}/{name}", (path,), lambda: super(IndexedLab, self).evaluation(uid, name))
        return None if found is None else list(found)

    def _remembered(self, name: str, paths: tuple[str, ...], read: Callable[[], Any]) -> Any:
        try:
            stamps = [_stamp(path) for path in paths]
        except OSError:
            return None
        known = self._known.get(name)
        if known is not None and known[0] == stamps:
            return from_json(known[1]) if self._values else ()
        found = read()
        if found is not None:
            self._known[name], self._changed = (stamps, json.dumps(found).encode()), True
        return found

    def save(self) -> None:
        """Keep what was read for the next time; a lab that cannot be written is read as before."""
        if not self._changed:
            return
        head = {"format": FORMAT, "entries": [[name, stamps] for name, (stamps, _) in self._known.items()]}
        lines = [json.dumps(head).encode(), *(text for _, text in self._known.values())]
        with suppress(LabError):
            write_atomic(self._file, b"\n".join(lines))
        self._changed = False


def _stamp(path: str) -> Stamp:
    found = os.stat(path)  # noqa: PTH116  (a path object for each of 50,000 files costs more than the look)
    return [found.st_mtime_ns, found.st_size, found.st_ino]
