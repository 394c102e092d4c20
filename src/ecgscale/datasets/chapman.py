"""Chapman-Shaoxing in the PhysioNet/CinC challenge 2021 and in PhysioNet's `ecg-arrhythmia`: JS00001 to JS10646.

A record is its own patient, since the source names none, with the same name as in `csn`. Its labels are the SNOMED CT
codes that occur in its headers, under the challenge's abbreviations (`ecgscale.data.snomed`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from ecgscale.data import challenge
from ecgscale.data.record import Record, Rejected
from ecgscale.data.remote import PhysioNet
from ecgscale.datasets import PORTION, DatasetError, DatasetSpec

_RECORDS = challenge.Collection("chapman", "Chapman-Shaoxing", r"JS(\d{5})", "JS00001", 1, 10_646)
_SAMPLE = {
    "": "426783006",
    "fast": "426761007",
    "slow": "426177001",
    "wide": "59118001",
    "tall": "55827005,6180003",
    "inverted": "59931005,,55930002",
}


class Chapman(DatasetSpec):
    """10,247 ten-second ECGs at 500 Hz from Shaoxing People's Hospital, with SNOMED CT codes."""

    title: ClassVar[str] = "Chapman-Shaoxing 12-lead ECG database"
    licence: ClassVar[str] = "CC BY 4.0"
    access: ClassVar[str] = "open"
    url: ClassVar[str] = "https://physionet.org/content/challenge-2021/1.0.3/"
    citation: ClassVar[str] = "Zheng et al. 2020, Scientific Data 7:48, doi:10.1038/s41597-020-0386-x"
    version: ClassVar[str] = "challenge-2021 1.0.3"
    files: ClassVar[PhysioNet] = PhysioNet("challenge-2021/1.0.3", folder="training/chapman_shaoxing")

    checksums: Literal["verify", "ignore"] = "verify"  # of the headers, against damaged files

    def portions(self, root: Path | None) -> Iterator[challenge.Portion]:
        """Yield the records by name, with the labels of all: every header is read for its codes first."""
        yield from challenge.portions(root, _RECORDS, DatasetError, PORTION)

    def read(self, root: Path | None, portion: challenge.Portion) -> Iterator[Record | Rejected]:
        """Yield these records; one without any code is unknown in all labels."""
        assert root is not None
        yield from challenge.read_all(root, portion, self.checksums == "verify", challenge.shaoxing_ningbo_patient)

    @classmethod
    def sample(cls, root: Path, seed: int = 0) -> Chapman:
        """Write 60 synthetic ECGs in two folders."""
        names = [f"g{1 + i // 40}/JS{i + 1:05d}" for i in range(60)]
        challenge.write_sample(root, names, _SAMPLE, (10,), seed)
        return cls()
