"""From a dipole to what a recorder writes: electrodes, noise, band, gain and resolution of one world.

The dipole's spectrum goes through the lead vectors, coloured noise is added in the frequency domain and one inverse
transform of the eight independent leads gives the recording; III, aVR, aVL and aVF follow from I and II, so that I +
III = II holds to rounding.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import fft

from ecgscale.data.simulation.dipole import DOWER
from ecgscale.data.simulation.worlds import World

Float = npt.NDArray[np.float32]
Double = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex64]
_LEADS = len(DOWER)
_LEVELS_SD = np.sqrt((256**2 - 1) / 12)  # standard deviation of an 8-bit integer


def response(frequency_hz: Double, band_hz: tuple[float, float]) -> Double:
    """Return the recorder's gain: second-order Butterworth magnitude at both ends of the band, 0 at 0 Hz."""
    low, high = band_hz
    up = 1.0 / np.sqrt(1.0 + (frequency_hz / high) ** 4)
    ratio = np.divide(low, frequency_hz, out=np.full_like(frequency_hz, np.inf), where=frequency_hz > 0)
    return np.asarray(up / np.sqrt(1.0 + ratio**4))


def record(dipole: Float, time_s: Float, world: World, random: np.random.Generator) -> Float:
    """Record the dipole of every ECG.

    Args:
        dipole: [ecg, axis, time] mV.
        time_s: [time] evenly spaced seconds.
        world: Whose device and noise.
        random: Source of all that differs between recordings.

    Returns:
        [ecg, lead, time] mV, float32, I, II, V1 ... V6.
    """
    ecgs, _, samples = dipole.shape
    frequency = np.fft.rfftfreq(samples, float(time_s[1] - time_s[0])).astype(np.float64)
    gain = response(frequency, world.band_hz)
    spectrum = _lead_vectors(ecgs, world, random) @ (fft.rfft(dipole, axis=2) * gain.astype(np.float32))
    spectrum += _noise(ecgs, frequency, gain, world, random)
    spectrum[:, :, _alias(world.mains_hz, frequency, samples)] += _mains(ecgs, samples, world, random)
    return np.asarray(fft.irfft(spectrum, n=samples, axis=2, overwrite_x=True))


def twelve(signal: Float, resolution_uv: float) -> Float:
    """Quantise I, II, V1 ... V6 and derive the other four leads.

    Args:
        signal: [ecg, 8, time] mV.
        resolution_uv: Least significant bit, microvolts.

    Returns:
        [ecg, 12, time] mV in the standard order.
    """
    out = np.empty((signal.shape[0], 12, signal.shape[2]), np.float32)
    levels = signal * np.float32(1e3 / resolution_uv)
    np.rint(levels, out=levels)
    levels *= np.float32(resolution_uv / 1e3)
    first, second = levels[:, 0], levels[:, 1]
    out[:, :2], out[:, 6:] = levels[:, :2], levels[:, 2:]
    np.subtract(second, first, out=out[:, 2])
    out[:, 3] = np.float32(-0.5) * (first + second)
    out[:, 4] = first - np.float32(0.5) * second
    out[:, 5] = second - np.float32(0.5) * first
    return out


def _lead_vectors(ecgs: int, world: World, random: np.random.Generator) -> Float:
    """Lead vectors with errors of place and gain [ecg, lead, axis]; limb leads hardly feel the electrodes' place."""
    size = np.full((_LEADS, 1), world.electrode_sd, np.float32)
    size[:2] *= 0.25
    placed: Float = DOWER + size * random.standard_normal((ecgs, _LEADS, 3), np.float32)
    placed *= 1 + np.float32(world.gain_sd) * random.standard_normal((ecgs, _LEADS, 1), np.float32)
    return placed


def _noise(ecgs: int, frequency: Double, gain: Double, world: World, random: np.random.Generator) -> Complex:
    """Spectra [ecg, lead, frequency] of baseline wander and muscle noise as recorded, mV.

    Each bin is uniform on 256 levels, a tenth of a normal's cost; a sample sums hundreds of bins and is normal again.
    """
    wander = np.where(frequency > 0, 1.0 / (1.0 + (frequency / 0.25) ** 2), 0.0)
    muscle = frequency / (frequency + 10.0)
    rms_mv = 1e-3 * np.array([world.baseline_uv, world.emg_uv])
    power = np.stack([shape**2 / (shape**2).sum() for shape in (wander, muscle)]) * rms_mv[:, None] ** 2
    level = np.exp(2 * world.noise_spread * random.standard_normal((ecgs, 2)))
    # a complex coefficient of variance 2 s^2 gives samples of variance (2 s / samples)^2
    size = (len(frequency) - 1) * np.sqrt(level @ power) * gain
    lead = np.exp(0.25 * random.standard_normal((ecgs, _LEADS, 1))) / _LEVELS_SD
    levels = np.frombuffer(random.bytes(ecgs * _LEADS * 2 * len(frequency)), np.int8).reshape(ecgs, _LEADS, -1)
    spectrum: Complex = np.multiply(levels, lead.astype(np.float32), dtype=np.float32).view(np.complex64)
    spectrum *= size.astype(np.float32)[:, None]
    return spectrum


def _alias(hz: float, frequency: Double, samples: int) -> int:
    """The bin in which a sine of `hz` appears once sampled."""
    turns = round(hz / float(frequency[1])) % samples
    return min(turns, samples - turns)


def _mains(ecgs: int, samples: int, world: World, random: np.random.Generator) -> Complex:
    """Coefficients [ecg, lead] of mains hum, mV: weakened by the band at its own frequency, then aliased."""
    gain = float(response(np.array([world.mains_hz]), world.band_hz)[0])
    level = 1e-3 * world.mains_uv * gain * np.exp(world.noise_spread * random.standard_normal((ecgs, 1)))
    size = 0.5 * samples * level * np.exp(0.5 * random.standard_normal((ecgs, _LEADS)))
    return np.asarray(size * np.exp(2j * np.pi * random.random((ecgs, 1))), np.complex64)
