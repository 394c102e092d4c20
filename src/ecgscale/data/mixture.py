"""Several corpora read as one: their records interleaved by weight, what they share counted once.

A mixture is a folder with a manifest that names its sources and, for each, the rows that are left out because an
earlier source holds the same recording. It holds no signal; its rows are those of its sources one after the other.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ecgscale import rng
from ecgscale.data import fingerprint
from ecgscale.data.corpus import Corpus, CorpusError, Rows
from ecgscale.data.indexing import count_patients
from ecgscale.data.ingestion import FORMAT
from ecgscale.data.signal import FormError
from ecgscale.data.storage import appearing

Int = npt.NDArray[np.int64]


def mix(sources: Mapping[str, Corpus], weights: Mapping[str, float], out: Path) -> Mixture:
    """Write a mixture to `out`.

    Args:
        sources: Name → corpus, all in one form; of a recording that several hold, the first one's copy is kept.
        weights: Name → share of the records drawn while every source lasts, in any unit.
        out: Folder of the mixture.

    Raises:
        FormError: two corpora differ in form or unit; the sentence names both.
        CorpusError: fewer than two sources, a weight that is not positive, or `out` cannot be written.
    """
    if len(sources) < 2 or any(not weights.get(name, 0) > 0 for name in sources):
        raise CorpusError(f"a mixture needs two sources or more, each with a positive weight; found {dict(weights)}")
    first, *others = sources
    for name in others:
        _refuse_unlike(first, sources[first], name, sources[name])
    twice = dict(zip(sources, _repeated(list(sources.values())), strict=True))
    entries = [
        {"name": name, "path": c.url or os.path.relpath(c.path, out), "digest": c.digest,
         "weight": float(weights[name]), "left_out": twice[name].tolist()}
        for name, c in sources.items()
    ]  # fmt: skip
    manifest = _manifest(sources, entries, twice)
    with appearing(out, {"mixture": entries}) as folder:
        if folder is not None:
            (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
    return Mixture(out, manifest)


class Mixture(Corpus):
    """Corpora read as one; see `mix`."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        super().__init__(path, manifest)
        entries = manifest["mixture"]
        self.names: tuple[str, ...] = tuple(e["name"] for e in entries)
        self.weights: tuple[float, ...] = tuple(e["weight"] for e in entries)
        self.sources = tuple(Corpus.open(e["path"] if "://" in e["path"] else path / e["path"]) for e in entries)
        for source, entry in zip(self.sources, entries, strict=True):
            if source.digest != entry["digest"]:
                raise CorpusError(f"{source.path} is not what {path} was mixed from; mix again")
        self._kept = [_others(len(s), e["left_out"]) for s, e in zip(self.sources, entries, strict=True)]
        self._ends = np.cumsum([len(kept) for kept in self._kept])

    def counts(self, rows: Rows) -> npt.NDArray[np.int16]:
        """As of a corpus."""
        return self._gather(rows, (len(self.leads), self.samples), "<i2", lambda c, r: c.counts(r))

    def lead_ok(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """As of a corpus."""
        return self._gather(rows, (len(self.leads),), "?", lambda c, r: c.lead_ok(r))

    def patients(self, rows: Rows) -> Int:
        """As of a corpus."""
        return self._gather(rows, (), "<i8", lambda c, r: c.patients(r))

    def known(self, rows: Rows, names: Sequence[str]) -> npt.NDArray[np.int8]:
        """As of a corpus; -1 where a source does not have the label."""
        self._refuse_unknown(names)
        return self._gather(rows, (len(names),), "<i1", lambda c, r: _known(c, r, names))

    def beats(self, rows: Rows) -> npt.NDArray[np.int32]:
        """As of a corpus."""
        found = [(here, source.beats(inside)) for here, source, inside in self._spread(rows)]
        out = np.full((len(np.asarray(rows)), max((b.shape[1] for _, b in found), default=0)), -1, np.int32)
        for here, beats in found:
            out[here, : beats.shape[1]] = beats
        return out

    @cached_property
    def index(self) -> pd.DataFrame:
        """The indices of the sources one after the other; records are called `source/record`."""
        frames = []
        for name, source, kept in zip(self.names, self.sources, self._kept, strict=True):
            frame = source.index.iloc[kept]
            frames.append(frame.assign(record=name + "/" + frame["record"].astype(str), source=name))
        return pd.concat(frames, ignore_index=True)

    @cached_property
    def quarantine(self) -> pd.DataFrame:
        """What the sources left out."""
        return pd.concat([s.quarantine for s in self.sources], ignore_index=True)

    @cached_property
    def fingerprints(self) -> npt.NDArray[Any]:
        """As of a corpus."""
        return np.concatenate([s.fingerprints[kept] for s, kept in zip(self.sources, self._kept, strict=True)])

    def verify(self) -> None:
        """Read every source once more."""
        for source in self.sources:
            source.verify()

    def rows_of_order(self, source: int, order: Int) -> Int:
        """Return the rows of the mixture for rows of a source in their order, without those that are left out."""
        kept = self._kept[source]
        place = np.minimum(np.searchsorted(kept, order), len(kept) - 1)
        here = kept[place] == order
        return np.asarray(place[here] + (self._ends[source - 1] if source else 0), dtype=np.int64)

    def source_of(self, rows: Rows) -> Int:
        """Return [row]: which source each row is of."""
        return np.searchsorted(self._ends, np.asarray(rows, dtype=np.int64), side="right").astype(np.int64)

    def _spread(self, rows: Rows) -> Iterator[tuple[Int, Corpus, Int]]:
        wanted, source = np.asarray(rows, dtype=np.int64), self.source_of(rows)
        for number in np.unique(source):
            here = np.flatnonzero(source == number)
            start = self._ends[number - 1] if number else 0
            yield here, self.sources[number], self._kept[number][wanted[here] - start]

    def _gather(self, rows: Rows, shape: tuple[int, ...], kind: str, read: Any) -> npt.NDArray[Any]:
        out = np.empty((len(np.asarray(rows)), *shape), kind)
        for here, source, inside in self._spread(rows):
            out[here] = read(source, inside)
        return out


def interleaved(orders: Sequence[Int], weights: Sequence[float], seed: int) -> Int:
    """Merge orders so that any beginning holds them in the proportion of their weights, until one runs out.

    The k-th row of an order comes at the time (k + u) / weight with one u in [0, 1) per order, drawn with `seed`: a
    beginning of the result holds a beginning of each order, and does not depend on how long the orders are.
    """
    phase = rng.generator(seed, "mixture").random(len(orders))
    times = [(np.arange(len(o)) + u) / w for o, u, w in zip(orders, phase, weights, strict=True)]
    return np.asarray(np.concatenate(orders)[np.argsort(np.concatenate(times), kind="stable")], dtype=np.int64)


def _known(corpus: Corpus, rows: Int, names: Sequence[str]) -> npt.NDArray[np.int8]:
    out = np.full((len(rows), len(names)), -1, np.int8)
    have = [i for i, name in enumerate(names) if name in corpus.labels]
    out[:, have] = corpus.known(rows, [names[i] for i in have])
    return out


def _others(count: int, left_out: list[int]) -> Int:
    return np.delete(np.arange(count, dtype=np.int64), left_out)


def _repeated(corpora: list[Corpus]) -> list[Int]:
    """Return, for each corpus, the rows whose recording an earlier one holds."""
    found = []
    for i, corpus in enumerate(corpora):
        pairs = [fingerprint.same(earlier.fingerprints, corpus.fingerprints)[:, 1] for earlier in corpora[:i]]
        found.append(np.unique(np.concatenate([np.empty(0, np.int64), *pairs])))
    return found


def _refuse_unlike(name: str, a: Corpus, other: str, b: Corpus) -> None:
    if (a.form, a.unit) != (b.form, b.unit):
        raise FormError(
            f"{name} ({a.unit}) and {other} ({b.unit}) cannot be mixed: they are not in one form; "
            'ask for one that both can take, e.g. normalise = "record_lead_z" with one band_hz'
        )


def _manifest(sources: Mapping[str, Corpus], entries: list[dict[str, Any]], twice: Mapping[str, Int]) -> dict[str, Any]:
    corpora = list(sources.values())
    labels: dict[str, dict[str, Any]] = {}
    for name, corpus in sources.items():
        values = corpus.known(_others(len(corpus), twice[name].tolist()), corpus.labels)
        for label, column in zip(corpus.labels, values.T, strict=True):
            sums = labels.setdefault(label, {"positive": 0, "known": 0})
            sums["positive"] += int((column == 1).sum())
            sums["known"] += int((column >= 0).sum())
    for sums in labels.values():
        sums["prevalence"] = sums["positive"] / sums["known"] if sums["known"] else None
    like = corpora[0].manifest
    bands = {tuple(c.manifest["band_hz"] or ()) for c in corpora}
    what = [[e["name"], e["digest"], e["weight"], e["left_out"]] for e in entries]
    return {
        "format": FORMAT,
        "name": "+".join(sources),
        "mixture": entries,
        **{key: like[key] for key in ("form", "unit", "scale", "revisions")},
        "band_hz": list(next(iter(bands))) or None if len(bands) == 1 else None,
        "title": " + ".join(dict.fromkeys(c.manifest["title"] for c in corpora)),
        **{
            key: "; ".join(dict.fromkeys(str(c.manifest[key]) for c in corpora))
            for key in ("licence", "access", "url", "citation", "version")
        },
        "simulated": any(c.manifest["simulated"] for c in corpora),
        "facts": {},
        "files": {},
        "records": sum(len(c) - len(twice[name]) for name, c in sources.items()),
        "patients": count_patients([c.patients(_others(len(c), twice[n].tolist())) for n, c in sources.items()]),
        "quarantined": sum(c.manifest["quarantined"] for c in corpora),
        "labels": labels,
        "age": {"known": sum(c.manifest["age"]["known"] for c in corpora)},
        "sex": _summed(corpora, "sex"),
        "folds": _summed(corpora, "folds"),
        "populations": _summed(corpora, "populations"),
        "beats": like["beats"],
        "digest": hashlib.blake2b(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16],
    }


def _summed(corpora: list[Corpus], key: str) -> dict[str, int]:
    total: dict[str, int] = {}
    for corpus in corpora:
        for name, count in corpus.manifest[key].items():
            total[name] = total.get(name, 0) + count
    return dict(sorted(total.items()))
