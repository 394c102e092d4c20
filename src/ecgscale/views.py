"""What a model may look at instead of the whole window: beats cut out of it, and its halves.

Beat tokens follow HeartLang's QRSTokenizer (Jin et al. 2025, PKUDigitalHealth/HeartLang, MIT): an inner beat reaches to
the midpoints between its neighbours' peaks, the first starts and the last ends 48 samples from its peak, a beat longer
than 96 samples is cut anew to 96 around its peak, and the peak stands at index 48 of a 96-sample zero buffer, later
only by what a beat has more than 48 samples before its peak; what does not fit at the end is lost. Beats follow each
other lead by lead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ecgscale import ranks
from ecgscale.batch import TENSORS, Batch

RATE_HZ = 100.0  # the rate at which 96 samples are a beat
BEAT = 96  # samples of a token
HALF = BEAT // 2
FASTEST_PER_MIN = 220.0  # room for this heart rate; beyond it whole beats are dropped, evenly and in all leads


def token_count(samples: int, stride: int) -> int:
    """Return how many tokens a window of `samples` has, `stride` samples each, the last one filled up."""
    return -(-samples // stride)


def every_token(batch: Batch, stride: int) -> Tensor:
    """Return that all tokens of `stride` samples are real [batch, token] bool."""
    return batch.signal.new_ones((len(batch), token_count(batch.signal.shape[-1], stride)), dtype=torch.bool)


def time_patches(signal: Tensor, stride: int) -> Tensor:
    """Return the `stride` samples of every lead at each token [batch, token, lead * stride], zeros past the end."""
    padded = F.pad(signal, (0, -signal.shape[-1] % stride))
    return padded.unflatten(-1, (-1, stride)).transpose(1, 2).flatten(2)


@dataclass(frozen=True, slots=True)
class BeatTokens:
    """The beats of a batch as sequences, lead by lead: token t of a record with n beats is beat t % n of lead t // n.

    Attributes:
        values: [batch, token, 96] float32, the beat, zero outside it.
        lead: [batch, token] int64, 1..leads, 0 = padding.
        second: [batch, token] int64, 1 + second of the window the peak falls into, 0 = padding.
        beat: [batch, token] int64, column of `Batch.beats`; 0 where padding.
        valid: [batch, token] bool, False for padding and for beats of a missing lead.
    """

    values: Tensor
    lead: Tensor
    second: Tensor
    beat: Tensor
    valid: Tensor


def most_beats(samples: int, rate_hz: float = RATE_HZ) -> int:
    """Return for how many beats per lead a window of `samples` has room: 220 per minute, 37 in 10 s."""
    return math.ceil(FASTEST_PER_MIN / 60 * samples / rate_hz)


def cut_beats(batch: Batch, tokens: int | None = None) -> BeatTokens:
    """Cut the beats of every lead out of a batch.

    Args:
        batch: Windows at 100 Hz with beats, padded with -1 at the end.
        tokens: None: as many tokens as the batch's longest record needs, at most 37 beats a lead in 10 s, kept evenly;
            a number: exactly so many tokens, whatever lies beyond is cut off (as published: 256 lose the last leads).

    Returns:
        Beat tokens, independent of the other records up to padding.

    Raises:
        ValueError: the rate is not 100 Hz.
    """
    if batch.rate_hz != RATE_HZ:
        raise ValueError(
            f"beat tokens are 96 samples at 100 Hz, found a batch at {batch.rate_hz:g} Hz: ingest with rate_hz = 100"
        )
    peaks, count = _peaks(batch)
    leads, time = batch.signal.shape[1:]
    kept = count if tokens else count.clamp(max=most_beats(time))
    t = torch.arange(tokens or leads * _longest(kept, peaks.shape[1], time), device=peaks.device)
    n = kept.clamp(min=1)[:, None]  # batch 1
    real = t < leads * kept[:, None]  # batch token
    lead = (t // n).clamp(max=leads - 1)
    beat = (t % n) * count[:, None] // n * real
    peak = peaks.gather(1, beat)
    values = _values(batch.signal, lead, peak, *(edge.gather(1, beat) for edge in _edges(peaks, count, time)))
    return BeatTokens(
        values=values * real[..., None],
        lead=(lead + 1) * real,
        second=(peak // round(RATE_HZ) + 1) * real,
        beat=beat,
        valid=real & batch.lead_ok.gather(1, lead),
    )


def halves(batch: Batch) -> tuple[Batch, Batch]:
    """Return the two adjacent halves of every window, each with its own beats and a time that starts at zero.

    An odd window loses its last sample. Codes belong to whole records and are dropped.
    """
    half = batch.signal.shape[-1] // 2
    return window(batch, 0, half), window(batch, half, 2 * half)


def stack(first: Batch, second: Batch) -> Batch:
    """Put two batches of the same shape under each other, so that one pass through a model sees both."""
    return replace(
        first, **{name: torch.cat([getattr(first, name), getattr(second, name)]) for name in TENSORS}, codes=None
    )


def window(batch: Batch, start: int, stop: int) -> Batch:
    """Return samples `start` to `stop` of every record, with the beats in them; codes are dropped."""
    return replace(batch, signal=batch.signal[..., start:stop], beats=_inside(batch.beats, start, stop), codes=None)


def crops(batch: Batch, starts: Tensor, samples: int) -> Batch:
    """Return so many samples of every record from its own start [batch] on, and their beats; codes are dropped."""
    first = starts.to(batch.beats)[:, None]
    places = (starts[:, None, None] + torch.arange(samples)).to(batch.signal.device)  # batch 1 time
    signal = batch.signal.gather(2, places.expand(-1, batch.signal.shape[1], -1))
    return replace(batch, signal=signal, beats=_inside(batch.beats, first, first + samples), codes=None)


def _inside(beats: Tensor, start: int | Tensor, stop: int | Tensor) -> Tensor:
    """Return the beats of a window, counted from its start, those that are left out as -1 at the end."""
    inside = (beats >= start) & (beats < stop)
    order = torch.argsort(~inside, dim=1, stable=True)  # beats inside first, still in order
    return torch.where(inside, beats - start, -1).gather(1, order)


def _peaks(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return peaks [batch, beat] int64 (at least one column) and how many of them are real [batch]."""
    peaks = batch.beats.long()
    if peaks.shape[1] == 0:
        peaks = peaks.new_full((len(batch), 1), -1)
    return peaks, (peaks >= 0).sum(1)


