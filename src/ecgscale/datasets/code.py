"""CODE, the whole data set that is given on request, and CODE-test, its 827 openly published exams.

Three layouts, of which `layout` names one:

- "wfdb", what the README of the data set describes: `annotations.csv` (id_exam, id_patient, age, sex, six
  abnormalities, date_exam), `RECORDS.txt` and records `S0000000/TNMG1_N1` (exam 1, first of several recordings made in
  quick succession; the published models use the first). Rate, unit and leads are the headers'. Where a record holds
  just the eight leads that were recorded, DI, DII, V1 … V6, the other four are computed from I and II as in the HDF5
  files. Exams without an annotation are rejected: their patient is unknown.
- "hdf5", the preprocessed file that the README only mentions: `tracings` [n, 4096, 12] and ids, as in CODE-15 %. Its
  name, and that of its ids, is not published, so both are fields.
- "test", CODE-test (doi:10.5281/zenodo.3765780): `ecg_tracings.hdf5`, `attributes.csv` and
  `annotations/gold_standard.csv`, row by row about the same exam. All exams are of different patients.

The HDF5 files are at 400 Hz with zeros at both ends, leads DI, DII, DIII, AVR, AVL, AVF, V1 … V6, in twice the
millivolts: that is written of CODE-15 % (github.com/antonior92/ecg-preprocessing) and assumed of these, since the same
models are fed with all of them; the documentation's "scale 1e-4 V" contradicts itself. The ids of exams and patients
are assumed to be those of CODE-15 %, which is a part of CODE.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pandas as pd

from ecgscale.data import cells, hdf5, synthetic, tables, wfdb16
from ecgscale.data.record import Record, Rejected, patient_id
from ecgscale.data.signal import derive_limb_leads
from ecgscale.datasets import PORTION, DatasetError, DatasetSpec, portioned
from ecgscale.units import LEADS, lead_name, unit_name

LABELS = ("1dAVb", "RBBB", "LBBB", "SB", "AF", "ST")
_COLUMNS = ["id_exam", "id_patient", "age", "sex", *LABELS]
_SHAPE = (None, 4096, 12)
_RECORD = re.compile(r"TNMG(\d+)_N(\d+)$")
_NAMELESS = "its name says no exam; expected TNMG<exam>_N<number>"
_RECORDED = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")


class _Exam(NamedTuple):
    """A name, the record's path or row, and its row of the table or the sentence why it cannot be used."""

    name: str
    place: str | int
    said: dict[str, Any] | str


