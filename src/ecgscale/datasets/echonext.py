"""EchoNext-Mini: 100,000 ECGs of 36,286 patients of Columbia University with what an echocardiogram then found.

One array per split, `EchoNext_<split>_waveforms.npy` [record, 1, 2500, 12] float64, whose rows are the rows of that
split in `echonext_metadata_100k.csv`, in its order. Its makers took off the baseline with two median filters, cut every
lead at fixed bounds and standardised it with the mean and spread of the training set, so the unit is a z-score over the
whole data set and no pass band can be stated. The lead order is that of their `parse_xml.py` (github.com/PierreElias/
IntroECG, "7-EchoNext Minimodel").
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from ecgscale.data import npy, synthetic, tables
from ecgscale.data.record import Record, Rejected, patient_id
from ecgscale.data.source import Fault
from ecgscale.datasets import PORTION, DatasetError, DatasetSpec
from ecgscale.units import LEADS

SAMPLES, RATE_HZ = 2500, 250.0

_TABLES = ("echonext_metadata_100k.csv", "EchoNext_metadata_100k.csv")  # as shipped; as its README writes it
_FOLDS = {"train": 1, "val": 9, "test": 10, "no_split": None}  # the folds that `by = "folds"` expects
_SEX = {"female": "F", "male": "M"}
_COLUMNS = ["ecg_key", "patient_key", "age_at_ecg", "sex", "split"]
_COMPOSITE = "shd_moderate_or_greater_flag"

# flag: the measurements it was made from
_MEASURED: dict[str, tuple[str, ...]] = {
    "lvef_lte_45_flag": ("lvef_value",),
    "lvwt_gte_13_flag": ("ivs_measurement", "lvpw_measurement"),
    "aortic_stenosis_moderate_or_greater_flag": ("aortic_stenosis_value",),
    "aortic_regurgitation_moderate_or_greater_flag": ("aortic_regurgitation_value",),
    "mitral_regurgitation_moderate_or_greater_flag": ("mitral_regurgitation_value",),
    "tricuspid_regurgitation_moderate_or_greater_flag": ("tricuspid_regurgitation_value",),
    "pulmonary_regurgitation_moderate_or_greater_flag": ("pulmonary_regurgitation_value",),
    "rv_systolic_dysfunction_moderate_or_greater_flag": ("rv_systolic_function_value",),
    "pericardial_effusion_moderate_large_flag": ("pericardial_effusion_value",),
    "pasp_gte_45_flag": ("pasp_value",),
    "tr_max_gte_32_flag": ("tr_max_velocity_value",),
}
_FLAGS = [*_MEASURED, _COMPOSITE]


class _Portion(NamedTuple):
    """Rows of one split that follow each other: the first one's place in its array, and what the table says of them."""

    split: str
    start: int
    rows: list[dict[str, Any]]


