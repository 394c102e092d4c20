"""The heart as one moving current dipole: every wave of a beat is a Gaussian in time along a fixed direction in space.

x(t) = sum over waves w of vector_w exp(-(t - R - centre_w)^2 / (2 width_w^2)); x points left, y down, z to the back
(Frank). P belongs to the beat that follows, QRS to the nearest, T to the one before: one pass per wave renders all
beats of an ECG.

Source: Gaussians: Sameni et al. 2007, EURASIP JASP 43407 (closed form of McSharry et al. 2003, IEEE TBME 50:289).
Leads: the 12-lead transformation of Dower, Machado and Osborne 1980, Clinical Cardiology 3:87.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ecgscale.data.simulation.latents import Latents

Float = npt.NDArray[np.float32]

DOWER = np.array(  # [lead, axis]: I, II, V1 ... V6 from x (left), y (down), z (back)
    [
        [0.632, -0.235, 0.059],
        [0.235, 1.066, -0.132],
        [-0.515, 0.157, -0.917],
        [0.044, 0.164, -1.387],
        [0.882, 0.098, -1.277],
        [1.213, 0.127, -0.601],
        [1.125, 0.127, -0.086],
        [0.831, 0.076, 0.230],
    ],
    np.float32,
)

# Waves: right and left atrium, septum (Q), left ventricle (R), base (S), terminal (R'), T in two parts. Vectors in mV.
_NORMAL = np.array(
    [
        [0.05, 0.07, -0.05],
        [0.06, 0.06, 0.04],
        [-0.14, -0.05, -0.26],
        [1.05, 0.85, 0.25],
        [-0.16, -0.02, 0.62],
        [0.0, 0.0, 0.0],
        [0.13, 0.10, -0.08],
        [0.22, 0.16, -0.11],
    ]
)
_RBBB = np.array([*_NORMAL[:5], [-0.62, 0.10, -0.60], [0.13, 0.08, 0.05], [0.24, 0.15, 0.12]])
_LBBB = np.array(
    [
        *_NORMAL[:2],
        [0.10, 0.02, 0.12],
        [0.78, 0.38, 0.72],
        [0.92, 0.10, 0.62],
        np.zeros(3),
        [-0.12, 0.02, -0.16],
        [-0.22, 0.03, -0.26],
    ]
)
_P, _QRS, _T = slice(0, 2), slice(2, 6), slice(6, 8)
_WAVES = len(_NORMAL)


def waves(latents: Latents) -> tuple[Float, Float, Float]:
    """Return every ECG's waves.

    Returns:
        centre [ecg, wave] seconds after the R peak, width [ecg, wave] seconds, vector [ecg, wave, axis] mV.
    """
    centre, width = _timing(latents)
    return centre.astype(np.float32), width.astype(np.float32), _vectors(latents).astype(np.float32)


def onset_s(latents: Latents) -> npt.NDArray[np.float64]:
    """Return where QRS begins, seconds after the R peak: 45 % of the left ventricle's part of QRS before it."""
    return -0.45 * _core_s(latents)


def _core_s(latents: Latents) -> npt.NDArray[np.float64]:
    """Seconds of QRS without a late right ventricle: right bundle branch block leaves the beginning as it was."""
    late_right = latents.truth("RBBB") | latents.incomplete
    return np.where(late_right, np.minimum(0.086, latents.qrs_s - 0.016), latents.qrs_s)


def _timing(latents: Latents) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    core, qrs, onset, lbbb = _core_s(latents), latents.qrs_s, onset_s(latents), latents.truth("LBBB")
    pr = np.nan_to_num(latents.pr_s, nan=0.16)
    centre, width = np.empty((2, len(qrs), _WAVES))
    p_width = 0.015 * np.exp(0.12 * latents.traits[:, 1])
    width[:, 0], width[:, 1] = p_width, p_width * 1.15
    centre[:, 0] = onset - pr + 2.3 * p_width
    centre[:, 1] = centre[:, 0] + 2.1 * p_width
    width[:, 2], width[:, 3] = 0.075 * core, np.where(lbbb, 0.13, 0.12) * core
    width[:, 4] = np.where(lbbb, 0.135, 0.11) * core
    width[:, 5] = np.where(latents.truth("RBBB"), 0.13, 0.09) * qrs
    centre[:, 2] = onset + 2.3 * width[:, 2]
    centre[:, 3] = np.where(lbbb, -0.12 * core, 0.0)
    centre[:, 4] = onset + core - 2.2 * width[:, 4]
    centre[:, 5] = onset + qrs - 2.3 * width[:, 5]
    t_width = 0.12 * (latents.qt_s - qrs) * np.exp(0.1 * latents.traits[:, 2])
    width[:, 6], width[:, 7] = 1.25 * t_width, 0.95 * t_width
    centre[:, 7] = onset + latents.qt_s - 2.3 * width[:, 7]
    centre[:, 6] = centre[:, 7] - 1.5 * t_width
    return centre, width


