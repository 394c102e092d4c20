"""Every task: targets join the index, no patient in two parts, true targets give 1 and ignorance what it must."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ecgscale.data.split import SplitError, SplitRule, crossval, parts
from ecgscale.evaluation import metrics
from ecgscale.evaluation.evaluate import EvalSpec
from ecgscale.spec import Spec, digest, names, part, part_class
from ecgscale.study.overlap import checked
from ecgscale.study.plan import PlannedEval
from ecgscale.study.study import StudyError
from ecgscale.tasks import TaskSpec

CASES = [
    pytest.param(task, labels, id=f"{task.title}-{task.parts}")
    for name in names("tasks")
    for task, labels in part_class("tasks", name).examples()  # type: ignore[attr-defined]
]


def _index(labels: tuple[str, ...], task: TaskSpec | None = None, records: int = 900, seed: int = 0) -> pd.DataFrame:
    """Return an index with every label in both classes, several records per patient, folds, and rows in no order."""
    prefix, output = (task.prefix, task.output) if task else ("label.", "binary")
    rng = np.random.default_rng(seed)
    patient = rng.integers(records // 2, size=records)
    columns: dict[str, Any] = {f"{prefix}{name}": (rng.random(records) < 0.3).astype(np.float32) for name in labels}
    if output == "regression":
        columns = {name: rng.normal(50, 9, records) for name in columns}
    if "sex" in columns:
        columns["sex"] = np.where(columns["sex"] == 1, "F", "M").astype(object)
    columns[f"{prefix or 'label.'}elsewhere"] = rng.integers(0, 2, records).astype(np.float32)
    frame = pd.DataFrame(
        {"record": np.arange(records).astype(str), "patient": [f"test:{p}" for p in patient], **columns}
    )
    frame["fold"] = pd.array(patient % 10 + 1, dtype="Int64")
    return frame


@pytest.mark.parametrize(("task", "labels"), CASES)
def test_labels_join_the_index(task: TaskSpec, labels: tuple[str, ...]) -> None:
    index = _index(labels, task)
    index.loc[5, f"{task.prefix}{labels[0]}"] = np.nan
    targets = task.targets(index)
    assert targets.index.equals(index.index)
    assert set(targets.columns) == set(labels) - set(task.left_out(index))
    for name in targets:
        known = targets[name].notna()
        assert known.sum() > len(index) / 4
        given = index[f"{task.prefix}{name}"][known]
        np.testing.assert_array_equal(targets[name][known], given == "F" if name == "sex" else given)
    assert targets.dtypes.eq(np.float64).all()
    assert np.isnan(targets.loc[5, labels[0]])


@pytest.mark.parametrize(("task", "labels"), CASES)
def test_order_of_labels_does_not_follow_the_corpus(task: TaskSpec, labels: tuple[str, ...]) -> None:
    index = _index(labels, task)
    assert list(task.targets(index).columns) == list(task.targets(index[index.columns[::-1]]).columns)


@pytest.mark.parametrize(("task", "labels"), CASES)
def test_no_patient_in_two_parts(task: TaskSpec, labels: tuple[str, ...]) -> None:
    index = _index(labels, task)
    if task.parts == "crossval":
        pairs = crossval(index, task.targets(index))
    else:
        divided = parts(index, SplitRule(by=task.parts), 0)
        pairs = [
            (divided[a], divided[b]) for a, b in (("train", "validation"), ("train", "test"), ("validation", "test"))
        ]
    patients = index["patient"].to_numpy()
    for one, other in pairs:
        assert len(one) and len(other)
        assert not set(patients[one]) & set(patients[other])


class Held:
    """As much of a corpus as a split and a search for overlap read."""

    def __init__(self, index: pd.DataFrame, path: Path, seed: int) -> None:
        self.index, self.path, self.digest = index, path / str(seed), str(seed)
        self.fingerprints = np.random.default_rng(seed).integers(0, 256, (len(index), 128), np.uint8)


def _evaluation(task: TaskSpec, corpus: Any) -> PlannedEval:
    source: Any = SimpleNamespace(label="tested", open=lambda: corpus)
    spec = EvalSpec(corpus=corpus.digest, task=task, split=SplitRule(by="folds"))
    return PlannedEval(spec, source, "ood", "shifted", task.title)


@pytest.mark.parametrize(("task", "labels"), CASES)
def test_patients_of_pre_training_are_refused_and_others_are_not(
    task: TaskSpec, labels: tuple[str, ...], tmp_path: Path
) -> None:
    index = _index(labels, task, records=200)
    corpus: Any = Held(index, tmp_path, 1)
    evaluation = _evaluation(task, corpus)
    tested = evaluation.spec.tested(corpus)
    assert len(tested) > 0
    strangers: Any = Held(index.assign(patient="other:" + index["patient"].str[5:]), tmp_path, 2)
    found = checked("s", "code", strangers, np.arange(100), evaluation)
    assert found["shared_patients"] == found["common_patients"] == 0
    patient = index["patient"].iloc[tested[-1]]
    strangers.index.loc[7, "patient"] = patient  # one tested patient, under another record
    with pytest.raises(StudyError, match=rf"1 patients of the test part of {task.title} on tested .* \({patient}\)"):
        checked("s", "code", strangers, np.arange(100), evaluation)
    assert checked("s", "code", strangers, np.arange(8, 100), evaluation)["common_patients"] == 1  # not trained on


@pytest.mark.parametrize(("task", "labels"), CASES)
def test_folds_that_divide_a_patient_are_refused_and_no_other_split_divides_one(
    task: TaskSpec, labels: tuple[str, ...], tmp_path: Path
) -> None:
    index = _index(labels, task, records=200)
    index["fold"] = pd.array(np.arange(200) % 10 + 1, dtype="Int64")
    corpus: Any = Held(index, tmp_path, 3)
    spec = _evaluation(task, corpus).spec
    if task.parts == "folds":
        with pytest.raises(SplitError, match=r"patient test:\d+ has records in"):
            spec.rows(corpus)
    elif task.parts == "patients":
        who = [set(index["patient"].iloc[rows]) for rows in spec.rows(corpus).values()]
        assert not (who[0] & who[1] or who[0] & who[2] or who[1] & who[2])
    else:
        assert len(spec.tested(corpus)) == len(index)  # parted by `crossval`, see above


@pytest.mark.parametrize(("task", "labels"), CASES)
def test_true_labels_give_one_and_random_scores_chance(task: TaskSpec, labels: tuple[str, ...]) -> None:
    y = task.targets(_index(labels, task)).to_numpy()
    if task.output == "regression":
        assert metrics.explained(y, y)[0] == 1 and metrics.squared_error(y, y)[0] == 0
        assert metrics.explained(y, np.broadcast_to(y.mean(axis=0), y.shape))[0] == pytest.approx(0)
        return
    true = metrics.evaluate(y, np.nan_to_num(y, nan=0.5))
    assert true["auroc"] == true["auprc"] == 1.0 and true["loss"] < 1e-6
    chance = metrics.evaluate(y, np.random.default_rng(1).random(y.shape))
    assert chance["auroc"] == pytest.approx(0.5, abs=0.15 / np.sqrt(y.shape[1]))


@pytest.mark.parametrize(("task", "labels"), CASES)
def test_labels_without_both_classes_are_counted(task: TaskSpec, labels: tuple[str, ...]) -> None:
    index = _index(labels, task)
    index[f"{task.prefix}{labels[-1]}"] = "M" if labels == ("sex",) else np.float32(0)
    if len(labels) == 1 and task.left_out(index):
        with pytest.raises(ValueError, match=task.title):
            task.targets(index)
        return
    y = task.targets(index)
    if task.output == "regression":
        assert np.isnan(metrics.explained(y, y)).sum() == 1
        return
    assert metrics.counts(y.to_numpy()).left_out + len(task.left_out(index)) == 1


@pytest.mark.parametrize(("task", "labels"), CASES)
def test_a_corpus_without_the_labels_is_refused_in_one_sentence(task: TaskSpec, labels: tuple[str, ...]) -> None:
    bare = _index(labels, task).drop(columns=[f"{task.prefix}{name}" for name in labels])
    why = rf"has no {task.prefix[:-1]} .*; it has elsewhere$" if task.prefix else f"knows the {labels[0]} of no record$"
    with pytest.raises(ValueError, match=rf"task {task.title}: the corpus {why}"):
        task.targets(bare)


@pytest.mark.parametrize(("task", "labels"), CASES)
def test_specs_say_what_they_are(task: TaskSpec, labels: tuple[str, ...]) -> None:
    assert task.reference and task.licence and labels
    assert task.title == f"{task.part_name()}_{task.labels}"
    assert part("tasks", task.dump()) == task
    assert task.uid == digest(task.dump())
    assert isinstance(task, Spec) and task.floor({}) is None


def test_a_patient_without_the_group_is_unknown_in_it() -> None:
    task = part("tasks", {"name": "ptbxl", "labels": "rhythm"})
    index = _index(("rhythm_SR", "rhythm_AFIB", "super_NORM"))
    targets = task.targets(index)
    none = (index[["label.rhythm_SR", "label.rhythm_AFIB"]] == 0).all(axis=1)
    assert none.any() and targets[none].isna().all(axis=None) and targets[~none].notna().all(axis=None)


def test_small_classes_of_ludb_are_left_out_by_patients_not_records() -> None:
    task = part("tasks", {"name": "ludb", "labels": "axis"})
    index = _index(("axis_left", "axis_right"))
    index["label.axis_right"] = (index["patient"].isin(index["patient"].unique()[:11])).astype(np.float32)
    assert task.left_out(index) == {"axis_right": 11}
    assert list(task.targets(index)) == ["axis_left"]
    assert part("tasks", {"name": "ludb", "labels": "axis", "minimum_patients": 11}).left_out(index) == {}


def test_the_simulator_knows_its_floor() -> None:
    losses = {"1dAVb": 0.1, "RBBB": 0.2, "LBBB": 0.1, "SB": 0.2, "AF": 0.1, "ST": 0.2, "female": 0.6}
    manifest = {"facts": {"irreducible_loss": losses}}
    floors = [part("tasks", {"name": "simulated", "labels": s}).floor(manifest) for s in ("code", "sex", "structural")]
    assert floors[0] == pytest.approx(0.15) and floors[1:] == [0.6, None]