class Code(DatasetSpec):
    """2,322,465 annotated exams of 1,558,748 patients, or the 827 exams of CODE-test, with six abnormalities."""

    title: ClassVar[str] = "CODE"
    licence: ClassVar[str] = "by agreement with the Telehealth Network of Minas Gerais; CODE-test CC BY 4.0"
    access: ClassVar[str] = "on request"
    url: ClassVar[str] = "https://doi.org/10.17044/scilifelab.15169716.v1"
    citation: ClassVar[str] = "Ribeiro et al. 2020, Nature Communications 11:1760, doi:10.1038/s41467-020-15432-4"
    version: ClassVar[str] = "1"

    layout: Literal["wfdb", "hdf5", "test"] = "wfdb"  # see above
    annotations: str = "annotations.csv"  # wfdb, hdf5: the table of exams below the root
    listing: str = "RECORDS.txt"  # wfdb: the list of records; the paths in it start from its folder
    recordings: Literal["first", "all"] = "first"  # wfdb: of each exam
    tracings: str = "tracings.hdf5"  # hdf5: the file below the root; its name is not published
    ids: str = "exam_id"  # hdf5: the dataset of exam ids; "": the rows are in the order of the annotations
    values_per_mv: Literal[1, 2, 10] = 2  # hdf5, test: as for code15

    def portions(self, root: Path | None) -> Iterator[list[_Exam]]:
        """Yield the exams in the order of the records or rows."""
        if root is None:
            raise DatasetError("code needs the folder of CODE or CODE-test: bind it with --data code=PATH")
        try:
            if self.layout == "test":
                yield from _of_test(root)
            elif self.layout == "hdf5":
                yield from self._of_file(root)
            else:
                yield from self._of_records(root)
        except hdf5.Hdf5Error as error:
            raise DatasetError(str(error)) from None

    def read(self, root: Path | None, portion: list[_Exam]) -> Iterator[Record | Rejected]:
        """Yield the records of these exams; rows of HDF5 files come without their padding."""
        assert root is not None
        if self.layout == "wfdb":
            for exam in portion:
                yield _wfdb_record(root, exam)
            return
        file, start = self._file(), int(portion[0].place)
        try:
            signals = hdf5.unpadded(root, file, "tracings", _SHAPE, start, start + len(portion), 1 / self.values_per_mv)
            for exam, signal in zip(portion, signals, strict=True):
                yield Rejected(exam.name, signal) if isinstance(signal, str) else _record(exam, signal, 400.0, LEADS)
        except hdf5.Hdf5Error as error:  # raised before the first signal
            yield from (Rejected(exam.name, str(error)) for exam in portion)

    @classmethod
    def sample(cls, root: Path, seed: int = 0) -> Code:
        """Write 64 synthetic exams of 52 patients in all three layouts and return the spec of the first."""
        ecg = synthetic.population(patients=52, records=64, rate_hz=400.0, seed=seed)
        table = pd.DataFrame(
            {
                "id_exam": np.arange(1, 65),
                "id_patient": ecg.patient,
                "age": ecg.age.astype(int),
                "sex": np.where(ecg.female, "F", "M"),
                **{label: ecg.labels[name].astype(int) for label, name in _SAMPLE_LABELS.items()},
                "date_exam": "2015-03-02",
            }
        )
        (root / "annotations").mkdir(parents=True, exist_ok=True)
        table.to_csv(root / "annotations.csv", index=False)
        table[["age", "sex"]].to_csv(root / "attributes.csv", index=False)
        table[list(LABELS)].to_csv(root / "annotations" / "gold_standard.csv", index=False)
        _write_records(root, ecg.signal)
        _write_tracings(root / "tracings.hdf5", ecg.signal, np.arange(64, 0, -1))
        _write_tracings(root / "ecg_tracings.hdf5", ecg.signal, None)
        return cls()

    def _file(self) -> str:
        return "ecg_tracings.hdf5" if self.layout == "test" else self.tracings

    def _of_file(self, root: Path) -> Iterator[list[_Exam]]:
        annotated = _Annotations(hdf5.below(root, self.annotations))
        layout = hdf5.layout(root, self.tracings, "tracings", _SHAPE)
        if self.ids:
            ids = hdf5.whole(root, self.tracings, self.ids, (layout.rows,)).astype(np.int64)
        else:
            ids = annotated.in_order(layout.rows, self.tracings)
        for start, stop in layout.spans(PORTION):
            exams = ids[start:stop].tolist()
            said = annotated.look_up(exams)
            yield [_Exam(str(exam), start + i, row) for i, (exam, row) in enumerate(zip(exams, said, strict=True))]

    def _of_records(self, root: Path) -> Iterator[list[_Exam]]:
        annotated = _Annotations(hdf5.below(root, self.annotations))
        listing = hdf5.below(root, self.listing)
        if not listing.is_file():
            raise DatasetError(f"{listing} does not exist; `listing` names the list of records below {root}")
        folder = listing.parent.relative_to(root)
        with listing.open() as lines:
            for portion in portioned(self._wanted(line.strip() for line in lines)):
                said = annotated.look_up([exam for _, exam in portion])
                yield [
                    _Exam(Path(path).name, str(folder / path), row if exam >= 0 else _NAMELESS)
                    for (path, exam), row in zip(portion, said, strict=True)
                ]

    def _wanted(self, paths: Iterator[str]) -> Iterator[tuple[str, int]]:
        """Yield path and exam of the records that are asked for; -1 for a name that says no exam."""
        for path in paths:
            found = _RECORD.search(path)
            if path and (found is None or self.recordings == "all" or int(found[2]) == 1):
                yield path, int(found[1]) if found else -1


class _Annotations:
    """The table of exams, looked up by exam."""

    def __init__(self, path: Path) -> None:
        table = tables.read(path, _COLUMNS, DatasetError)
        if table.empty or not pd.api.types.is_integer_dtype(table["id_exam"]):
            raise DatasetError(f"the column id_exam of {path} is empty or holds something else than whole numbers")
        self.path = path
        self.ids = table["id_exam"].to_numpy()
        self.twice = set(table["id_exam"][table["id_exam"].duplicated()])
        table = table.drop_duplicates("id_exam")
        self.index = pd.Index(table["id_exam"])
        self.columns = {name: table[name].to_numpy() for name in _COLUMNS}

    def in_order(self, rows: int, file: str) -> Any:
        """Return the ids, one per row of a file without ids."""
        if len(self.ids) != rows:
            raise DatasetError(f"{self.path} has {len(self.ids)} rows and {file} {rows} tracings; name the `ids`")
        return self.ids

    def look_up(self, exams: list[int]) -> list[dict[str, Any] | str]:
        """Return the row of each exam, or why there is none."""
        places = self.index.get_indexer(exams)
        cells = [column[places].tolist() for column in self.columns.values()]  # place -1 gives some row, not used
        rows = (dict(zip(self.columns, row, strict=True)) for row in zip(*cells, strict=True))
        return [
            f"{self.path.name} has no exam {exam}: its patient is unknown"
            if place < 0
            else f"{self.path.name} lists exam {exam} more than once"
            if exam in self.twice
            else row
            for exam, row, place in zip(exams, rows, places.tolist(), strict=True)
        ]


