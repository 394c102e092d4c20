"""MIMIC-IV-ECG in its own layout, `record_list.csv` and WFDB records below `files/`; sex, age, folds and outcomes come
from tables of its sister data sets, where the spec says where they lie below the root.

Labels are NaN where a table does not know.
`female`: MIMIC-IV's gender.
`icu_24h`, `icu_stay`, `mortality_1d` … `mortality_365d`, `mortality_stay`: the rules of MDS-ED (Alcaraz et al. 2024,
arXiv:2407.17856). Known for ECGs within 90 minutes of arrival in the emergency department and before leaving it; an
event earlier than 1.5 hours after arrival makes its labels unknown. Three choices are ours where the published code
depends on the order of its tables: the latest of two overlapping arrivals, the earliest stay in intensive care, and
the admission that the emergency stay led to instead of the one during which the ECG was taken. MDS-ED also leaves out
visits without a discharge diagnosis.
`deterioration_*`, and numbers (`values`) but for intervals and axes: as a table has them that names studies. MDS-ED's
are of this kind; whether its release has these names of columns was not seen.
`RR`, `QRS`, `QT`, `QTc` and axes: from the onsets and ends in `machine_measurements.csv`; QTc is Bazett's.
`icd10_<code>`: a discharge diagnosis (`all_diag_all` of MIMIC-IV-ECG-Ext-ICD) begins with the code; unknown where no
diagnosis is linked, as for four in ten ECGs. Which codes: a list, or those that enough ECGs carry (`data/icd10.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, model_validator

from ecgscale.data import mimic_sample, tables, wfdb16
from ecgscale.data.icd10 import CodeRule, codes_in, frequent
from ecgscale.data.mimic_columns import BIOMETRICS, DETERIORATION, ECG_FEATURES, LABORATORY, MEASURED, VITAL_SIGNS
from ecgscale.data.record import Record, Rejected, patient_id
from ecgscale.data.remote import PhysioNet
from ecgscale.datasets import DatasetError, DatasetSpec, portioned
from ecgscale.units import lead_name, unit_name

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Convert = Callable[[pd.Series], npt.NDArray[Any]]

_ROWS = 8192  # of a table held at once
_DAYS = (1, 7, 28, 90, 180, 365)
_WINDOW_S = 90 * 60.0  # from arrival: ECGs in it have outcomes, events in it make them unknown
_TIME_BITS = 34  # seconds until the year 2514
_AXES = ("p", "qrs", "t")
_UNKNOWN = -999  # of MDS-ED
_UNMEASURED = 29_000  # and more: what the machine writes, 29999, where it found nothing
_SEX = {"F": 1.0, "M": 0.0}


class MimicIvEcg(DatasetSpec):
    """800,035 ten-second ECGs of 161,352 patients of one hospital at 500 Hz; the files hold aVF before aVL.

    Folds 0 to 19 of MIMIC-IV-ECG-Ext-ICD become 1 to 10 so that a study's default split is the published one: 0 to 17
    (train) are dealt over 1 to 8, 18 is 9 (validation) and 19 is 10 (test). Ages above 89, which MIMIC-IV hides,
    become 90.
    """

    title: ClassVar[str] = "MIMIC-IV-ECG"
    licence: ClassVar[str] = (
        "ODbL 1.0; for tables of MIMIC-IV, -ED and -Ext-ICD PhysioNet Credentialed Health Data 1.5.0"
    )
    access: ClassVar[str] = "credentialed"
    url: ClassVar[str] = "https://physionet.org/content/mimic-iv-ecg/1.0/"
    citation: ClassVar[str] = "Gow et al. 2023, PhysioNet, doi:10.13026/4nqg-sb35"
    version: ClassVar[str] = "1.0"
    files: ClassVar[PhysioNet] = PhysioNet("mimic-iv-ecg/1.0", size=97_017_195_666)

    folder: str = "."  # of MIMIC-IV-ECG below the root; the tables below lie anywhere below the root
    patients: str | None = None  # hosp/patients.csv of MIMIC-IV, or .csv.gz: age, sex, death
    diagnoses: str | None = None  # records_w_diag_icd10.csv of Ext-ICD: age, sex, death, folds, ICD-10 codes
    ed_stays: str | None = None  # ed/edstays.csv of MIMIC-IV-ED: arrival
    icu_stays: str | None = None  # icu/icustays.csv of MIMIC-IV
    admissions: str | None = None  # hosp/admissions.csv of MIMIC-IV: discharge
    # codes without dots, e.g. "I48", or a rule: { minimum_records = 2000 }
    icd10: tuple[Annotated[str, Field(pattern=r"^[A-Z][0-9A-Z]{1,6}$")], ...] | CodeRule = ()
    measurements: str | None = None  # machine_measurements.csv of MIMIC-IV-ECG: intervals and axes
    # tables with the columns of data/mimic_columns.py and study_id, -999 for unknown; they may be one: see docs/data.md
    deterioration: str | None = None
    biometrics: str | None = None
    laboratory: str | None = None
    vital_signs: str | None = None
    folds: Literal["strat_fold", "fold"] = "strat_fold"  # MDS-ED's; "fold" is that of Strodthoff et al. 2024

    @model_validator(mode="after")
    def _has_the_tables_it_needs(self) -> MimicIvEcg:
        if self.icd10 and not self.diagnoses:
            raise ValueError("icd10 needs the table `diagnoses`")
        if (self.icu_stays or self.admissions) and not self.ed_stays:
            raise ValueError("icu_stays and admissions need the table `ed_stays`, which knows the arrivals")
        if self.admissions and not (self.patients or self.diagnoses):
            raise ValueError("admissions needs the table `patients` or `diagnoses`, which know the deaths")
        return self

    def codes(self, root: Path) -> tuple[str, ...]:
        """Return the ICD-10 codes that are labels: as listed, or what the rule picks of the table of diagnoses."""
        if isinstance(self.icd10, tuple):
            return self.icd10
        assert self.diagnoses is not None
        return frequent(root, self.diagnoses, "all_diag_all", self.icd10, DatasetError)

    def label_names(self, codes: Iterable[str]) -> list[str]:
        """Return the names of the labels that the tables at hand can give, ICD-10 codes last."""
        people = bool(self.patients or self.diagnoses)
        names = ["female"] * people + ["icu_24h", "icu_stay"] * bool(self.icu_stays)
        names += [f"mortality_{days}d" for days in _DAYS] * (people and bool(self.ed_stays))
        names += [*DETERIORATION] * bool(self.deterioration)
        return [*names, *["mortality_stay"] * bool(self.admissions), *(f"icd10_{code}" for code in codes)]

    def value_names(self) -> list[str]:
        """Return the names of the numbers that the tables at hand can give."""
        names = [*ECG_FEATURES] * bool(self.measurements) + [*BIOMETRICS] * bool(self.biometrics)
        return names + [*LABORATORY] * bool(self.laboratory) + [*VITAL_SIGNS] * bool(self.vital_signs)

    def linked(self) -> dict[str, tuple[str | None, tuple[str, ...]]]:
        """Return, of each group of columns that an ECG has in a table, the table and the names."""
        return {
            "deterioration": (self.deterioration, DETERIORATION),
            "biometrics": (self.biometrics, BIOMETRICS),
            "laboratory": (self.laboratory, LABORATORY),
            "vital_signs": (self.vital_signs, VITAL_SIGNS),
        }

    def portions(self, root: Path | None) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows of `record_list.csv` in its order, joined with the tables.

        The list is streamed; of the tables some 40 bytes a row are held, and a bit for each ICD-10 code.
        """
        if root is None:
            raise DatasetError("mimic_iv_ecg needs the folder of MIMIC-IV-ECG: bind it with --data mimic_iv_ecg=PATH")
        known = _Tables(self, root)
        name, columns = f"{self.folder}/record_list.csv", ["subject_id", "study_id", "ecg_time", "path"]
        for chunk in tables.stream(root, name, columns, DatasetError, _ROWS):
            yield from portioned(known.joined(chunk))

    def read(self, root: Path | None, portion: list[dict[str, Any]]) -> Iterator[Record | Rejected]:
        """Yield the records of these rows, named by study."""
        assert root is not None
        names, valued = self.label_names(portion[0]["codes"]), self.value_names()
        for row in portion:
            labels = dict(zip(names, row["labels"], strict=True))
            try:
                yield _record(root / self.folder, row, labels, dict(zip(valued, row["values"], strict=True)))
            except ValueError as error:
                yield Rejected(row["study_id"] or row["path"] or "without a name", str(error))

    def stamp(self, root: Path | None) -> str:
        """Return a fingerprint of the tables only: to look at 1.6 million signal files would take minutes."""
        hasher = hashlib.sha256()
        tables = [self.patients, self.diagnoses, self.ed_stays, self.icu_stays, self.admissions, self.measurements]
        tables += [table for table, _ in self.linked().values()]
        for name in [f"{self.folder}/record_list.csv", *filter(None, tables)]:
            path = (root or Path()) / name
            status = path.stat() if root and path.is_file() else None
            hasher.update(f"{name}|{status and (status.st_size, status.st_mtime_ns)}\n".encode())
        return hasher.hexdigest()[:16]

    @classmethod
    def sample(cls, root: Path, seed: int = 0) -> MimicIvEcg:
        """Write 96 synthetic ECGs of 64 patients as PhysioNet lays MIMIC-IV-ECG and its sisters side by side."""
        return cls.parse({**mimic_sample.write(root, seed), "icd10": ["R000", "R001", "I45", "I517", "R9431"]})


