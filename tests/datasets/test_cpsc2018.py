"""CPSC 2018 has nine classes and records of 6 to 60 s; MERL's lists become folds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from ecgscale.data.corpus import Form, ingest
from ecgscale.data.record import Record
from ecgscale.data.split import SplitRule, parts
from ecgscale.datasets import DatasetError
from ecgscale.datasets.cpsc2018 import Cpsc2018
from ecgscale.tasks.cpsc2018 import Cpsc2018 as Task


def test_the_published_example_header_is_understood(tmp_path: Path) -> None:
    Cpsc2018.sample(tmp_path)
    header = tmp_path / "g1" / "A0001.hea"
    signals = [line for line in header.read_text().splitlines() if not line.startswith("#")]
    signals[0] += " 05-Feb-2020 11:39:16"
    header.write_text("\n".join([*signals, "#Age: 74", "#Sex: Male", "#Dx: 59118001", "#Rx: Unknown"]) + "\n")
    first = next(iter(Cpsc2018().records(tmp_path)))
    assert isinstance(first, Record)
    assert (first.record, first.patient, first.age, first.sex) == ("A0001", "cpsc2018:A0001", 74.0, "M")
    assert set(first.labels) == set(Task.label_sets["nine"])
    assert {name for name, value in first.labels.items() if value} == {"RBBB"}


def test_records_last_6_to_60_seconds(tmp_path: Path) -> None:
    records = [r for r in Cpsc2018.sample(tmp_path).records(tmp_path) if isinstance(r, Record)]
    assert {r.signal.shape[1] / r.rate_hz for r in records} == {6.0, 10.0, 15.0, 60.0}


def test_the_published_split_is_followed_where_its_lists_are_there(tmp_path: Path) -> None:
    root = tmp_path / "source"
    Cpsc2018.sample(root)
    with pytest.raises(DatasetError, match=r"icbeb_train\.csv does not exist"):
        next(Cpsc2018(splits="merl").records(root))
    names = [f"A{i + 1:04d}" for i in range(60)]
    for part, chosen in {"train": names[:40], "val": names[40:45], "test": names[45:]}.items():
        frame = pd.DataFrame({"patient_id": range(len(chosen)), "filename": chosen})
        frame.to_csv(root / f"icbeb_{part}.csv", index=False)
    corpus = ingest(Cpsc2018(splits="merl"), root, Form(), tmp_path / "corpus")
    task = Task(split="folds")
    divided = parts(corpus.index, SplitRule(by=task.parts), 0)  # type: ignore[arg-type]
    assert {part: len(rows) for part, rows in divided.items()} == {"train": 40, "validation": 5, "test": 15}
    assert set(corpus.index["record"].iloc[divided["validation"]]) == set(names[40:45])
    assert task.targets(corpus.index).shape == (60, 9)