def _of_test(root: Path) -> Iterator[list[_Exam]]:
    people = tables.read(root / "attributes.csv", ["age", "sex"], DatasetError)
    labels = tables.read(root / "annotations" / "gold_standard.csv", list(LABELS), DatasetError)
    layout = hdf5.layout(root, "ecg_tracings.hdf5", "tracings", _SHAPE)
    if {len(people), len(labels)} != {layout.rows}:
        raise DatasetError(
            f"{root}: attributes.csv has {len(people)} rows, annotations/gold_standard.csv {len(labels)} and "
            f"ecg_tracings.hdf5 {layout.rows} tracings; they must be about the same exams"
        )
    rows = tables.rows(pd.concat([people, labels], axis=1))
    for start, stop in layout.spans(PORTION):
        yield [_Exam(str(i + 1), i, {**rows[i], "id_patient": f"test-{i + 1}"}) for i in range(start, stop)]


def _wfdb_record(root: Path, exam: _Exam) -> Record | Rejected:
    if isinstance(exam.said, str):
        return Rejected(exam.name, exam.said)
    try:
        read = wfdb16.read(root, str(exam.place))
        names = tuple(lead_name(name.removeprefix("D")) for name in read.leads)
        units = {unit_name(unit) for unit in read.units}
    except ValueError as error:
        return Rejected(exam.name, str(error))
    if len(units) != 1:
        return Rejected(exam.name, f"the leads have different units: {', '.join(sorted(units))}")
    signal, leads = read.physical, names
    if set(names) == set(_RECORDED):
        twelve, leads, _, _ = derive_limb_leads(signal[None], names, np.ones((1, len(names)), bool))
        signal = twelve[0]
    return _record(exam, signal, read.rate_hz, leads, units.pop())


def _record(exam: _Exam, signal: Any, rate_hz: float, leads: tuple[str, ...], unit: str = "mV") -> Record | Rejected:
    name, _, said = exam
    if isinstance(said, str):
        return Rejected(name, said)
    sex = str(said["sex"]).strip().upper()
    try:
        return Record(
            signal=signal,
            unit=unit,
            rate_hz=rate_hz,
            leads=leads,
            record=name,
            patient=patient_id("code", said["id_patient"]),
            age=cells.number("age", said["age"]),
            sex=sex if sex in ("F", "M") else None,
            labels={label: cells.flag(label, said[label]) for label in LABELS},
        )
    except ValueError as error:
        return Rejected(name, str(error))


_SAMPLE_LABELS = {"1dAVb": "inverted", "RBBB": "wide", "LBBB": "tall", "SB": "slow", "AF": "inverted", "ST": "fast"}


def _write_records(root: Path, signals: Any) -> None:
    """Write the eight recorded leads as MATLAB files of format 16, 24 bytes of header before the samples."""
    (root / "S0000000").mkdir(parents=True, exist_ok=True)
    eight = [LEADS.index(lead) for lead in _RECORDED]
    names = ("DI", "DII", *_RECORDED[2:])
    recordings = [(i + 1, n) for i in range(len(signals)) for n in ((1, 2) if i % 3 == 0 else (1,))]
    for exam, n in recordings:
        signal = np.roll(signals[exam - 1][eight], 100 * (n - 1), axis=1)
        path = root / "S0000000" / f"TNMG{exam}_N{n}"
        wfdb16.write(path, signal, names, 400.0)
        header, samples = path.with_suffix(".hea"), path.with_suffix(".dat")
        header.write_text(header.read_text().replace(f"{samples.name} 16 ", f"{path.name}.mat 16+24 "))
        start = np.array([30, 8, signal.shape[1], 0, 4], "<i4").tobytes() + b"val\0"
        path.with_suffix(".mat").write_bytes(start + samples.read_bytes())
        samples.unlink()
    (root / "RECORDS.txt").write_text("".join(f"S0000000/TNMG{exam}_N{n}\n" for exam, n in recordings))


def _write_tracings(path: Path, signals: Any, ids: Any) -> None:
    """Write twice the millivolts between zeros, in the order of `ids`, the numbers of the signals from 1."""
    import h5py

    tracings = np.zeros((len(signals), 4096, 12), np.float32)
    tracings[:, 48:4048] = 2 * signals.transpose(0, 2, 1)
    path.unlink(missing_ok=True)  # it may still be open for reading
    with h5py.File(path, "w") as file:
        file["tracings"] = tracings if ids is None else tracings[ids - 1]
        if ids is not None:
            file["exam_id"] = ids
