"""Each kind of bad signal is named; good ones pass, whatever their neighbours are."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from ecgscale.data import wfdb16
from ecgscale.data.quality import Fault, flaws, too_short
from ecgscale.units import LEADS

Change = Callable[[np.ndarray], None]


@pytest.fixture
def ecg(make: Callable[..., list]) -> np.ndarray:
    return np.stack([r.signal for r in make(4)])


def _nan(x: np.ndarray) -> None:
    x[2, 7] = np.nan


def _infinite(x: np.ndarray) -> None:
    x[5, 100:102] = np.inf


def _flat(x: np.ndarray) -> None:
    x[LEADS.index("V3")] = 0.2


def _two_flat(x: np.ndarray) -> None:
    x[[6, 7]] = 0


def _all_flat(x: np.ndarray) -> None:
    x[:] = 0.7


def _microvolts(x: np.ndarray) -> None:
    x *= 1000


def _volts(x: np.ndarray) -> None:
    x /= 1000


def _swapped(x: np.ndarray) -> None:
    x[[1, 2]] = x[[2, 1]]


def _reversed_arms(x: np.ndarray) -> None:
    x[0] *= -1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_nan, "1 samples are NaN or infinite, the first in lead III at sample 7"),
        (_infinite, "2 samples are NaN or infinite, the first in lead aVF at sample 100"),
        (_flat, "^lead V3 is flat"),
        (_two_flat, "^leads V1, V2 are flat"),
        (_all_flat, "all leads are flat"),
        (_microvolts, 'looks like microvolts: declare unit = "uV"'),
        (_volts, 'looks like volts: declare unit = "V"'),
        (_swapped, r"I \+ III = II"),
        (_reversed_arms, r"I \+ III = II"),
    ],
)
def test_a_bad_record_is_named_and_its_neighbours_pass(ecg: np.ndarray, change: Change, reason: str) -> None:
    assert flaws(ecg, LEADS, "mV")[0] == [None] * 4
    change(ecg[2])
    reasons, _ = flaws(ecg, LEADS, "mV")
    assert re.search(reason, reasons[2] or "")
    assert reasons[:2] == [None, None]
    assert reasons[3] is None


def test_an_offset_is_no_amplitude(ecg: np.ndarray) -> None:
    ecg += np.where(np.arange(12) == 1, 25.0, 25.0)[None, :, None].astype(np.float32)
    assert flaws(ecg, LEADS, "mV")[0] == [None] * 4


def test_flat_leads_may_be_declared_missing(ecg: np.ndarray) -> None:
    _flat(ecg[1])
    _all_flat(ecg[2])
    reasons, live = flaws(ecg, LEADS, "mV", flat_leads="missing")
    assert reasons == [None, None, "all leads are flat", None]
    assert [LEADS[i] for i in np.flatnonzero(~live[1])] == ["V3"]


def test_limb_leads_may_be_trusted(ecg: np.ndarray) -> None:
    _swapped(ecg[0])
    assert flaws(ecg, LEADS, "mV", limb_leads="trust")[0] == [None] * 4


def test_wrong_scales_of_other_units_are_told(ecg: np.ndarray) -> None:
    too_small, _ = flaws(ecg / 1000, LEADS, "uV")
    assert 'declare unit = "mV"' in (too_small[0] or "")
    too_large, _ = flaws(ecg * 1000, LEADS, "V")
    assert 'declare unit = "mV"' in (too_large[0] or "")


def test_z_scores_are_told_from_counts(ecg: np.ndarray) -> None:
    z = (ecg - ecg.mean(-1, keepdims=True)) / ecg.std(-1, keepdims=True)
    assert flaws(z, LEADS, "z_record_lead")[0] == [None] * 4
    assert "z-scores have 1" in (flaws(z * 1000, LEADS, "z_record_lead")[0][0] or "")


def _gap(x: np.ndarray) -> None:
    x[LEADS.index("V3"), 300:450] = 0


def _clipped(x: np.ndarray) -> None:
    x[:] = np.clip(x, -0.3, 0.5)


def _spiky(x: np.ndarray) -> None:
    x[LEADS.index("V3"), 5::40] += 9


def _arms(x: np.ndarray) -> None:
    x[0] *= -1
    x[[1, 2]] = x[[2, 1]]
    x[[3, 4]] = x[[4, 3]]


@pytest.mark.parametrize(
    ("change", "fault", "reason"),
    [
        (_gap, "gaps", "^lead V3 holds one value for 1.5 s from 3.0 s on; "),
        (_clipped, "clipped", "^lead II? is clipped: it stands exactly on its highest value, 0.5, "),
        (_spiky, "spikes", "^lead V3 has samples that stand up to "),
        (_arms, "swapped", "may be swapped; "),
    ],
)
def test_a_fault_that_needs_time_is_named_or_kept(ecg: np.ndarray, change: Change, fault: Fault, reason: str) -> None:
    assert flaws(ecg, LEADS, "mV", rate_hz=100.0)[0] == [None] * 4
    change(ecg[2])
    reasons, live = flaws(ecg, LEADS, "mV", rate_hz=100.0)
    assert re.search(reason, reasons[2] or "")
    assert (reasons[2] or "").endswith(f'; set keep = ["{fault}"] to keep such records')
    assert [reasons[i] for i in (0, 1, 3)] == [None] * 3
    assert live.all()
    others: list[Fault] = [other for other in get_args(Fault) if other != fault]
    assert flaws(ecg, LEADS, "mV", rate_hz=100.0, keep=others)[0] == reasons
    kept = flaws(ecg, LEADS, "mV", limb_leads="trust", rate_hz=100.0, keep=[fault])[0]
    assert kept == [None] * 4
    assert flaws(ecg, LEADS, "mV", limb_leads="trust")[0] == [None] * 4


def test_many_records_are_judged_as_each_alone(make: Callable[..., list]) -> None:
    signal = np.stack([r.signal for r in make(100)])
    for i, change in enumerate((_arms, _nan, _infinite, _flat, _two_flat, _all_flat, _swapped, _gap, _clipped)):
        change(signal[11 * i + 1])
    reasons, live = flaws(signal, LEADS, "mV", rate_hz=100.0)
    alone = [flaws(one[None], LEADS, "mV", rate_hz=100.0) for one in signal]
    assert reasons == [said[0] for said, _ in alone]
    assert [i for i, reason in enumerate(reasons) if reason] == [11 * i + 1 for i in range(9)]
    assert np.array_equal(live, np.concatenate([ok for _, ok in alone]))


def test_z_scores_have_gaps_and_swaps_but_no_spikes(ecg: np.ndarray) -> None:
    for i, change in enumerate((_gap, _spiky, _arms)):
        change(ecg[i])
    z = (ecg - ecg.mean(-1, keepdims=True)) / ecg.std(-1, keepdims=True)
    reasons, _ = flaws(z, LEADS, "z_record_lead", rate_hz=100.0)
    assert [(reason or "").split(";")[-1] for reason in reasons] == [
        ' set keep = ["gaps"] to keep such records',
        "",
        ' set keep = ["swapped"] to keep such records',
        "",
    ]


def test_short_records() -> None:
    assert too_short(500, 100.0, 10.0) is None
    assert "lasts 4.99 s" in (too_short(499, 100.0, 10.0) or "")


def test_no_ecg_of_ptbxl_or_ludb_is_at_fault(shared_data: Path) -> None:
    root = shared_data / "ptb-xl-500"
    for folder, rate_hz in (("records100", 100.0), ("records500", 500.0)):
        names = sorted(path.relative_to(root).with_suffix("") for path in (root / folder).rglob("*.hea"))
        signal = np.stack([wfdb16.read(root, str(name)).physical for name in names])
        assert len(names) == 500
        assert flaws(signal, LEADS, "mV", rate_hz=rate_hz)[0] == [None] * 500
    ludb = np.stack([wfdb16.read(shared_data / "ludb", f"data/{i}").counts for i in range(1, 201)]) * np.float32(1e-3)
    assert flaws(ludb, LEADS, "mV", rate_hz=500.0)[0] == [None] * 200
