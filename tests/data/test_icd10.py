"""The rule that picks ICD-10 codes of a table of diagnoses."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from ecgscale.data.icd10 import CodeRule, frequent
from ecgscale.datasets import DatasetError

DIAGNOSES = ["['I4891', 'I480', 'E119']", "['I4891', 'I214XYZ']", "['E11']", "[]", None, "['I10', 'Z7']"]


def picked(folder: Path, **rule: int) -> tuple[str, ...]:
    pd.DataFrame({"codes": DIAGNOSES}).to_csv(folder / "table.csv", index=False)
    return frequent(folder, "table.csv", "codes", CodeRule.parse(rule), DatasetError)


def test_beginnings_of_three_to_five_characters_count_once_an_ecg(tmp_path: Path) -> None:
    every = picked(tmp_path, minimum_records=1)
    assert every == ("E11", "E119", "I10", "I21", "I214", "I214X", "I48", "I480", "I489", "I4891")  # Z7 is too short
    assert picked(tmp_path, minimum_records=2) == (
        "E11",
        "I48",
        "I489",
        "I4891",
    )  # I48 in two ECGs, though in three codes
    assert picked(tmp_path, minimum_records=2, characters=3) == ("E11", "I48")


def test_the_most_frequent_are_kept_and_ties_go_by_name(tmp_path: Path) -> None:
    assert picked(tmp_path, minimum_records=1, most=5) == ("E11", "E119", "I48", "I489", "I4891")


def test_no_code_is_one_sentence(tmp_path: Path) -> None:
    said = r"no ICD-10 code is in 2,000 rows of .*table.csv or more; the most frequent, E11, is in 2$"
    with pytest.raises(DatasetError, match=said):
        picked(tmp_path)
