"""CODE-15 %: `exams.csv` and `exams_part0.hdf5` … `exams_part17.hdf5`, as far as they were downloaded.

Each part holds `tracings` [n, 4096, 12] at 400 Hz and `exam_id` [n] in the same order; leads DI, DII, DIII, AVR, AVL,
AVF, V1 … V6, as https://zenodo.org/records/4916206 has it. That DIII is DII - DI is checked on every record
(`limb_leads`). Recordings of 7 or 10 s are padded with zeros at both ends; what is left after the padding is what the
device wrote, which others found to be anything from nothing to 10.24 s, with a median of 7.33 s. The last row of every
part has the exam_id 0 and no tracing; it stands for no exam and is passed over.

The unit is documented in two ways that contradict each other ("scale 1e-4 V: multiply volts by 1000"). The authors'
own preparation (github.com/antonior92/ecg-preprocessing, README) multiplies millivolts by 2, which agrees with the
amplitudes that others measured (github.com/antonior92/ecg-age-prediction, issues 1 and 5: twice those of other
sources). This is the default; the PhysioNet Challenge 2025 takes the values as millivolts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pandas as pd

from ecgscale.data import cells, hdf5, synthetic, tables
from ecgscale.data.record import Record, Rejected, patient_id
from ecgscale.data.remote import Zenodo
from ecgscale.datasets import PORTION, DatasetError, DatasetSpec, portioned
from ecgscale.units import LEADS

LABELS = ("1dAVb", "RBBB", "LBBB", "SB", "ST", "AF", "normal_ecg")
_COLUMNS = ["exam_id", "age", "is_male", *LABELS, "patient_id", "trace_file"]
_SHAPE = (None, 4096, 12)
_FILLER = "its exam_id is 0, which is no exam, but its tracing is not empty"


class _Exam(NamedTuple):
    """A name, and the exam's row of `exams.csv` or the sentence why it cannot be used."""

    name: str
    said: dict[str, Any] | str


class _Portion(NamedTuple):
    """Rows of one file from `start` on; without `start` every exam has its sentence already."""

    part: str
    start: int | None
    exams: list[_Exam]


class Code15(DatasetSpec):
    """345,779 exams of 233,770 patients, with six abnormalities and whether the ECG is normal."""

    title: ClassVar[str] = "CODE-15 %"
    licence: ClassVar[str] = "CC BY 4.0"
    access: ClassVar[str] = "open"
    url: ClassVar[str] = "https://zenodo.org/records/4916206"
    citation: ClassVar[str] = "Ribeiro et al. 2021, doi:10.5281/zenodo.4916206; Nature Communications 11:1760 (2020)"
    version: ClassVar[str] = "1.0.0"
    files: ClassVar[Zenodo] = Zenodo(4916206, after="unpack every exams_part*.zip in it")

    values_per_mv: Literal[1, 2, 10] = 2  # 2: ecg-preprocessing's --scale 2; 1: Challenge 2025; 10: "scale 1e-4 V"

    def portions(self, root: Path | None) -> Iterator[_Portion]:
        """Yield the rows of the parts that are there, part by part, none of them across two files.

        Exams whose part was not downloaded are no records; exams that their part does not hold are rejected.
        """
        if root is None:
            raise DatasetError("code15 needs the folder of CODE-15 %: bind it with --data code15=PATH")
        exams = _Exams(root / "exams.csv")
        parts = [part for part in exams.parts if _outside(root, part) or (root / part).is_file()]
        if not parts:
            wanted = exams.parts[0] if exams.parts else "exams_part0.hdf5"
            raise DatasetError(
                f"{root} has none of the files that exams.csv names; download at least one part from "
                f"{self.url} and unzip it there, e.g. {wanted}"
            )
        rows = {part: _rows(root, part) for part in parts}
        held = np.concatenate([ids for _, ids in rows.values()])
        for part, found in rows.items():
            yield from _of_part(part, found, exams, held)

    def read(self, root: Path | None, portion: _Portion) -> Iterator[Record | Rejected]:
        """Yield the exams of these rows without their padding; what is no exam of `exams.csv` is rejected."""
        assert root is not None
        part, start, exams = portion
        signals: Iterator[Any] = iter([None] * len(exams))
        try:
            if start is not None:
                scale = 1 / self.values_per_mv
                signals = hdf5.unpadded(root, part, "tracings", _SHAPE, start, start + len(exams), scale)
            for exam, signal in zip(exams, signals, strict=True):
                if exam.said != _FILLER or not isinstance(signal, str) or signal != hdf5.EMPTY:
                    yield _record(exam, signal)
        except hdf5.Hdf5Error as error:  # raised before the first signal
            yield from (Rejected(exam.name, str(error)) for exam in exams)

    @classmethod
    def sample(cls, root: Path, seed: int = 0) -> Code15:
        """Write 64 synthetic exams of 52 patients, of 10 and 7 s: two parts of three, one of them compressed."""
        ecg = synthetic.population(patients=52, records=64, rate_hz=400.0, seed=seed)
        root.mkdir(parents=True, exist_ok=True)
        tracings = np.zeros((64, 4096, 12), np.float32)
        for i in range(64):
            samples = 2800 if i % 4 == 3 else 4000
            begin = (4096 - samples) // 2
            tracings[i, begin : begin + samples] = 2 * ecg.signal[i].T[:samples]
        ids = 1000 + 7 * np.random.default_rng(seed).permutation(64)
        _write(root / "exams_part0.hdf5", ids[:40], tracings[:40])
        _write(root / "exams_part1.hdf5", ids[40:], tracings[40:], chunks=(4, 4096, 12), compression="gzip")
        rows = [_sample_row(i, int(ids[i]), f"exams_part{int(i >= 40)}.hdf5", ecg) for i in range(64)]
        rows += [{**rows[i], "exam_id": 1 + i, "trace_file": "exams_part2.hdf5"} for i in range(3)]
        pd.DataFrame(rows).sort_values("exam_id").to_csv(root / "exams.csv", index=False)
        return cls()