class _Tables:
    """What is known of patients, stays and diagnoses."""

    def __init__(self, spec: MimicIvEcg, root: Path) -> None:
        self.spec, self.codes = spec, spec.codes(root)
        self.bit = {code: 2 << i for i, code in enumerate(self.codes)}
        self.lengths = sorted({len(code) for code in self.codes})
        of_people: dict[str, Convert] = {"gender": _sexes, "dod": _seconds}
        of_people |= {"anchor_age": _numbers, "anchor_year": _numbers}
        of_ecgs: dict[str, Convert] = {"gender": _sexes, "dod": _seconds, "age": _numbers, spec.folds: _numbers}
        of_stays: dict[str, Convert] = {"hadm_id": _numbers, "intime": _seconds, "outtime": _seconds}
        if self.codes:
            of_ecgs["all_diag_all"] = self._bits
        self.patients = _Table(root, spec.patients, "subject_id", of_people)
        self.diagnoses = _Table(root, spec.diagnoses, "study_id", of_ecgs)
        self.ed_stays = _Table(root, spec.ed_stays, "subject_id", of_stays, "intime")
        self.icu_stays = _Table(root, spec.icu_stays, "hadm_id", {"intime": _seconds}, "intime")
        self.admissions = _Table(root, spec.admissions, "hadm_id", {"dischtime": _seconds})
        self.measurements = _Table(root, spec.measurements, "study_id", dict.fromkeys(MEASURED, _measures))
        self.linked = {
            group: _Table(root, table, "study_id", dict.fromkeys(names, _outcomes))
            for group, (table, names) in spec.linked().items()
        }

    def joined(self, chunk: pd.DataFrame) -> list[dict[str, Any]]:
        """Return rows with age, sex, fold and label values."""
        subject, study, time = _numbers(chunk["subject_id"]), _numbers(chunk["study_id"]), _seconds(chunk["ecg_time"])
        patient, diagnosis = self.patients.of(subject), self.diagnoses.of(study)
        age = _first(patient["anchor_age"] + _years(time) - patient["anchor_year"], diagnosis["age"])
        female = _first(patient["gender"], diagnosis["gender"])
        arrival, stay = self._arrivals(subject, time)
        death = _first(patient["dod"], diagnosis["dod"])
        linked = {name: values for table in self.linked.values() for name, values in table.of(study).items()}
        linked |= _features(self.measurements.of(study))
        known = {
            "female": female,
            **linked,
            **self._intensive_care(arrival, stay),
            **self._deaths(np.where(np.isnan(female), np.nan, arrival), stay, death),
            **self._diagnosed(diagnosis),
        }
        columns = {
            **{str(name): [t if isinstance(t, str) else "" for t in texts] for name, texts in chunk.items()},
            "age": _none(np.minimum(age, 90)),
            "female": _none(female),
            "fold": _none(_ten_folds(diagnosis[self.spec.folds])),
            "time": _none(time),
            "labels": _beside(known, self.spec.label_names(self.codes), len(chunk)),
            "values": _beside(known, self.spec.value_names(), len(chunk)),
            "codes": [self.codes] * len(chunk),  # one tuple: a portion is sent to a worker with one copy
        }
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _arrivals(self, subject: Float, time: Float) -> tuple[Float, dict[str, Float]]:
        """Return when the patient arrived, NaN for ECGs outside the window, and the emergency stay."""
        stay = self.ed_stays.before(subject, time)
        inside = time <= np.fmin(stay["intime"] + _WINDOW_S, stay["outtime"])
        return np.where(inside, stay["intime"], np.nan), stay

    def _intensive_care(self, arrival: Float, stay: dict[str, Float]) -> dict[str, Float]:
        after = self.icu_stays.of(stay["hadm_id"])["intime"] - arrival
        events = {"icu_24h": after <= 24 * 3600, "icu_stay": ~np.isnan(after)}
        return {name: _unless_early(event, after, arrival) for name, event in events.items()}

    def _deaths(self, arrival: Float, stay: dict[str, Float], death: Float) -> dict[str, Float]:
        """Return the labels of death; unknown without an arrival."""
        left = np.fmax(stay["outtime"], self.admissions.of(stay["hadm_id"])["dischtime"])
        events = {f"mortality_{days}d": np.floor((death - arrival) / 86400) <= days for days in _DAYS}
        events["mortality_stay"] = death < left
        return {name: _unless_early(event, death - arrival, arrival) for name, event in events.items()}

    def _bits(self, texts: pd.Series) -> npt.NDArray[np.uint8]:
        """Return [row, byte]: a bit for "has any diagnosis", then one for each code of the spec."""
        masks, width = [], len(self.codes) // 8 + 1
        for text in texts:
            found = codes_in(text)
            mask = int(bool(found))
            for code in found:
                for length in self.lengths:
                    mask |= self.bit.get(code[:length], 0)
            masks.append(mask.to_bytes(width, "little"))
        return np.frombuffer(b"".join(masks), np.uint8).reshape(len(masks), width)

    def _diagnosed(self, diagnosis: dict[str, Float]) -> dict[str, Float]:
        if not self.codes:
            return {}
        packed = np.nan_to_num(diagnosis["all_diag_all"]).astype(np.uint8)
        linked, *has = np.unpackbits(packed, axis=1, bitorder="little").T
        return {f"icd10_{c}": np.where(linked, bit, np.nan) for c, bit in zip(self.codes, has, strict=False)}


