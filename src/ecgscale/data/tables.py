"""Tables that stand beside signals: CSV, TSV or Parquet, with the columns that are needed."""

from __future__ import annotations

import difflib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa


def read(path: Path, columns: list[str], error_type: type[Exception], index: bool = False) -> pd.DataFrame:
    """Return the named columns of a table.

    Args:
        path: A file that ends in .csv, .tsv or .parquet, by choice with .gz after the first two.
        columns: What must be there; other columns are not read.
        error_type: Raised as one sentence that names the file.
        index: The first column names the rows.
    """
    if not path.is_file():
        raise error_type(f"the table {path} does not exist")
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:
            separator = "\t" if ".tsv" in path.suffixes else ","
            frame = pd.read_csv(path, sep=separator, low_memory=False, index_col=0 if index else None)
    except (ValueError, OSError, pa.ArrowException) as error:
        raise error_type(f"the table {path} cannot be read: {str(error).splitlines()[0]}") from None
    for name in columns:
        if name not in frame.columns:
            near = difflib.get_close_matches(name, [str(c) for c in frame.columns], 1, 0.5)
            advice = f'did you mean "{near[0]}"?' if near else f"it has {', '.join(map(str, frame.columns[:12]))} …"
            raise error_type(f'the table {path} has no column "{name}"; {advice}')
    return frame[columns]


def rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return each row as a dictionary with the columns as keys."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def stream(
    root: Path, name: str, columns: list[str], error_type: type[Exception], size: int = 4096
) -> Iterator[pd.DataFrame]:
    """Yield columns of a CSV file as text, `size` rows at a time.

    Args:
        root: Of the data set; the file may not lie outside it.
        name: Of the file below `root`.
        columns: What must be there.
        error_type: Raised as one sentence that names the file.
        size: Rows held at once.
    """
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise error_type(f"the table {name} lies outside {root}; bind the folder that holds both")
    if not path.is_file():
        raise error_type(f"the table {path} does not exist")
    try:
        yield from pd.read_csv(path, usecols=columns, dtype=object, chunksize=size)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise error_type(f"the table {path} cannot be read: {str(error).splitlines()[0]}") from None
