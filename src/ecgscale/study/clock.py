"""When a process began, as its `env.json` says it."""

from __future__ import annotations

import calendar
import time
from typing import Any

FORMAT = "%Y-%m-%dT%H:%M:%SZ"  # UTC


def now() -> str:
    """Return the time as it is stored."""
    return time.strftime(FORMAT, time.gmtime())


def started(about: dict[str, Any]) -> float | None:
    """Return when a run's environment was noted, seconds since the epoch; None where what is stored does not say."""
    said = about.get("started")
    return float(calendar.timegm(time.strptime(said, FORMAT))) if said else None
