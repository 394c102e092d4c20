"""LUDB is read with its statements, and its counts are microvolts because nothing else obeys I + III = II."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecgscale.data.quality import flaws
from ecgscale.data.record import Record
from ecgscale.data.wfdb16 import read
from ecgscale.datasets.ludb import Ludb
from ecgscale.datasets.ptbxl import PtbXl
from ecgscale.units import LEADS


def _records(root: Path) -> list[Record]:
    return [item for item in Ludb().records(root) if isinstance(item, Record)]


@pytest.fixture(scope="module")
def ludb(request: pytest.FixtureRequest) -> list[Record]:
    return _records(request.getfixturevalue("shared_data") / "ludb")


def test_the_statements_are_counted_as_published(ludb: list[Record]) -> None:
    assert len(ludb) == len({r.patient for r in ludb}) == 200
    count = {name: int(sum(r.labels[name] for r in ludb)) for name in ludb[0].labels}
    expected = {
        "rhythm_sinus": 143,
        "rhythm_sinus_bradycardia": 25,
        "rhythm_af": 15,
        "rhythm_flutter": 3,
        "lvh": 108,
        "la_hypertrophy": 102,
        "axis_normal": 75,
        "axis_left": 66,
        "axis_vertical": 26,
        "axis_horizontal": 20,
        "axis_right": 3,
        "irbbb": 29,
        "crbbb": 4,
        "avb1": 10,
        "avb3": 5,
    }
    assert {name: count[name] for name in expected} == expected
    assert [sum(r.sex == s for r in ludb) for s in ("M", "F")] == [115, 85]
    assert ludb[0].leads == LEADS
    assert (ludb[0].patient, ludb[0].age, ludb[0].rate_hz, ludb[0].fold) == ("ludb:1", 51.0, 500.0, None)


def test_counts_obey_the_limb_leads_and_headers_do_not(ludb: list[Record], shared_data: Path) -> None:
    for record in ludb:
        one, two, three = record.signal[:3]
        assert np.std(one + three - two) < 1e-3
    wrong = 0
    for record in ludb[:40]:
        claimed = read(shared_data / "ludb", f"data/{record.record}").physical
        assert np.allclose(np.ptp(claimed, axis=1), 1, atol=0.01)
        wrong += flaws(claimed[None], LEADS, "mV")[0][0] is not None
    assert wrong > 20


def test_a_count_is_a_microvolt_by_comparison(ludb: list[Record], shared_data: Path) -> None:
    swing = np.median([np.ptp(r.signal, axis=1) / 1000 for r in ludb], axis=0)
    other = [r for r in PtbXl().records(shared_data / "ptb-xl-500") if isinstance(r, Record)]
    ratio = swing / np.median([np.ptp(r.signal, axis=1) for r in other], axis=0)
    assert ratio.min() > 0.8
    assert ratio.max() < 1.3


def test_its_sample_has_every_quirk(tmp_path: Path) -> None:
    Ludb.sample(tmp_path)
    records = _records(tmp_path)
    assert records[0].age == 90
    assert (tmp_path / "data" / "1.hea").read_text().splitlines()[1].endswith(" i")
    assert any(r.labels["lvh"] and r.labels["la_hypertrophy"] for r in records)
    claimed = read(tmp_path, "data/1").physical
    assert np.allclose(np.ptp(claimed, axis=1), 1, atol=0.01)
