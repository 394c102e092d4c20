"""WFDB records (format 16, 12 leads x 10 s x 500 Hz) into a corpus at 100 Hz, against the loop a user would write.

    python benchmarks/ingest.py ../shared/data/ptb-xl-500

Prints one row of a Markdown table per way, best of three, in records per second of one core: the user's loop
(wfdb.rdrecord, scipy.signal.resample_poly, rounding to int16); the same work by ecgscale (reading, resampling,
rounding); and a whole ingest, which also checks every record, finds its beats, takes its fingerprint and writes an
index. The samples of both are compared: they may differ by one count of 1 µV.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import wfdb
from scipy.signal import resample_poly

from ecgscale.data import wfdb16
from ecgscale.data.corpus import Form, ingest
from ecgscale.data.signal import to_form
from ecgscale.datasets.ptbxl import PtbXl
from ecgscale.units import LEADS


def plain(root: Path, names: list[str]) -> np.ndarray:
    """Return [record, lead, time] int16 µV as the user's loop makes it."""
    rows = []
    for name in names:
        signal = wfdb.rdrecord(str(root / name)).p_signal.T
        rows.append(np.rint(resample_poly(signal, 1, 5, axis=-1, padtype="line") * 1000).astype(np.int16))
    return np.stack(rows)


def ours(root: Path, names: list[str]) -> np.ndarray:
    """Return the same by the reader and the resampling of ecgscale."""
    signals = np.stack([wfdb16.read(root, name).physical for name in names])
    return np.rint(to_form(signals, LEADS, 500.0, None, Form())[:, 0] * 1000).astype(np.int16)


def whole(root: Path) -> int:
    """Ingest the folder and return the number of records."""
    with tempfile.TemporaryDirectory() as out:
        corpus = ingest(PtbXl(rate_hz=500), root, Form(), Path(out) / "corpus")
        return len(corpus) + corpus.manifest["quarantined"]


def per_s(work: Callable[[], object], records: int) -> float:
    """Return records per second of processor time, the best of three."""
    times = []
    for _ in range(3):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return records / min(times)


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("root", type=Path, help="a folder in PTB-XL's layout with records500/")
    root = parser.parse_args().root
    names = [p.relative_to(root).with_suffix("").as_posix() for p in sorted(root.glob("records500/**/*.hea"))]
    difference = np.abs(plain(root, names[:100]).astype(int) - ours(root, names[:100])).max()
    base = per_s(lambda: plain(root, names), len(names))
    print(f"{date.today()}, {platform.processor() or platform.machine()}, one core, {len(names)} records; "
          f"largest difference of two samples {difference} µV")  # fmt: skip
    for title, found in (
        ("wfdb.rdrecord + resample_poly", base),
        ("reading and resampling", per_s(lambda: ours(root, names), len(names))),
        ("a whole ingest", per_s(lambda: whole(root), len(names))),
    ):
        print(f"| {title} | {found:,.0f} records/s | {found / base:.1f} × |")


if __name__ == "__main__":
    main()
