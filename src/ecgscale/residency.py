"""Batches on a device: gathered there from a corpus that stays as int16, or copied ahead of their use.

Rows of a corpus that fit are brought to the device once per process and serve every run after; one index of a batch is
all that crosses over in a step. Rows that do not fit are read by a thread, which puts the next batches into pinned
memory and copies them on a stream of their own. Both give, bit for bit, the batches of a `Loader`; on a CPU, where
nothing is to be copied, a `Loader` it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ecgscale.batch import Batch
from ecgscale.data.corpus import Corpus
from ecgscale.data.storage import SCALE
from ecgscale.loader import Loader, Rows

MARGIN = 0.5  # of a process's share of the device, for weights and activations; not tuned
AHEAD = 2  # batches on their way while one is computed
BLOCK = 4096  # records brought over at a time


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a device, in bytes: what it has, what is free to this process, and what tensors of this process take."""

    total: int
    free: int
    taken: int


_side_by_side = 1


def share_among(processes: int) -> None:
    """Say how many processes share the device with this one, itself included: each may take its part only."""
    global _side_by_side
    _side_by_side = processes


def memory_of(device: torch.device) -> Memory | None:
    """Return the memory of a GPU; None of a CPU, to which nothing is brought."""
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    taken = torch.cuda.memory_allocated(device)
    return Memory(total, free + torch.cuda.memory_reserved(device) - taken, taken)


def fits(wanted: int, memory: Memory, processes: int) -> bool:
    """Return whether so many bytes can stay on a device that `processes` share, each with room left for training."""
    share = memory.total / processes
    return wanted <= min(memory.free, share - memory.taken) - MARGIN * share


def loaders(
    corpus: Corpus,
    rows: Mapping[str, Rows],
    labels: tuple[str, ...] = (),
    codes: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, Loader]:
    """Return what makes batches of several choices of rows on `device`, see `Loader`.

    Raises:
        ValueError: the corpus lacks a label.
    """
    device, host = _numbered(device), {name: Loader(corpus, r, labels, codes) for name, r in rows.items()}
    if memory_of(device) is None:
        return host
    held = _hold(corpus, np.unique(np.concatenate(list(rows.values()))), device)
    if held is None:
        thread = ThreadPoolExecutor(1, "batches")
        return {name: Ahead(loader, device, thread) for name, loader in host.items()}
    there = None if codes is None else _brought(codes[held.rows], device)
    return {name: Resident(held, r, labels, there) for name, r in rows.items()}


class Held:
    """Rows of a corpus on a device: signals as int16 counts, and all that a batch has beside them.

    Args:
        corpus: The corpus.
        rows: Which, rising.
        device: Where to.
    """

    def __init__(self, corpus: Corpus, rows: Rows, device: torch.device) -> None:
        self.corpus, self.rows, self.device = corpus, rows, device
        beats = corpus.beats(rows)
        self.beat_counts = (beats >= 0).sum(1)
        self.beats, self.lead_ok = _brought(beats, device), _brought(corpus.lead_ok(rows), device)
        self.record, self.patient = _brought(rows, device), _brought(corpus.patients(rows), device)
        self.known = _brought(corpus.known(rows, corpus.labels), device)
        self.scale = torch.tensor(SCALE, dtype=torch.float32, device=device)
        shape = (len(rows), len(corpus.leads), corpus.samples)
        self.counts = torch.empty(shape, dtype=torch.int16, device=device)
        for start in range(0, len(rows), BLOCK):
            block = slice(start, start + BLOCK)
            self.counts[block] = _brought(corpus.counts(rows[block]), device)

    @staticmethod
    def bytes(corpus: Corpus, rows: Rows) -> int:
        """Return what rows of a corpus take."""
        beats: int = corpus.beats(rows).shape[1]
        beside = 4 * beats + len(corpus.leads) + 8 + 8 + len(corpus.labels)
        return len(rows) * (2 * len(corpus.leads) * corpus.samples + beside)

    def is_of(self, corpus: Corpus, device: torch.device) -> bool:
        """Return whether these are rows of that corpus on that device."""
        return self.corpus.digest == corpus.digest and self.device == device

    def has(self, rows: Rows) -> bool:
        """Return whether all of these rows, each named once, are here."""
        return bool(np.isin(rows, self.rows, assume_unique=True).all())

    def places(self, rows: Rows) -> Rows:
        """Return where rows that are here stand."""
        return np.searchsorted(self.rows, rows).astype(np.int64)


