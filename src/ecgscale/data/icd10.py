"""Which ICD-10 codes of a table of discharge diagnoses become labels, where a rule says it instead of a list.

A label is the beginning of a code, from its three-character category on: an ECG with I4891 has I48, I489 and I4891.

Source: the published label set of MIMIC-IV-ECG is called "all_2000_5A" (github.com/AI4HealthUOL/ecg-fm-benchmarking),
read here as five characters and 2,000 ECGs; it has 1,076 codes. That this rule gives the same ones was not seen.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from pydantic import Field, PositiveInt

from ecgscale.data import tables
from ecgscale.spec import Spec

CATEGORY = 3  # characters of the shortest label
_CODE = re.compile(r"[A-Z0-9]+")
_ROWS = 8192  # of the table held at once


class CodeRule(Spec):
    """Codes that enough ECGs carry."""

    minimum_records: PositiveInt = 2000  # ECGs of the whole table: says which labels exist, not how they are ordered
    characters: int = Field(5, ge=CATEGORY, le=7)  # of the longest label
    most: PositiveInt | None = None  # at most so many: those of most ECGs, ties by name


def codes_in(text: object) -> list[str]:
    """Return the codes in a cell such as "['I4891', 'W19XXXA']"."""
    return _CODE.findall(text) if isinstance(text, str) else []


def frequent(root: Path, table: str, column: str, rule: CodeRule, error_type: type[Exception]) -> tuple[str, ...]:
    """Return the codes that the rule picks of a column of a table, sorted.

    Raises:
        Exception: of `error_type`, no code is in so many rows.
    """
    count: Counter[str] = Counter()
    for chunk in tables.stream(root, table, [column], error_type, _ROWS):
        for text in chunk[column]:
            lengths = range(CATEGORY, rule.characters + 1)
            count.update({code[:n] for code in codes_in(text) for n in lengths if len(code) >= n})
    every = sorted(count, key=lambda code: (-count[code], code))
    ranked = [code for code in every if count[code] >= rule.minimum_records]
    if not ranked:
        most = f"; the most frequent, {every[0]}, is in {count[every[0]]}" if every else ""
        raise error_type(f"no ICD-10 code is in {rule.minimum_records:,} rows of {root / table} or more{most}")
    return tuple(sorted(ranked[: rule.most]))
