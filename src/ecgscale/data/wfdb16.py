"""WFDB records: one file in format 16 read in one stroke, anything else by the wfdb package.

A header says how many samples there must be, so a signal file that was cut short is told from a whole one; wfdb
itself may pad or stop. Source: https://physionet.org/physiotools/wag/header-5.htm and signal-5.htm.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]

MISSING = -32768  # format 16's mark of an invalid sample

_SIGNAL = re.compile(
    r"^(?P<file>\S+)\s+(?P<format>\d+)(?P<layout>[x:+]\S+)?(?:\s+(?P<gain>[\d.eE+-]+)(?:\((?P<baseline>-?\d+)\))?(?:/(?P<unit>\S+))?)?"
    r"(?:\s+\d+(?:\s+(?P<zero>-?\d+)(?:\s+-?\d+(?:\s+-?\d+(?:\s+\d+(?:\s+(?P<name>.+))?)?)?)?)?)?$"
)


class WfdbError(ValueError):
    """A WFDB record cannot be read; the sentence names the file."""


@dataclass(frozen=True, slots=True)
class WfdbRecord:
    """One record.

    Attributes:
        counts: [lead, time] ADC values less the baseline, float32, NaN where the file marks a sample as invalid.
        gain: [lead] counts per unit.
        units: Physical unit of each lead as the header writes it.
        leads: Names as the header writes them.
        rate_hz: Samples per second.
        comments: The header's lines after #.
    """

    counts: Float
    gain: npt.NDArray[np.float64]
    units: tuple[str, ...]
    leads: tuple[str, ...]
    rate_hz: float
    comments: tuple[str, ...]

    @property
    def physical(self) -> Float:
        """[lead, time] float32 in `units`."""
        return np.asarray(self.counts / self.gain[:, None], dtype=np.float32)


def read(path: Path) -> WfdbRecord:
    """Read a record.

    Args:
        path: Of the record, without suffix.

    Raises:
        WfdbError: header or signal file is missing, malformed, or has another length than the header says.
    """
    header = path.parent / f"{path.name}.hea"
    try:
        lines = [line.strip() for line in header.read_text(errors="replace").splitlines()]
    except OSError as error:
        raise WfdbError(f"{header} cannot be read: {(error.strerror or str(error)).lower()}") from None
    comments = tuple(line[1:].strip() for line in lines if line.startswith("#"))
    body = [line for line in lines if line and not line.startswith("#")]
    return _simple(header, body, comments) or _any(path, comments)


def write(
    path: Path, signal: Float, leads: tuple[str, ...], rate_hz: float, gain: npt.NDArray[np.floating] | None = None
) -> None:
    """Write [lead, time] mV as one file of format 16 with 1 µV per count; `gain` is what the header claims instead."""
    counts = np.rint(signal * 1000).astype("<i2")
    claimed = np.full(len(leads), 1000.0) if gain is None else gain
    lines = [f"{path.name} {len(leads)} {rate_hz:g} {counts.shape[1]}"]
    lines += [
        f"{path.name}.dat 16 {per_mv:.6g}(0)/mV 16 0 {row[0]} {row.sum(dtype=np.int64) & 0xFFFF} 0 {lead}"
        for lead, per_mv, row in zip(leads, claimed, counts, strict=True)
    ]
    (path.parent / f"{path.name}.hea").write_text("\n".join(lines) + "\n")
    (path.parent / f"{path.name}.dat").write_bytes(np.ascontiguousarray(counts.T).tobytes())


def _simple(header: Path, body: list[str], comments: tuple[str, ...]) -> WfdbRecord | None:
    """Read the usual case, one file of format 16 without gaps or extra samples per frame, or return None."""
    first = body[0].split() if body else []
    if len(first) < 4 or not (first[1].isdigit() and first[3].isdigit()) or len(body) != 1 + int(first[1]):
        return None
    found = [_SIGNAL.match(line) for line in body[1:]]
    signals = [match.groupdict() for match in found if match]
    if len(signals) < len(found) or {(s["file"], s["format"], s["layout"]) for s in signals} != {
        (signals[0]["file"], "16", None)
    }:
        return None
    if not all(s["gain"] and float(s["gain"]) > 0 and s["name"] for s in signals):
        return None
    adc = _samples(header.parent / str(signals[0]["file"]), len(signals), int(first[3]))
    baseline = np.array([int(s["baseline"] or s["zero"] or 0) for s in signals], np.float32)
    counts = adc - baseline[:, None]
    if (adc == MISSING).any():
        counts[adc == MISSING] = np.nan
    return WfdbRecord(
        counts=counts,
        gain=np.array([float(s["gain"] or 0) for s in signals]),
        units=tuple(s["unit"] or "mV" for s in signals),
        leads=tuple(str(s["name"]) for s in signals),
        rate_hz=float(re.split(r"[/(]", first[2])[0]),
        comments=comments,
    )


def _samples(file: Path, leads: int, samples: int) -> Float:
    try:
        size = file.stat().st_size
        if size != 2 * leads * samples:
            raise WfdbError(
                f"{file} has {size} bytes; its header promises {leads} leads × {samples} samples = "
                f"{2 * leads * samples} bytes: the file is damaged, copy it again"
            )
        data = np.fromfile(file, "<i2")
    except OSError as error:
        raise WfdbError(f"{file} cannot be read: {(error.strerror or str(error)).lower()}") from None
    return np.ascontiguousarray(data.reshape(samples, leads).T, dtype=np.float32)


def _any(path: Path, comments: tuple[str, ...]) -> WfdbRecord:
    import wfdb  # slow to import and seldom needed

    try:
        record = wfdb.rdrecord(str(path))
    except Exception as error:  # wfdb raises whatever its parser meets
        raise WfdbError(f"{path}.hea or its signal file cannot be read: {str(error).splitlines()[0]}") from None
    gain = np.asarray(record.adc_gain, dtype=np.float64)
    return WfdbRecord(
        counts=np.asarray(record.p_signal.T * gain[:, None], dtype=np.float32),
        gain=gain,
        units=tuple(record.units),
        leads=tuple(record.sig_name),
        rate_hz=float(record.fs),
        comments=comments,
    )
