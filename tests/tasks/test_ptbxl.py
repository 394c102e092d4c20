"""PTB-XL's groups have the published sizes, and who takes part in one is the published rule or its alternative."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from ecgscale.data.record import Record
from ecgscale.datasets.ptbxl import PtbXl as Source
from ecgscale.tasks.ptbxl import PtbXl

GROUPS = {"all": 71, "diag": 44, "sub": 23, "super": 5, "form": 19, "rhythm": 12}


@pytest.fixture(scope="module")
def index(request: pytest.FixtureRequest) -> pd.DataFrame:
    """The labels of the 500 records beside the checkout."""
    root: Path = request.getfixturevalue("shared_data") / "ptb-xl-500"
    records = [item for item in Source().records(root) if isinstance(item, Record)]
    return pd.DataFrame([{f"label.{name}": value for name, value in r.labels.items()} for r in records])


@pytest.fixture(scope="module")
def codes(request: pytest.FixtureRequest) -> pd.Series:
    """The statements of the same records, read apart."""
    root: Path = request.getfixturevalue("shared_data") / "ptb-xl-500"
    return pd.read_csv(root / "ptbxl_database.csv")["scp_codes"].map(lambda text: set(eval(text)))


def test_the_groups_have_the_published_sizes(index: pd.DataFrame) -> None:
    for labels, size in GROUPS.items():
        assert len(PtbXl.label_sets[labels]) == size
        targets = PtbXl.parse({"labels": labels}).targets(index)
        assert set(targets.columns) == set(PtbXl.label_sets[labels])


def test_every_code_stands_once_in_all(index: pd.DataFrame, codes: pd.Series) -> None:
    targets = PtbXl(labels="all").targets(index)
    assert {"diag_NDT", "diag_NST", "diag_DIG", "diag_LNGQT"} <= set(targets.columns)
    assert not {"form_NDT", "form_NST", "form_DIG", "form_LNGQT"} & set(targets.columns)
    for name in targets:
        code = str(name).partition("_")[2]
        said = codes.map(lambda has, code=code: code in {c.strip("_") for c in has})
        assert targets[name].eq(1).equals(said)


def test_who_has_no_statement_of_a_group_is_dropped_or_negative(
    index: pd.DataFrame, codes: pd.Series, shared_data: Path
) -> None:
    statements = pd.read_csv(shared_data / "ptb-xl-500" / "scp_statements.csv", index_col=0)
    for labels, column in {"diag": "diagnostic", "form": "form", "rhythm": "rhythm"}.items():
        group = set(statements.index[statements[column] == 1])
        takes_part = codes.map(lambda has, group=group: bool(has & group))
        assert 0 < takes_part.sum() < len(codes)
        dropped = PtbXl.parse({"labels": labels}).targets(index)
        assert dropped.notna().all(axis=1).equals(takes_part)
        assert dropped.isna().all(axis=1).equals(~takes_part)
        kept = PtbXl.parse({"labels": labels, "without": "negative"}).targets(index)
        assert kept.notna().all(axis=None) and (kept[~takes_part] == 0).all(axis=None)
        assert kept[takes_part].equals(dropped[takes_part])


def test_the_superclasses_are_counted_as_published(index: pd.DataFrame) -> None:
    for without in ("drop", "negative"):
        targets = PtbXl.parse({"labels": "super", "without": without}).targets(index)
        counts = {str(name).removeprefix("super_"): int(targets[name].sum()) for name in targets}
        assert counts == {"NORM": 297, "STTC": 96, "CD": 78, "MI": 73, "HYP": 40}


def test_a_corpus_without_one_of_the_groups_has_no_all(index: pd.DataFrame) -> None:
    bare = index.drop(columns=[name for name in index if str(name).startswith("label.diag_")])
    with pytest.raises(ValueError, match=r'ptbxl_all: the corpus has no label "diag_…"'):
        PtbXl(labels="all").targets(bare)
