"""Filters and resampling keep what they should, row by row, and impossible forms are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, resample_poly, sosfiltfilt

from ecgscale.data.resampling import resample
from ecgscale.data.signal import (
    Form,
    FormError,
    bandpass,
    derive_limb_leads,
    notch,
    record_lead_z,
    seconds_in_form,
    to_form,
    to_millivolts,
    unit_in_form,
)
from ecgscale.spec import SpecError
from ecgscale.units import LEADS


def _tone(hz: float, rate_hz: float, seconds: float = 10.0) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(round(rate_hz * seconds)) / rate_hz).astype(np.float32)


@pytest.mark.parametrize(("from_hz", "to_hz"), [(500.0, 100.0), (100.0, 250.0), (257.0, 100.0), (400.0, 100.0)])
def test_resampling_moves_a_tone_to_the_new_rate_without_shift(from_hz: float, to_hz: float) -> None:
    found = resample(_tone(5.0, from_hz), from_hz, to_hz)
    expected = _tone(5.0, to_hz)
    assert len(found) == len(expected)
    assert np.abs(found - expected)[50:-50].max() < 0.01


@pytest.mark.parametrize(
    ("up", "down", "samples"), [(1, 5, 5000), (1, 4, 4096), (2, 5, 2500), (5, 18, 3601), (100, 257, 2570), (5, 1, 99)]
)
@pytest.mark.parametrize("baseline", [True, False])
def test_resampling_agrees_with_scipy(
    up: int, down: int, samples: int, baseline: bool, rng: np.random.Generator
) -> None:
    signal = (1 + rng.normal(0, 0.02, (2, 3, samples)).cumsum(-1)).astype(np.float32)
    expected = resample_poly(signal.astype(float), up, down, axis=-1, padtype="line" if baseline else "constant")
    found = resample(signal, 100.0 * down, 100.0 * up, baseline)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-5


def test_resampling_keeps_an_offset_to_the_ends() -> None:
    assert np.abs(resample(np.full((1, 5000), 3.0, np.float32), 500, 100) - 3).max() < 1e-5
    assert np.abs(resample(np.full((1, 5000), 3.0, np.float32), 500, 100, baseline=False) - 3).max() > 0.5


@settings(max_examples=10, deadline=None)
@given(rows=st.integers(2, 9), rate_hz=st.sampled_from([250.0, 360.0, 500.0]))
def test_a_row_does_not_depend_on_its_neighbours(rows: int, rate_hz: float) -> None:
    signal = np.random.default_rng(rows).normal(size=(rows, 3, round(4 * rate_hz))).astype(np.float32)
    for together in (lambda x: resample(x, rate_hz, 100.0), lambda x: bandpass(x, rate_hz, (0.5, 40.0)), record_lead_z):
        assert np.array_equal(together(signal)[1], together(signal[1:2])[0])


def test_rates_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        resample(_tone(1, 100), 100.0, 0.0)


def test_bandpass_is_the_published_filter_and_removes_wander_and_hum() -> None:
    signal = (_tone(10, 500) + 5 * _tone(0.05, 500) + _tone(100, 500))[None]
    found = bandpass(signal, 500.0, (0.5, 40.0))
    sections = butter(4, [0.5, 40.0], btype="bandpass", fs=500.0, output="sos")
    assert np.allclose(found, sosfiltfilt(sections, signal.astype(float)), atol=1e-5)
    assert np.abs(found[0] - _tone(10, 500))[1500:-1500].max() < 0.05


def test_bandpass_above_nyquist_is_refused() -> None:
    with pytest.raises(FormError, match="below 50 Hz"):
        bandpass(_tone(1, 100)[None], 100.0, (0.5, 60.0))


def test_z_scores_have_mean_0_and_variance_1_and_flat_leads_are_zero(rng: np.random.Generator) -> None:
    signal = rng.normal(3, [[0.1], [5.0], [0.0]], size=(4, 3, 1000)).astype(np.float32)
    z = record_lead_z(signal)
    assert np.allclose(z.mean(-1), 0, atol=1e-5)
    assert np.allclose(z[:, :2].std(-1), 1, atol=1e-4)
    assert not z[:, 2].any()


def test_voltages_become_millivolts() -> None:
    assert to_millivolts(np.array([1000.0], np.float32), "uV") == pytest.approx(1.0)
    assert to_millivolts(np.array([1e-3], np.float32), "V") == pytest.approx(1.0)


def test_leads_are_selected_by_name_and_missing_ones_are_zero(rng: np.random.Generator) -> None:
    signal = rng.normal(size=(2, 12, 1000)).astype(np.float32)
    turned = to_form(signal[:, ::-1], LEADS[::-1], 100.0, None, Form())[:, 0]
    assert np.array_equal(turned, signal)
    some = to_form(signal[:, :3], ("V6", "I", "aVL"), 100.0, None, Form(leads=("I", "II", "V6")))[:, 0]
    assert np.array_equal(some[:, 0], signal[:, 1])
    assert not some[:, 1].any()
    assert np.array_equal(some[:, 2], signal[:, 0])


def test_long_records_are_cut_and_short_ones_end_in_zeros(rng: np.random.Generator) -> None:
    signal = rng.normal(size=(1, 12, 1200)).astype(np.float32)
    assert np.array_equal(to_form(signal, LEADS, 100.0, None, Form())[:, 0], signal[..., :1000])
    short = to_form(signal[..., :700], LEADS, 100.0, None, Form(normalise="record_lead_z"))[:, 0]
    assert not short[..., 700:].any()
    assert np.allclose(short[..., :700].std(-1), 1, atol=1e-4)
    assert seconds_in_form(3501, 500.0, Form()) == [7.01]


def test_a_long_record_gives_all_its_windows_if_asked(rng: np.random.Generator) -> None:
    signal = rng.normal(size=(2, 12, 3600)).astype(np.float32)
    form = Form(windows="all")
    found = to_form(signal, LEADS, 100.0, None, form)
    assert seconds_in_form(3600, 100.0, form) == [10, 10, 10, 6]
    assert np.array_equal(np.concatenate(list(found.transpose(1, 0, 2, 3)), axis=-1)[..., :3600], signal)
    assert not found[:, 3, :, 600:].any()
    assert seconds_in_form(3400, 100.0, form) == [10, 10, 10]
    assert seconds_in_form(300, 100.0, form) == [3]


def test_the_notch_removes_mains_and_nothing_else() -> None:
    wanted, hum = _tone(10, 500), _tone(50, 500)
    found = notch((wanted + hum)[None], 500.0, 50.0)[0]
    assert np.abs(found - wanted)[500:-500].max() < 0.01
    assert np.array_equal(notch(wanted[None], 100.0, 50.0)[0], wanted)
    filtered = to_form(
        (wanted + hum)[None, None], ("I",), 500.0, None, Form(rate_hz=250.0, notch_hz=50.0, leads=("I",))
    )
    assert np.abs(filtered[0, 0, 0] - _tone(10, 250))[250:-250].max() < 0.02


def test_limb_leads_are_derived_where_they_are_missing_and_only_there(rng: np.random.Generator) -> None:
    one, two = rng.normal(size=(2, 3, 1, 500)).astype(np.float32)
    signal = np.concatenate([one, two, np.full_like(one, 9.0)], axis=1)  # the third row is somebody's own aVF
    live = np.array([[True, True, True], [True, True, False], [True, False, False]])
    found, leads, ok, derived = derive_limb_leads(signal, ("I", "II", "aVF"), live)
    row = {lead: found[:, i] for i, lead in enumerate(leads)}
    assert leads == ("I", "II", "aVF", "III", "aVR", "aVL")
    assert np.allclose((row["I"] + row["III"])[:2], row["II"][:2], atol=1e-6)
    assert np.allclose((row["aVR"] + row["aVL"])[1], -row["aVF"][1], atol=1e-6)
    assert (row["aVF"][0] == 9).all()
    assert ok.tolist() == [[True] * 6, [True] * 6, [True, False, False, False, False, False]]
    assert derived.tolist() == [[False] * 3 + [True] * 3, [False] * 2 + [True] * 4, [False] * 6]
    assert derive_limb_leads(signal, ("I", "V1", "V2"), live)[1] == ("I", "V1", "V2")


def test_a_band_that_was_applied_is_not_applied_again(rng: np.random.Generator) -> None:
    signal = rng.normal(size=(1, 12, 1000)).astype(np.float32)
    form = Form(band_hz=(0.5, 40.0))
    assert np.array_equal(to_form(signal, LEADS, 100.0, (0.5, 40.0), form)[:, 0], signal)
    assert not np.allclose(to_form(signal, LEADS, 100.0, None, form)[:, 0], signal, atol=0.1)


@pytest.mark.parametrize(
    ("unit", "band_hz", "form", "expected"),
    [
        ("mV", None, Form(), "mV"),
        ("uV", (0.05, 150.0), Form(band_hz=(0.5, 40.0)), "mV"),
        ("V", None, Form(normalise="record_lead_z"), "z_record_lead"),
        ("z_global", None, Form(), "z_global"),
        ("z_global", None, Form(normalise="record_lead_z"), "z_record_lead"),
        ("z_record_lead", (0.5, 40.0), Form(normalise="record_lead_z", band_hz=(0.5, 40.0)), "z_record_lead"),
    ],
)
def test_units_in_a_form(unit: str, band_hz: tuple[float, float] | None, form: Form, expected: str) -> None:
    assert unit_in_form(form, unit, band_hz) == expected


@pytest.mark.parametrize(
    ("unit", "band_hz", "form"),
    [
        ("z_record_lead", (0.5, 40.0), Form()),
        ("z_record_lead", (0.5, 40.0), Form(normalise="record_lead_z")),
        ("z_record_lead", None, Form(normalise="record_lead_z", band_hz=(0.5, 40.0))),
        ("mV", (1.0, 30.0), Form(band_hz=(0.5, 40.0))),
    ],
)
def test_impossible_forms_are_refused_naming_both(unit: str, band_hz: tuple[float, float] | None, form: Form) -> None:
    with pytest.raises(FormError, match=r"clinic .*ask for") as error:
        unit_in_form(form, unit, band_hz, "clinic")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "table", [{"rate_hz": 0.0}, {"band_hz": [0.5, 60.0]}, {"leads": ["I", "I"]}, {"leads": ["Z"]}, {"rate": 100.0}]
)
def test_forms_that_make_no_sense_are_refused(table: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        Form.parse(table)
