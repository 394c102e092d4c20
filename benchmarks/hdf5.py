"""CODE-15 % to a corpus at 100 Hz beside the loop a user would write, records per second of one process, in one run.

    OMP_NUM_THREADS=1 python benchmarks/hdf5.py [--records 2000] [--compression gzip] [--repeats 3]

Both read the same synthetic part in CODE-15 %'s layout and must give the same samples to 1 count. The loop stops at
samples; the corpus also judges every record, finds its beats, takes its fingerprint and writes an index. Prints a row
of a Markdown table.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import h5py
import numpy as np
import pandas as pd
from scipy.signal import resample_poly

from ecgscale.data import hdf5, synthetic
from ecgscale.data.corpus import Form, ingest
from ecgscale.datasets.code15 import LABELS, Code15

_DIFFERENT = 64  # ECGs that the part repeats, each time with other noise


def write(root: Path, records: int, compression: str | None) -> None:
    """Write one part and its table, two thirds of the records padded from 7 to 10 s as in CODE-15 %."""
    ecg = synthetic.population(patients=_DIFFERENT, records=_DIFFERENT, rate_hz=400.0, seed=0)
    ids, noise = np.arange(1, records + 1), np.random.default_rng(0)
    with h5py.File(root / "exams_part0.hdf5", "w") as file:
        file["exam_id"] = np.append(ids, 0)
        shape = (records + 1, 4096, 12)
        tracings = file.create_dataset("tracings", shape, "f4", compression=compression)
        for start in range(0, records, _DIFFERENT):
            block = np.zeros((min(_DIFFERENT, records - start), *shape[1:]), np.float32)
            for i, row in enumerate(block):
                samples = 4000 if i % 3 == 0 else 2800
                begin = (4096 - samples) // 2
                limb = noise.normal(0, 0.02, (2, samples))
                signal = ecg.signal[i][:, :samples].copy()
                signal[:6] += np.array([[1, 0], [0, 1], [-1, 1], [-0.5, -0.5], [1, -0.5], [-0.5, 1]]) @ limb
                row[begin : begin + samples] = 2 * signal.T
            tracings[start : start + len(block)] = block
    table = pd.DataFrame({"exam_id": ids, "patient_id": ids, "age": 50, "is_male": True}).assign(
        trace_file="exams_part0.hdf5", **dict.fromkeys(LABELS, False)
    )
    table.to_csv(root / "exams.csv", index=False)


def by_loop(root: Path) -> list[np.ndarray]:
    """Return int16 counts [time, lead] of every exam: row by row, zeros off, resampled, rounded, appended."""
    kept = []
    with h5py.File(root / "exams_part0.hdf5") as file:
        for i in range(len(file["exam_id"])):
            tracing = file["tracings"][i]
            live = np.flatnonzero(np.any(tracing != 0, axis=1))
            if not len(live):
                continue
            signal = tracing[live[0] : live[-1] + 1] / 2
            resampled = resample_poly(signal, 1, 4, axis=0, padtype="line")
            kept.append(np.rint(resampled * 1000).astype(np.int16))
    return kept


def by_corpus(root: Path, out: Path) -> np.ndarray:
    """Return int16 counts [record, lead, time] of a corpus that is made anew."""
    hdf5.close()
    corpus = ingest(Code15(), root, Form(), out)
    assert corpus.quarantine.empty, corpus.quarantine["reason"].iloc[0]
    return np.concatenate([np.load(corpus.path / name, mmap_mode="r") for name in corpus.manifest["shards"]])


def largest_difference(ours: np.ndarray, theirs: list[np.ndarray]) -> int:
    """Return the largest difference in counts of 1 µV."""
    return max(
        int(np.abs(row[:, : len(other)].T.astype(int) - other).max()) for row, other in zip(ours, theirs, strict=True)
    )


def best_s(work: Callable[[], object], repeats: int) -> float:
    """Return the shortest time of `repeats`."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--compression", choices=["gzip", "lzf"], help="of the tracings; none by default")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder) / "code15", Path(folder) / "corpus"
        root.mkdir()
        write(root, args.records, args.compression)
        difference = largest_difference(by_corpus(root, out), by_loop(root))
        if difference > 1:
            raise SystemExit(f"the samples differ by {difference} counts; expected at most 1")
        ours = args.records / best_s(lambda: by_corpus(root, out), args.repeats)
        theirs = args.records / best_s(lambda: by_loop(root), args.repeats)
    print(
        "| date | machine | records | compression | corpus, records/s | plain loop, records/s | ratio | counts apart |"
    )
    print("|---|---|---|---|---|---|---|---|")
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    cells = [str(datetime.date.today()), machine, f"{args.records:,}", args.compression or "none"]
    print(f"| {' | '.join(cells)} | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.2f} | {difference} |")


if __name__ == "__main__":
    main()
