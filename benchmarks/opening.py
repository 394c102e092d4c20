"""Opening a corpus whose index has ten million rows, and drawing its first batch.

    python benchmarks/opening.py [ROWS]

Writes an index and its arrays with made-up rows and signals of one lead and ten samples (a sparse file of the same
length would do: no signal is read before it is asked for), then opens the corpus in a fresh process and prints the
seconds until it is open, until the first batch of 64 has been read, and until the whole index is a table in memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa

from ecgscale.data.corpus import Form, ingest
from ecgscale.data.indexing import Pieces
from ecgscale.data.mapped import FILES, GrowingArray, Mapped
from ecgscale.datasets.simulated import Simulated

PIECE = 2**18
OPEN = """
import sys, time
import numpy as np
import ecgscale.data.corpus as corpora
start = time.perf_counter()
corpus = corpora.Corpus.open(sys.argv[1])
opened = time.perf_counter() - start
rows = np.random.default_rng(0).integers(0, len(corpus), 64)
corpus.counts(rows), corpus.beats(rows), corpus.lead_ok(rows), corpus.patients(rows), corpus.known(rows, ("AF",))
batch = time.perf_counter() - start
corpus.index
print(f"| {len(corpus):,} | {opened:.3f} s | {batch:.3f} s | {time.perf_counter() - start:.1f} s |")
"""


def make(path: Path, rows: int) -> None:
    """Write a corpus of `rows` records around the manifest of a small one."""
    form = Form(length_s=1.0, rate_hz=50.0, leads=("I",))
    small = ingest(Simulated(count=300), None, form, path)
    signals = GrowingArray(path / "signals-00000.npy", "<i2", (1, form.samples))
    index, mapped = Pieces(path, "index"), Mapped(path, small.labels)
    from pyarrow.parquet import read_table

    template = read_table(path / "index.parquet")
    for start in range(0, rows, PIECE):
        numbers = np.arange(start, min(start + PIECE, rows))
        piece = template.take(pa.array(numbers % template.num_rows))
        names = pa.array([f"r{n}" for n in numbers]), pa.array([f"p:{n // 2}" for n in numbers])
        piece = piece.set_column(0, "record", names[0]).set_column(1, "patient", names[1])
        signals.append(np.zeros((len(numbers), 1, form.samples), np.int16))
        index.append(piece)
        index.flush()
    for piece in index.joined(template.schema):
        mapped.append(piece)
    mapped.close()
    signals.close()
    manifest = json.loads((path / "manifest.json").read_text())
    files = {name: (path / name).stat().st_size for name in ("signals-00000.npy", "index.parquet", *FILES)}
    (path / "manifest.json").write_text(
        json.dumps(
            {**manifest, "records": rows, "files": files, "shard_records": rows, "shards": ["signals-00000.npy"]}
        )
    )


def main() -> None:
    """Print one row."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "corpus", rows)
        done = subprocess.run(
            [sys.executable, "-c", OPEN, str(Path(folder) / "corpus")], check=True, capture_output=True, text=True
        )
        print(f"{date.today()}\n| rows | open | first batch | whole index |\n|---|---|---|---|\n{done.stdout}", end="")


if __name__ == "__main__":
    main()
