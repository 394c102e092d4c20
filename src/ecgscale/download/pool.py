"""Several threads, each with its own connections, that bring the files of a list side by side."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ecgscale.data.remote import RemoteFile
from ecgscale.download.client import Client, DownloadError
from ecgscale.download.display import Display
from ecgscale.download.fetch import Carrier, sound_on_disk
from ecgscale.download.listing import Listing
from ecgscale.download.patience import FileError, Patience, Stopped
from ecgscale.download.place import Place

GRACE_S = 2.0  # for threads to end
FAILURES = 10  # files; with more something is wrong that further files will not mend


@dataclass
class Outcome:
    """What the threads did so far."""

    files: int = 0  # complete
    came: int = 0  # bytes over the network
    settled: int = 0  # bytes that are there, with those found on the disk
    replaced: list[str] = field(default_factory=list)  # paths of files that were there and were not those of the list
    failed: list[str] = field(default_factory=list)  # a sentence each


class Pool:
    """Threads that bring files.

    Args:
        listing: Where the files are.
        place: Where they go.
        patience: When to ask again; its `stop` ends all threads.
        connections: Threads, each with one connection per host.
    """

    def __init__(self, listing: Listing, place: Place, patience: Patience, connections: int) -> None:
        self.listing, self.place, self.patience, self.connections = listing, place, patience, connections
        self.outcome = Outcome()
        self._lock = threading.Lock()
        self._clients: list[Client] = []
        self._fatal: list[BaseException] = []

    def run(self, files: Sequence[RemoteFile], display: Display) -> Outcome:
        """Bring the files; what is there already is checked and kept.

        Raises:
            DownloadError: something that concerns all files; the first such thing.
        """
        rest = iter(files)
        threads = [threading.Thread(target=self._work, args=(rest,), daemon=True) for _ in range(self.connections)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.1)
                    display.update(self.outcome.files, self.outcome.came, self.outcome.settled)
        finally:
            self._end(threads)
        if self._fatal:
            raise self._fatal[0]
        return self.outcome

    def _end(self, threads: list[threading.Thread]) -> None:
        """Stop all threads; one that hangs in a name server is left to end with the process."""
        self.patience.stop.set()
        for client in self._clients:
            client.cut()
        deadline = time.monotonic() + GRACE_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self, rest: Iterator[RemoteFile]) -> None:
        client = Client()
        self._clients.append(client)
        carrier = Carrier(client, self.patience, self._count)
        try:
            while not self.patience.stop.is_set():
                with self._lock:
                    file = next(rest, None)
                if file is None:
                    return
                try:
                    self._settle(file, carrier)
                except FileError as error:
                    self._failed(str(error))
        except Stopped:
            return
        except BaseException as error:
            self._fatal.append(error)
            self.patience.stop.set()
        finally:
            client.close()

    def _settle(self, file: RemoteFile, carrier: Carrier) -> None:
        """Have a file in its place: keep the one that is there if it is sound, or bring it."""
        target = self.place.target(file)
        self.place.parent(file)
        there = target.exists()
        kept = there and sound_on_disk(file, target)
        size = target.stat().st_size if kept else carrier.bring(file, self.listing.url(file), target)
        self.place.note(file, size)
        self._count(size if kept else 0, False)
        with self._lock:
            self.outcome.files += 1
            if there and not kept:
                self.outcome.replaced.append(file.path)

    def _count(self, size: int, came: bool) -> None:
        with self._lock:
            self.outcome.came += size if came else 0
            self.outcome.settled += size

    def _failed(self, sentence: str) -> None:
        with self._lock:
            self.outcome.failed.append(sentence)
            if len(self.outcome.failed) == FAILURES:
                self._fatal.append(DownloadError(f"{FAILURES} files failed, the first: {self.outcome.failed[0]}"))
                self.patience.stop.set()
