"""The unused part of CPSC 2018 as in the PhysioNet/CinC challenges: `Q0001` … in g1, g2 … or flat.

A record is its own patient, since the source names none. Its labels are the SNOMED CT codes that occur in its headers,
under the challenge's abbreviations (`ecgscale.data.snomed`). Records last 6 s to more than a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from ecgscale.data import challenge
from ecgscale.data.record import Record, Rejected, patient_id
from ecgscale.data.remote import PhysioNet
from ecgscale.datasets import PORTION, DatasetError, DatasetSpec

_RECORDS = challenge.Collection("cpsc_extra", "CPSC-Extra", r"Q(\d{4})", "Q0001")
_SAMPLE = {
    "": "426783006",
    "fast": "427084000",
    "slow": "426177001",
    "wide": "59118001",
    "tall": "164873001,251238007",
    "inverted": "59931005",
}


class CpscExtra(DatasetSpec):
    """3,453 ECGs at 500 Hz from hospitals in China, with SNOMED CT codes."""

    title: ClassVar[str] = "CPSC-Extra"
    licence: ClassVar[str] = "CC BY 4.0"
    access: ClassVar[str] = "open"
    url: ClassVar[str] = "https://physionet.org/content/challenge-2021/1.0.3/"
    citation: ClassVar[str] = (
        "Perez Alday et al. 2020, Physiological Measurement 41:124003, doi:10.1088/1361-6579/abc960"
    )
    version: ClassVar[str] = "challenge-2021 1.0.3"
    files: ClassVar[PhysioNet] = PhysioNet("challenge-2021/1.0.3", folder="training/cpsc_2018_extra")

    checksums: Literal["verify", "ignore"] = "verify"  # of the headers, against damaged files

    def portions(self, root: Path | None) -> Iterator[challenge.Portion]:
        """Yield the records by name, with the labels of all: every header is read for its codes first."""
        yield from challenge.portions(root, _RECORDS, DatasetError, PORTION)

    def read(self, root: Path | None, portion: challenge.Portion) -> Iterator[Record | Rejected]:
        """Yield these records; one without any code is unknown in all labels."""
        assert root is not None
        yield from challenge.read_all(
            root, portion, self.checksums == "verify", lambda name: patient_id("cpsc_extra", name)
        )

    @classmethod
    def sample(cls, root: Path, seed: int = 0) -> CpscExtra:
        """Write 60 synthetic ECGs of 6 to 30 s in two folders."""
        names = [f"g{1 + i // 40}/Q{i + 1:04d}" for i in range(60)]
        challenge.write_sample(root, names, _SAMPLE, (10, 15, 6, 30), seed)
        return cls()
