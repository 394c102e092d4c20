"""The tasks of MIMIC-IV-ECG run from the data set's sample: labels, unknown ECGs, the published folds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgscale.data.corpus import Corpus, Form, ingest
from ecgscale.data.split import SplitError, SplitRule, parts
from ecgscale.datasets.mimic_iv_ecg import MimicIvEcg as Data
from ecgscale.spec import SpecError
from ecgscale.tasks.mimic_iv_ecg import MimicIvEcg
from ecgscale.tasks.mimic_iv_values import MimicIvValues


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Data, Path]:
    root = tmp_path_factory.mktemp("mimic")
    return Data.sample(root), root


@pytest.fixture(scope="module")
def corpus(source: tuple[Data, Path], tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return ingest(*source, Form(), tmp_path_factory.mktemp("corpora") / "whole")


@pytest.fixture(scope="module")
def bare(source: tuple[Data, Path], tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The same ECGs with MIMIC-IV's patients and no other table."""
    dataset = Data(folder=source[0].folder, patients=source[0].patients)
    return ingest(dataset, source[1], Form(), tmp_path_factory.mktemp("corpora") / "bare")


def test_every_set_has_its_labels_and_both_classes(corpus: Corpus) -> None:
    for labels, count, unknown in (("sex", 1, 2), ("icu", 2, 48), ("mortality", 7, 36)):
        targets = MimicIvEcg(labels=labels).targets(corpus.index)  # type: ignore[arg-type]
        assert targets.shape == (96, count)
        assert all({0.0, 1.0} <= set(targets[name]) for name in targets)
        assert (targets.isna().sum() >= unknown).all()


def test_sex_is_that_of_the_record(corpus: Corpus) -> None:
    female = MimicIvEcg(labels="sex").targets(corpus.index)["female"]
    sex = corpus.index["sex"]
    assert np.array_equal(female[sex.notna()] == 1, sex[sex.notna()] == "F") and female[sex.isna()].isna().all()


def test_no_stay_in_intensive_care_is_shorter_than_its_first_day(corpus: Corpus) -> None:
    targets = MimicIvEcg(labels="icu").targets(corpus.index)
    assert (targets["icu_24h"] <= targets["icu_stay"])[targets["icu_24h"].notna()].all()
    death = MimicIvEcg(labels="mortality").targets(corpus.index).iloc[:, :6].dropna()
    assert (np.diff(death.to_numpy(), axis=1) >= 0).all()


def test_folds_or_patients(corpus: Corpus, bare: Corpus) -> None:
    assert MimicIvEcg().parts == "folds" and MimicIvEcg(split="patients").parts == "patients"
    divided = parts(corpus.index, SplitRule(), 0)
    twenty = corpus.index["patient"].str.removeprefix("mimic_iv:").astype(int).sub(10_000_000) // 13 % 20
    assert {part: set(twenty[rows]) for part, rows in divided.items()} == {
        "train": set(range(18)), "validation": {18}, "test": {19},
    }  # fmt: skip
    with pytest.raises(SplitError, match="no official folds"):
        parts(bare.index, SplitRule(), 0)
    assert min(map(len, parts(bare.index, SplitRule(by="patients"), 0).values())) > 0


def test_numbers_come_in_the_benchmarks_order_and_what_nobody_measured_is_unknown(corpus: Corpus) -> None:
    counts = {"biometrics": 3, "ecg_features": 7, "laboratory": 18, "vital_signs": 6}
    found = {labels: MimicIvValues(labels=labels).targets(corpus.index) for labels in counts}  # type: ignore[arg-type]
    assert {labels: targets.shape[1] for labels, targets in found.items()} == counts
    ecg = found["ecg_features"]
    assert ecg["RR"].between(400, 1300).all() and ecg["P_wave_axis"].isna().sum() == 11  # 29999 in every ninth
    np.testing.assert_allclose(ecg["QTc"], ecg["QT"] / np.sqrt(ecg["RR"] / 1000), rtol=1e-5)
    said = found["vital_signs"]
    assert said.iloc[-1].isna().all() and (said.isna().mean() < 0.4).all() and (said.min() > 0).all()  # no -999
    worse = MimicIvEcg(labels="deterioration").targets(corpus.index)
    assert worse.shape == (96, 6) and all({0.0, 1.0} == set(worse[name].dropna()) for name in worse)


def test_outcomes_without_their_tables_are_refused(bare: Corpus) -> None:
    assert MimicIvEcg(labels="sex").targets(bare.index)["female"].notna().sum() == 94
    for labels, missing in (("icu", "icu_24h"), ("mortality", "mortality_1d")):
        with pytest.raises(ValueError, match=rf'task mimic_iv_ecg_{labels}: the corpus has no label "{missing}"'):
            MimicIvEcg(labels=labels).targets(bare.index)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r'task mimic_iv_values_ecg_features: the corpus has no value "RR"; it has none'
    ):
        MimicIvValues().targets(bare.index)
    with pytest.raises(SpecError, match="labels"):
        MimicIvEcg.parse({"labels": "age"})


def test_frequent_and_tail_codes_are_halves_by_the_training_folds() -> None:
    fold = pd.array([1, 2, 8, 9, 10, 10, None], dtype="Int64")
    positive = {"A": [1, 1, 0], "B": [1, 0, 0], "C": [1, 1, 1], "D": [0, 0, 1], "E": [0, 0, 0]}
    index = pd.DataFrame({f"label.icd10_{code}": [*seen, 1, 1, 1, 1] for code, seen in positive.items()})
    index["fold"] = fold
    index.loc[:, "label.icd10_E"] = [0, 0, 0, 1, 1, 1, 1]  # often, but where it is not trained on
    frequent = MimicIvEcg(labels="frequent").targets(index)
    tail = MimicIvEcg(labels="tail").targets(index)
    assert list(frequent) == ["icd10_A", "icd10_B", "icd10_C"]  # B before D: a tie goes by name
    assert list(tail) == ["icd10_D", "icd10_E"]
    with pytest.raises(ValueError, match="training folds to count them in"):
        MimicIvEcg(labels="tail").targets(index.assign(fold=pd.array([None] * 7, dtype="Int64")))
