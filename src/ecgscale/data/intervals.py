"""What a reader measures on an ECG, one row per record: rhythm, intervals, axis and amplitudes of the median beat.

These are the hand-crafted features that stand as a baseline (N = 0) in every evaluation. They use the beats stored with
a corpus and no label. Amplitudes are in the signal's own unit: mV, or z-units where a corpus is z-scored per lead; then
voltages, axis and sums over leads lose their clinical meaning but stay features.

Source: definitions of the intervals: Surawicz et al., AHA/ACCF/HRS recommendations part III, Circulation 2009;119:e235;
QTc: Fridericia 1920; V1 terminal force: Morris et al. 1964; voltages: Sokolow and Lyon 1949, Casale et al. 1985.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.fft import irfft, rfft, rfftfreq

from ecgscale.data.delineation import CENTRE, FINE_HZ, MedianBeat, Waves, delineate, interpolate, median, median_beat
from ecgscale.units import LEADS

Float = npt.NDArray[np.float32]

REVISION = 1  # raise it whenever a feature may change
_MS = 1000 / FINE_HZ  # milliseconds per sample of a median beat
_FIBRILLATORY_HZ = (4.0, 9.0)
_NAN = float("nan")


def columns(leads: Sequence[str] = LEADS) -> tuple[str, ...]:
    """Return the names of the features, in order; `_ms` is milliseconds, `_bpm` per minute, `_deg` degrees.

    `rr_irregularity` is the RMS of successive differences over the mean RR interval; `rr_shortest` and `rr_longest` are
    over the median RR. `p_coherence` is between 0 and 1. `r_X`, `s_X` (positive depth), `t_X` (signed) and `st_X` are
    amplitudes of lead X; `terminal_X` is the mean of the last 40 ms of QRS; `r_prime_V1` the highest point after the
    deepest one of QRS; `p_force_V1` the terminal force and `qrs_area_V1` an area, unit x ms; `fibrillatory_V1` the RMS
    at 4 to 9 Hz before QRS that beats do not share; the rest are amplitudes.
    """
    waves = [f"{wave}_{lead}" for wave in ("r", "s", "t") for lead in leads]
    return (*_RHYTHM, *_INTERVALS, *_P_AND_FIBRILLATION, *_VECTOR, *_SHAPE, *waves)


_RHYTHM = ("beats", "heart_rate_bpm", "rr_sd_ms", "rr_irregularity", "rr_shortest", "rr_longest")
_INTERVALS = ("pr_ms", "p_ms", "qrs_ms", "qt_ms", "qtc_ms", "t_peak_ms")
_P_AND_FIBRILLATION = ("p_amplitude", "p_coherence", "p_force_V1", "fibrillatory_V1", "fibrillatory_ratio")
_VECTOR = ("axis_deg", "t_axis_deg", "qrs_t_angle_deg", "qrs_amplitude", "sokolow_lyon", "cornell")
_SHAPE = (
    *(f"terminal_{lead}" for lead in ("I", "V1", "V6")),
    *("r_prime_V1", "qrs_area_V1", "r_width_V6_ms"),
    *(f"st_{lead}" for lead in ("II", "V2", "V5")),
)


def measure(
    signal: Float,
    beats: npt.NDArray[np.int32],
    rate_hz: float,
    lead_ok: npt.NDArray[np.bool_] | None = None,
    leads: Sequence[str] = LEADS,
) -> pd.DataFrame:
    """Measure every record.

    Args:
        signal: ECG [record, lead, time], any unit.
        beats: [record, beat] sample index of each beat, padded with -1.
        rate_hz: Samples per second.
        lead_ok: [record, lead], False where a lead is missing; None if none is.
        leads: Name of each lead of `signal`.

    Returns:
        One row per record, columns as `columns(leads)`, float64; NaN where something cannot be measured, such as the PR
        interval without a P wave or anything but `beats` (0) in a record without beats.

    Raises:
        ValueError: shapes do not fit together.
    """
    signal = np.asarray(signal, np.float32)
    present = np.ones(signal.shape[:2], bool) if lead_ok is None else np.asarray(lead_ok, bool)
    if signal.ndim != 3 or signal.shape[1] != len(leads):
        raise ValueError(f"signal has shape {signal.shape}, expected [record, {len(leads)} leads, time]")
    if present.shape != signal.shape[:2] or len(beats) != len(signal):
        raise ValueError(
            f"lead_ok has shape {present.shape} and beats has {len(beats)} rows, expected {signal.shape[:2]} and "
            f"{len(signal)} as in signal"
        )
    rows = [
        _record(record, positions[positions >= 0], rate_hz, ok, leads)
        for record, positions, ok in zip(signal, np.asarray(beats), present, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(columns(leads)), dtype=np.float64)


def _record(
    signal: Float, beats: npt.NDArray[np.int32], rate_hz: float, present: npt.NDArray[np.bool_], leads: Sequence[str]
) -> dict[str, float]:
    """Features of one record; those that are not here are NaN in the table."""
    features = _rhythm(np.diff(beats) / rate_hz)
    features["beats"] = float(len(beats))
    if not present.any():
        return features
    fine = interpolate(signal[present], rate_hz)
    at = np.rint(beats * (FINE_HZ / rate_hz)).astype(np.int64)
    beat = median_beat(fine, at)
    if beat is None:
        return features
    waves = delineate(beat)
    names = np.asarray(leads)[present].tolist()
    features |= _intervals(waves, beat) | _amplitudes(names, beat.lead, waves) | _vector(names, beat.lead, waves)
    lead = dict(zip(names, beat.lead, strict=True))
    features |= _shape(lead, waves)
    if "V1" in lead:
        features |= _fibrillation(fine[list(lead).index("V1")], at, waves, float(np.ptp(_qrs(lead["V1"], waves))))
    return features


def _rhythm(rr_s: npt.NDArray[np.float64]) -> dict[str, float]:
    if len(rr_s) == 0 or rr_s.min() <= 0:
        return {}
    middle = median(rr_s)
    out = {
        "heart_rate_bpm": 60 / float(rr_s.mean()),
        "rr_sd_ms": 1000 * float(rr_s.std()),
        "rr_shortest": float(rr_s.min()) / middle,
        "rr_longest": float(rr_s.max()) / middle,
    }
    if len(rr_s) > 1:
        out["rr_irregularity"] = float(np.sqrt(np.square(np.diff(rr_s)).mean()) / rr_s.mean())
    return out


def _intervals(waves: Waves, beat: MedianBeat) -> dict[str, float]:
    qt_ms = (waves.t_off - waves.qrs_on) * _MS
    return {
        "pr_ms": (waves.qrs_on - waves.p_on) * _MS,
        "p_ms": (waves.p_off - waves.p_on) * _MS,
        "qrs_ms": (waves.qrs_off - waves.qrs_on) * _MS,
        "qt_ms": qt_ms,
        "qtc_ms": qt_ms / float(np.cbrt(beat.rr_s)),
        "t_peak_ms": (waves.t_peak - waves.qrs_on) * _MS,
        "p_amplitude": waves.p_size,
        "p_coherence": waves.p_coherence,
    }


def _qrs(line: Float, waves: Waves) -> Float:
    return line[..., int(waves.qrs_on) : int(waves.qrs_off) + 1]


def _t(line: Float, waves: Waves) -> Float:
    """The T wave, empty where none was found."""
    if not np.isfinite(waves.t_off):
        return line[..., :0]
    return line[..., int(waves.qrs_off) + 20 : int(waves.t_off) + 1]


def _amplitudes(names: list[str], lines: Float, waves: Waves) -> dict[str, float]:
    qrs, t = _qrs(lines, waves), _t(lines, waves)
    tops = [_NAN] * len(names)
    if t.shape[1] > 0:
        tops = np.take_along_axis(t, np.abs(t).argmax(axis=1, keepdims=True), axis=1)[:, 0].tolist()
    low = dict(zip(names, qrs.min(axis=1).tolist(), strict=True))
    high = dict(zip(names, qrs.max(axis=1).tolist(), strict=True))
    out = {f"r_{name}": max(high[name], 0.0) for name in names}
    out |= {f"s_{name}": max(-low[name], 0.0) for name in names}
    out |= {f"t_{name}": top for name, top in zip(names, tops, strict=True)}
    if high.keys() >= {"V1", "V5", "V6"}:
        out["sokolow_lyon"] = max(high["V5"], high["V6"]) - low["V1"]
    if high.keys() >= {"aVL", "V3"}:
        out["cornell"] = high["aVL"] - low["V3"]
    return out


def _vector(names: list[str], lines: Float, waves: Waves) -> dict[str, float]:
    """Axes in the frontal plane, the angle between QRS and T over all leads, and the greatest RMS over the leads."""
    qrs, t = _qrs(lines, waves).sum(axis=1), _t(lines, waves).sum(axis=1)
    length = float(np.linalg.norm(qrs) * np.linalg.norm(t))
    out = {"qrs_amplitude": float(np.sqrt(np.square(_qrs(lines, waves)).mean(axis=0).max()))}
    if length > 0:
        out["qrs_t_angle_deg"] = float(np.degrees(np.arccos(np.clip(qrs @ t / length, -1, 1))))
    if {"I", "aVF"} <= set(names):
        i, f = names.index("I"), names.index("aVF")
        out["axis_deg"] = _angle(qrs[i], qrs[f])
        if t.any():
            out["t_axis_deg"] = _angle(t[i], t[f])
    return out


def _angle(lead_i: float, lead_avf: float) -> float:
    """Axis in degrees, left 0, down 90; aVF is weighed as lengths of the lead vectors demand."""
    return float(np.degrees(np.arctan2(2 / np.sqrt(3) * lead_avf, lead_i)))


def _shape(lead: dict[str, Float], waves: Waves) -> dict[str, float]:
    """Marks of bundle branch block, of a large left atrium and of the ST segment."""
    out: dict[str, float] = {}
    for name in ("I", "V1", "V6"):
        if name in lead:
            out[f"terminal_{name}"] = float(_qrs(lead[name], waves)[-20:].mean())
    for name in ("II", "V2", "V5"):
        if name in lead:
            start = int(waves.qrs_off) + 20
            out[f"st_{name}"] = float(lead[name][start : start + 10].mean())
    if "V1" in lead:
        v1 = _qrs(lead["V1"], waves)
        out["r_prime_V1"], out["qrs_area_V1"] = float(v1[v1.argmin() :].max()), float(v1.sum()) * _MS
        if np.isfinite(waves.p_on) and waves.p_off - waves.p_on > 4:
            half = lead["V1"][round((waves.p_on + waves.p_off) / 2) : round(waves.p_off)]
            out["p_force_V1"] = float(half.sum()) * _MS
    if "V6" in lead:
        v6 = _qrs(lead["V6"], waves)
        out["r_width_V6_ms"] = float((v6 > 0.5 * v6.max()).sum()) * _MS if v6.max() > 0 else 0.0
    return out


def _fibrillation(line: Float, at: npt.NDArray[np.int64], waves: Waves, height: float) -> dict[str, float]:
    """RMS of the 4 to 9 Hz band in the 240 ms before QRS, less what the beats share; and over the height of QRS."""
    spectrum = rfft(line)
    frequency = rfftfreq(len(line), 1 / FINE_HZ)
    spectrum[(frequency < _FIBRILLATORY_HZ[0]) | (frequency > _FIBRILLATORY_HZ[1])] = 0
    band = irfft(spectrum, n=len(line))
    stop = at + int(waves.qrs_on) - CENTRE - 10
    stop = stop[(stop >= 120) & (stop <= len(line))]
    if len(stop) < 3:
        return {}
    pieces = band[stop[:, None] + np.arange(-120, 0)]
    own = pieces - pieces.mean(axis=0)
    rms = float(np.sqrt(np.square(own).mean() * len(stop) / (len(stop) - 1)))
    return {"fibrillatory_V1": rms, "fibrillatory_ratio": rms / height if height > 0 else _NAN}
