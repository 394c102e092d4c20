"""WFDB records: files in format 16 read in one stroke, any other by the wfdb package.

A header says how many samples there must be and what they add up to, so a signal file that was cut short or has a
flipped bit is told from a whole one; wfdb itself may pad or stop. Nothing outside the data set is opened, and wfdb
reads nothing that was not found on the disk before.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ecgscale.data.wfdb_header import NULL, Header, Place, Signal, WfdbError, reason, remarks
from ecgscale.units import unit_name

__all__ = ["WfdbError", "WfdbRecord", "comments", "read", "write"]

Float = npt.NDArray[np.float32]

MISSING = -32768  # format 16's mark of an invalid sample
MATLAB = 24  # bytes before the samples of a MATLAB 4 file whose matrix is called "val"

_BYTES = {"8": 1, "16": 2, "24": 3, "32": 4, "61": 2, "80": 1, "160": 2, "212": 3 / 2, "310": 4 / 3, "311": 4 / 3}
_COMPRESSED = ("508", "516", "524")
_MOST_SAMPLES = 1 << 28  # of all leads together, where no size of a file bounds them


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

    @property
    def unit(self) -> str:
        """The standard spelling of the voltage unit that all leads are in.

        Raises:
            ValueError: a unit is no voltage, or leads differ in it.
        """
        found = sorted({unit_name(unit) for unit in self.units})
        if len(found) > 1:
            raise WfdbError(f"the leads are in different units, {' and '.join(found)}; expected one for all")
        return found[0]


def read(root: Path, name: str, checksums: bool = True) -> WfdbRecord:
    """Read a record.

    Args:
        root: Of the data set; nothing outside it is opened, whatever a table, a header or a link says.
        name: Of the record below `root`, without suffix.
        checksums: Compare samples of format 16 with the checksums in the header, unless these are all 0, as programs
            write that compute none.

    Raises:
        WfdbError: header or signal file is missing, malformed or outside `root`, has another length than the header
            says, or other samples than its checksum says.
    """
    header = Header.read(Place.of(root, name))
    usual = all(s.format == "16" and s.per_frame == 1 and s.skew == 0 for s in header.signals)
    if usual and header.samples and not header.segments:
        return _plain(header, checksums)
    return _any(header)


def comments(root: Path, name: str) -> tuple[str, ...]:
    """Return the header's lines after #, without judging the rest or opening signals.

    Raises:
        WfdbError: the header cannot be read or lies outside `root`.
    """
    return remarks(Place.of(root, name).lines())


def write(
    path: Path,
    signal: Float,
    leads: tuple[str, ...],
    rate_hz: float,
    gain: npt.NDArray[np.floating] | None = None,
    suffixes: tuple[str, ...] | None = None,
    comments: tuple[str, ...] = (),
) -> None:
    """Write a record in format 16 with 1 µV per count.

    Args:
        path: Of the record, without suffix.
        signal: [lead, time] mV.
        leads: Their names.
        rate_hz: Samples per second.
        gain: [lead] what the header claims instead of 1000 counts per mV.
        suffixes: Of the file that holds each lead, by default ".dat" for all; a ".mat" becomes a MATLAB 4 file.
        comments: The header's lines after #.
    """
    counts = np.rint(signal * 1000).astype("<i2")
    claimed = np.full(len(leads), 1000.0) if gain is None else gain
    of_lead = suffixes or (".dat",) * len(leads)
    lines = [f"{path.name} {len(leads)} {rate_hz:g} {counts.shape[1]}"]
    for lead, per_mv, row, suffix in zip(leads, claimed, counts, of_lead, strict=True):
        layout = f"16+{MATLAB}" if suffix == ".mat" else "16"
        checksum = row.sum(dtype=np.int64) & 0xFFFF
        lines.append(f"{path.name}{suffix} {layout} {per_mv:.6g}(0)/mV 16 0 {row[0]} {checksum} 0 {lead}")
    for suffix in dict.fromkeys(of_lead):
        rows = counts[[other == suffix for other in of_lead]]
        start = struct.pack("<5i4s", 30, *rows.shape, 0, 4, b"val\0") if suffix == ".mat" else b""
        (path.parent / f"{path.name}{suffix}").write_bytes(start + np.ascontiguousarray(rows.T).tobytes())
    (path.parent / f"{path.name}.hea").write_text("\n".join([*lines, *(f"#{line}" for line in comments)]) + "\n")


def _plain(header: Header, checksums: bool) -> WfdbRecord:
    """Read files of format 16 without gaps or extra samples per frame."""
    signals, samples = header.signals, header.samples
    files = _files(header)
    for name, rows in files.items():
        path, size = header.place.file(name)
        promised = signals[rows[0]].offset + 2 * len(rows) * samples
        if size != promised:
            raise WfdbError(
                f"{path} has {size} bytes; its header promises {len(rows)} leads × {samples} samples = "
                f"{promised} bytes: the file is damaged, copy it again"
            )
    counts = np.empty((len(signals), samples), np.float32)
    stated = checksums and any(signal.checksum for signal in signals)
    for name, rows in files.items():
        adc = _samples(header.place.folder / name, signals[rows[0]].offset, len(rows))
        if stated:
            _compare(header.place.folder / name, adc, [signals[row] for row in rows])
        values = adc.astype(np.float32)
        if any(signals[row].baseline for row in rows):
            values -= np.array([signals[row].baseline for row in rows], np.float32)[:, None]
        if adc.min() == MISSING:
            values[adc == MISSING] = np.nan
        counts[rows] = values
    return WfdbRecord(
        counts=counts,
        gain=np.array([signal.gain for signal in signals]),
        units=tuple(signal.unit for signal in signals),
        leads=tuple(signal.lead for signal in signals),
        rate_hz=header.rate_hz,
        comments=header.comments,
    )


def _files(header: Header) -> dict[str, list[int]]:
    """Return the signals of each file, in the order of the header."""
    files: dict[str, list[int]] = {}
    for row, signal in enumerate(header.signals):
        files.setdefault(signal.file, []).append(row)
    for name, rows in files.items():
        if len({(header.signals[row].format, header.signals[row].offset) for row in rows}) > 1:
            raise WfdbError(f"{header.place.header} gives {name} several formats; a file has one")
    return files


def _samples(path: Path, offset: int, leads: int) -> npt.NDArray[np.int16]:
    """Return the ADC values of a file, [lead, time]."""
    try:
        return np.ascontiguousarray(np.fromfile(path, "<i2", offset=offset).reshape(-1, leads).T)
    except (OSError, ValueError) as error:
        raise WfdbError(f"{path} cannot be read: {reason(error)}") from None


def _compare(path: Path, adc: npt.NDArray[np.int16], signals: list[Signal]) -> None:
    """Raise where the 16-bit sum of a lead is not its checksum."""
    sums = adc.sum(axis=1, dtype=np.uint16)
    for found, signal in zip(sums.tolist(), signals, strict=True):
        if found != signal.checksum % 65536:
            raise WfdbError(
                f"{path}: the samples of lead {signal.lead} add up to {found}, the header's checksum is "
                f"{signal.checksum % 65536}: the file is damaged, copy it again"
            )


def _any(header: Header) -> WfdbRecord:
    """Let wfdb read a record whose files were found and are long enough for what the header says."""
    _found(header)
    import wfdb  # slow to import and seldom needed

    place = header.place
    try:
        record = wfdb.rdrecord(str(place.folder / place.name))
        physical = np.asarray(record.p_signal, np.float32).T
        leads, units = tuple(map(str, record.sig_name)), tuple(map(str, record.units))
    except Exception as error:  # wfdb raises whatever its parser meets
        raise WfdbError(f"{place.header} or its signal file cannot be read: {reason(error)}") from None
    if physical.ndim != 2 or not len(physical) == len(leads) == len(units):
        raise WfdbError(f"{place.header} and its signal file disagree on the number of leads")
    gain = np.array([signal.gain for signal in header.signals] or [1.0] * len(leads))  # segments may differ in gain
    return WfdbRecord(
        counts=np.asarray(physical * gain[:, None], np.float32),
        gain=gain,
        units=units,
        leads=leads,
        rate_hz=header.rate_hz,
        comments=header.comments,
    )


def _found(header: Header, segment: bool = False) -> int:
    """Check that every file is there and long enough; return the number of leads.

    Raises:
        WfdbError: a file is missing, outside the data set or too short, or a record larger than any ECG.
    """
    place = header.place
    if header.segments:
        if segment:
            raise WfdbError(f"{place.header} is a segment and has segments itself")
        parts = [Header.read(place.beside(name)) for name, _ in header.segments if name != NULL]
        if header.leads != max((_found(part, segment=True) for part in parts), default=0):
            raise WfdbError(f"{place.header} promises {header.leads} leads, which its segments do not have")
        _bounded(place, header.leads * max(header.samples, sum(samples for _, samples in header.segments)))
        return header.leads
    if max(signal.skew for signal in header.signals) > header.samples:
        raise WfdbError(f"{place.header} skews a lead by more than the length of the record")
    for name, rows in _files(header).items():
        if name == NULL and segment and not header.samples:
            continue  # the layout of a record of several segments has no samples of its own
        path, size = place.file(name)
        first = header.signals[rows[0]]
        promised = header.samples * sum(header.signals[row].per_frame for row in rows)
        if first.format in _COMPRESSED:
            _bounded(place, promised)
        elif first.format not in _BYTES:
            raise WfdbError(f"{place.header} names the format {first.format}, which WFDB does not have")
        elif size < first.offset + int(promised * _BYTES[first.format]) - 4:  # a packed format may share its last bytes
            raise WfdbError(
                f"{path} has {size} bytes, too few for the {promised} samples its header promises: "
                "the file is damaged, copy it again"
            )
    return len(header.signals)


def _bounded(place: Place, samples: int) -> None:
    if samples > _MOST_SAMPLES:
        raise WfdbError(f"{place.header} promises {samples} samples; at most {_MOST_SAMPLES} are read")
