import pytest

from ecgscale.units import LEADS, MILLIVOLTS, lead_name, unit_name


@pytest.mark.parametrize(
    ("raw", "lead"), [("avr", "aVR"), ("AVL", "aVL"), ("i", "I"), ("Lead II", "II"), (" v6 ", "V6")]
)
def test_leads_have_one_spelling(raw: str, lead: str) -> None:
    assert lead_name(raw) == lead
    assert lead_name(lead) in LEADS


def test_an_unknown_lead_is_refused() -> None:
    with pytest.raises(ValueError, match='"V7" is not one of the twelve'):
        lead_name("V7")


@pytest.mark.parametrize(("raw", "unit"), [("mv", "mV"), ("µV", "uV"), ("uV", "uV"), ("V", "V")])
def test_units_have_one_spelling(raw: str, unit: str) -> None:
    assert unit_name(raw) == unit
    assert unit in MILLIVOLTS


def test_adc_units_are_not_voltages() -> None:
    with pytest.raises(ValueError, match="expected mV, uV or V"):
        unit_name("adc")