class EchoNext(DatasetSpec):
    """10-s ECGs at 250 Hz with 11 flags of structural heart disease and their composite; official splits."""

    title: ClassVar[str] = "EchoNext (Columbia Mini-Model data set)"
    licence: ClassVar[str] = "PhysioNet Restricted Health Data License 1.5.0"
    access: ClassVar[str] = "credentialed"  # registered users who sign the data use agreement
    url: ClassVar[str] = "https://physionet.org/content/echonext/1.1.0/"
    citation: ClassVar[str] = (
        "Elias and Finer 2025, PhysioNet, doi:10.13026/3ykd-bf14; Hughes et al. 2026, NEJM AI, doi:10.1056/AIdbp2500516"
    )
    version: ClassVar[str] = "1.1.0"

    unmeasured: Literal["negative", "unknown"] = "negative"  # what a flag of 0 means where nothing was measured
    keep: tuple[Fault, ...] = ("clipped",)  # published with extremes cut off
    no_split: Literal["omit", "keep"] = "omit"  # 17,457 earlier ECGs of the patients of val and test; no fold if kept

    def portions(self, root: Path | None) -> Iterator[_Portion]:
        """Yield row ranges of the arrays of train (fold 1), val (9) and test (10), each in its order."""
        if root is None:
            raise DatasetError("echonext needs the folder of EchoNext: bind it with --data echonext=PATH")
        path = next((root / name for name in _TABLES if (root / name).is_file()), root / _TABLES[0])
        measured = [name for names in _MEASURED.values() for name in names] if self.unmeasured == "unknown" else []
        table = tables.read(path, [*_COLUMNS, *_FLAGS, *measured], DatasetError)
        strange = table["split"][~table["split"].isin(list(_FOLDS))]
        if len(strange):
            raise DatasetError(f"{path}: the split is {strange.iloc[0]!r}; expected one of {', '.join(_FOLDS)}")
        for split in _FOLDS:
            rows = table[table["split"] == split]
            if len(rows) and not (split == "no_split" and self.no_split == "omit"):
                _check_shape(root, split, len(rows))
                for start in range(0, len(rows), PORTION):
                    yield _Portion(split, start, tables.rows(rows.iloc[start : start + PORTION]))

    def read(self, root: Path | None, portion: _Portion) -> Iterator[Record | Rejected]:
        """Yield the records of a row range."""
        assert root is not None
        with npy.reading(DatasetError):
            array = npy.rows(root, _waveforms(portion.split), 0)
            signals = array.span(portion.start, portion.start + len(portion.rows))
            for row, values in zip(portion.rows, signals, strict=True):
                name = str(row["ecg_key"])
                try:
                    yield self._record(name, row, values, _FOLDS[portion.split])
                except ValueError as error:
                    yield Rejected(name, str(error))

    @classmethod
    def sample(cls, root: Path, seed: int = 0) -> EchoNext:
        """Write 84 synthetic ECGs of 60 patients, of which val and test keep one each and `no_split` has the rest."""
        ecg = synthetic.population(patients=60, records=84, rate_hz=RATE_HZ, seed=seed)
        root.mkdir(parents=True, exist_ok=True)
        table = _sample_table(ecg)
        train = ecg.signal[(table["split"] == "train").to_numpy()]
        low, high = np.percentile(train, [0.1, 99.9], axis=(0, 2))[..., None]
        z = (np.clip(ecg.signal, low, high) - train.mean(axis=(0, 2))[:, None]) / train.std(axis=(0, 2))[:, None]
        for split in _FOLDS:
            stored = z[(table["split"] == split).to_numpy()].transpose(0, 2, 1)[:, None]
            np.save(root / _waveforms(split), stored.astype(np.float64))
        table.to_csv(root / _TABLES[0])
        return cls(unmeasured="unknown")

    def _record(self, name: str, row: dict[str, Any], values: npt.NDArray[np.float64], fold: int | None) -> Record:
        age = row["age_at_ecg"]
        return Record(
            signal=np.ascontiguousarray(values[0].T, dtype=np.float32),
            unit="z_global",
            rate_hz=RATE_HZ,
            leads=LEADS,
            record=name,
            patient=patient_id("echonext", row["patient_key"]),
            age=None if age != age else float(age),
            sex=_SEX.get(str(row["sex"]).strip().lower()),
            labels={flag: self._flag(row, flag) for flag in _FLAGS},
            fold=fold,
        )

    def _flag(self, row: dict[str, Any], flag: str) -> float:
        """Return a flag; the release has 0 where nothing was measured, for up to half of the records."""
        value = float(row[flag])
        if self.unmeasured == "unknown" and value == 0 and any(_missing(row[m]) for m in _MEASURED.get(flag, ())):
            return float("nan")
        return value


def _check_shape(root: Path, split: str, rows: int) -> None:
    with npy.reading(DatasetError):
        shape = npy.Rows.open(root, _waveforms(split), 0).shape
    if shape != (rows, 1, SAMPLES, len(LEADS)):
        raise DatasetError(
            f"{root / _waveforms(split)} has shape {list(shape)}; the table promises [{rows}, 1, {SAMPLES}, "
            f"{len(LEADS)}] for {split}: do both come from the same version?"
        )


def _waveforms(split: str) -> str:
    return f"EchoNext_{split}_waveforms.npy"


def _missing(value: Any) -> bool:
    return value is None or value != value


def _sample_table(ecg: synthetic.Population) -> pd.DataFrame:
    has, n = ecg.labels, len(ecg.patient)
    shows = dict(zip(_FLAGS, ("inverted", "tall", "wide", "fast", "slow"), strict=False))
    flags = {flag: has[shows[flag]].astype(int) if flag in shows else np.zeros(n, int) for flag in _MEASURED}
    group, later = ecg.patient % 10, pd.Series(ecg.patient).duplicated().to_numpy()
    split = np.where(group < 6, "train", np.where(later, "no_split", np.where(group < 8, "val", "test")))
    table = pd.DataFrame(
        {
            "ecg_key": [f"E{i:06d}" for i in range(n)],
            "patient_key": [f"P{p:06d}" for p in ecg.patient],
            "split": split,
            "age_at_ecg": np.minimum(ecg.age, 90),
            "sex": np.where(ecg.female, "female", "male"),
            **flags,
            _COMPOSITE: np.max(list(flags.values()), axis=0),
        }
    )
    for flag, names in _MEASURED.items():
        absent = (table[flag] == 0) & (table.index % 3 == 0)
        for name in names:
            table[name] = np.where(absent, np.nan, 1.0)
    return table