class Resident(Loader):
    """Batches of rows that are on a device.

    Args:
        held: These rows and perhaps others.
        rows: Rows of the corpus, in their order.
        labels: Names of the label columns a batch carries.
        there: Code-book ids of all that is held [record, lead, beat], on the device, or None.
    """

    def __init__(self, held: Held, rows: Rows, labels: tuple[str, ...] = (), there: Tensor | None = None) -> None:
        super().__init__(held.corpus, rows, labels)
        self.held, self.there = held, there
        self.columns = _brought(np.array([held.corpus.labels.index(name) for name in labels], np.int64), held.device)

    def take(self, rows: Rows, here: slice = slice(None)) -> Batch:
        """Return the batch of these rows, or its rows `here`; nothing waits for the device."""
        held, places = self.held, self.held.places(rows)
        longest = int(held.beat_counts[places].max(initial=0))
        at = _brought(places[here], held.device)
        known = held.known.index_select(0, at).index_select(1, self.columns)
        return Batch(
            signal=held.counts.index_select(0, at) * held.scale,
            lead_ok=held.lead_ok.index_select(0, at),
            beats=held.beats[:, :longest].index_select(0, at),
            record=held.record.index_select(0, at),
            patient=held.patient.index_select(0, at),
            rate_hz=held.corpus.rate_hz,
            labels=(known > 0).float(),
            labels_ok=known >= 0,
            codes=None if self.there is None else self.there.index_select(0, at).long(),
        )


@dataclass(frozen=True, slots=True)
class _Sent:
    """A batch on its way to a device, and what happens there once it has arrived."""

    batch: Batch
    event: torch.cuda.Event | None


class Ahead(Loader):
    """Batches that a thread makes and copies to a device while those before them are computed.

    Args:
        host: Makes them.
        device: Where to.
        thread: One, which alone reads the corpus.
    """

    def __init__(self, host: Loader, device: torch.device, thread: ThreadPoolExecutor) -> None:
        super().__init__(host.corpus, host.rows, host.labels, host.codes)
        self.host, self.device, self.thread = host, device, thread
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.coming: deque[tuple[tuple[int, int, int], Future[_Sent]]] = deque()  # by (seed, step, size)

    def take(self, rows: Rows, here: slice = slice(None)) -> Batch:
        """Return the batch of these rows, or its rows `here`, on the device."""
        return self._arrived(self._ask(self.host.take, rows, here))

    def step(self, seed: int, step: int, size: int) -> Batch:
        """Return batch number `step`, and have the next ones made."""
        if self.coming and self.coming[0][0] != (seed, step, size):
            self.coming.clear()
        for number in range(step + len(self.coming), step + AHEAD + 1):
            self.coming.append(((seed, number, size), self._ask(self.host.step, seed, number, size)))
        return self._arrived(self.coming.popleft()[1])

    def sweep(self, size: int) -> Iterator[Batch]:
        """Yield all rows once, in order."""
        coming: deque[Future[_Sent]] = deque()
        for start in range(0, len(self.rows), size):
            coming.append(self._ask(self.host.take, self.rows[start : start + size]))
            if len(coming) > AHEAD:
                yield self._arrived(coming.popleft())
        yield from map(self._arrived, coming)

    def _ask(self, make: Callable[..., Batch], *args: Any) -> Future[_Sent]:
        return self.thread.submit(self._send, make, *args)

    def _send(self, make: Callable[..., Batch], *args: Any) -> _Sent:
        batch = make(*args)
        if self.stream is None:
            return _Sent(batch.to(self.device), None)
        with torch.cuda.stream(self.stream):
            return _Sent(batch.each(Tensor.pin_memory).to(self.device), self.stream.record_event())

    def _arrived(self, sent: Future[_Sent]) -> Batch:
        """Let the computation, not the host, wait for a batch.

        Raises:
            Exception: what the thread met.
        """
        batch, event = sent.result().batch, sent.result().event
        if event is None:
            return batch
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(event)
        return batch.each(lambda tensor: _used_on(tensor, stream))


_held: list[Held] = []  # of this process, that used last at the end


def _hold(corpus: Corpus, rows: Rows, device: torch.device) -> Held | None:
    """Return rows of a corpus, and all that were held before, on a device; None where they do not fit there."""
    found = [held for held in _held if held.is_of(corpus, device)]
    _held[:] = [held for held in _held if held not in found]
    before = [held.rows for held in found]
    if found and found[0].has(rows):
        _held.append(found[0])
        return found[0]
    del found  # to make room
    for wanted in (np.unique(np.concatenate([*before, rows])), rows):
        if _make_room(Held.bytes(corpus, wanted), device):
            with suppress(torch.OutOfMemoryError):  # another process was faster
                _held.append(Held(corpus, wanted, device))
                return _held[-1]
    return None


def _numbered(device: torch.device | str) -> torch.device:
    """Return a device with its number: a thread that was just started has another current one."""
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _make_room(wanted: int, device: torch.device) -> bool:
    """Return whether so many bytes fit, once what was used longest ago has gone."""
    while True:
        memory = memory_of(device)
        assert memory is not None
        if fits(wanted, memory, _side_by_side) or not _held:
            return fits(wanted, memory, _side_by_side)
        _held.pop(0)


def _brought(array: np.ndarray, device: torch.device) -> Tensor:
    """Return an array on a device; the host does not wait for its copy."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _used_on(tensor: Tensor, stream: torch.cuda.Stream) -> Tensor:
    """Keep the memory of a tensor that was made on another stream until this one is done with it."""
    tensor.record_stream(stream)
    return tensor
