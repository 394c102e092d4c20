"""Each kind of bad signal is named; good ones pass, whatever their neighbours are."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from ecgscale.data.quality import flaws, too_short
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


def test_short_records() -> None:
    assert too_short(500, 100.0, 10.0) is None
    assert "lasts 4.99 s" in (too_short(499, 100.0, 10.0) or "")
