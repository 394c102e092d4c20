"""Another sampling rate, as one matrix product per record: the filter of scipy.signal.resample_poly, but faster."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

Float = npt.NDArray[np.float32]

_BLOCK_OUT = 32  # samples that one matrix product gives: larger ones multiply more zeros, smaller ones are slower


def resample(signal: Float, from_hz: float, to_hz: float, baseline: bool = True) -> Float:
    """Change the sampling rate with a zero-phase polyphase filter.

    Args:
        signal: ECG [..., time]; every row is treated alone, so the answer does not depend on its neighbours.
        from_hz, to_hz: Sampling rates, positive.
        baseline: Continue the signal on the line through its first and last sample, or an offset would ring at both
            ends; False where a band-pass has removed the baseline already.

    Returns:
        ECG [..., ceil(time * to_hz / from_hz)] in the same unit, float32.

    Raises:
        ValueError: a rate is not positive.

    Source: the filter of scipy.signal.resample_poly, applied block by block as a matrix product.
    """
    if not (from_hz > 0 and to_hz > 0):
        raise ValueError(f"sampling rates must be positive, found {from_hz} Hz and {to_hz} Hz")
    if from_hz == to_hz:
        return signal
    ratio = (Fraction(to_hz) / Fraction(from_hz)).limit_denominator(10_000)
    up, down = ratio.numerator, ratio.denominator
    samples, wanted = signal.shape[-1], -(-signal.shape[-1] * up // down)
    matrix, first, step = _polyphase(up, down)
    block = matrix.shape[1]
    blocks = -(-wanted // block)
    records = signal.reshape(-1, *signal.shape[-2:]) if signal.ndim > 1 else signal[None, None]
    leads = records.shape[1]
    padded = np.zeros((leads, max((blocks - 1) * step + len(matrix), samples - first)), np.float32)
    windows = sliding_window_view(padded, len(matrix), axis=-1)[:, : (blocks - 1) * step + 1 : step]
    out = np.empty((len(records), leads, wanted), np.float32)
    extend = _Line(padded, -first, samples - first)
    for record, new in zip(records, out, strict=True):  # one at a time: its answer must not depend on its neighbours
        padded[:, -first : samples - first] = record
        if baseline:
            extend()
        new[:] = (windows.reshape(-1, len(matrix)) @ matrix).reshape(leads, -1)[:, :wanted]
    return out.reshape(*signal.shape[:-1], wanted)


class _Line:
    """Continues each row outside of [start, stop) on the line through its first and last sample, again and again."""

    def __init__(self, padded: Float, start: int, stop: int) -> None:
        self._first, self._last = padded[:, start : start + 1], padded[:, stop - 1 : stop]
        self._before, self._after = padded[:, :start], padded[:, stop:]
        self._down = np.arange(-start, 0, dtype=np.float32)
        self._up = np.arange(1, padded.shape[1] - stop + 1, dtype=np.float32)
        self._steps = np.float32(max(1, stop - start - 1))

    def __call__(self) -> None:
        slope = (self._last - self._first) / self._steps
        for part, place, end in ((self._before, self._down, self._first), (self._after, self._up, self._last)):
            np.multiply(slope, place, out=part)
            part += end


@cache
def _polyphase(up: int, down: int) -> tuple[Float, int, int]:
    """Write resampling by up / down as a matrix that turns windows of samples into blocks of new ones.

    Returns:
        The matrix [window, block]; the place of the first window's first sample, 0 or less; and how many samples lie
        between the beginnings of two windows.

    Source: the filter is that of scipy.signal.resample_poly, a Kaiser window (beta 5) of ten zeros on either side.
    """
    from scipy.signal import firwin  # a second and a half to import: only where something is resampled

    half = 10 * max(up, down)
    taps = up * firwin(2 * half + 1, 1 / max(up, down), window=("kaiser", 5.0))
    block = up * max(1, round(_BLOCK_OUT / up))
    first, last = -(half // up), ((block - 1) * down + half) // up
    place = np.arange(block) * down - np.arange(first, last + 1)[:, None] * up + half
    matrix = np.where((place >= 0) & (place <= 2 * half), taps[np.clip(place, 0, 2 * half)], 0)
    return np.ascontiguousarray(matrix, np.float32), first, block * down // up
