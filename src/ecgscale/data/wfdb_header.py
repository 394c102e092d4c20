"""WFDB headers, judged before a sample is read: what they say can be, and the files they name lie inside the data set.

Source: https://physionet.org/physiotools/wag/header-5.htm and signal-5.htm.
"""

from __future__ import annotations

import math
import re
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

LONGEST = 1 << 20  # bytes of a header
GAINS = (1e-9, 1e12)  # counts per unit; float32 holds any count divided by these
NULL = "~"  # the name of a file or segment without samples

_NAME = re.compile(r"(?!\.{1,2}$|-$)[^/\\:\x00-\x20]+")
_FORMAT = re.compile(r"(\d{1,3})(?:x(\d{1,6}))?(?::(\d{1,9}))?(?:\+(\d{1,12}))?", re.ASCII)
_GAIN = re.compile(r"([^(/]+)(?:\((-?\d{1,10})\))?(?:/(\S+))?", re.ASCII)
_INTEGER = re.compile(r"[-+]?\d{1,15}", re.ASCII)


class WfdbError(ValueError):
    """A WFDB record cannot be read; the sentence names the file."""


@dataclass(frozen=True, slots=True)
class Signal:
    """What a header says of one lead; `per_frame`, `skew` and `offset` are 1, 0 and 0 where it says nothing."""

    file: str
    format: str
    per_frame: int
    skew: int  # frames
    offset: int  # bytes before the samples
    gain: float  # counts per unit
    baseline: int  # counts
    unit: str
    checksum: int
    lead: str


@lru_cache(maxsize=4096)
def _resolved(folder: Path) -> Path:
    """Follow the links of a folder, once per process: a thousand records lie in one."""
    return folder.resolve()


@dataclass(frozen=True, slots=True)
class Place:
    """A record by its real folder and name, and the real root that nothing may lead out of."""

    folder: Path
    name: str
    root: Path

    @classmethod
    def of(cls, root: Path, name: str) -> Place:
        """Resolve a record.

        Raises:
            WfdbError: it lies outside `root`.
        """
        try:
            inside = _resolved(root)
            path = root / name
            folder = _resolved(path.parent)
        except (OSError, ValueError, RuntimeError):  # a null byte, a loop of links
            raise WfdbError(f"the record name {name!r} is no path") from None
        if not (folder.is_relative_to(inside) and _NAME.fullmatch(path.name)):
            raise WfdbError(f"the record {name!r} lies outside {root}; nothing outside the data set is read")
        return cls(folder, path.name, inside)

    @property
    def header(self) -> Path:
        """The record's header file."""
        return self.folder / f"{self.name}.hea"

    def beside(self, name: str) -> Place:
        """Return another record in the same folder."""
        return Place(self.folder, name, self.root)

    def file(self, name: str) -> tuple[Path, int]:
        """Return the path and size in bytes of a file in the record's folder.

        Raises:
            WfdbError: it is missing, not a plain file, or a link that leads out of the root.
        """
        path = self.folder / name
        try:
            if path.is_symlink() and not path.resolve().is_relative_to(self.root):
                raise WfdbError(f"{path} is a link out of the data set; nothing outside it is read")
            status = path.stat()
        except (OSError, RuntimeError) as error:
            raise WfdbError(f"{path} cannot be read: {reason(error)}") from None
        if not stat.S_ISREG(status.st_mode):
            raise WfdbError(f"{path} is not a plain file")
        return path, status.st_size

    def lines(self) -> list[str]:
        """Return the stripped lines of the header, which may be UTF-8 or Latin-1.

        Raises:
            WfdbError: it cannot be read.
        """
        path, size = self.file(f"{self.name}.hea")
        if size > LONGEST:
            raise WfdbError(f"{path} has {size} bytes; no WFDB header is so long")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise WfdbError(f"{path} cannot be read: {reason(error)}") from None
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = data.decode("latin-1")
        return [line.strip() for line in re.split(r"\r\n|\n|\r", text)]


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says of a record; either `signals` or `segments` (name and samples of each) stand in it."""

    place: Place
    rate_hz: float
    samples: int  # per lead; 0 where the header does not say
    leads: int
    signals: tuple[Signal, ...]
    segments: tuple[tuple[str, int], ...]
    comments: tuple[str, ...]

    @classmethod
    def read(cls, place: Place) -> Header:
        """Read and judge a header.

        Raises:
            WfdbError: it is missing, malformed, or says what cannot be.
        """
        lines = place.lines()
        body = [line for line in lines if line and not line.startswith("#")]
        words = body[0].split() if body else []
        try:
            segments = words[0].partition("/")[2]
            rate_hz = float(re.split(r"[/(]", words[2])[0])
            samples = integer(words[3]) if len(words) > 3 else 0
            leads = integer(words[1])
            promised = integer(segments) if segments else leads
        except (ValueError, IndexError):
            raise WfdbError(
                f"{place.header} is no WFDB header: its first line is {''.join(body[:1])[:80]!r}; "
                "expected name, number of signals, sampling rate and number of samples"
            ) from None
        if not (0 < rate_hz < math.inf and samples >= 0):
            raise WfdbError(f"{place.header} says what cannot be: {rate_hz} Hz, {samples} samples")
        if len(body) - 1 != promised or promised < 1:
            raise WfdbError(
                f"{place.header} promises {promised} {'segments' if segments else 'signals'} and describes "
                f"{len(body) - 1}: the header is damaged, copy it again"
            )
        described = [_described(place, line, bool(segments)) for line in body[1:]]
        signals = tuple(item for item in described if isinstance(item, Signal))
        parts = tuple(item for item in described if isinstance(item, tuple))
        return cls(place, rate_hz, samples, leads, signals, parts, remarks(lines))


def remarks(lines: list[str]) -> tuple[str, ...]:
    """Return the lines after #."""
    return tuple(line[1:].strip() for line in lines if line.startswith("#"))


