"""The Georgia 12-lead ECG database of the PhysioNet/CinC challenges 2020 and 2021, `E00001` … in g1, g2 … or flat.

A record is its own patient, since the source names none. Its labels are the SNOMED CT codes that occur in its headers,
under the challenge's abbreviations (`ecgscale.data.snomed`). Records last 5 to 10 s.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from ecgscale.data import challenge
from ecgscale.data.record import Record, Rejected, patient_id
from ecgscale.data.remote import PhysioNet
from ecgscale.datasets import PORTION, DatasetError, DatasetSpec

_RECORDS = challenge.Collection("georgia", "the Georgia 12-lead ECG database", r"E(\d{5})", "E00001")
_SAMPLE = {
    "": "426783006",
    "fast": "427084000",
    "slow": "426177001",
    "wide": "59118001",
    "tall": "164873001,251238007",
    "inverted": "59931005",
}


class Georgia(DatasetSpec):
    """10,344 ECGs at 500 Hz from Emory University, Atlanta, with SNOMED CT codes."""

    title: ClassVar[str] = "Georgia 12-lead ECG challenge database"
    licence: ClassVar[str] = "CC BY 4.0"
    access: ClassVar[str] = "open"
    url: ClassVar[str] = "https://physionet.org/content/challenge-2021/1.0.3/"
    citation: ClassVar[str] = (
        "Perez Alday et al. 2020, Physiological Measurement 41:124003, doi:10.1088/1361-6579/abc960"
    )
    version: ClassVar[str] = "challenge-2021 1.0.3"
    files: ClassVar[PhysioNet] = PhysioNet("challenge-2021/1.0.3", folder="training/georgia", size=1_250_000_000)

    checksums: Literal["verify", "ignore"] = "verify"  # of the headers, against damaged files

    def portions(self, root: Path | None) -> Iterator[challenge.Portion]:
        """Yield the records by name, with the labels of all: every header is read for its codes first."""
        yield from challenge.portions(root, _RECORDS, DatasetError, PORTION)

    def read(self, root: Path | None, portion: challenge.Portion) -> Iterator[Record | Rejected]:
        """Yield these records; one without any code is unknown in all labels."""
        assert root is not None
        yield from challenge.read_all(
            root, portion, self.checksums == "verify", lambda name: patient_id("georgia", name)
        )

    @classmethod
    def sample(cls, root: Path, seed: int = 0) -> Georgia:
        """Write 60 synthetic ECGs of 5 to 10 s in two folders."""
        names = [f"g{1 + i // 40}/E{i + 1:05d}" for i in range(60)]
        challenge.write_sample(root, names, _SAMPLE, (10, 10, 8.5, 5), seed)
        return cls()
