"""What an ingest made of a source: one offline page, `quality.html`, and its machine-readable twin, `quality.json`."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from importlib.resources import files
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from ecgscale.data import examples
from ecgscale.data.corpus import Corpus
from ecgscale.data.examples import Example, kind_of
from ecgscale.reporting import ReportError, style
from ecgscale.reporting.paper import Drawing, draw
from ecgscale.reporting.style import listed
from ecgscale.reporting.tables import Cell, Table

SCHEMA = "ecgscale.quality/1"
GOOD = 3  # records of the corpus that are drawn beside those in quarantine
MOST_DRAWN = 18  # examples from quarantine
MOST_BYTES = 1_100_000  # of all drawings: the page stays below 1.5 MB
FEW = 10  # positive records of a label below which the page says so
SHOWN = 20  # labels, if there are more than twice as many; the others unfold
_ROWS = 2**16  # of the index held at once

_AGES = np.append(np.arange(0, 96, 5.0), np.inf)
_RATES = np.append(np.arange(20, 221, 10.0), np.inf)
_RECORDS = np.array([1, 2, 3, 4, 5, 6, 11, 21, np.inf])
_SECONDS = np.array([0, 5, 7.5, 9.95, 10.05, 15, 30, 60, 300, np.inf])  # almost every source has a bar at 10 s
_COLUMNS = ["record", "patient", "age", "source_rate_hz", "source_s", "window", "seconds", "lead_ok", "lead_derived"]
_COLUMNS += ["beats"]

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Picture:
    """An ECG on paper and whose it is."""

    ecg: Example
    drawing: Drawing


def write_quality_report(corpus: Corpus, folder: Path | None = None) -> Path:
    """Write `quality.html` and `quality.json`; the same corpus gives the same bytes.

    Args:
        corpus: What was ingested. Its index is read in pieces, of its signals only the few that are drawn.
        folder: Where to write, made if it does not exist; by default `report` in the folder of the corpus.

    Returns:
        The path of the page.

    Raises:
        ReportError: the folder cannot be written.
        CorpusError: the examples of the corpus are torn.
    """
    folder = corpus.path / "report" if folder is None else Path(folder)
    stamp = "SIMULATED ECG" if corpus.manifest["simulated"] else ""
    rows = np.unique((np.arange(GOOD) + 0.5) / GOOD * len(corpus)).astype(int)
    census, kinds = _Census(corpus, set(rows.tolist())), _kinds(corpus)
    good = [Picture(ecg, draw(ecg, f"good-{i}", stamp)) for i, ecg in enumerate(_good(corpus, census.wanted))]
    kept = examples.load(corpus.path)
    bad = _drawn(kept, [str(kind["kind"]) for kind in kinds], stamp, sum(len(p.drawing.svg) for p in good))
    twin = _twin(corpus, census, kinds, good, bad) | {"examples_kept": len(kept)}
    page = _html(twin, good, bad, stamp)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "quality.json").write_text(json.dumps(twin, allow_nan=False, indent=1) + "\n", encoding="utf-8")
        (folder / "quality.html").write_text(page, encoding="utf-8")
    except OSError as error:
        raise ReportError(f"cannot write the quality report to {folder}: {error.strerror or error}") from None
    return folder / "quality.html"


class _Census:
    """Counts over the index, piece by piece; of the rows in `wanted` it keeps what their drawing needs."""

    def __init__(self, corpus: Corpus, wanted: set[int]) -> None:
        self.ages, self.rates = np.zeros(len(_AGES) - 1, np.int64), np.zeros(len(_RATES) - 1, np.int64)
        self.window, self.source = (np.zeros(len(_SECONDS) - 1, np.int64) for _ in range(2))
        self.slow = self.beatless = self.records = 0
        self.leads, self.derived = (np.zeros(len(corpus.leads), np.int64) for _ in range(2))
        self.lead_counts, self.source_rates = Counter[int](), Counter[float]()
        self.wanted: list[dict[str, Any]] = []
        self._rate_hz, self._hashes, self._read = corpus.rate_hz, [np.empty(0, np.uint64)], 0
        for batch in pq.ParquetFile(corpus.path / "index.parquet").iter_batches(_ROWS, columns=_COLUMNS):
            self._update({name: batch.column(name) for name in _COLUMNS}, len(batch), wanted)
        self.per_patient = _counted(np.unique(np.concatenate(self._hashes), return_counts=True)[1], _RECORDS)

    def _update(self, here: dict[str, pa.Array], size: int, wanted: set[int]) -> None:
        for row in sorted(row for row in wanted if self._read <= row < self._read + size):
            keep = {name: here[name][row - self._read].as_py() for name in ("record", "seconds", "lead_ok")}
            self.wanted.append(keep | {"row": row})
        self._read += size
        self.ages += _counted(_numbers(here["age"]), _AGES)
        self.window += _counted(_numbers(here["seconds"]), _SECONDS)
        live, derived = (self._bits(here[name]) for name in ("lead_ok", "lead_derived"))
        self.leads += live.sum(axis=0)
        self.derived += derived.sum(axis=0)
        self.lead_counts.update(live.sum(axis=1).tolist())
        self._hearts(here["beats"])
        first = _numbers(here["window"]) == 0  # a record may have many windows
        self.records += int(first.sum())
        self._hashes.append(pd.util.hash_array(here["patient"].to_numpy(zero_copy_only=False)[first]))
        self.source += _counted(_numbers(here["source_s"])[first], _SECONDS)
        self.source_rates.update(_numbers(here["source_rate_hz"])[first].tolist())

    def _bits(self, mask: pa.Array) -> Counts:
        return np.asarray((mask.to_numpy()[:, None] >> np.arange(len(self.leads))) & 1, np.int64)

    def _hearts(self, beats: pa.ListArray) -> None:
        """Count heart rates: 60 s over the mean interval between the beats that were found."""
        count, place = beats.value_lengths().to_numpy(), beats.flatten().to_numpy().astype(np.float64)
        ends = np.cumsum(count)
        some = count >= 2
        self.beatless += int((~some).sum())
        spans = place[ends[some] - 1] - place[(ends - count)[some]]
        rates = 60 * self._rate_hz * (count[some] - 1) / np.maximum(spans, 1)
        self.slow += int((rates < _RATES[0]).sum())
        self.rates += _counted(rates, _RATES)


def _numbers(column: pa.Array) -> npt.NDArray[np.float64]:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)


def _counted(values: npt.NDArray[Any], edges: npt.NDArray[np.float64]) -> Counts:
    """Count values in [edge, next edge); NaN is in none, and what lies outside is left out."""
    place = np.searchsorted(edges, values[values >= edges[0]], "right") - 1
    return np.bincount(place, minlength=len(edges) - 1)[: len(edges) - 1].astype(np.int64)


def _kinds(corpus: Corpus) -> list[dict[str, Any]]:
    """Return the kinds of reasons in quarantine, the most frequent first: kind, count, a sentence, some records."""
    found: dict[str, dict[str, Any]] = {}
    for batch in pq.ParquetFile(corpus.path / "quarantine.parquet").iter_batches(_ROWS, columns=["record", "reason"]):
        for record, reason in zip(*(batch.column(i).to_pylist() for i in range(2)), strict=True):
            new = {"kind": kind_of(reason), "count": 0, "sentence": reason, "records": []}
            kind = found.setdefault(new["kind"], new)
            kind["count"] += 1
            kind["records"] += [record] * (len(kind["records"]) < 5)
    return sorted(found.values(), key=lambda kind: -int(kind["count"]))


def _good(corpus: Corpus, rows: list[dict[str, Any]]) -> list[Example]:
    """Return records of the corpus to be drawn: without the leads that are missing and the zeros at the end."""
    found = []
    for row, signal in zip(rows, corpus.signals([r["row"] for r in rows]), strict=True):
        have = [i for i in range(len(corpus.leads)) if row["lead_ok"] >> i & 1]
        samples = round(min(row["seconds"], examples.LONGEST_S) * corpus.rate_hz)
        leads = tuple(corpus.leads[i] for i in have)
        found.append(
            Example(row["record"], "", signal[have, :samples], leads, corpus.rate_hz, corpus.unit, row["seconds"])
        )
    return found


def _drawn(kept: list[Example], kinds: list[str], stamp: str, spent: int) -> list[Picture]:
    """Draw what there is room for: one example of every kind before a second of any, frequent kinds first."""
    rank = {kind: i for i, kind in enumerate(kinds)}
    by_kind: dict[str, list[Example]] = {}
    for ecg in sorted((e for e in kept if kind_of(e.reason) in rank), key=lambda e: rank[kind_of(e.reason)]):
        by_kind.setdefault(kind_of(ecg.reason), []).append(ecg)
    order = [e for together in zip_longest(*by_kind.values()) for e in together if e is not None]
    pictures: list[Picture] = []
    for i, ecg in enumerate(order[:MOST_DRAWN]):
        picture = Picture(ecg, draw(ecg, f"bad-{i}", stamp))
        spent += len(picture.drawing.svg)
        if spent > MOST_BYTES:
            break
        pictures.append(picture)
    return sorted(pictures, key=lambda p: rank[kind_of(p.ecg.reason)])


def _twin(
    corpus: Corpus, census: _Census, kinds: list[dict[str, Any]], good: list[Picture], bad: list[Picture]
) -> dict[str, Any]:
    """Return the report as JSON data; `quality.schema.json` describes it."""
    manifest, held = corpus.manifest, sum(kind["count"] for kind in kinds)
    about = ("name", "title", "version", "licence", "access", "url", "citation", "simulated", "digest", "ecgscale")
    counts = {"read": census.records + held, "kept": census.records, "quarantined": held}
    counts |= {"windows": len(corpus), "patients": manifest["patients"]}
    twin = {
        "schema": SCHEMA,
        "source": {key: manifest[key] for key in about},
        "form": manifest["form"] | {"unit": corpus.unit, "band_hz": manifest["band_hz"]},
        "counts": counts,
        "records_per_patient": _bins(_RECORDS, census.per_patient),
        "leads": {lead: int(n) for lead, n in zip(corpus.leads, census.leads, strict=True)},
        "leads_derived": {lead: int(n) for lead, n in zip(corpus.leads, census.derived, strict=True) if n},
        "leads_per_window": {str(n): census.lead_counts[n] for n in sorted(census.lead_counts)},
        "source_rates_hz": {f"{rate:g}": n for rate, n in sorted(census.source_rates.items())},
        "source_seconds": _bins(_SECONDS, census.source),
        "window_seconds": _bins(_SECONDS, census.window),
        "ages": {
            **manifest["age"],
            "unknown": len(corpus) - manifest["age"]["known"],
            "bins": _bins(_AGES, census.ages),
        },
        "sex": manifest["sex"],
        "folds": manifest["folds"],
        "populations": manifest["populations"],
        "labels": [{"name": name, **facts} for name, facts in manifest["labels"].items()],
        "heart_rate": {
            "finder": manifest["beats"]["finder"],
            "bins": _bins(_RATES, census.rates),
            "below": census.slow,
            "without": census.beatless,
        },
        "quarantine": kinds,
        "examples": [_example(p) | {"reason": p.ecg.reason, "kind": kind_of(p.ecg.reason)} for p in bad],
        "good": [_example(p) for p in good],
    }
    return {"findings": _findings(twin), **twin}


def _bins(edges: npt.NDArray[np.float64], counts: Counts) -> list[dict[str, Any]]:
    """Return from the first to the last bin that holds anything; `to` of an open one is null."""
    full = np.flatnonzero(counts)
    span = range(full[0], full[-1] + 1) if len(full) else range(0)
    ends = [float(e) if np.isfinite(e) else None for e in edges]
    return [{"from": ends[i], "to": ends[i + 1], "count": int(counts[i])} for i in span]


def _example(picture: Picture) -> dict[str, Any]:
    ecg = picture.ecg
    shown = {"scale": picture.drawing.scale, "notes": list(picture.drawing.notes)}
    return {"record": ecg.record, "leads": list(ecg.leads), "rate_hz": ecg.rate_hz, "seconds": ecg.seconds, **shown}


def _findings(twin: dict[str, Any]) -> list[str]:
    """Write what a reader should know before anything else, one sentence each."""
    counts, rows = twin["counts"], twin["counts"]["windows"]
    kept = f"{counts['kept']:,} of {counts['read']:,} records are" if counts["quarantined"] else "All records that were"
    kept += "" if counts["quarantined"] else f" read, {counts['kept']:,}, are"
    cut = f", cut into {rows:,} windows" if rows > counts["kept"] else ""
    held = f"; {counts['quarantined']:,} ({share(counts['quarantined'], counts['read'])}) are in quarantine"
    found = [f"{kept} in the corpus{cut}, of {counts['patients']:,} patients{held if counts['quarantined'] else ''}."]
    if twin["quarantine"]:
        first = twin["quarantine"][0]
        found.append(f"The most frequent reason ({first['count']:,} ×): {first['sentence']}.")
    noun = _noun(twin)[:-1]
    partial = {lead: n for lead, n in twin["leads"].items() if n < rows}
    if partial:
        lead, worst = min(partial.items(), key=lambda item: item[1])
        some = (
            f"Of {len(twin['leads'])} leads {len(partial)} {'is' if len(partial) == 1 else 'are'} not in every {noun}"
        )
        found.append(f"{some}; {lead} is in {share(worst, rows)}.")
    else:
        found.append(f"Every {noun} has all of {listed(list(twin['leads']))}.")
    if rare := [label["name"] for label in twin["labels"] if label["positive"] < FEW]:
        shown = listed(rare) if len(rare) <= 6 else f"{', '.join(rare[:6])} and others"
        found.append(f"{len(rare)} of {len(twin['labels'])} labels have fewer than {FEW} positive {noun}s: {shown}.")
    if not twin["labels"]:
        found.append("The source has no labels.")
    if lost := twin["heart_rate"]["without"]:
        found.append(f"In {style.plural(lost, noun)} fewer than two beats were found.")
    return found


def share(part: float, whole: float) -> str:
    """Write a share in per cent; what is not quite nothing or everything is never rounded to it."""
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 0.1:
        return "<0.1 %"
    if 99.9 < percent < 100:
        return ">99.9 %"
    return f"{percent:.2g} %" if percent < 10 else f"{percent:.3g} %"


def _bar(part: float, whole: float) -> Markup:
    width = 100 * part / whole if whole else 0.0
    return Markup('<span class="bar" style="--share:{:.2f}%"></span>{}').format(width, share(part, whole))


def _noun(twin: dict[str, Any]) -> str:
    return "windows" if twin["counts"]["windows"] > twin["counts"]["kept"] else "records"


def _labels(twin: dict[str, Any]) -> list[Table]:
    """Return the labels, the most frequent first; of many those beyond `SHOWN` in a table of their own."""
    body = []
    for label in sorted(twin["labels"], key=lambda label: -(label["prevalence"] or 0.0)):
        positive, known = label["positive"], label["known"]
        few, all_of_them = positive < FEW, "all of them" if known and positive == known else ""
        cells = (Cell(f"{positive:,}", all_of_them, positive, "cannot" if few else ""), Cell(f"{known:,}", sort=known))
        body.append((Cell(label["name"]), *cells, Cell(_bar(positive, known), sort=label["prevalence"] or 0.0)))
    caption = f"Positive {_noun(twin)} among those of which the label is known. In grey italics: fewer than {FEW}."
    head, first = ("label", "positive", "known", "prevalence"), SHOWN if len(body) > 2 * SHOWN else len(body)
    rest = Table("labels-rest", "Rarer labels", caption, head, tuple(body[first:]))
    name = "All labels" if first == len(body) else f"The {first} most frequent labels"
    return [Table("labels", name, caption, head, tuple(body[:first])), *([rest] if rest.rows else [])]


def _quarantine(twin: dict[str, Any]) -> Table:
    body = []
    for kind in twin["quarantine"]:
        n, total = kind["count"], twin["counts"]["read"]
        which = ", ".join(kind["records"]) + (" …" if n > len(kind["records"]) else "")
        body.append((Cell(kind["sentence"]), Cell(f"{n:,}", f"({share(n, total)})", n), Cell(which)))
    caption = (
        "No run sees these records. Sentences that differ only in numbers, lead names and quotations are counted "
        "together; the first of them is shown."
    )
    return Table("quarantine", "Reasons", caption, ("reason", "records", "which"), tuple(body))


def _html(twin: dict[str, Any], good: list[Picture], bad: list[Picture], stamp: str) -> str:
    """Return the page as one HTML text that loads nothing from anywhere."""
    folder = files("ecgscale.reporting") / "templates"
    text = {name: (folder / name).read_text(encoding="utf-8") for name in ("report.html.j2", "quality.html.j2")}
    text["macros.html.j2"] = text.pop("report.html.j2").partition("<!DOCTYPE html>")[0]  # they stand before its page
    environment = Environment(
        loader=DictLoader(text), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("quality.html.j2").render(
        twin=twin,
        labels=_labels(twin),
        quarantine=_quarantine(twin),
        good=good,
        bad=bad,
        stamp=stamp,
        noun=_noun(twin),
        share=share,
        bar=_bar,
        css=Markup((folder / "report.css").read_text(encoding="utf-8")),
        js=Markup((folder / "report.js").read_text(encoding="utf-8")),
    )