class _Exams:
    """`exams.csv`, looked up by exam."""

    def __init__(self, path: Path) -> None:
        table = tables.read(path, _COLUMNS, DatasetError)
        if not pd.api.types.is_integer_dtype(table["exam_id"]):
            raise DatasetError(
                f"the column exam_id of {path} holds something else than whole numbers; download it again"
            )
        self.twice = set(table["exam_id"][table["exam_id"].duplicated()])
        table = table.drop_duplicates("exam_id")
        self.index = pd.Index(table["exam_id"])
        self.columns = {name: table[name].to_numpy() for name in _COLUMNS}
        names = {str(name) for name in table["trace_file"].dropna()}
        self.parts = sorted(names, key=lambda name: (len(name), name))  # part 2 before part 10

    def of(self, part: str) -> Any:
        """Return the ids that `exams.csv` puts into a part."""
        return self.columns["exam_id"][self.columns["trace_file"] == part]

    def look_up(self, ids: Any, part: str, start: int) -> list[_Exam]:
        """Return the exams of consecutive rows of a part."""
        places = self.index.get_indexer(ids)
        cells = [column[places].tolist() for column in self.columns.values()]  # place -1 gives some row, not used
        rows = (dict(zip(self.columns, row, strict=True)) for row in zip(*cells, strict=True))
        return [
            self._exam(exam, row if place >= 0 else None, f"{part}[{start + i}]")
            for i, (exam, row, place) in enumerate(zip(ids.tolist(), rows, places.tolist(), strict=True))
        ]

    def _exam(self, exam: int, row: dict[str, Any] | None, where: str) -> _Exam:
        if row is None:
            return _Exam(where, _FILLER) if exam == 0 else _Exam(str(exam), f"exams.csv has no exam {exam}")
        return _Exam(str(exam), f"exams.csv lists exam {exam} more than once" if exam in self.twice else row)


def _rows(root: Path, part: str) -> tuple[hdf5.Layout | str, Any]:
    """Return the layout of a part, or why it cannot be read, and the exam ids of its rows."""
    try:
        layout = hdf5.layout(root, part, "tracings", _SHAPE)
        return layout, hdf5.whole(root, part, "exam_id", (layout.rows,)).astype(np.int64)
    except hdf5.Hdf5Error as error:
        return str(error), np.empty(0, np.int64)


def _of_part(part: str, found: tuple[hdf5.Layout | str, Any], exams: _Exams, held: Any) -> Iterator[_Portion]:
    """Yield a part's portions; `held`: the exams of all parts, since an exam is used wherever it lies."""
    (layout, ids), listed = found, exams.of(part)
    if isinstance(layout, str):
        yield from _rejected(part, listed[~np.isin(listed, held)], layout)
        return
    for start, stop in layout.spans(PORTION):
        yield _Portion(part, start, exams.look_up(ids[start:stop], part, start))
    yield from _rejected(part, listed[~np.isin(listed, held)], f"exams.csv puts it into {part}, which does not hold it")


def _rejected(part: str, ids: Any, reason: str) -> Iterator[_Portion]:
    for exams in portioned(_Exam(str(exam), reason) for exam in ids.tolist()):
        yield _Portion(part, None, exams)


def _outside(root: Path, part: str) -> bool:
    return not (root / part).resolve().is_relative_to(root.resolve())


def _record(exam: _Exam, signal: Any) -> Record | Rejected:
    name, said = exam
    for reason in (signal, said):
        if isinstance(reason, str):
            return Rejected(name, reason)
    assert isinstance(said, dict)
    try:
        return Record(
            signal=signal,
            unit="mV",
            rate_hz=400.0,
            leads=LEADS,
            record=name,
            patient=patient_id("code", said["patient_id"]),  # CODE-15 % is a part of CODE
            age=cells.number("age", said["age"]),
            sex={1.0: "M", 0.0: "F"}.get(cells.flag("is_male", said["is_male"])),
            labels={label: cells.flag(label, said[label]) for label in LABELS},
        )
    except ValueError as error:
        return Rejected(name, str(error))


def _write(path: Path, ids: Any, tracings: Any, **storage: Any) -> None:
    import h5py

    path.unlink(missing_ok=True)  # it may still be open for reading
    with h5py.File(path, "w") as file:
        file["exam_id"] = np.append(ids, 0)
        file.create_dataset("tracings", data=np.concatenate([tracings, np.zeros_like(tracings[:1])]), **storage)


def _sample_row(i: int, exam: int, part: str, ecg: synthetic.Population) -> dict[str, object]:
    has = {name: bool(values[i]) for name, values in ecg.labels.items()}
    age = int(ecg.age[i])
    return {
        "exam_id": exam,
        "age": age,
        "is_male": not ecg.female[i],
        "nn_predicted_age": age + 0.5,
        "1dAVb": has["inverted"],
        "RBBB": has["wide"],
        "LBBB": has["tall"],
        "SB": has["slow"],
        "ST": has["fast"],
        "AF": has["fast"] and has["tall"],
        "patient_id": int(ecg.patient[i]),
        "death": None if i % 3 else False,
        "timey": None if i % 3 else 2.5,
        "normal_ecg": not any(has.values()),
        "trace_file": part,
    }
