"""The form of a record is checked before its samples are looked at."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ecgscale.data.record import Record, check, patient_id


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"signal": np.zeros((12, 0), np.float32)}, "empty"),
        ({"signal": np.zeros((11, 1000), np.float32)}, r"shape \[11, 1000\]; expected \[lead, time\] with 12"),
        ({"signal": np.zeros(1000, np.float32)}, r"shape \[1000\]"),
        ({"leads": ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "X")}, 'lead "X" is not one'),
        (
            {"leads": ("I", "I", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")},
            "lead I stands .* twice",
        ),
        ({"rate_hz": 0.0}, "sampling rate is 0"),
        ({"rate_hz": float("nan")}, "sampling rate is nan"),
        ({"unit": "mv"}, 'unit is "mv"'),
        ({"patient": "ptbxl:"}, 'patient is "ptbxl:"; expected population:id'),
        ({"patient": "7"}, 'patient is "7"'),
        ({"record": " "}, "no name"),
        ({"age": 300.0}, "age is 300 years"),
        ({"sex": "1"}, 'sex is "1"'),
        ({"labels": {"AF": 2.0}}, "label AF is 2"),
    ],
)
def test_every_flaw_has_its_sentence(make: Callable[..., list[Record]], change: dict[str, Any], reason: str) -> None:
    record = make(1)[0]
    assert check(record) is None
    assert re.search(reason, check(replace(record, **change)) or "")


def test_patients_are_integers_where_they_are_integers() -> None:
    assert patient_id("ptbxl", 18792.0) == patient_id("ptbxl", "18792.0") == patient_id("ptbxl", 18792) == "ptbxl:18792"
    assert patient_id("code", "a7") == "code:a7"
    for empty in ("", float("nan"), None):
        with pytest.raises(ValueError, match="empty"):
            patient_id("ptbxl", empty)
