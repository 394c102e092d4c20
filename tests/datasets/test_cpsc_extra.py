"""CPSC-Extra is told from CPSC 2018 by its names."""

from __future__ import annotations

from pathlib import Path

from ecgscale.data.record import Record
from ecgscale.datasets.cpsc2018 import Cpsc2018
from ecgscale.datasets.cpsc_extra import CpscExtra


def test_both_can_lie_in_one_folder(tmp_path: Path) -> None:
    Cpsc2018.sample(tmp_path / "cpsc_2018", seed=1)
    CpscExtra.sample(tmp_path / "cpsc_2018_extra", seed=2)
    records = [r for r in CpscExtra().records(tmp_path) if isinstance(r, Record)]
    assert [r.record for r in records] == [f"Q{i + 1:04d}" for i in range(60)]
    assert {r.patient.split(":")[0] for r in records} == {"cpsc_extra"}
    assert len(list(Cpsc2018().records(tmp_path))) == 60
