"""ecgscale: the scaling laboratory for ECG foundation models.

`run`, `table`, `fit`, `report` and `ingest` do what the commands do; `Study`, `Lab` and `Corpus` are the types a user
meets. They are imported when first used, so that reading a corpus or fitting a table does not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    **dict.fromkeys(("run", "table", "fit", "report", "ingest"), "ecgscale.api"),
    "Study": "ecgscale.study.study",
    "Lab": "ecgscale.lab",
    "Corpus": "ecgscale.data.corpus",
}
__all__ = ["Corpus", "Lab", "Study", "fit", "ingest", "report", "run", "table"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ecgscale' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