class _Table:
    """Columns of a table, sorted by an integer key; one that was not given knows nothing."""

    def __init__(self, root: Path, name: str | None, key: str, columns: dict[str, Convert], then: str = "") -> None:
        none = pd.DataFrame(columns=[key, *columns], dtype=object)
        chunks = tables.stream(root, name, [key, *columns], DatasetError, _ROWS) if name else iter([none])
        parts = [[_numbers(chunk[key]), *(f(chunk[c]) for c, f in columns.items())] for chunk in chunks]
        keys, *values = (np.concatenate(part) for part in zip(*parts, strict=True))
        times = values[list(columns).index(then)] if then else np.zeros(len(keys))
        order = np.lexsort((times, keys))
        order = order[~np.isnan(keys + times)[order]]
        self.keys: Int = keys[order].astype(np.int64)
        self.moments: Int = self.keys << _TIME_BITS | np.maximum(times[order], 0).astype(np.int64)
        self.columns = {name: value[order] for name, value in zip(columns, values, strict=True)}

    def of(self, wanted: Float) -> dict[str, Float]:
        """Return every column at the first row of each key, NaN where there is none."""
        key = _keys(wanted)
        return self._at(np.searchsorted(self.keys, key), key)

    def before(self, wanted: Float, time: Float) -> dict[str, Float]:
        """Return every column at the last row of each key that is not later than `time`, seconds."""
        key = _keys(wanted)
        return self._at(np.searchsorted(self.moments, key << _TIME_BITS | _keys(time), side="right") - 1, key)

    def _at(self, place: npt.NDArray[np.intp], key: Int) -> dict[str, Float]:
        inside = (place >= 0) & (place < len(self.keys))
        inside[inside] = self.keys[place[inside]] == key[inside]
        found = {name: np.full((len(key), *values.shape[1:]), np.nan) for name, values in self.columns.items()}
        for name, values in self.columns.items():
            found[name][inside] = values[place[inside]]
        return found


