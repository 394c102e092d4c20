"""Chapman-Shaoxing ends at JS10646; its headers have doubled commas and codes that no table names."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecgscale.data.record import Record
from ecgscale.datasets import DatasetError
from ecgscale.datasets.chapman import Chapman


def test_numbers_of_ningbo_are_not_its_own(shared_data: Path, tmp_path: Path) -> None:
    Chapman.sample(tmp_path)
    (tmp_path / "JS10647.hea").write_text("")
    (tmp_path / "JS00000.hea").write_text("")
    records = [r for r in Chapman().records(tmp_path) if isinstance(r, Record)]
    assert [r.record for r in records] == [f"JS{n:05d}" for n in range(1, 61)]
    assert records[0].patient == "chapman:JS00001"
    with pytest.raises(DatasetError, match="holds no record of Chapman-Shaoxing"):
        next(Chapman().records(shared_data / "cinc2021-samples"))


def test_doubled_commas_and_unnamed_codes_are_read(tmp_path: Path) -> None:
    Chapman.sample(tmp_path)
    header = tmp_path / "g1" / "JS00001.hea"
    lines = [line for line in header.read_text().splitlines() if "Dx" not in line]
    header.write_text("\n".join([*lines, "#Dx: 164889003,,6180003,"]))
    first = next(iter(Chapman().records(tmp_path)))
    assert isinstance(first, Record)
    assert {name for name, value in first.labels.items() if value} == {"AF", "snomed_6180003"}
