"""The page that ends an ingest: every number is what pandas counts, the page is offline, examples are those kept."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import jsonschema
import numpy as np
import pytest

from ecgscale.data import examples, synthetic
from ecgscale.data.corpus import Corpus, CorpusError, Form, ingest
from ecgscale.data.examples import Example, Examples, example_of, kind_of
from ecgscale.data.record import Record, Rejected
from ecgscale.datasets import DatasetSpec, portioned
from ecgscale.reporting import ReportError, quality
from ecgscale.reporting.quality import share, write_quality_report
from ecgscale.units import LEADS

SCHEMA = json.loads((files("ecgscale.reporting") / "quality.schema.json").read_text())


class Made(DatasetSpec):
    """Yields the records of a list."""

    title: ClassVar[str] = "A made-up <clinic>"
    licence: ClassVar[str] = "CC BY 4.0"
    access: ClassVar[str] = "generated"
    url: ClassVar[str] = "https://example.org/ecg"
    citation: ClassVar[str] = "Made & Up 2026"
    version: ClassVar[str] = "1.2"
    needs_root: ClassVar[bool] = False
    items: ClassVar[list[Record | Rejected]] = []

    dataset: str = "made"

    def portions(self, root: Path | None) -> Iterator[list[Record | Rejected]]:
        yield from portioned(self.items, 40)

    def read(self, root: Path | None, portion: list[Record | Rejected]) -> Iterator[Record | Rejected]:
        yield from portion

    @classmethod
    def sample(cls, root: Path, seed: int = 0) -> Made:
        return cls()


class Simulated(Made):
    simulated: ClassVar[bool] = True


def records(count: int, rate_hz: float = 250.0) -> list[Record]:
    """Return ECGs of two populations: some short, some of fewer leads, ages and labels partly unknown."""
    ecg = synthetic.population(patients=max(1, count * 2 // 3), records=count, rate_hz=rate_hz, seed=3)
    made = []
    for i in range(count):
        leads = LEADS[:6] if i % 7 == 3 else LEADS
        labels = {name: float(values[i]) for name, values in ecg.labels.items()} | {"never": 0.0}
        labels["fast"] = float("nan") if i % 5 == 0 else labels["fast"]
        end = round(rate_hz * (6 if i % 8 == 1 else 10))
        made.append(
            Record(
                signal=ecg.signal[i, : len(leads), :end],
                unit="mV",
                rate_hz=rate_hz,
                leads=leads,
                record=f"r{i}",
                patient=f"{'east' if ecg.patient[i] % 3 else 'west'}:{ecg.patient[i]}",
                age=None if i % 9 == 0 else float(ecg.age[i]),
                sex=("F", "M", None)[i % 3],
                fold=int(ecg.patient[i] % 10 + 1),
                labels=labels,
            )
        )
    return made


def spoilt(good: list[Record]) -> list[Record | Rejected]:
    """Spoil some records in four ways, and let one be unreadable."""
    items: list[Record | Rejected] = list(good)
    for i in range(10, 15):
        signal = good[i].signal.copy()
        signal[i % 6, 100 : 110 + i] = np.nan
        items[i] = replace(good[i], signal=signal)
    for i in (20, 22):
        signal = good[i].signal.copy()
        signal[i % 6] = 0.0
        items[i] = replace(good[i], signal=signal)
    items[30] = replace(good[30], signal=good[30].signal[:, :500])
    items[40] = Rejected("r40", "<b>r40.dat</b> is missing")
    return items


def keep(corpus: Corpus, items: list[Record | Rejected]) -> list[Example]:
    """Keep examples of what an ingest put in quarantine."""
    reasons = dict(zip(corpus.quarantine["record"], corpus.quarantine["reason"], strict=True))
    kept = Examples()
    for item in items:
        if isinstance(item, Record) and item.record in reasons:
            kept.add(item, reasons[item.record])
    return list(kept)


Write = Callable[..., tuple[Corpus, Path]]


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    def build(items: list[Record | Rejected], form: Form | None = None, kind: type[Made] = Made) -> tuple[Corpus, Path]:
        source = type(kind.__name__, (kind,), {"items": items, "__module__": __name__})()
        corpus = ingest(source, None, form or Form(), tmp_path_factory.mktemp("made") / "corpus")
        examples.save(keep(corpus, items), corpus.path)
        return corpus, write_quality_report(corpus)

    return build


@pytest.fixture(scope="module")
def made(write: Write) -> tuple[Corpus, Path]:
    return write(spoilt(records(90)))


def twin_of(page: Path) -> dict[str, Any]:
    twin: dict[str, Any] = json.loads((page.parent / "quality.json").read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(twin)
    return twin


@pytest.fixture(scope="module")
def twin(made: tuple[Corpus, Path]) -> dict[str, Any]:
    return twin_of(made[1])


class Elements(HTMLParser):
    """Collects start tags, and complains about tags that do not match."""

    VOID = frozenset({"meta", "link", "input", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()


def in_bins(bins: list[dict[str, Any]], values: Any) -> None:
    """Check bins against a count of the values themselves."""
    for b in bins:
        high = float("inf") if b["to"] is None else b["to"]
        assert b["count"] == int(((values >= b["from"]) & (values < high)).sum()), b
    assert sum(b["count"] for b in bins) == int(values.notna().sum())
    assert bins[0]["count"] and bins[-1]["count"]


def test_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_counts_are_those_of_the_index(made: tuple[Corpus, Path], twin: dict[str, Any]) -> None:
    index = made[0].index
    assert twin["counts"] == {
        "read": 90,
        "kept": 81,
        "quarantined": 9,
        "windows": 81,
        "patients": index["patient"].nunique(),
    }
    in_bins(twin["records_per_patient"], index["patient"].value_counts())
    in_bins(twin["ages"]["bins"], index["age"])
    in_bins(twin["source_seconds"], index["source_s"])
    in_bins(twin["window_seconds"], index["seconds"])
    assert twin["ages"]["known"] == index["age"].notna().sum() == 81 - twin["ages"]["unknown"]
    assert twin["sex"] == index["sex"].fillna("unknown").value_counts().sort_index().to_dict()
    assert sum(twin["populations"].values()) == twin["counts"]["patients"]
    assert twin["source_rates_hz"] == {"250": 81}
    leads = {lead: int((index["lead_ok"].to_numpy() >> i & 1).sum()) for i, lead in enumerate(LEADS)}
    assert twin["leads"] == leads and leads["I"] == 81 > leads["V1"] > 0
    assert set(twin["leads_per_window"]) == {"6", "12"}


def test_heart_rates_are_those_of_the_beats(made: tuple[Corpus, Path], twin: dict[str, Any]) -> None:
    beats = made[0].index["beats"].map(np.asarray)
    rates = beats.map(lambda b: 60 / np.mean(np.diff(b) / made[0].rate_hz) if len(b) > 1 else np.nan)
    in_bins(twin["heart_rate"]["bins"], rates)
    assert twin["heart_rate"]["without"] == rates.isna().sum()


def test_labels_say_what_is_known(made: tuple[Corpus, Path], twin: dict[str, Any]) -> None:
    index = made[0].index
    by_name = {label["name"]: label for label in twin["labels"]}
    for name, label in by_name.items():
        assert label["positive"] == index[f"label.{name}"].sum()
        assert label["known"] == index[f"label.{name}"].notna().sum()
    assert by_name["fast"]["known"] < 81 == by_name["slow"]["known"]
    assert any("never" in s and "fewer than 10 positive records" in s for s in twin["findings"])


def test_of_many_labels_the_rare_ones_unfold() -> None:
    facts = [{"name": f"l{i}", "positive": i, "known": 99, "prevalence": i / 99} for i in range(60)]
    counts = {"kept": 99, "windows": 99}
    for number, sizes in ((3, [3]), (40, [40]), (60, [20, 40])):
        tables = quality._labels({"labels": facts[:number], "counts": counts})
        assert [len(table.rows) for table in tables] == sizes
        assert tables[0].rows[0][0].text == f"l{number - 1}" and tables[-1].rows[-1][0].text == "l0"


def test_quarantine_is_counted_by_kind(twin: dict[str, Any]) -> None:
    counts = [(q["count"], q["kind"].partition(";")[0]) for q in twin["quarantine"]]
    assert counts[0] == (5, "… samples are NaN or infinite, the first in lead … at sample …")
    assert counts[1] == (2, "lead … is flat")
    assert sorted(n for n, _ in counts) == [1, 1, 2, 5]
    assert twin["quarantine"][0]["sentence"].startswith("20 samples are NaN or infinite, the first in lead aVL")
    assert twin["findings"][0].startswith("81 of 90 records are in the corpus")
    assert "9 (10 %) are in quarantine" in twin["findings"][0]


def test_examples_of_every_kind_are_drawn_beside_good_records(made: tuple[Corpus, Path], twin: dict[str, Any]) -> None:
    assert [e["record"] for e in twin["examples"]] == ["r10", "r11", "r12", "r20", "r22", "r30"]
    assert twin["examples_kept"] == 6
    assert "no numbers: aVL (20 samples)" in twin["examples"][0]["notes"]
    assert [g["record"] for g in twin["good"]] == made[0].index["record"].iloc[[13, 40, 67]].to_list()
    pictures = [a for t, a in Elements(made[1].read_text()).found if t == "svg" and a.get("viewbox") == "0 0 270 150"]
    assert len(pictures) == 9 and all(p["width"] == "270mm" for p in pictures)


def test_a_good_record_is_drawn_as_a_run_sees_it(made: tuple[Corpus, Path]) -> None:
    corpus = made[0]
    good = quality._good(corpus, quality._Census(corpus, {3}).wanted)
    row = corpus.index.iloc[3]
    assert row["lead_ok"] == 0b111111 and good[0].leads == LEADS[:6]
    np.testing.assert_array_equal(good[0].signal, corpus.signals([3])[0, :6, : round(row["seconds"] * 100)])


def test_page_loads_nothing_and_names_are_escaped(made: tuple[Corpus, Path]) -> None:
    text = made[1].read_text()
    for tag, attributes in Elements(text).found:
        assert tag not in ("img", "iframe", "object", "embed", "base")
        for name in ("src", "href", "srcset", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert "@import" not in text and not re.findall(r"url\((?!#)", text)
    assert "A made-up &lt;clinic&gt;" in text and "<clinic>" not in text
    assert "&lt;b&gt;r40.dat" in text and "<b>r40" not in text
    assert len(text) < 1_500_000
    for said in ("CC BY 4.0", "Made &amp; Up 2026", "1.2", "https://example.org/ecg", "ECGs of patients"):
        assert said in text


def test_identifiers_are_unique_and_links_resolve(made: tuple[Corpus, Path]) -> None:
    found = Elements(made[1].read_text()).found
    ids = [a["id"] for _, a in found if a.get("id")]
    assert len(ids) == len(set(ids))
    assert {str(a["href"])[1:] for t, a in found if t == "a"} <= set(ids)


def test_pieces_of_the_index_add_up_and_the_bytes_are_the_same(
    made: tuple[Corpus, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "_ROWS", 7)
    again = write_quality_report(Corpus.open(made[0].path), tmp_path / "new")
    for name in ("quality.html", "quality.json"):
        assert (again.parent / name).read_bytes() == (made[1].parent / name).read_bytes()


def test_windows_are_not_taken_for_records(write: Write) -> None:
    corpus, page = write(list(records(30)), Form(length_s=5.0, windows="all"))
    twin = twin_of(page)
    assert (twin["counts"]["read"], twin["counts"]["kept"]) == (30, 30)
    assert twin["counts"]["windows"] == len(corpus) > 30
    assert twin["findings"][0].startswith(f"All records that were read, 30, are in the corpus, cut into {len(corpus)}")
    assert sum(b["count"] for b in twin["source_seconds"]) == sum(twin["source_rates_hz"].values()) == 30
    assert sum(b["count"] for b in twin["window_seconds"]) == len(corpus)
    first = corpus.index[corpus.index["window"] == 0]
    in_bins(twin["records_per_patient"], first["patient"].value_counts())


def test_simulated_says_so_everywhere(write: Write) -> None:
    page = write(list(records(12)), kind=Simulated)[1]
    text = page.read_text()
    assert twin_of(page)["source"]["simulated"]
    assert "<b>SIMULATED.</b>" in text and "SIMULATED, no patient was measured" in text
    assert text.count(">SIMULATED ECG</text>") == 3
    assert "No record was put in quarantine." in text


def test_a_source_without_age_sex_fold_and_labels_is_said(write: Write) -> None:
    bare = [replace(r, age=None, sex=None, fold=None, labels={}) for r in records(9)]
    page = write(bare, Form(normalise="record_lead_z"))[1]
    text, twin = page.read_text(), twin_of(page)
    for said in ("The age of no patient is known.", "The source has none.", "The source has no labels."):
        assert said in text
    assert twin["ages"] == {"known": 0, "unknown": 9, "bins": []} and twin["sex"] == {"unknown": 9}
    assert all("z unit" in g["scale"] for g in twin["good"])


def test_frequent_kinds_are_drawn_first_and_the_page_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    one = example_of(records(1)[0])
    assert one is not None
    kept = [replace(one, record=f"{kind}{i}", reason=f"kind {kind}") for kind in "abc" for i in range(3)]
    order = ["kind c", "kind a", "kind b"]
    monkeypatch.setattr(quality, "MOST_DRAWN", 5)
    assert [p.ecg.record for p in quality._drawn(kept, order, "", 0)] == ["c0", "c1", "a0", "a1", "b0"]
    monkeypatch.setattr(quality, "MOST_BYTES", 200_000)
    drawn = quality._drawn(kept, order, "", 0)
    assert 0 < len(drawn) < 5 and sum(len(p.drawing.svg) for p in drawn) <= 200_000


def test_a_folder_that_cannot_be_written_is_one_sentence(made: tuple[Corpus, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match=r"cannot write the quality report to .*file"):
        write_quality_report(made[0], tmp_path / "file")


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 9, "0 %"), (1, 9999, "<0.1 %"), (9998, 9999, ">99.9 %"), (9, 9, "100 %"), (1, 3, "33.3 %"), (0, 0, "0 %")],
)
def test_a_share_is_never_rounded_to_nothing_or_everything(part: int, whole: int, text: str) -> None:
    assert share(part, whole) == text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("lead V3 is flat", "lead aVR is flat"),
        ("leads V1, V2, V3 are flat", "leads I, II are flat"),
        ("leads V1, V2 and V3 are flat", "leads I and II are flat"),
        ("12 samples are NaN, the first in lead I at sample 7", "1 samples are NaN, the first in lead V6 at sample 99"),
        ("the residual is 39% of −0.5 mV", "the residual is 102.5% of 1e-3 mV"),
        ("g1/E07501.mat is missing", "g2/JS10646.mat is missing"),
        ('lead "Vx" is unknown', 'lead "my lead" is unknown'),
        ("scp_codes is '{nonsense'; expected a dictionary", "scp_codes is 'None'; expected a dictionary"),
    ],
)
def test_sentences_that_differ_in_numbers_leads_and_quotes_are_of_one_kind(one: str, other: str) -> None:
    assert kind_of(one) == kind_of(other) != one


def test_sentences_that_differ_in_words_are_of_two_kinds() -> None:
    assert kind_of("lead V3 is flat") != kind_of("lead V3 is noisy")
    assert kind_of("the patient's age is 130") != kind_of("the patient's sex is 130")


def test_three_of_a_kind_are_kept_whatever_the_pieces() -> None:
    stream = [
        (r, f"sample {i} is bad" if i % 3 else f"lead {LEADS[i % 12]} is flat") for i, r in enumerate(records(12))
    ]
    whole, pieces = Examples(), Examples()
    for record, reason in stream:
        whole.add(record, reason)
    for start in range(0, 12, 5):
        piece = Examples()
        for record, reason in stream[start : start + 5]:
            piece.add(record, reason)
        pieces.extend(piece)
    names = [e.record for e in whole]
    assert names == ["r0", "r1", "r2", "r3", "r4", "r6"] == [e.record for e in pieces]
    assert not whole.wants("sample 5 is bad") and whole.wants("another reason")
    pieces.extend(whole)
    assert len(pieces) == 6


def test_kinds_are_limited() -> None:
    one = example_of(records(1)[0])
    assert one is not None
    words = ["k" + "".join(chr(97 + int(d)) for d in str(i)) for i in range(1, 100)]
    kept = Examples(replace(one, record=word, reason=word) for word in words)
    assert len(kept) == examples.MOST_KINDS


def test_examples_are_in_millivolts_and_their_beginning() -> None:
    record = records(1, 100.0)[0]
    long = replace(record, signal=np.tile(record.signal, (1, 3)) * 1000, unit="uV")
    example = example_of(long, "too long")
    assert example is not None and (example.unit, example.seconds, example.rate_hz) == ("mV", 30.0, 100.0)
    np.testing.assert_allclose(example.signal, record.signal, rtol=1e-5)
    example.signal[0, 0] = 9.0
    assert long.signal[0, 0] != 9.0


@pytest.mark.parametrize(
    "change",
    [
        {"signal": np.zeros(5, np.float32)},
        {"signal": np.zeros((12, 0), np.float32)},
        {"leads": LEADS[:3]},
        {"rate_hz": float("nan")},
        {"rate_hz": 0.0},
    ],
)
def test_what_has_no_shape_is_no_example(change: dict[str, Any]) -> None:
    assert example_of(replace(records(1)[0], **change), "bad shape") is None


def test_examples_come_back_as_they_were_kept(tmp_path: Path) -> None:
    one, two = (example_of(r, f"why {i}") for i, r in enumerate(records(2)))
    assert one is not None and two is not None
    one.signal[0, 3] = np.nan
    examples.save([one, two], tmp_path)
    back = examples.load(tmp_path)
    for before, after in zip([one, two], back, strict=True):
        np.testing.assert_array_equal(before.signal, after.signal)
        assert replace(before, signal=after.signal).__repr__() == after.__repr__()
    bytes_then = (tmp_path / examples.FILE).read_bytes()
    examples.save(back, tmp_path)
    assert (tmp_path / examples.FILE).read_bytes() == bytes_then
    assert [p.name for p in tmp_path.iterdir()] == [examples.FILE]
    assert examples.load(tmp_path / "nowhere") == []


def test_a_torn_or_pickled_file_of_examples_is_refused(tmp_path: Path) -> None:
    example = example_of(records(1)[0], "why")
    assert example is not None
    examples.save([example], tmp_path)
    whole = (tmp_path / examples.FILE).read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"nothing"):
        (tmp_path / examples.FILE).write_bytes(content)
        with pytest.raises(CorpusError, match=r"examples\.npz cannot be read"):
            examples.load(tmp_path)
    with (tmp_path / examples.FILE).open("wb") as file:
        np.savez(file, about=np.array([{"record": "r"}], dtype=object))
    with pytest.raises(CorpusError, match=r"examples\.npz cannot be read"):
        examples.load(tmp_path)
