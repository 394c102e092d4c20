"""From a source's signals to one form: millivolts, band, rate, length and normalisation, many records at once.

Order: unit, band-pass at the source's rate, resampling, cutting to the window, z-score, zeros at the end of short
records.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import field_validator, model_validator

from ecgscale.spec import Explained, Spec
from ecgscale.units import LEADS, MILLIVOLTS, Unit

REVISION = 1  # of the preprocessing; enters the digest of every corpus

Float = npt.NDArray[np.float32]
Band = tuple[float, float]

_BLOCK = 2**21  # samples filtered at a time: 16 MB of float64


class FormError(Explained, ValueError):
    """A source cannot be brought to the form that was asked for; the sentence names both."""


class Form(Spec):
    """What all signals of a corpus have in common."""

    rate_hz: float = 100.0  # samples per second
    length_s: float = 10.0  # window; longer records are cut at their end, shorter ones end in zeros
    band_hz: Band | None = None  # pass band, Hz; None keeps the source's own
    normalise: Literal["none", "record_lead_z"] = "none"  # "record_lead_z": per record and lead, mean 0 and variance 1
    leads: tuple[str, ...] = LEADS
    beats: Literal["energy", "xqrs"] = "energy"  # the beat finder, see data/beats.py

    @property
    def samples(self) -> int:
        """Samples of one lead."""
        return round(self.rate_hz * self.length_s)

    @field_validator("rate_hz", "length_s")
    @classmethod
    def _positive(cls, value: float) -> float:
        if value <= 0:
            raise ValueError("expected a positive number")
        return value

    @field_validator("leads")
    @classmethod
    def _standard(cls, leads: tuple[str, ...]) -> tuple[str, ...]:
        if not leads or len(set(leads)) < len(leads) or not set(leads) <= set(LEADS):
            raise ValueError(f"expected different names out of {' '.join(LEADS)}")
        return leads

    @model_validator(mode="after")
    def _below_nyquist(self) -> Form:
        if self.band_hz is not None and not 0 < self.band_hz[0] < self.band_hz[1] < self.rate_hz / 2:
            raise ValueError(f"band_hz must satisfy 0 < low < high < rate_hz / 2 = {self.rate_hz / 2:g}")
        return self


def resample(signal: Float, from_hz: float, to_hz: float, baseline: bool = True) -> Float:
    """Change the sampling rate with a zero-phase polyphase filter.

    Args:
        signal: ECG [..., time]; every row is treated alone, so the answer does not depend on its neighbours.
        from_hz, to_hz: Sampling rates, positive.
        baseline: Take off the line through the first and last sample before filtering, or an offset would ring at both
            ends; False where a band-pass has removed the baseline already.

    Returns:
        ECG [..., ceil(time * to_hz / from_hz)] in the same unit.

    Raises:
        ValueError: a rate is not positive.

    Source: scipy.signal.resample_poly.
    """
    if not (from_hz > 0 and to_hz > 0):
        raise ValueError(f"sampling rates must be positive, found {from_hz} Hz and {to_hz} Hz")
    if from_hz == to_hz:
        return signal
    ratio = (Fraction(to_hz) / Fraction(from_hz)).limit_denominator(10_000)
    from scipy.signal import resample_poly  # a second and a half to import: only where something is resampled

    resampled = resample_poly(
        signal, ratio.numerator, ratio.denominator, axis=-1, padtype="line" if baseline else "constant"
    )
    return np.asarray(resampled, dtype=np.float32)


def bandpass(signal: Float, rate_hz: float, band_hz: Band) -> Float:
    """Filter forwards and backwards with a Butterworth band-pass of order 4.

    Args:
        signal: ECG [..., time].
        rate_hz: Samples per second.
        band_hz: Lower and upper edge, Hz.

    Returns:
        ECG [..., time] without phase shift, float32.

    Raises:
        FormError: the upper edge is not below half the sampling rate.

    Source: scipy.signal.butter and sosfiltfilt; float64 inside, since 0.5 Hz lies close to zero at 500 samples/s.
    """
    if not 0 < band_hz[0] < band_hz[1] < rate_hz / 2:
        raise FormError(
            f"a band of {_hz(band_hz)} cannot be cut out of a signal with {rate_hz:g} samples/s; "
            f"its upper edge must be below {rate_hz / 2:g} Hz"
        )
    from scipy.signal import sosfiltfilt

    rows = signal.reshape(-1, signal.shape[-1])
    filtered = np.empty(rows.shape, np.float32)
    step = max(1, _BLOCK // rows.shape[1])
    for start in range(0, len(rows), step):
        block = rows[start : start + step].astype(np.float64)
        filtered[start : start + step] = sosfiltfilt(_butterworth(rate_hz, band_hz), block, axis=-1)
    return filtered.reshape(signal.shape)


def record_lead_z(signal: Float) -> Float:
    """Return each row of [..., time] with mean 0 and standard deviation 1; a flat row becomes zeros."""
    centred = signal - signal.mean(axis=-1, keepdims=True, dtype=np.float64).astype(np.float32)
    spread = np.sqrt(np.einsum("...t,...t->...", centred, centred) / signal.shape[-1])[..., None]
    centred *= np.where(spread > 1e-7, 1 / np.maximum(spread, 1e-7), 0)  # an exactly flat lead leaves rounding only
    return np.asarray(centred, dtype=np.float32)


def unit_in_form(form: Form, unit: str, band_hz: Band | None, source: str = "the source") -> Unit:
    """Return the unit a source's signals have in `form`.

    Args:
        form: What is asked for.
        unit, band_hz: What the source holds.
        source: Its name, for the message.

    Raises:
        FormError: z-scores cannot become voltages or change their band, and a band cannot grow.
    """
    wanted = f'normalise = "{form.normalise}" with band {_hz(form.band_hz)}'
    if unit == "z_record_lead":
        if form.normalise == "record_lead_z" and form.band_hz == band_hz:
            return "z_record_lead"
        need = f"band_hz = {list(band_hz)}" if band_hz else "no band_hz"
        raise FormError(
            f"{source} holds per-record, per-lead z-scores (band {_hz(band_hz)}), which cannot become {wanted}: "
            f'ask for normalise = "record_lead_z" and {need}'
        )
    if band_hz and form.band_hz and not (band_hz[0] <= form.band_hz[0] and form.band_hz[1] <= band_hz[1]):
        raise FormError(
            f"{source} is already filtered to {_hz(band_hz)}, which does not contain the asked band "
            f"{_hz(form.band_hz)}: ask for band_hz = {list(band_hz)} or narrower"
        )
    if form.normalise == "record_lead_z":
        return "z_record_lead"
    return "z_global" if unit == "z_global" else "mV"


def to_millivolts(signal: Float, unit: str) -> Float:
    """Return voltages in mV; z-scores pass through."""
    factor = MILLIVOLTS.get(unit, 1.0)
    return signal if factor == 1.0 else signal * np.float32(factor)


def to_form(signal: Float, leads: tuple[str, ...], rate_hz: float, band_hz: Band | None, form: Form) -> Float:
    """Bring signals that agree in leads, rate, band and length to `form`.

    Args:
        signal: [record, lead, time], mV or z-scores, leads in the order of `leads`.
        leads: Standard names of the rows; leads that `form` does not name are dropped, missing ones become zeros.
        rate_hz: Samples per second.
        band_hz: The band the source was already filtered to; an equal `form.band_hz` is not applied twice.
        form: What is asked for.

    Returns:
        [record, len(form.leads), form.samples] float32.
    """
    have = [lead for lead in form.leads if lead in leads]
    shaped = np.ascontiguousarray(signal[:, [leads.index(lead) for lead in have]], dtype=np.float32)
    if form.band_hz is not None and form.band_hz != band_hz:
        shaped = bandpass(shaped, rate_hz, form.band_hz)
    unfiltered = form.band_hz is None and band_hz is None
    shaped = resample(shaped, rate_hz, form.rate_hz, baseline=unfiltered)[..., : form.samples]
    if form.normalise == "record_lead_z":
        shaped = record_lead_z(shaped)
    out = np.zeros((len(signal), len(form.leads), form.samples), np.float32)
    out[:, [form.leads.index(lead) for lead in have], : shaped.shape[-1]] = shaped
    return out


def samples_in_form(samples: int, rate_hz: float, form: Form) -> int:
    """Return how many samples of the window a record of `samples` at `rate_hz` fills."""
    return min(form.samples, math.ceil(samples * form.rate_hz / rate_hz - 1e-9))


@cache
def _butterworth(rate_hz: float, band_hz: Band) -> npt.NDArray[np.float64]:
    from scipy.signal import butter

    return np.asarray(butter(4, band_hz, btype="bandpass", fs=rate_hz, output="sos"))


def _hz(band_hz: Band | None) -> str:
    return f"{band_hz[0]:g}–{band_hz[1]:g} Hz" if band_hz else "not stated"
