"""Synthetic ECGs and tables laid out as PhysioNet lays MIMIC-IV-ECG and its sisters side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from ecgscale.data import synthetic, wfdb16
from ecgscale.data.mimic_columns import BIOMETRICS, DETERIORATION, LABORATORY, MEASURED, VITAL_SIGNS
from ecgscale.rng import generator
from ecgscale.units import LEADS

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
_BESIDE = ["subject_id", "study_id", "cart_id", "ecg_time", "report_0", "bandwidth", "filtering", "p_onset", "p_end"]
_LINKED = [*DETERIORATION, *BIOMETRICS, *LABORATORY, *VITAL_SIGNS]
_TYPICAL = 10.0  # of the numbers, and their deviation is a tenth: only their order matters
_MEASUREMENTS, _OUTCOMES = "mimic-iv-ecg/1.0/machine_measurements.csv", "mds-ed/1.0/mds_ed.csv"
_SAMPLE_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")


def write(root: Path, seed: int) -> dict[str, str]:
    """Write 96 ECGs of 64 patients below `root`; returns the fields of the data set that say where the tables lie."""
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
    _numbers(visits, ecg, seed).reindex(columns=[*_BESIDE, *MEASURED]).to_csv(root / _MEASUREMENTS, index=False)
    (root / _OUTCOMES).parent.mkdir(parents=True, exist_ok=True)
    _outcomes(visits, ecg, seed).to_csv(root / _OUTCOMES, index=False)
    groups = dict.fromkeys(("deterioration", "biometrics", "laboratory", "vital_signs"), _OUTCOMES)
    return {field: place for field, (place, _) in _SAMPLE.items()} | {"measurements": _MEASUREMENTS} | groups


def _numbers(visits: pd.DataFrame, ecg: synthetic.Population, seed: int) -> pd.DataFrame:
    """Return what the machine measured, in ms and degrees; it found no P wave in every ninth ECG."""
    draw, has = generator(seed, "mimic", "measured"), {name: values > 0 for name, values in ecg.labels.items()}
    rr = np.where(has["fast"], 500, np.where(has["slow"], 1200, 850)) + draw.integers(-30, 30, len(visits))
    width = np.where(has["wide"], 160, 80) + draw.integers(-8, 8, len(visits))
    axis = draw.integers(20, 70, len(visits))
    found = visits.assign(rr_interval=rr, qrs_onset=200, qrs_end=200 + width, t_end=560 + width // 2, qrs_axis=axis)
    found["p_axis"] = np.where(np.arange(len(visits)) % 9 == 0, 29_999, axis - 5)
    found["t_axis"] = np.where(has["inverted"], axis - 180, axis)
    return found


def _outcomes(visits: pd.DataFrame, ecg: synthetic.Population, seed: int) -> pd.DataFrame:
    """Return a table in the manner of MDS-ED: a fifth of everything is unknown, and the last study has no row."""
    draw = generator(seed, "mimic", "outcomes")
    table = pd.DataFrame({"study_id": visits["study_id"]})
    for name in _LINKED:
        here, number = draw.random(len(visits)) < 0.25, draw.normal(_TYPICAL, 1, len(visits)).round(2)
        table[name] = np.where(draw.random(len(visits)) < 0.2, -999, here if name in DETERIORATION else number)
    return table[:-1]


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
