"""Tables out of files: what spreadsheets write is read as pandas reads it, and what is broken is said with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgscale.fitting.reading import DERIVED, read_columns, with_roles

TEXT = (
    '\ufeffrun,N,"the loss, nats",seed,note,mixed\r\n'
    'a,1e4, 0.5 ,0,"one ""quoted"", note",1\r\n'
    "b,20000.,.25,1,,x\r\n"
    "\r\n"
    'c,3E+04,NaN,2,"two\nlines",1_000\r\n'
    "d,,-7,3\r\n"
)


def test_a_csv_is_read_as_pandas_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(TEXT.encode())
    ours, theirs = read_columns(path), pd.read_csv(path)
    assert list(ours) == list(theirs)
    for name in theirs:
        for a, b in zip(ours[name], theirs[name], strict=True):
            assert a == b or (pd.isna(a) and pd.isna(b)), name
    assert [ours[c].dtype.kind for c in ours] == ["O", "f", "f", "i", "O", "O"]


def test_parquet_gives_the_same_columns(tmp_path: Path) -> None:
    frame = pd.DataFrame({"N": [1, 2, 3], "loss": [0.5, np.nan, 0.1], "family": pd.Categorical(["a", None, "b"])})
    frame.to_parquet(tmp_path / "runs.parquet")
    found = read_columns(tmp_path / "runs.parquet")
    assert found["N"].tolist() == [1, 2, 3]
    assert np.isnan(found["loss"][1])
    assert found["family"][[0, 2]].tolist() == ["a", "b"]
    assert np.isnan(found["family"][1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"N;D;loss\n1;2;3\n", "separated by commas, found ';'"),
        (b"N,D,N\n1,2,3\n", "two columns are called 'N'"),
        (b"N,D\n1,2\n1,2,3\n", "line 3 has more fields than the 2"),
        (b'N,D\n1,"2\n', "line 2"),
        ("N,Größe\n".encode("latin-1"), "no UTF-8 text"),
    ],
)
def test_a_broken_csv_is_said_with_its_place(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "runs.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_columns(tmp_path / "runs.csv")


def test_records_are_derived_from_compute_only_where_they_are_not_given() -> None:
    columns = {"params": np.array([10.0]), "flops": np.array([600.0])}
    table = with_roles(columns, {}, "runs.csv")
    assert table["D"].tolist() == [10.0]
    assert DERIVED in table
    assert DERIVED not in with_roles(columns | {"ecgs": np.array([10.0])}, {"D": "ecgs"}, "runs.csv")
    with pytest.raises(ValueError, match="column 'C' must hold numbers, found 'many'"):
        with_roles(columns | {"flops": np.array(["many"], object)}, {}, "runs.csv")
