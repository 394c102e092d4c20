"""PTB-XL in its own layout: `ptbxl_database.csv`, `scp_statements.csv`, `records100/`, `records500/`.

Labels follow the published benchmark (Strodthoff et al. 2020, doi:10.1109/JBHI.2020.3022989): every SCP code a report
carries counts, whatever its likelihood, since a likelihood of 0 means that none was stated. `super_*` and `sub_*` are
the diagnostic classes of `scp_statements.csv`, `diag_*`, `form_*` and `rhythm_*` its 44 diagnostic, 19 form and 12
rhythm statements; four of them (DIG, LNGQT, NDT, NST) are both diagnostic and form, so there are 71. A record without
any statement of a group is negative in it here; the task decides whether it takes part.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd

from ecgscale.data import synthetic, tables, wfdb16
from ecgscale.data.record import Record, Rejected, patient_id
from ecgscale.data.remote import PhysioNet
from ecgscale.datasets import DatasetError, DatasetSpec, portioned
from ecgscale.units import LEADS, lead_name

_COLUMNS = ["ecg_id", "patient_id", "age", "sex", "scp_codes", "strat_fold", "filename_lr", "filename_hr"]
_GROUPS = ("super", "sub", "diag", "form", "rhythm")
_STATEMENTS = ["diagnostic", "form", "rhythm", "diagnostic_class", "diagnostic_subclass"]
_SEX = {0: "M", 1: "F"}  # PTB-XL's coding


class PtbXl(DatasetSpec):
    """21,799 ten-second ECGs of 18,869 patients, with folds that respect patients."""

    title: ClassVar[str] = "PTB-XL"
    licence: ClassVar[str] = "CC BY 4.0"
    access: ClassVar[str] = "open"
    url: ClassVar[str] = "https://physionet.org/content/ptb-xl/1.0.3/"
    citation: ClassVar[str] = "Wagner et al. 2020, Scientific Data 7:154, doi:10.1038/s41597-020-0495-6"
    version: ClassVar[str] = "1.0.3"
    files: ClassVar[PhysioNet] = PhysioNet("ptb-xl/1.0.3", size=3_170_000_000)  # 21,799 records of 145.2 kB, tables
    revision: ClassVar[int] = 2  # 2: labels diag_*

    rate_hz: Literal[100, 500] = 100  # which of the two published versions of each record

    def portions(self, root: Path | None) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows of `ptbxl_database.csv` in its order."""
        if root is None:
            raise DatasetError("ptbxl needs the folder of PTB-XL: bind it with --data ptbxl=PATH")
        table = tables.read(root / "ptbxl_database.csv", _COLUMNS, DatasetError)
        _Statements.read(root / "scp_statements.csv")
        yield from portioned(tables.rows(table))

    def read(self, root: Path | None, portion: list[dict[str, Any]]) -> Iterator[Record | Rejected]:
        """Yield the records of these rows; ages above 89, written as 300 there, become 90."""
        assert root is not None
        statements = _Statements.read(root / "scp_statements.csv")
        column = "filename_lr" if self.rate_hz == 100 else "filename_hr"
        for row in portion:
            name = str(row["ecg_id"])
            try:
                yield _record(name, row, wfdb16.read(root, str(row[column])), statements)
            except ValueError as error:
                yield Rejected(name, str(error))

    @classmethod
    def sample(cls, root: Path, seed: int = 0) -> PtbXl:
        """Write 96 synthetic ECGs of 60 patients in PTB-XL's layout, at 100 Hz."""
        ecg = synthetic.population(patients=60, records=96, rate_hz=100.0, seed=seed)
        (root / "records100" / "00000").mkdir(parents=True, exist_ok=True)
        rows = []
        for i in range(96):
            name = f"records100/00000/{i + 1:05d}_lr"
            wfdb16.write(root / name, ecg.signal[i], LEADS, 100.0)
            rows.append(
                {
                    "ecg_id": i + 1,
                    "patient_id": float(ecg.patient[i]),
                    "age": 300.0 if i == 0 else ecg.age[i],
                    "sex": int(ecg.female[i]),
                    "scp_codes": repr(_codes({k: bool(v[i]) for k, v in ecg.labels.items()})),
                    "strat_fold": int(ecg.patient[i] % 10 + 1),
                    "filename_lr": name,
                    "filename_hr": name.replace("100", "500").replace("_lr", "_hr"),
                }
            )
        pd.DataFrame(rows).to_csv(root / "ptbxl_database.csv", index=False)
        pd.DataFrame(_SAMPLE_STATEMENTS, columns=["", *_STATEMENTS]).to_csv(root / "scp_statements.csv", index=False)
        return cls()


