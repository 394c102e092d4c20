"""The beat finder against XQRS in one run: records per second on one core, and agreement with LUDB's cardiologists.

    python benchmarks/beats.py ../shared/data/ludb

Prints one row of a Markdown table per finder, then the speed of the hand-crafted features of data/intervals.py. LUDB is
resampled to 100 Hz, 12 leads x 10 s; beats are scored inside each record's annotated span, against the median over
leads of the annotated QRS peaks.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from datetime import date
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import wfdb
from scipy.signal import resample_poly

from ecgscale.data.beats import FINDERS, Finder, agreement, find_beats, padded
from ecgscale.data.intervals import measure

RATE_HZ = 100
LEADS = ("i", "ii", "iii", "avr", "avl", "avf", "v1", "v2", "v3", "v4", "v5", "v6")


def load(root: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return LUDB at 100 Hz [record, lead, time] and the annotated QRS times of every record, s."""
    records = sorted((root / "data").glob("*.hea"), key=lambda path: int(path.stem))
    if not records:
        raise SystemExit(f"{root}/data has no LUDB records (*.hea); give the folder that holds LUDB's data folder")
    signals, true_s = [], []
    for path in records:
        record = str(path.with_suffix(""))
        signals.append(resample_poly(wfdb.rdrecord(record).p_signal.T, 1, 5, axis=-1))
        notes = [wfdb.rdann(record, lead) for lead in LEADS]
        peaks = np.sort(np.concatenate([note.sample[np.array(note.symbol) == "N"] for note in notes]))
        beats = np.split(peaks, np.flatnonzero(np.diff(peaks) > 60) + 1)
        true_s.append(np.array([np.median(beat) for beat in beats if len(beat) >= 6]) / 500)
    return np.stack(signals).astype(np.float32), true_s


def records_per_s(signals: np.ndarray, finder: Finder) -> float:
    """Return records per second of processor time, the best of five."""
    find_beats(signals[:32], RATE_HZ, finder=finder)
    times = []
    for _ in range(5 if finder == "energy" else 1):
        start = time.process_time()
        find_beats(signals, RATE_HZ, finder=finder)
        times.append(time.process_time() - start)
    return len(signals) / min(times)


def measured_per_s(signals: np.ndarray) -> float:
    """Return records per second of processor time of the hand-crafted features, the best of three."""
    beats = padded(find_beats(signals, RATE_HZ))
    times = []
    for _ in range(3):
        start = time.process_time()
        measure(signals, beats, RATE_HZ)
        times.append(time.process_time() - start)
    return len(signals) / min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ludb", type=Path, help="the folder of LUDB 1.0.1 that holds `data`")
    signals, true_s = load(parser.parse_args().ludb)
    speed = {finder: records_per_s(signals, finder) for finder in FINDERS}
    print("| date | machine | finder | records/s per core | x XQRS | Se 150 ms | P 150 ms | Se 50 ms | P 50 ms |")
    print("|---|---|---|---|---|---|---|---|---|")
    for finder in FINDERS:
        found_s = [beats / RATE_HZ for beats in find_beats(signals, RATE_HZ, finder=finder)]
        scores = [f"{value:.4f}" for within_s in (0.150, 0.050) for value in agreement(found_s, true_s, within_s)]
        cells = [str(date.today()), f"{platform.machine()} {os.cpu_count()} cores", finder, f"{speed[finder]:.0f}"]
        print("| " + " | ".join([*cells, f"{speed[finder] / speed['xqrs']:.1f}", *scores]) + " |")
    print(f"\nhand-crafted features: {measured_per_s(signals):.0f} records/s per core")


if __name__ == "__main__":
    main()
