"""The Harvard-Emory ECG Database as the Brain Data Science Platform lays it out: a folder for each institution, I0001
(Massachusetts General Hospital) and I0006 (Emory), with `metadata/metadata.csv`, `12SL_diagnoses/` and `WFDB/`.

The description at bdsp.io/content/heedb does not give the columns; they were taken from public code that reads version
5.0. Three things rest on that code alone: that AgeAtAcquisition is in days, how each table spells a FileName (see
`_bare`), and that sex is written as a word or its first letter. Labels are NaN where a table does not know.
`female`: from the metadata.
`12sl_<code>`: the statements of an ECG hold this code of `diagnoses_dictionary.csv`; unknown where there are none.
Statements are made by a program, and not all are read over by a physician. ICD codes belong to patients and dates, not
to ECGs, and are not read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import PositiveInt

from ecgscale.data import synthetic, tables, wfdb16
from ecgscale.data.record import Record, Rejected, patient_id
from ecgscale.datasets import DatasetError, DatasetSpec, portioned
from ecgscale.units import LEADS, lead_name, unit_name

Institution = Literal["I0001", "I0006"]

_ROWS = 8192  # of a table held at once
_DAYS_A_YEAR = 365.2425
_METADATA = "metadata/metadata.csv"
_SEX_COLUMN = {"I0001": "SexDSC", "I0006": "Sex"}
_SEX = {"f": "F", "female": "F", "m": "M", "male": "M"}
_STATEMENTS = {
    "physician": ("diagnoses_acquisition.csv", "codes_physician"),
    "acquisition": ("diagnoses_acquisition.csv", "codes_software"),
    "v24": ("diagnoses_v24.csv", "codes"),
}


class Heedb(DatasetSpec):
    """11.6 million ten-second ECGs of 2.2 million patients at 250 or 500 Hz."""

    title: ClassVar[str] = "Harvard-Emory ECG Database"
    licence: ClassVar[str] = "Data use agreement of the Brain Data Science Platform"
    access: ClassVar[str] = "credentialed"
    url: ClassVar[str] = "https://bdsp.io/content/heedb/5.0"
    citation: ClassVar[str] = "Koscova et al. 2026, doi:10.60508/rv6h-7d10; doi:10.1101/2024.09.27.24314503"
    version: ClassVar[str] = "5.0"

    institutions: tuple[Institution, ...] = ("I0001", "I0006")  # folders below the root, in the order they are read
    codes: tuple[PositiveInt, ...] = ()  # statement codes of 12SL, each a label
    read_by: Literal["physician", "acquisition", "v24"] = "physician"  # else 12SL at the time, or again by version 24

    def label_names(self) -> list[str]:
        """Return the names of the labels: sex, then the codes."""
        return ["female", *(f"12sl_{code}" for code in self.codes)]

    def portions(self, root: Path | None) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows of `metadata.csv`, institution after institution.

        The metadata is streamed. Where codes are asked for, the statements of an institution are held: eight bytes an
        ECG for a hash of its name and a bit for each code, three times that while they are sorted. The probability that
        any two ECGs of an institution share a hash, and so their labels, is 3 in a million.
        """
        if root is None:
            raise DatasetError("heedb needs the folder that holds I0001 and I0006: bind it with --data heedb=PATH")
        for institution in self.institutions:
            yield from portioned(self._rows(root, institution))

    def read(self, root: Path | None, portion: list[dict[str, Any]]) -> Iterator[Record | Rejected]:
        """Yield the records of these rows, named institution/FileName."""
        assert root is not None
        names = self.label_names()
        for row in portion:
            try:
                yield _record(root, row, dict(zip(names, row["labels"], strict=True)))
            except ValueError as error:
                yield Rejected(f"{row['institution']}/{row['file'] or 'without a name'}", str(error))

    def stamp(self, root: Path | None) -> str:
        """Return a fingerprint of the tables only: to look at 23 million signal files would take hours."""
        hasher = hashlib.sha256()
        tables = [_METADATA, f"12SL_diagnoses/{_STATEMENTS[self.read_by][0]}"] if self.codes else [_METADATA]
        for name in (f"{institution}/{table}" for institution in self.institutions for table in tables):
            path = (root or Path()) / name
            status = path.stat() if root and path.is_file() else None
            hasher.update(f"{name}|{status and (status.st_size, status.st_mtime_ns)}\n".encode())
        return hasher.hexdigest()[:16]

    @classmethod
    def sample(cls, root: Path, seed: int = 0) -> Heedb:
        """Write 84 synthetic ECGs of 60 patients of both institutions; which code means which trait is arbitrary."""
        ecg = synthetic.population(patients=60, records=84, rate_hz=500.0, seed=seed)
        for institution, rows in (("I0001", range(48)), ("I0006", range(48, 84))):
            _write_sample(root / institution, institution, ecg, rows)
        return cls(codes=tuple(_SAMPLE_CODES.values()))

    def _rows(self, root: Path, institution: Institution) -> Iterator[dict[str, Any]]:
        sex, statements = _SEX_COLUMN[institution], None
        wanted = ["BDSPPatientID", "FileName", sex, "AgeAtAcquisition"]
        for chunk in tables.stream(root, f"{institution}/{_METADATA}", wanted, DatasetError, _ROWS):
            statements = statements or _Statements(root, institution, self.codes, self.read_by)
            files = _bare(chunk["FileName"])
            sexes = [_SEX.get(text.lower()) for text in _texts(chunk[sex])]
            female = [np.nan if one is None else float(one == "F") for one in sexes]
            columns = {
                "file": files,
                "patient": _texts(chunk["BDSPPatientID"]),
                "sex": sexes,
                "days": _texts(chunk["AgeAtAcquisition"]),
                "labels": [[f, *codes] for f, codes in zip(female, statements.of(files), strict=True)],
            }
            for row in zip(*columns.values(), strict=True):
                yield {"institution": institution, **dict(zip(columns, row, strict=True))}