def _numbers(texts: pd.Series) -> Float:
    return pd.to_numeric(texts, errors="coerce").to_numpy(np.float64)


def _outcomes(texts: pd.Series) -> npt.NDArray[np.float32]:
    numbers = _numbers(texts).astype(np.float32)
    return np.where(numbers == _UNKNOWN, np.float32(np.nan), numbers)


def _measures(texts: pd.Series) -> npt.NDArray[np.float32]:
    numbers = _numbers(texts).astype(np.float32)
    return np.where(np.abs(numbers) >= _UNMEASURED, np.float32(np.nan), numbers)


def _features(measured: dict[str, Float]) -> dict[str, Float]:
    """Return intervals in ms, QT by Bazett's formula as QTc, and axes in degrees; NaN where one cannot be."""
    rr, onset = measured["rr_interval"], measured["qrs_onset"]
    rr = np.where(rr > 0, rr, np.nan)
    qrs, qt = measured["qrs_end"] - onset, measured["t_end"] - onset
    axes = [np.where(np.abs(measured[f"{wave}_axis"]) <= 360, measured[f"{wave}_axis"], np.nan) for wave in _AXES]
    intervals = [rr, *(np.where(x > 0, x, np.nan) for x in (qrs, qt, qt / np.sqrt(rr / 1000)))]
    return dict(zip(ECG_FEATURES, [*intervals, *axes], strict=True))


