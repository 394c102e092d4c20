"""From a source's signals to one form: millivolts, band, rate, length and normalisation, many records at once.

Order: unit, band-pass at the source's rate, resampling, cutting to the window, z-score, zeros at the end of short
records.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import field_validator, model_validator

from ecgscale.data.resampling import resample
from ecgscale.spec import Explained, Spec
from ecgscale.units import LEADS, MILLIVOLTS, Unit

REVISION = 2  # of the preprocessing; enters the digest of every corpus

Float = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]
Band = tuple[float, float]

_FROM_I_AND_II = {"III": (-1.0, 1.0), "aVR": (-0.5, -0.5), "aVL": (1.0, -0.5), "aVF": (-0.5, 1.0)}

_BLOCK = 2**21  # samples filtered at a time: 16 MB of float64


class FormError(Explained, ValueError):
    """A source cannot be brought to the form that was asked for; the sentence names both."""


class Form(Spec):
    """What all signals of a corpus have in common."""

    rate_hz: float = 100.0  # samples per second
    length_s: float = 10.0  # window; shorter records end in zeros
    windows: Literal["first", "all"] = "first"  # of a longer record: its beginning, or all of it, window after window
    band_hz: Band | None = None  # pass band, Hz; None keeps the source's own
    notch_hz: float | None = None  # mains frequency to remove, 50 or 60 Hz
    normalise: Literal["none", "record_lead_z"] = "none"  # "record_lead_z": per record and lead, mean 0 and variance 1
    leads: tuple[str, ...] = LEADS
    derive_limb_leads: bool = False  # compute III, aVR, aVL and aVF from I and II where a record lacks them
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

    @field_validator("notch_hz")
    @classmethod
    def _mains(cls, value: float | None) -> float | None:
        if value is not None and not 40 <= value <= 70:
            raise ValueError("expected a mains frequency, 50 or 60 Hz, or nothing")
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


def notch(signal: Float, rate_hz: float, notch_hz: float) -> Float:
    """Remove one frequency, forwards and backwards, with a band 1/30 of it wide.

    Args:
        signal: ECG [..., time].
        rate_hz: Samples per second; at twice `notch_hz` or less nothing of it can be there, and nothing is done.
        notch_hz: Mains frequency, Hz.

    Returns:
        ECG [..., time] without phase shift, float32.

    Source: scipy.signal.iirnotch and filtfilt.
    """
    if notch_hz >= rate_hz / 2:
        return signal
    from scipy.signal import filtfilt, iirnotch

    return np.asarray(filtfilt(*iirnotch(notch_hz, 30.0, fs=rate_hz), signal.astype(np.float64)), dtype=np.float32)


def derive_limb_leads(signal: Float, leads: tuple[str, ...], live: Bool) -> tuple[Float, tuple[str, ...], Bool, Bool]:
    """Compute III, aVR, aVL and aVF where they are missing and I and II are not.

    Args:
        signal: ECG [record, lead, time], any voltage.
        leads: Standard names of the rows.
        live: [record, lead], False where a lead carries nothing.

    Returns:
        ECG with the four leads at its end where `leads` lacks them, the names of its rows, where they carry a signal,
        and where that was computed.

    Source: Einthoven and Goldberger; the leads are linear combinations of I and II by their definition.
    """
    if not {"I", "II"} <= set(leads):
        return signal, leads, live, np.zeros_like(live)
    new = tuple(lead for lead in _FROM_I_AND_II if lead not in leads)
    signal = np.concatenate([signal, np.zeros((len(signal), len(new), signal.shape[-1]), np.float32)], axis=1)
    live = np.concatenate([live, np.zeros((len(live), len(new)), bool)], axis=1)
    leads += new
    derived = np.zeros_like(live)
    one, two = leads.index("I"), leads.index("II")
    for lead, (of_one, of_two) in _FROM_I_AND_II.items():
        row = leads.index(lead)
        rows = np.flatnonzero(~live[:, row] & live[:, one] & live[:, two])
        signal[rows, row] = np.float32(of_one) * signal[rows, one] + np.float32(of_two) * signal[rows, two]
        derived[rows, row] = True
    return signal, leads, live | derived, derived


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
        if form.normalise == "record_lead_z" and form.band_hz == band_hz and form.notch_hz is None:
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
        [record, window, len(form.leads), form.samples] float32.
    """
    have = [lead for lead in form.leads if lead in leads]
    places = [leads.index(lead) for lead in have]
    chosen = signal if places == list(range(signal.shape[1])) else signal[:, places]
    shaped = np.ascontiguousarray(chosen, dtype=np.float32)
    if form.notch_hz is not None:
        shaped = notch(shaped, rate_hz, form.notch_hz)
    if form.band_hz is not None and form.band_hz != band_hz:
        shaped = bandpass(shaped, rate_hz, form.band_hz)
    unfiltered = form.band_hz is None and band_hz is None
    shaped = resample(shaped, rate_hz, form.rate_hz, baseline=unfiltered)
    filled = seconds_in_form(signal.shape[-1], rate_hz, form)
    out = np.zeros((len(signal), len(filled), len(form.leads), form.samples), np.float32)
    rows = [form.leads.index(lead) for lead in have]
    for window, seconds in enumerate(filled):
        cut = shaped[..., window * form.samples :][..., : round(seconds * form.rate_hz)]
        out[:, window, rows, : cut.shape[-1]] = record_lead_z(cut) if form.normalise == "record_lead_z" else cut
    return out


def seconds_in_form(samples: int, rate_hz: float, form: Form) -> list[float]:
    """Return, for each window of a record of `samples` at `rate_hz`, the seconds that it fills.

    With `windows = "all"` the last window counts if at least half of it is filled.
    """
    left = math.ceil(samples * form.rate_hz / rate_hz - 1e-9)
    filled = [min(form.samples, left)]
    while form.windows == "all" and (left := left - form.samples) >= form.samples / 2:
        filled.append(min(form.samples, left))
    return [count / form.rate_hz for count in filled]


@cache
def _butterworth(rate_hz: float, band_hz: Band) -> npt.NDArray[np.float64]:
    from scipy.signal import butter

    return np.asarray(butter(4, band_hz, btype="bandpass", fs=rate_hz, output="sos"))


def _hz(band_hz: Band | None) -> str:
    return f"{band_hz[0]:g}–{band_hz[1]:g} Hz" if band_hz else "not stated"
