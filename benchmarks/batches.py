"""Training batches from a warm corpus (12 leads x 1,000 samples) against a PyTorch DataLoader over WFDB files.

    python benchmarks/batches.py ../shared/data/ptb-xl-500

Prints records per second of wall-clock time, best of three: int16 batches of 64 as the corpus holds them, whole
training batches (float32, beats, labels, patients), and a DataLoader that reads the files of `records100/` with wfdb,
with two workers and with none. Then the memory of a training process on corpora of 2,000 and 20,000 records.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import wfdb

from ecgscale.data.corpus import Corpus, Form, ingest
from ecgscale.data.split import SplitRule, corpus_parts
from ecgscale.datasets.simulated import Simulated
from ecgscale.loader import Loader
from ecgscale.study.machine import set_up

BATCH = 64
MEMORY = """
import resource, sys
from ecgscale.data.corpus import Corpus
from ecgscale.data.split import SplitRule, corpus_parts
from ecgscale.loader import Loader
corpus = Corpus.open(sys.argv[1])
rows = corpus_parts(corpus, SplitRule(by="patients"), 0)["train"][:1000]
loader = Loader(corpus, rows, ("AF",))
for step in range(200):
    loader.step(0, step, 64)
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("RssAnon")))
"""


class Files(torch.utils.data.Dataset[torch.Tensor]):
    """What a user would write: one WFDB record per item."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, item: int) -> torch.Tensor:
        return torch.from_numpy(wfdb.rdrecord(self.names[item]).p_signal.T.astype(np.float32))


def per_s(work: Callable[[], int]) -> float:
    """Return records per second, the best of three."""
    rates = []
    for _ in range(3):
        start = time.perf_counter()
        records = work()
        rates.append(records / (time.perf_counter() - start))
    return max(rates)


def draws(count: int) -> Iterator[np.ndarray]:
    """Yield batches of rising rows, drawn at random."""
    random = np.random.default_rng(0)
    for _ in range(400):
        yield np.sort(random.choice(count, BATCH, replace=False))


def stored(corpus: Corpus) -> int:
    """Read int16 batches."""
    return sum(len(corpus.counts(rows)) for rows in draws(len(corpus)))


def trained_on(loader: Loader) -> int:
    """Make whole training batches."""
    return sum(len(loader.step(0, step, BATCH)) for step in range(200))


def from_files(names: list[str], workers: int) -> int:
    """Make batches of files."""
    return sum(len(batch) for batch in torch.utils.data.DataLoader(Files(names), BATCH, num_workers=workers))


def anonymous_mb(path: Path) -> float:
    """Return the memory of its own, in MB, of a process that drew 200 batches of 1,000 records of a corpus."""
    done = subprocess.run([sys.executable, "-c", MEMORY, str(path)], check=True, capture_output=True, text=True)
    return int(done.stdout) / 1024


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("root", type=Path, help="a folder in PTB-XL's layout with records100/")
    names = [str(p.with_suffix("")) for p in sorted(parser.parse_args().root.glob("records100/**/*.hea"))]
    set_up(1)  # as a run is trained
    with tempfile.TemporaryDirectory() as folder:
        small, large = (ingest(Simulated(count=n), None, Form(), Path(folder) / str(n)) for n in (2000, 20_000))
        loader = Loader(small, np.arange(len(small)), ("AF", "RBBB"))
        base = per_s(lambda: from_files(names, 0))
        print(
            f"{date.today()}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores, batches of {BATCH}"
        )
        for title, found in (
            ("DataLoader over wfdb, no worker", base),
            ("DataLoader over wfdb, 2 workers", per_s(lambda: from_files(names, 2))),
            ("int16 from a warm corpus", per_s(lambda: stored(small))),
            ("whole training batches", per_s(lambda: trained_on(loader))),
        ):
            print(f"| {title} | {found:,.0f} records/s | {found / base:.1f} × |")
        for corpus in (small, large):
            corpus_parts(corpus, SplitRule(by="patients"), 0)  # as the plan of a study does before it trains
            print(f"| memory of a training process, {len(corpus):,} records | {anonymous_mb(corpus.path):.1f} MB | |")


if __name__ == "__main__":
    main()
