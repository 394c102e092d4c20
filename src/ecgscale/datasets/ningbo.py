"""Ningbo in the PhysioNet/CinC challenge 2021 and in PhysioNet's `ecg-arrhythmia`: JS10647 to JS45551, one as S23074.

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

_RECORDS = challenge.Collection("ningbo", "the Ningbo database", r"J?S(\d{5})", "JS10647", 10_647, 45_551)
_SAMPLE = {
    "": "426783006",
    "fast": "427084000",
    "slow": "426177001",
    "wide": "59118001",
    "tall": "55827005,251238007",
    "inverted": "59931005,,55930002",
}


class Ningbo(DatasetSpec):
    """34,905 ten-second ECGs at 500 Hz from Ningbo First Hospital, with SNOMED CT codes."""

    title: ClassVar[str] = "Ningbo 12-lead ECG database"
    licence: ClassVar[str] = "CC BY 4.0"
    access: ClassVar[str] = "open"
    url: ClassVar[str] = "https://physionet.org/content/challenge-2021/1.0.3/"
    citation: ClassVar[str] = "Zheng et al. 2020, Scientific Reports 10:2898, doi:10.1038/s41598-020-59821-7"
    version: ClassVar[str] = "challenge-2021 1.0.3"
    files: ClassVar[PhysioNet] = PhysioNet("challenge-2021/1.0.3", folder="training/ningbo")

    checksums: Literal["verify", "ignore"] = "verify"  # of the headers, against damaged files

    def portions(self, root: Path | None) -> Iterator[challenge.Portion]:
        """Yield the records by name, with the labels of all: every header is read for its codes first."""
        yield from challenge.portions(root, _RECORDS, DatasetError, PORTION)

    def read(self, root: Path | None, portion: challenge.Portion) -> Iterator[Record | Rejected]:
        """Yield these records; one without any code is unknown in all labels."""
        assert root is not None
        yield from challenge.read_all(root, portion, self.checksums == "verify", challenge.shaoxing_ningbo_patient)

    @classmethod
    def sample(cls, root: Path, seed: int = 0) -> Ningbo:
        """Write 60 synthetic ECGs in two folders."""
        names = [f"g{1 + i // 40}/JS{i + 10_647:05d}" for i in range(60)]
        challenge.write_sample(root, names, _SAMPLE, (10,), seed)
        return cls()
