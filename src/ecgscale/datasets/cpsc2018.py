"""The China Physiological Signal Challenge 2018 as in the PhysioNet/CinC challenges: `A0001` … in g1, g2 … or flat.

Its nine classes are SNOMED CT codes there, under the challenge's abbreviations (`ecgscale.data.snomed`): NSR, AF, IAVB,
LBBB, RBBB, PAC, VEB (premature ventricular beats), STD and STE. A record is its own patient, since the source names
none. Records last 6 to 60 s.

The split of 4,950, 551 and 1,376 records that HeartLang and MERL use stands in `icbeb_train.csv`, `icbeb_val.csv` and
`icbeb_test.csv` of https://github.com/cheliu-computation/MERL-ICML2024 (finetune/data_split/icbeb). Put the three files
into the folder and set `splits` to "merl": they become the folds 1, 9 and 10.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from ecgscale.data import challenge
from ecgscale.data.record import Record, Rejected, patient_id
from ecgscale.data.remote import PhysioNet
from ecgscale.datasets import DatasetError, DatasetSpec, portioned

_RECORDS = challenge.Collection("cpsc2018", "CPSC 2018", r"A(\d{4})", "A0001")
_CLASSES = {"NSR", "AF", "IAVB", "LBBB", "RBBB", "PAC", "VEB", "STD", "STE"}
_SAMPLE = {
    "": "426783006",
    "fast": "164889003",
    "slow": "270492004",
    "wide": "59118001",
    "tall": "164931005",
    "inverted": "429622005",
}


class Cpsc2018(DatasetSpec):
    """6,877 ECGs at 500 Hz from 11 hospitals in China, with nine classes."""

    title: ClassVar[str] = "CPSC 2018"
    licence: ClassVar[str] = "CC BY 4.0"
    access: ClassVar[str] = "open"
    url: ClassVar[str] = "https://physionet.org/content/challenge-2021/1.0.3/"
    citation: ClassVar[str] = "Liu et al. 2018, J. Med. Imaging Health Inform. 8:1368-1373, doi:10.1166/jmihi.2018.2442"
    version: ClassVar[str] = "challenge-2021 1.0.3"
    files: ClassVar[PhysioNet] = PhysioNet("challenge-2021/1.0.3", folder="training/cpsc_2018")

    splits: Literal["none", "merl"] = "none"  # "merl": the published lists become folds
    checksums: Literal["verify", "ignore"] = "verify"  # of the headers, against damaged files

    def portions(self, root: Path | None) -> Iterator[challenge.Portion]:
        """Yield the records by name, with the nine classes and any other code that a header holds."""
        found = challenge.find(root, _RECORDS, DatasetError)
        assert root is not None
        labels = tuple(sorted(_CLASSES.union(challenge.label_names(root, found))))
        folds = {}
        if self.splits == "merl":
            folds = challenge.published_folds(root, "icbeb", "filename", DatasetError)
        for names in portioned(found):
            of_these = {stem: folds[stem] for stem in map(challenge.stem, names) if stem in folds}
            yield challenge.Portion(tuple(names), labels, of_these)

    def read(self, root: Path | None, portion: challenge.Portion) -> Iterator[Record | Rejected]:
        """Yield these records; one without any code is unknown in all labels."""
        assert root is not None
        verify = self.checksums == "verify"
        yield from challenge.read_all(root, portion, verify, lambda name: patient_id("cpsc2018", name))

    @classmethod
    def sample(cls, root: Path, seed: int = 0) -> Cpsc2018:
        """Write 60 synthetic ECGs of 6 to 60 s in two folders; that they show some of the classes is only claimed."""
        names = [f"g{1 + i // 40}/A{i + 1:04d}" for i in range(60)]
        challenge.write_sample(root, names, _SAMPLE, (10, 15, 6, 10, 60), seed)
        return cls()
