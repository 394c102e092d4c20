"""JSON that any reader accepts, out of plain, NumPy and pandas values."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from ecgscale.printing import between, finite


def test_what_json_does_not_know_becomes_data_or_text() -> None:
    value = {
        1: (np.float32(0.5), np.int64(2), np.bool_(True), float("nan"), np.array([1.0, np.inf])),
        "series": pd.Series([1, None], dtype="Int64"),
        "missing": [pd.NA, pd.NaT, None],
        "else": [Path("a"), "b", False],
    }
    known = {"1": [0.5, 2, True, None, [1.0, None]], "series": [1, None], "missing": [None] * 3,
             "else": ["a", "b", False]}  # fmt: skip
    assert finite(value) == known
    assert json.loads(json.dumps(finite(value), allow_nan=False)) == known


def test_an_interval_that_is_not_known_is_said_in_words_that_a_table_shows() -> None:
    assert between(0.1234, 2.0) == "[0.123, 2]"
    assert between(0.1, float("nan")) == "(no interval)"  # brackets would be markup in a table's cell
