"""PTB is read in its own layout: patients by folder, two files, Frank leads left out, reasons as labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecgscale.data import wfdb16
from ecgscale.data.record import Record, Rejected
from ecgscale.datasets import DatasetError
from ecgscale.datasets.ptb import Ptb
from ecgscale.units import LEADS


def test_twelve_of_fifteen_leads_are_read_as_wfdb_reads_them(tmp_path: Path) -> None:
    import wfdb

    record = next(r for r in Ptb.sample(tmp_path).records(tmp_path) if isinstance(r, Record))
    path = next(tmp_path.rglob(f"{record.record}.hea")).with_suffix("")
    oracle = wfdb.rdrecord(str(path))
    assert oracle.sig_name[12:] == ["vx", "vy", "vz"] and set(oracle.file_name[12:]) == {f"{path.name}.xyz"}
    assert (record.leads, record.rate_hz, record.unit) == (LEADS, 1000.0, "mV")
    assert np.abs(record.signal - oracle.p_signal.T[:12]).max() < 1e-6
    assert path.with_suffix(".hea").read_bytes().startswith(f"{path.name} 15 1000 10000\r\n".encode())


def test_the_folder_is_the_patient(tmp_path: Path) -> None:
    records = [r for r in Ptb.sample(tmp_path).records(tmp_path) if isinstance(r, Record)]
    assert len(records) == 60 and len({r.patient for r in records}) == 50
    for record in records:
        number = int(next(tmp_path.rglob(f"{record.record}.hea")).parent.name.removeprefix("patient"))
        assert record.patient == f"ptb:{number}"


@pytest.mark.parametrize(
    ("reason", "positive"),
    [
        ("Myocardial infarction", "myocardial_infarction"),
        ("Heart failure (NYHA 3)", "heart_failure"),
        ("n/a", None),
        ("Broken leg", "rejected"),
    ],
)
def test_the_reason_for_admission_is_the_label(tmp_path: Path, reason: str, positive: str | None) -> None:
    Ptb.sample(tmp_path)
    name = next(iter(Ptb().records(tmp_path))).record
    header = next(tmp_path.rglob(f"{name}.hea"))
    lines = [line for line in header.read_text().splitlines() if "Reason" not in line]
    header.write_text("\n".join([*lines, f"# Reason for admission: {reason}", "# Acute infarction (localization): no"]))
    first = next(iter(Ptb().records(tmp_path)))
    if positive == "rejected":
        assert isinstance(first, Rejected) and "Broken leg" in first.reason
        return
    assert isinstance(first, Record) and len(first.labels) == 12
    assert {n for n, v in first.labels.items() if v == 1} == ({positive} if positive else set())
    assert np.isnan(list(first.labels.values())).all() == (positive is None)


def test_a_missing_file_of_frank_leads_is_told(tmp_path: Path) -> None:
    Ptb.sample(tmp_path)
    name = next(iter(Ptb().records(tmp_path))).record
    next(tmp_path.rglob(f"{name}.xyz")).unlink()
    first = next(iter(Ptb().records(tmp_path)))
    assert isinstance(first, Rejected) and f"{name}.xyz cannot be read: no such file" in first.reason


def test_records_outside_folders_of_patients_are_refused(tmp_path: Path) -> None:
    signal = np.zeros((12, 1000), np.float32)
    wfdb16.write(tmp_path / "s0010_re", signal, LEADS, 1000.0)
    with pytest.raises(DatasetError, match="patients are unknown"):
        next(Ptb().records(tmp_path))
