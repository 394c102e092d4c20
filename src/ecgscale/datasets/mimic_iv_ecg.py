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
`icd10_<code>`: a discharge diagnosis (`all_diag_all` of MIMIC-IV-ECG-Ext-ICD) begins with the code; unknown where no
diagnosis is linked, as for four in ten ECGs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, model_validator

from ecgscale.data import synthetic, tables, wfdb16
from ecgscale.data.record import Record, Rejected, patient_id
from ecgscale.data.remote import PhysioNet
from ecgscale.datasets import DatasetError, DatasetSpec, portioned
from ecgscale.units import LEADS, lead_name, unit_name

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Convert = Callable[[pd.Series], npt.NDArray[Any]]

_ROWS = 8192  # of a table held at once
_DAYS = (1, 7, 28, 90, 180, 365)
_WINDOW_S = 90 * 60.0  # from arrival: ECGs in it have outcomes, events in it make them unknown
_TIME_BITS = 34  # seconds until the year 2514
_CODE = re.compile(r"[A-Z0-9]+")
_SEX = {"F": 1.0, "M": 0.0}


class MimicIvEcg(DatasetSpec):
    """800,035 ten-second ECGs of 161,352 patients of one hospital at 500 Hz; the files hold aVF before aVL.

    Folds 0 to 19 of MIMIC-IV-ECG-Ext-ICD become 1 to 10 so that a study's default split is the published one: 0 to 17
    (train) are dealt over 1 to 8, 18 is 9 (validation) and 19 is 10 (test). Ages above 89, which MIMIC-IV hides,
    become 90. What `machine_measurements.csv` says is not read.
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
    icd10: tuple[Annotated[str, Field(pattern=r"^[A-Z][0-9A-Z]{1,6}$")], ...] = ()  # codes without dots, e.g. "I48"
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

    def label_names(self) -> list[str]:
        """Return the names of the labels that the tables at hand can give."""
        people = bool(self.patients or self.diagnoses)
        names = ["female"] * people + ["icu_24h", "icu_stay"] * bool(self.icu_stays)
        names += [f"mortality_{days}d" for days in _DAYS] * (people and bool(self.ed_stays))
        return [*names, *["mortality_stay"] * bool(self.admissions), *(f"icd10_{code}" for code in self.icd10)]

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
        names = self.label_names()
        for row in portion:
            try:
                yield _record(root / self.folder, row, dict(zip(names, row["labels"], strict=True)))
            except ValueError as error:
                yield Rejected(row["study_id"] or row["path"] or "without a name", str(error))

    def stamp(self, root: Path | None) -> str:
        """Return a fingerprint of the tables only: to look at 1.6 million signal files would take minutes."""
        hasher = hashlib.sha256()
        tables = [self.patients, self.diagnoses, self.ed_stays, self.icu_stays, self.admissions]
        for name in [f"{self.folder}/record_list.csv", *filter(None, tables)]:
            path = (root or Path()) / name
            status = path.stat() if root and path.is_file() else None
            hasher.update(f"{name}|{status and (status.st_size, status.st_mtime_ns)}\n".encode())
        return hasher.hexdigest()[:16]

    @classmethod
    def sample(cls, root: Path, seed: int = 0) -> MimicIvEcg:
        """Write 96 synthetic ECGs of 64 patients as PhysioNet lays MIMIC-IV-ECG and its sisters side by side."""
        return cls.parse({**_write_sample(root, seed), "icd10": ["R000", "R001", "I45", "I517", "R9431"]})


class _Tables:
    """What is known of patients, stays and diagnoses."""

    def __init__(self, spec: MimicIvEcg, root: Path) -> None:
        self.spec = spec
        self.bit = {code: 2 << i for i, code in enumerate(spec.icd10)}
        self.lengths = sorted({len(code) for code in spec.icd10})
        of_people: dict[str, Convert] = {"gender": _sexes, "dod": _seconds}
        of_people |= {"anchor_age": _numbers, "anchor_year": _numbers}
        of_ecgs: dict[str, Convert] = {"gender": _sexes, "dod": _seconds, "age": _numbers, spec.folds: _numbers}
        of_stays: dict[str, Convert] = {"hadm_id": _numbers, "intime": _seconds, "outtime": _seconds}
        if spec.icd10:
            of_ecgs["all_diag_all"] = self._bits
        self.patients = _Table(root, spec.patients, "subject_id", of_people)
        self.diagnoses = _Table(root, spec.diagnoses, "study_id", of_ecgs)
        self.ed_stays = _Table(root, spec.ed_stays, "subject_id", of_stays, "intime")
        self.icu_stays = _Table(root, spec.icu_stays, "hadm_id", {"intime": _seconds}, "intime")
        self.admissions = _Table(root, spec.admissions, "hadm_id", {"dischtime": _seconds})

    def joined(self, chunk: pd.DataFrame) -> list[dict[str, Any]]:
        """Return rows with age, sex, fold and label values."""
        subject, time = _numbers(chunk["subject_id"]), _seconds(chunk["ecg_time"])
        patient, diagnosis = self.patients.of(subject), self.diagnoses.of(_numbers(chunk["study_id"]))
        age = _first(patient["anchor_age"] + _years(time) - patient["anchor_year"], diagnosis["age"])
        female = _first(patient["gender"], diagnosis["gender"])
        arrival, stay = self._arrivals(subject, time)
        death = _first(patient["dod"], diagnosis["dod"])
        known = {
            "female": female,
            **self._intensive_care(arrival, stay),
            **self._deaths(np.where(np.isnan(female), np.nan, arrival), stay, death),
            **self._codes(diagnosis),
        }
        names = self.spec.label_names()
        columns = {
            **{str(name): [t if isinstance(t, str) else "" for t in texts] for name, texts in chunk.items()},
            "age": _none(np.minimum(age, 90)),
            "female": _none(female),
            "fold": _none(_ten_folds(diagnosis[self.spec.folds])),
            "time": _none(time),
            "labels": np.stack([known[name] for name in names], axis=1).tolist() if names else [[]] * len(chunk),
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
        masks, width = [], len(self.spec.icd10) // 8 + 1
        for text in texts:
            found = _CODE.findall(text) if isinstance(text, str) else []
            mask = int(bool(found))
            for code in found:
                for length in self.lengths:
                    mask |= self.bit.get(code[:length], 0)
            masks.append(mask.to_bytes(width, "little"))
        return np.frombuffer(b"".join(masks), np.uint8).reshape(len(masks), width)

    def _codes(self, diagnosis: dict[str, Float]) -> dict[str, Float]:
        if not self.spec.icd10:
            return {}
        packed = np.nan_to_num(diagnosis["all_diag_all"]).astype(np.uint8)
        linked, *has = np.unpackbits(packed, axis=1, bitorder="little").T
        return {f"icd10_{c}": np.where(linked, bit, np.nan) for c, bit in zip(self.spec.icd10, has, strict=False)}


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


def _record(folder: Path, row: dict[str, Any], labels: dict[str, float]) -> Record:
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
    )


_SAMPLE = {  # field: (place, columns)
    "folder": ("mimic-iv-ecg/1.0", "subject_id study_id file_name ecg_time path"),
    "patients": ("mimiciv/3.1/hosp/patients.csv.gz", "subject_id gender anchor_age anchor_year anchor_year_group dod"),
    "diagnoses": (
        "mimic-iv-ecg-ext-icd-labels/1.0.1/records_w_diag_icd10.csv",
        "file_name study_id subject_id ecg_time ed_stay_id ed_hadm_id hosp_hadm_id ed_diag_ed ed_diag_hosp "
        "hosp_diag_hosp all_diag_hosp all_diag_all gender age anchor_year anchor_age dod ecg_no_within_stay "
        "ecg_taken_in_ed ecg_taken_in_hosp ecg_taken_in_ed_or_hosp fold strat_fold",
    ),
    "ed_stays": (
        "mimic-iv-ed/2.2/ed/edstays.csv.gz",
        "subject_id hadm_id stay_id intime outtime gender race arrival_transport disposition",
    ),
    "icu_stays": (
        "mimiciv/3.1/icu/icustays.csv.gz",
        "subject_id hadm_id stay_id first_careunit last_careunit intime outtime los",
    ),
    "admissions": (
        "mimiciv/3.1/hosp/admissions.csv.gz",
        "subject_id hadm_id admittime dischtime deathtime admission_type admit_provider_id admission_location "
        "discharge_location insurance language marital_status race edregtime edouttime hospital_expire_flag",
    ),
}
_SAMPLE_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")


def _write_sample(root: Path, seed: int) -> dict[str, str]:
    ecg = synthetic.population(patients=64, records=96, rate_hz=500.0, seed=seed)
    visits = _visits(ecg)
    order = [LEADS.index(lead) for lead in _SAMPLE_LEADS]
    for signal, row in zip(ecg.signal, visits.itertuples(), strict=True):
        file = root / _SAMPLE["folder"][0] / str(row.path)
        file.parent.mkdir(parents=True, exist_ok=True)
        gain, comments = np.full(12, 200.0), (f" <subject_id>: {row.subject_id}",)  # 5 µV a count
        wfdb16.write(file, signal[order] / 5, _SAMPLE_LEADS, 500.0, gain, comments=comments)
        header = file.with_suffix(".hea")
        header.write_text(header.read_text().replace(" 5000\n", f" 5000 {row.ecg_time:%H:%M:%S %d/%m/%Y}\n", 1))
    tables = {
        "folder": visits,
        "patients": visits[visits["patient"] != 2].drop_duplicates("subject_id"),
        "diagnoses": _discharges(visits, ecg),
        "ed_stays": visits[visits["kind"] != 6],
        "icu_stays": _icu_stays(visits),
        "admissions": visits[visits["kind"] < 5],
    }
    for field, table in tables.items():
        place, columns = _SAMPLE[field]
        path = root / place / "record_list.csv" if field == "folder" else root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        table.reindex(columns=columns.split()).to_csv(path, index=False)
    return {field: place for field, (place, _) in _SAMPLE.items()}


def _visits(ecg: synthetic.Population) -> pd.DataFrame:
    """Return one visit a record, of eight kinds.

    0 to 4 are admitted; 5 has its ECG three hours after arrival, 6 without coming to the emergency department, 7 after
    leaving it. Every third patient dies, 0 to 900 days after the last visit; patient 1 is older than 89.
    """
    i = np.arange(len(ecg.patient))
    study, subject, kind = 40_000_000 + i, 10_000_000 + 13 * ecg.patient, i % 8
    visits = pd.DataFrame({"patient": ecg.patient, "subject_id": subject, "study_id": study, "kind": kind})
    visits["intime"] = pd.Timestamp("2180-01-01 08:00") + pd.to_timedelta(10 * i, "D")
    visits["outtime"] = visits["intime"] + pd.to_timedelta(np.where(kind == 7, 10, 300), "min")
    visits["ecg_time"] = visits["intime"] + pd.to_timedelta(np.where(kind == 5, 180, 20 + i % 60), "min")
    visits["path"] = [f"files/p{s // 10_000}/p{s}/s{t}/{t}" for s, t in zip(subject, study, strict=True)]
    visits["file_name"], visits["stay_id"] = study, study - 10_000_000
    visits["hadm_id"] = pd.Series(study - 20_000_000, dtype="Int64").where(visits["kind"] < 5)
    after = pd.to_timedelta(np.array([0, 1, 5, 20, 60, 150, 300, 900])[ecg.patient // 3 % 8], "D")
    last = visits.groupby("patient")["intime"].transform("max")
    visits["dod"] = (last + after).dt.normalize().where(visits["patient"] % 3 == 0)
    leaving, dying = visits["intime"] + pd.Timedelta(days=6), visits["dod"] + pd.Timedelta(hours=20)
    visits["admittime"], visits["dischtime"] = visits["outtime"], leaving.where(~(dying < leaving), dying)
    visits["gender"] = np.where(ecg.female, "F", "M")
    visits["anchor_age"], visits["anchor_year"] = np.where(ecg.patient == 1, 91, ecg.age).astype(int), 2178
    return visits


def _icu_stays(visits: pd.DataFrame) -> pd.DataFrame:
    """Return intensive care of kinds 1 to 3: after 1 hour, after 40 and already after 6, after 30."""
    stays = []
    for kind, hours in ((1, 1), (2, 40), (2, 6), (3, 30)):
        of_kind = visits[visits["kind"] == kind]
        stays.append(of_kind.assign(intime=of_kind["intime"] + pd.Timedelta(hours=hours)))
    return pd.concat(stays)


def _discharges(visits: pd.DataFrame, ecg: synthetic.Population) -> pd.DataFrame:
    """Return Ext-ICD's table: patient 2 is unknown to it, visits of kind 6 have no diagnosis, the last study no row."""
    names = {"fast": "R000", "slow": "R001", "wide": "I4510", "tall": "I517", "inverted": "R9431"}
    has = [[code for name, code in names.items() if ecg.labels[name][i]] + ["Z7901"] for i in range(len(visits))]
    table = visits.assign(file_name="mimic-iv-ecg-diagnostic-electrocardiogram-matched-subset-1.0/" + visits["path"])
    table["all_diag_all"] = [str([] if kind == 6 else codes) for kind, codes in zip(visits["kind"], has, strict=True)]
    table["age"] = table["anchor_age"] + visits["ecg_time"].dt.year - 2178
    table["fold"], table["strat_fold"] = visits["patient"] * 7 % 20, visits["patient"] % 20
    table["gender"] = table["gender"].where(visits["patient"] != 2, "missing")
    unknown = ["age", "anchor_age", "anchor_year"]
    table[unknown] = table[unknown].where(visits["patient"] != 2)
    return table[:-1]