def _longest(kept: Tensor, columns: int, samples: int) -> int:
    """Beats per lead to make room for; on a GPU the columns that are there: looking at the values would stop it."""
    if kept.device.type == "cpu" and len(kept):
        return ranks.largest(max(int(kept.max()), 1))
    return min(columns, most_beats(samples))


def _edges(peaks: Tensor, count: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Return the first sample of every beat and the one after its last, both [batch, beat]."""
    middle = (peaks[:, 1:] + peaks[:, :-1]) // 2
    start = F.pad(middle, (1, 0))
    stop = F.pad(middle, (0, 1), value=samples)
    column = torch.arange(peaks.shape[1], device=peaks.device)
    start = torch.where(column == 0, peaks - HALF, start)
    stop = torch.where(column == count[:, None] - 1, peaks + HALF, stop)
    start, stop = start.clamp(min=0), stop.clamp(max=samples)
    long = stop - start > BEAT
    start = torch.where(long, peaks - HALF, start).clamp(min=0)
    stop = torch.where(long, peaks + HALF, stop).clamp(max=samples)
    return start, stop


def _values(signal: Tensor, lead: Tensor, peak: Tensor, start: Tensor, stop: Tensor) -> Tensor:
    """Return the 96 samples around each peak [batch, token, 96], zero outside [start, stop)."""
    windows = F.pad(signal, (HALF, HALF)).unfold(2, BEAT, 1)  # batch lead time+1 96, a view
    row = torch.arange(len(signal), device=signal.device)[:, None]
    anchor = torch.minimum(peak, start + HALF).clamp(min=0)  # the sample at index 48
    around = torch.arange(-HALF, HALF, device=signal.device)
    inside = (around >= (start - anchor)[..., None]) & (around < (stop - anchor)[..., None])
    return windows[row, lead, anchor] * inside
