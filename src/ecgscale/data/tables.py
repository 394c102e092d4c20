"""Tables that stand beside signals: CSV, TSV or Parquet, with the columns that are needed."""

from __future__ import annotations

import difflib
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