def _beside(known: dict[str, Float], names: list[str], rows: int) -> list[Float]:
    """Return an array for every row: as lists of numbers a thousand codes would take four times the memory."""
    return list(np.stack([known[name] for name in names], axis=1)) if names else [np.empty(0)] * rows


def _sexes(texts: pd.Series) -> npt.NDArray[np.float32]:
    return np.array([_SEX.get(t, np.nan) for t in texts], np.float32)


def _seconds(texts: pd.Series) -> Float:
    """Return seconds since 1970; a date alone is its midnight, NaN where there is none."""
    times = pd.to_datetime(texts, errors="coerce", format="ISO8601").to_numpy("datetime64[s]")
    return np.where(np.isnat(times), np.nan, times.astype(np.int64))


def _keys(values: Float) -> Int:
    return np.where(np.isfinite(values), values, -1).astype(np.int64)


def _years(time: Float) -> Int:
    return 1970 + np.nan_to_num(time).astype("datetime64[s]").astype("datetime64[Y]").astype(np.int64)


def _first(one: Float, other: Float) -> Float:
    return np.where(np.isnan(one), other, one)


def _ten_folds(fold: Float) -> Float:
    return np.where(fold >= 18, fold - 9, 1 + fold % 8)


def _unless_early(event: npt.NDArray[np.bool_], after_s: Float, arrival: Float) -> Float:
    return np.where(np.isnan(arrival) | (after_s < _WINDOW_S), np.nan, event)


def _none(values: Float) -> list[float | None]:
    return [None if v != v else v for v in values.tolist()]


def _record(folder: Path, row: dict[str, Any], labels: dict[str, float], values: dict[str, float]) -> Record:
    for name in ("study_id", "path"):
        if not row[name]:
            raise ValueError(f"the {name} is empty in record_list.csv")
    if row["time"] is None:
        raise ValueError(f"ecg_time is {row['ecg_time']!r} in record_list.csv; expected a date and a time")
    read = wfdb16.read(folder, row["path"])
    return Record(
        signal=read.physical,
        unit=unit_name(read.units[0]),
        rate_hz=read.rate_hz,
        leads=tuple(lead_name(lead) for lead in read.leads),
        record=row["study_id"],
        patient=patient_id("mimic_iv", row["subject_id"]),
        age=row["age"],
        sex={1.0: "F", 0.0: "M"}.get(row["female"]),
        labels=labels,
        fold=None if row["fold"] is None else int(row["fold"]),
        values=values,
    )
