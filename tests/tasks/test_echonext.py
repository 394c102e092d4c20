"""The flags a corpus carries are the flags the task asks for."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from ecgscale.data.corpus import Form, ingest
from ecgscale.data.split import SplitRule, parts
from ecgscale.datasets.echonext import EchoNext as Source
from ecgscale.tasks.echonext import EchoNext


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    root: Path = tmp_path_factory.mktemp("echonext")
    dataset = Source.sample(root / "source")
    return ingest(dataset, root / "source", Form(), root / "corpus").index


def test_the_eleven_findings_and_their_composite(index: pd.DataFrame) -> None:
    findings, composite = EchoNext().targets(index), EchoNext(labels="composite").targets(index)
    assert findings.shape[1] == 11 and composite.shape[1] == 1
    assert (findings == 1).any(axis=1).equals(composite["shd_moderate_or_greater_flag"] == 1)
    assert findings.isna().any(axis=None) and composite.notna().all(axis=None)


def test_the_folds_are_the_official_splits(index: pd.DataFrame) -> None:
    rows = parts(index, SplitRule(by=EchoNext().parts), 0)
    assert {name: len(found) for name, found in rows.items()} == {
        "train": int((index["fold"] == 1).sum()),
        "validation": int((index["fold"] == 9).sum()),
        "test": int((index["fold"] == 10).sum()),
    }
    assert sum(map(len, rows.values())) == len(index)