def _vectors(latents: Latents) -> npt.NDArray[np.float64]:
    """Wave vectors [ecg, wave, axis]: the rhythm's own, scaled and turned by scores and traits."""
    rbbb, lbbb, body = latents.truth("RBBB"), latents.truth("LBBB"), latents.traits
    vector = np.where(rbbb[:, None, None], _RBBB, np.where(lbbb[:, None, None], _LBBB, _NORMAL))
    vector[latents.incomplete, 5] = 0.35 * _RBBB[5]
    scale = np.exp(0.12 * body[:, :1]) * np.ones((1, _WAVES))
    scale[:, _P] *= np.where(latents.truth("AF"), 0.0, np.exp(0.25 * body[:, 3]))[:, None]
    scale[:, _QRS] *= np.exp(0.22 * latents.score("r_amplitude"))[:, None]
    scale[:, [2, 4, 5]] *= np.exp(0.25 * body[:, 4:7])
    scale[:, _T] *= (1.0 + 0.33 * latents.score("t_amplitude"))[:, None]
    vector = vector * scale[:, :, None]
    vector[:, _QRS] *= 1 + 0.10 * body[:, None, 7:10]
    vector[:, _T] += 0.12 * np.abs(vector[:, _T]).max(2, keepdims=True) * body[:, None, 10:13]
    frontal = 18.0 * latents.score("axis")
    return vector @ _turn(frontal, 12.0 * body[:, 13], 8.0 * body[:, 14]).swapaxes(1, 2)


def _turn(
    frontal: npt.NDArray[np.float64], transverse: npt.NDArray[np.float64], sagittal: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Rotation matrices [ecg, axis, axis] from three angles in degrees, in the planes xy, xz and yz."""
    total = np.broadcast_to(np.eye(3), (len(frontal), 3, 3))
    for degrees, (i, j) in ((frontal, (0, 1)), (transverse, (0, 2)), (sagittal, (1, 2))):
        plane = np.broadcast_to(np.eye(3), total.shape).copy()
        angle = np.deg2rad(degrees)
        plane[:, i, i] = plane[:, j, j] = np.cos(angle)
        plane[:, i, j], plane[:, j, i] = -np.sin(angle), np.sin(angle)
        total = plane @ total
    return total


def render(latents: Latents, time_s: Float, random: np.random.Generator) -> Float:
    """Render the dipole of every ECG.

    Args:
        latents: The chunk.
        time_s: [time] evenly spaced seconds; 0 is the start of the ten-second window.
        random: Source of the fibrillatory waves.

    Returns:
        [ecg, axis, time] mV, float32.
    """
    before, after = _offsets(latents.beats_s, time_s)
    nearest = np.where(before < -after, before, after)
    centre, width, vector = waves(latents)
    shape = np.empty((len(centre), _WAVES, len(time_s)), np.float32)
    for wave, offset in enumerate((after, after, *[nearest] * 4, before, before)):
        _gaussian(offset, centre[:, wave, None], width[:, wave, None], shape[:, wave])
    dipole = vector.swapaxes(1, 2) @ shape
    _breathe(dipole, latents, time_s)
    ill = latents.truth("AF")
    dipole[ill] += _fibrillation(int(ill.sum()), time_s, random)
    return dipole


def _offsets(beats_s: npt.NDArray[np.float64], time_s: Float) -> tuple[Float, Float]:
    """Seconds since the latest R peak and (negative) until the next one, [ecg, time] each."""
    ecgs, samples = len(beats_s), len(time_s)
    step = float(time_s[1] - time_s[0])
    first = np.ceil((beats_s - time_s[0]) / step).astype(np.int64)  # first sample at or after the peak
    here = first < samples
    flat = (np.arange(ecgs)[:, None] * samples + np.maximum(first, 0))[here]
    latest = np.bincount(flat, minlength=ecgs * samples).reshape(ecgs, samples).cumsum(1) - 1
    beats = beats_s.astype(np.float32)
    return time_s - np.take_along_axis(beats, latest, 1), time_s - np.take_along_axis(beats, latest + 1, 1)


def _gaussian(offset: Float, centre: Float, width: Float, out: Float) -> None:
    """Write exp(-(offset - centre)^2 / (2 width^2)), held above e^-30, as denormals slow all that follows."""
    np.subtract(offset, centre, out=out)
    out *= np.float32(np.sqrt(0.5)) / width
    np.square(out, out=out)
    np.minimum(out, np.float32(30.0), out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)


def _breathe(dipole: Float, latents: Latents, time_s: Float) -> None:
    """Let respiration change the size of all waves by a few per cent, in place."""
    frequency, phase = latents.respiration[:, :1].astype(np.float32), latents.respiration[:, 1:].astype(np.float32)
    depth = (0.04 * np.exp(0.3 * latents.traits[:, 15:16])).astype(np.float32)
    dipole *= (1 + depth * np.sin(np.float32(2 * np.pi) * frequency * time_s + phase))[:, None]


def _fibrillation(ecgs: int, time_s: Float, random: np.random.Generator) -> Float:
    """Fibrillatory waves [ecg, axis, time] mV: two sources of 4.5 to 8 Hz, wandering, strongest in V1 and II."""
    total = np.zeros((ecgs, 3, len(time_s)), np.float32)
    for direction in ([-0.5, 0.55, -0.55], [0.25, 0.6, 0.35]):
        u = random.random((8, ecgs, 1), np.float32)
        frequency = 4.5 + 3.5 * u[0]
        phase = 2 * np.pi * (frequency * time_s + u[1]) + 1.5 * np.sin(2 * np.pi * ((0.2 + 0.5 * u[2]) * time_s + u[3]))
        size = (0.02 + 0.06 * u[4]) * (1 + 0.5 * np.sin(2 * np.pi * ((0.1 + 0.3 * u[5]) * time_s + u[6])))
        wave = size * (np.sin(phase) + 0.35 * np.sin(2 * phase + 2 * np.pi * u[7]))
        total += np.array(direction, np.float32)[:, None] * wave[:, None]
    return total