class _Statements:
    """Which codes the statements of an ECG hold."""

    def __init__(self, root: Path, institution: str, codes: tuple[int, ...], read_by: str) -> None:
        file, column = _STATEMENTS[read_by]
        self.count, self.bit = len(codes), {str(code): 2 << i for i, code in enumerate(codes)}
        keys, bits = [np.zeros(0, np.uint64)], [self._bits([])]
        name = f"{institution}/12SL_diagnoses/{file}"
        for chunk in tables.stream(root, name, ["FileName", column], DatasetError, _ROWS) if codes else ():
            keys.append(_hashes(_bare(chunk["FileName"])))
            bits.append(self._bits(_texts(chunk[column])))
        joined = np.concatenate(keys)
        order = np.argsort(joined, kind="stable")
        self.keys, self.bits = joined[order], np.concatenate(bits)[order]

    def of(self, files: list[str]) -> list[list[float]]:
        """Return a value for each file and code."""
        wanted = _hashes(files)
        place = np.searchsorted(self.keys, wanted)
        found = place < len(self.keys)
        found[found] = self.keys[place[found]] == wanted[found]
        packed = np.zeros((len(files), self.bits.shape[1]), np.uint8)
        packed[found] = self.bits[place[found]]
        bits = np.unpackbits(packed, axis=1, count=self.count + 1, bitorder="little")
        values: list[list[float]] = np.where(bits[:, :1] > 0, bits[:, 1:], np.nan).tolist()
        return values

    def _bits(self, texts: list[str]) -> npt.NDArray[np.uint8]:
        """Return [row, byte]: a bit for "has any statement", then one for each code."""
        masks, width = [], self.count // 8 + 1
        for text in texts:
            said = [word.strip() for word in text.split(",") if word.strip()]
            masks.append(sum({self.bit.get(word, 0) for word in said}, int(bool(said))).to_bytes(width, "little"))
        return np.frombuffer(b"".join(masks), np.uint8).reshape(len(masks), width)


def _texts(column: pd.Series) -> list[str]:
    return [text.strip() if isinstance(text, str) else "" for text in column]


def _bare(names: pd.Series) -> list[str]:
    """Return names of records below WFDB/, whichever table they come from.

    The metadata write /S0001/1988/04/de_1 and WFDB/2010/MUSE_1; version 24 of the statements ./S0001/1988/04/de_1.hea
    with the end of a line.
    """
    bare = [text.removeprefix("./").removeprefix("/").removeprefix("WFDB/") for text in _texts(names)]
    return [text.removesuffix(".hea") for text in bare]


def _hashes(names: list[str]) -> npt.NDArray[np.uint64]:
    return np.asarray(pd.util.hash_array(np.array(names, dtype=object), categorize=False), np.uint64)