class _Statements:
    """Which labels an SCP code stands for."""

    def __init__(self, of_code: dict[str, tuple[str, ...]]) -> None:
        self.of_code = of_code
        self.names = tuple(dict.fromkeys(name for names in of_code.values() for name in names))
        self.absent = dict.fromkeys(self.names, 0.0)

    @classmethod
    def read(cls, path: Path) -> _Statements:
        """Read `scp_statements.csv`; trailing underscores of codes are dropped in labels."""
        table = tables.read(path, _STATEMENTS, DatasetError, index=True)
        found: dict[str, tuple[str, ...]] = {}
        for code, row in zip(table.index, tables.rows(table), strict=True):
            names, short = [], str(code).strip("_")
            if row["diagnostic"] == 1:
                names = [f"super_{row['diagnostic_class']}", f"sub_{str(row['diagnostic_subclass']).strip('_')}"]
                names += [f"diag_{short}"]
            names += [f"{group}_{short}" for group in ("form", "rhythm") if row[group] == 1]
            found[str(code)] = tuple(names)
        return cls(dict(sorted(found.items(), key=lambda item: [_GROUPS.index(n.split("_")[0]) for n in item[1]])))

    def labels(self, codes: dict[str, Any]) -> dict[str, float]:
        """Return every label, 1 where a code stands for it.

        Raises:
            ValueError: a code that `scp_statements.csv` does not know.
        """
        result = dict(self.absent)
        for code in codes:
            if code not in self.of_code:
                raise ValueError(f"the SCP code {code} is not in scp_statements.csv")
            result.update(dict.fromkeys(self.of_code[code], 1.0))
        return result


def _record(name: str, row: dict[str, Any], read: wfdb16.WfdbRecord, statements: _Statements) -> Record:
    try:
        codes = ast.literal_eval(str(row["scp_codes"]))
    except (ValueError, SyntaxError):
        codes = None
    if not isinstance(codes, dict):
        raise ValueError(f"scp_codes is {row['scp_codes']!r}; expected a dictionary")
    age = row["age"]
    return Record(
        signal=read.physical,
        unit=read.unit,
        rate_hz=read.rate_hz,
        leads=tuple(lead_name(lead) for lead in read.leads),
        record=name,
        patient=patient_id("ptbxl", row["patient_id"]),
        age=None if age != age else 90.0 if age == 300 else float(age),
        sex=_SEX.get(row["sex"]),
        labels=statements.labels(codes),
        fold=None if row["strat_fold"] != row["strat_fold"] else int(row["strat_fold"]),
    )


def _codes(has: dict[str, bool]) -> dict[str, float]:
    codes = {
        "CRBBB": has["wide"],
        "LVH": has["tall"],
        "INVT": has["inverted"],
        "NST_": has["inverted"] and has["tall"],
        "STACH": has["fast"],
        "SBRAD": has["slow"],
        "SR": not (has["fast"] or has["slow"]),
        "NORM": not (has["wide"] or has["tall"] or has["inverted"]),
    }
    return {code: 0.0 if code in ("SR", "STACH", "SBRAD") else 100.0 for code, on in codes.items() if on}


_NAN = float("nan")
_SAMPLE_STATEMENTS: list[tuple[str, float, float, float, object, object]] = [
    ("NORM", 1, _NAN, _NAN, "NORM", "NORM"),
    ("CRBBB", 1, _NAN, _NAN, "CD", "CRBBB"),
    ("LVH", 1, _NAN, _NAN, "HYP", "LVH"),
    ("NST_", 1, 1, _NAN, "STTC", "NST_"),
    ("INVT", _NAN, 1, _NAN, _NAN, _NAN),
    ("SR", _NAN, _NAN, 1, _NAN, _NAN),
    ("STACH", _NAN, _NAN, 1, _NAN, _NAN),
    ("SBRAD", _NAN, _NAN, 1, _NAN, _NAN),
]
