"""Ningbo holds the records from JS10647 on, one of them under the name S23074."""

from __future__ import annotations

from pathlib import Path

from ecgscale.data.record import Record
from ecgscale.datasets.ningbo import Ningbo


def test_the_twenty_records_are_as_their_headers_say(shared_data: Path) -> None:
    records = [r for r in Ningbo().records(shared_data / "cinc2021-samples") if isinstance(r, Record)]
    assert [r.record for r in records] == [f"JS{n}" for n in range(20_000, 20_020)]
    first = records[0]
    assert (first.patient, first.age, first.sex) == ("ningbo:JS20000", 84.0, "F")
    assert {name for name, value in first.labels.items() if value} == {"PAC", "STach", "NSIVCB", "STC"}
    assert sum(r.labels["PAC"] for r in records) == 20
    assert sum(r.labels["LVHV"] for r in records) == 5


def test_the_header_with_another_name_than_its_signal_is_read(tmp_path: Path) -> None:
    Ningbo.sample(tmp_path)
    header = tmp_path / "g1" / "JS10650.hea"
    header.rename(tmp_path / "g1" / "S23074.hea")
    records = {r.record: r for r in Ningbo().records(tmp_path) if isinstance(r, Record)}
    assert len(records) == 60 and records["S23074"].patient == "ningbo:JS23074"


def test_records_of_chapman_and_of_ptb_are_not_taken_for_its_own(tmp_path: Path) -> None:
    Ningbo.sample(tmp_path)
    for name in ("JS10646", "JS45552", "S0001", "S10646"):
        (tmp_path / f"{name}.hea").write_text("")
    assert len(list(Ningbo().records(tmp_path))) == 60