def _record(root: Path, row: dict[str, Any], labels: dict[str, float]) -> Record:
    if not row["file"]:
        raise ValueError("the FileName is empty in metadata.csv")
    try:
        age = float(row["days"]) / _DAYS_A_YEAR if row["days"] else None
    except ValueError:
        raise ValueError(f"AgeAtAcquisition is {row['days']!r} in metadata.csv; expected days") from None
    read = wfdb16.read(root, f"{row['institution']}/WFDB/{row['file']}")
    return Record(
        signal=read.physical,
        unit=unit_name(read.units[0]),
        rate_hz=read.rate_hz,
        leads=tuple(lead_name(lead) for lead in read.leads),
        record=f"{row['institution']}/{row['file']}",
        patient=patient_id("bdsp", row["patient"]),
        age=age,
        sex=row["sex"],
        labels=labels,
    )


_SAMPLE_CODES = {"fast": 22, "slow": 161, "wide": 440, "tall": 460, "inverted": 1699}
_SAMPLE_COLUMNS = {
    "I0001": "BDSPPatientID FileName FileID PatientRace EthnicGroupDSC MaritalStatusDSC ReligionDSC LanguageDSC "
    "VeteranStatusDSC SexDSC PrimaryCauseOfDeathDSC PrimaryCauseOfDeathUNOS FirstContributoryCauseOfDeathDSC "
    "FirstContributoryCauseOfDeathUNOS SecondContributoryCauseOfDeathDSC SecondContributoryCauseOfDeathUNOS "
    "EducationLevelDSC GenderIdentityDSC SexAssignedAtBirthDSC DateOfDeath DateOfDeathMARegistryData "
    "LastKnownVisitDate ECGAcquisitionTime DateOfBirth AgeAtAcquisition AgeAtDeath AgeAtDeathMA AgeAtLastVisit",
    "I0006": "BDSPPatientID FileName FileID PatientRace Sex ECGAcquisitionTime DateOfBirth LastKnownVisitDate "
    "DateOfDeath AgeAtAcquisition AgeAtLastVisit AgeAtDeath",
}


def _write_sample(folder: Path, institution: str, ecg: synthetic.Population, rows: range) -> None:
    """Write one institution; every third record is sampled at 250 Hz.

    Its second record has neither sex nor age, its third no statements, its fourth none read by a physician.
    """
    harvard = institution == "I0001"
    listed: list[dict[str, object]] = []
    for n, i in enumerate(rows):
        person, time = int(ecg.patient[i]) + (114_877_000 if harvard else 179_020_000), f"{1975 + n}0413153000"
        file = f"S000{n % 4 + 1}/{1975 + n}/04/de_{person}_{time}_{time}" if harvard else f"2010/MUSE_{time}_{i}000"
        path, step = folder / "WFDB" / file, 2 if n % 3 == 0 else 1
        path.parent.mkdir(parents=True, exist_ok=True)
        suffixes = (".mat",) * 12 if harvard else None
        wfdb16.write(path, ecg.signal[i, :, ::step], LEADS, 500.0 / step, suffixes=suffixes)
        codes = "831" + "".join(f", {code}" for name, code in _SAMPLE_CODES.items() if ecg.labels[name][i])
        listed.append(
            {
                "BDSPPatientID": person if harvard else f"{person}.0",
                "FileName": f"/{file}" if harvard else f"WFDB/{file}",
                "FileID": path.name,
                _SEX_COLUMN[institution]: None if n == 1 else "Female" if ecg.female[i] else "Male",
                "AgeAtAcquisition": None if n == 1 else float(round(ecg.age[i] * _DAYS_A_YEAR)),
                "codes_software": codes,
                "codes_physician": None if n == 3 else codes,
                "jaccard_index": 1.0,
                "codes": codes,
            }
        )
    said = pd.DataFrame(listed)[::-1].drop(index=2)
    again = said.assign(FileName="." + said["FileName"] + ".hea\n") if harvard else said
    tables = {
        _METADATA: pd.DataFrame(listed).reindex(columns=_SAMPLE_COLUMNS[institution].split()),
        "12SL_diagnoses/diagnoses_acquisition.csv": said[
            ["FileName", "codes_software", "codes_physician", "jaccard_index"]
        ],
        "12SL_diagnoses/diagnoses_v24.csv": again[["FileName", "codes"]],
    }
    for name, table in tables.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(folder / name, index=False)
