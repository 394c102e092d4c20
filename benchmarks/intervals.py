"""The hand-crafted intervals against LUDB's cardiologists: QRS, PR and QT of data/intervals.py, errors in ms.

    python benchmarks/intervals.py ../shared/data/ludb

LUDB at 100 Hz, 12 leads x 10 s, beats found by data/beats.py. Annotated is, per beat, the median over leads of every
boundary that at least four leads have, then the median over beats. Levels of the delineation were set on the
even-numbered records: judge by the odd ones. Prints rows of a Markdown table; exits with 1 where a median of the odd
records is above its bound.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import wfdb
from scipy.signal import resample_poly

from ecgscale.data.beats import find_beats, padded
from ecgscale.data.intervals import measure

RATE_HZ = 100
MS = 2  # of a sample of LUDB
LEADS = ("i", "ii", "iii", "avr", "avl", "avf", "v1", "v2", "v3", "v4", "v5", "v6")
BOUNDS = {"qrs": 12.0, "pr": 16.0, "qt": 24.0}  # ms, of the median absolute error
ENOUGH = 6  # leads that have a beat; of a boundary ENOUGH_MARKS
ENOUGH_MARKS = 4


def marked(record: str, lead: str) -> list[tuple[int, int, int, float, float]]:
    """Return of every QRS of a lead its peak, onset and offset, the onset of P and the offset of T; NaN without one."""
    note = wfdb.rdann(record, lead)
    symbol, sample = note.symbol, note.sample
    waves = [
        (symbol[k], sample[k], sample[k - 1], sample[k + 1])
        for k in range(1, len(symbol) - 1)
        if symbol[k] in "pNt" and symbol[k - 1] == "(" and symbol[k + 1] == ")"
    ]
    found = []
    for k, (kind, peak, on, off) in enumerate(waves):
        if kind == "N":
            p = [w[2] for w in waves[max(0, k - 1) : k] if w[0] == "p" and on - w[2] < 250]
            t = [w[3] for w in waves[k + 1 : k + 2] if w[0] == "t"]
            found.append((peak, on, off, p[0] if p else np.nan, t[0] if t else np.nan))
    return found


def annotated(record: str) -> dict[str, float]:
    """Return the intervals of a record, ms."""
    marks = np.array(sorted(mark for lead in LEADS for mark in marked(record, lead)), float)
    beats = np.split(marks, np.flatnonzero(np.diff(marks[:, 0]) > 60) + 1)
    middle = np.array([[median(c, ENOUGH_MARKS) for c in beat.T] for beat in beats if len(beat) >= ENOUGH])
    _, on, off, p_on, t_off = middle.T
    return {name: MS * median(span, 1) for name, span in (("qrs", off - on), ("pr", on - p_on), ("qt", t_off - on))}


def median(values: np.ndarray, least: int) -> float:
    """Return the median of what is known, NaN where less than `least` is."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) >= least else float("nan")


def load(root: Path) -> tuple[np.ndarray, pd.DataFrame]:
    """Return LUDB at 100 Hz [record, lead, time] in mV and what is annotated, a row per record in order."""
    paths = sorted((root / "data").glob("*.hea"), key=lambda path: int(path.stem))
    if not paths:
        raise SystemExit(f"{root}/data has no LUDB records (*.hea); give the folder that holds LUDB's data folder")
    records = [str(path.with_suffix("")) for path in paths]
    signals = [resample_poly(wfdb.rdrecord(record).p_signal.T, 1, 5, axis=-1) for record in records]
    truth = pd.DataFrame([annotated(record) for record in records], index=[int(path.stem) for path in paths])
    return np.stack(signals).astype(np.float32), truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ludb", type=Path, help="the folder of LUDB 1.0.1 that holds `data`")
    signals, truth = load(parser.parse_args().ludb)
    scored = (signals - signals.mean(axis=-1, keepdims=True)) / signals.std(axis=-1, keepdims=True)
    print("| signal | records | interval | measured of annotated | median error | median absolute error | 90 % below |")
    print("|---|---|---|---|---|---|---|")
    above = []
    for unit, x in (("mV", signals), ("z per lead", scored)):
        table = measure(x, padded(find_beats(x, RATE_HZ)), RATE_HZ).set_index(truth.index)
        for which, rows in (("odd", truth.index % 2 == 1), ("all", truth.index > 0)):
            for name, bound in BOUNDS.items():
                error = (table[f"{name}_ms"] - truth[name])[rows]
                size = error.abs()
                cells = [unit, which, name.upper(), f"{error.notna().sum()} of {truth[name][rows].notna().sum()}"]
                cells += [f"{value:.1f} ms" for value in (error.median(), size.median(), size.quantile(0.9))]
                print("| " + " | ".join(cells) + " |")
                above += [f"{unit} {name}"] if which == "odd" and size.median() > bound else []
    if above:
        raise SystemExit(f"above the bounds {BOUNDS}: {', '.join(above)}")


if __name__ == "__main__":
    main()