def integer(text: str) -> int:
    """Return a number of at most 15 digits.

    Raises:
        ValueError: it is none.
    """
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"{text[:20]!r} is no whole number")
    return int(text)


def reason(error: Exception) -> str:
    """Return what the system says of an error, on one line."""
    text = str(getattr(error, "strerror", None) or error).strip() or type(error).__name__
    return text.splitlines()[0].lower()


def _described(place: Place, line: str, segment: bool) -> Signal | tuple[str, int]:
    try:
        return _segment(line) if segment else _signal(line)
    except ValueError as error:
        raise WfdbError(f"{place.header} has a line {line[:80]!r}: {error}") from None


def _segment(line: str) -> tuple[str, int]:
    name, samples = (*line.split(), "", "")[:2]
    if not _NAME.fullmatch(name):
        raise ValueError("a segment must have a plain name, in the header's own folder")
    return name, integer(samples)


def _signal(line: str) -> Signal:
    parts = line.split(None, 8)
    layout = _FORMAT.fullmatch(parts[1]) if len(parts) > 1 else None
    scale = _GAIN.fullmatch(parts[2]) if len(parts) > 2 else None
    if layout is None or scale is None:
        raise ValueError("a signal is described by file, format, gain, resolution, zero, first, checksum, block, lead")
    if len(parts) < 9:
        raise ValueError("the lead has no name")
    if not _NAME.fullmatch(parts[0]):
        raise ValueError("a signal file must have a plain name, in the header's own folder")
    gain, per_frame = float(scale[1]), int(layout[2] or 1)
    if per_frame < 1:
        raise ValueError("a lead must have at least one sample per frame")
    if parts[0] != NULL and not GAINS[0] <= gain <= GAINS[1]:
        raise ValueError(f"with a gain of {scale[1]} its amplitude is not calibrated; expected a positive number")
    return Signal(
        file=parts[0],
        format=layout[1],
        per_frame=per_frame,
        skew=int(layout[3] or 0),
        offset=int(layout[4] or 0),
        gain=gain,
        baseline=integer(scale[2] or parts[4]),
        unit=scale[3] or "mV",
        checksum=integer(parts[6]),
        lead=parts[8],
    )
