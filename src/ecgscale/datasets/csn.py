"""Chapman-Shaoxing-Ningbo: PhysioNet's `ecg-arrhythmia` 1.0.0 with the rule by which MERL and HeartLang filter it.

A record stays if every code after Dx stands in `ConditionNames_SNOMED-CT.csv` (an empty one, from a doubled or trailing
comma, does not): 23,026 of 45,152, by the lists of MERL (https://github.com/cheliu-computation/MERL-ICML2024,
finetune/preprocess.ipynb), whose first entry for a code gives the label. All records, under other names of labels, are
in `chapman` and `ningbo`; patients are called the same there. A record is its own patient, since the source names none.

MERL looks for an acronym anywhere in the text of all acronyms, so that AFIB also counts as AF, 1AVB as AVB and VB, and
LVQRSAL as SA. `acronyms` = "substring" does the same; the default compares whole acronyms.

The split of 16,546, 1,860 and 4,620 records that both use stands in `chapman_train.csv`, `chapman_val.csv` and
`chapman_test.csv` of the same repository (finetune/data_split/chapman). Put the three files into the folder and set
`splits` to "merl": they become the folds 1, 9 and 10.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal

from ecgscale.data import challenge, tables, wfdb16
from ecgscale.data.record import Record, Rejected
from ecgscale.data.remote import PhysioNet
from ecgscale.datasets import DatasetError, DatasetSpec, portioned

_TABLE = "ConditionNames_SNOMED-CT.csv"
_RECORDS = challenge.Collection("csn", "ecg-arrhythmia", r"JS(\d{5})", "WFDBRecords/01/010/JS00001", 1, 45_551)
_SAMPLE_TABLE = """Acronym Name,Full Name,Snomed_CT
1AVB,1 degree atrioventricular block,270492004
AVB,atrioventricular block,233917008
IDC,Interior differences conduction,698252002
IVB,Intraventricular block,698252002
LVH,left ventricle hypertrophy,164873001
RBBB,right bundle branch block,59118001
TWO,T wave opposite,59931005
SB,Sinus Bradycardia,426177001
SR,Sinus Rhythm,426783006
AFIB,Atrial Fibrillation,164889003
ST,Sinus Tachycardia,427084000
AF,Atrial Flutter,164890007
"""
_SAMPLE = {
    "": "426783006",
    "fast": "427084000",
    "slow": "426177001",
    "wide": "59118001,698252002",
    "tall": "164873001,270492004",
    "inverted": "59931005",
}


class Csn(DatasetSpec):
    """Ten-second ECGs at 500 Hz from Shaoxing and Ningbo whose codes are all named in the source's own table."""

    title: ClassVar[str] = "Chapman-Shaoxing-Ningbo"
    licence: ClassVar[str] = "CC BY 4.0"
    access: ClassVar[str] = "open"
    url: ClassVar[str] = "https://physionet.org/content/ecg-arrhythmia/1.0.0/"
    citation: ClassVar[str] = "Zheng, Guo and Chu 2022, PhysioNet, doi:10.13026/wgex-er52"
    version: ClassVar[str] = "1.0.0"
    files: ClassVar[PhysioNet] = PhysioNet("ecg-arrhythmia/1.0.0")

    acronyms: Literal["whole", "substring"] = "whole"  # "substring": as in MERL's published labels
    splits: Literal["none", "merl"] = "none"  # "merl": the published lists become folds
    checksums: Literal["verify", "ignore"] = "verify"  # of the headers, against damaged files

    def portions(self, root: Path | None) -> Iterator[challenge.Portion]:
        """Yield the records that the rule keeps, by name; their headers are read for it."""
        found = challenge.find(root, _RECORDS, DatasetError)
        assert root is not None
        acronyms = _acronyms(root)
        folds = {}
        if self.splits == "merl":
            folds = challenge.published_folds(root, "chapman", "ecg_path", DatasetError)
        for names in portioned(name for name in found if _kept(root, name, acronyms)):
            of_these = {stem: folds[stem] for stem in map(challenge.stem, names) if stem in folds}
            yield challenge.Portion(tuple(names), tuple(dict.fromkeys(acronyms.values())), of_these)

    def read(self, root: Path | None, portion: challenge.Portion) -> Iterator[Record | Rejected]:
        """Yield these records."""
        assert root is not None
        acronyms = _acronyms(root)

        def labels(said: challenge.Facts) -> dict[str, float]:
            has = [acronyms[code] for code in challenge.codes(said) or ()]
            where = ",".join(has) if self.acronyms == "substring" else has
            return {label: float(label in where) for label in portion.labels}

        for name in portion.records:
            stem = challenge.stem(name)
            patient, fold = challenge.shaoxing_ningbo_patient(stem), portion.folds.get(stem)
            yield challenge.read(root, name, patient, labels, self.checksums == "verify", fold)

    @classmethod
    def sample(cls, root: Path, seed: int = 0) -> Csn:
        """Write 70 synthetic ECGs from both hospitals, of which the rule leaves out five."""
        places = [(1 if i < 40 else 10_607) + i for i in range(70)]
        names = [f"WFDBRecords/{n // 1000 + 1:02d}/{n // 100 + 10:03d}/JS{n:05d}" for n in places]
        challenge.write_sample(root, names[5:], _SAMPLE, (10,), seed)
        challenge.write_sample(root, names[:5], dict.fromkeys(_SAMPLE, "426783006,55930002"), (10,), seed + 1)
        (root / _TABLE).write_text(_SAMPLE_TABLE)
        return cls()


def _acronyms(root: Path) -> dict[str, str]:
    """Return the acronym of each code, the first where the table has several."""
    table = tables.read(root / _TABLE, ["Acronym Name", "Snomed_CT"], DatasetError)
    result: dict[str, str] = {}
    for row in tables.rows(table):
        if row["Snomed_CT"] == row["Snomed_CT"]:
            result.setdefault(str(row["Snomed_CT"]).strip().removesuffix(".0"), str(row["Acronym Name"]).strip())
    return result


def _kept(root: Path, name: str, acronyms: Mapping[str, str]) -> bool:
    try:
        said = challenge.facts(wfdb16.comments(root, name))
    except ValueError:
        return True  # reading the record will say what is wrong with it
    return all(code.strip() in acronyms for code in said.get("dx", "").split(","))
