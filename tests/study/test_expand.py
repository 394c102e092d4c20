"""A plan says what each source of a mixture gives, and no study tests on what it trained on, by any name."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgscale.data.mixture import Mixture
from ecgscale.datasets.simulated import Simulated
from ecgscale.lab import Lab
from ecgscale.study.bind import Binder
from ecgscale.study.expand import expand
from ecgscale.study.plan import Plan
from ecgscale.study.study import Study, StudyError
from ecgscale.units import LEADS

SMOKE = (files("ecgscale") / "studies" / "smoke.toml").read_text()
MIXED = """
[data.second]
dataset = "simulated"
world = "screening"
count = 80

[data.code]"""


def planned(tmp_path: Path, text: str, bindings: dict[str, Path] | None = None) -> Plan:
    """Return the plan of a study written as `text`."""
    path = tmp_path / "study.toml"
    path.write_text(text)
    return expand(study := Study.load(path), Binder(study, Lab(tmp_path / "lab"), bindings or {}))


def test_a_mixture_is_trained_on_by_weight_and_the_plan_says_what_ran_out(tmp_path: Path) -> None:
    text = SMOKE.replace('pretrain = "code"', "pretrain = { mix = { code = 1, second = 3 } }")
    plan = planned(tmp_path, text.replace("[data.code]", MIXED.strip()))
    runs = [p.run for p in plan.runs.values() if p.run.objective is not None]
    shares = {run.D: run.D_by_source for run in runs}
    assert shares[60] == {"code": 15, "second": 45}
    assert shares[160] is not None
    assert sum(shares[160].values()) == 160
    assert shares[160]["second"] < 60
    assert any("second has run out" in note for note in plan.notes)
    assert not any("run out" in note for note in plan.notes if note.startswith("D = 60 "))
    corpus = plan.sources["code+second"].open()
    assert isinstance(corpus, Mixture)
    assert {run.corpus for run in runs} == {corpus.digest}


def test_testing_on_patients_that_were_trained_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"patients of the test part .* are pre-training patients of code \(sim-code:"):
        text = SMOKE.replace('world = "hospital"\ncount = 200', 'world = "code"\ncount = 300')
        planned(tmp_path, text.replace('data = "hospital"\n', 'data = "hospital"\nfractions = [0.2, 0.1, 0.7]\n'))


def test_testing_on_recordings_that_were_trained_on_is_refused_whatever_they_are_called(tmp_path: Path) -> None:
    records = list(Simulated(count=60, enrich=4.0).records())
    np.save(tmp_path / "signal.npy", np.stack([r.signal for r in records]) * 1.07)
    table = pd.DataFrame({"id": range(60), "patient": range(60)})
    for name in records[0].labels:
        table[name] = [r.labels[name] for r in records]
    table.to_csv(tmp_path / "table.csv", index=False)
    described = (
        '[data.hospital]\ndataset = "arrays"\nsignal = "signal.npy"\naxes = "record lead time"\nrate_hz = 100.0\n'
        f'leads = {list(LEADS)}\ntable = "table.csv"\nid = "id"\npatient = "patient"\npopulation = "other"\n'
        f"labels = {{ all = {list(records[0].labels)} }}\n"
    )
    start = SMOKE.index("[data.hospital]")
    text = SMOKE[:start] + described + SMOKE[SMOKE.index("[split]") - 1 :]
    with pytest.raises(StudyError, match=r"recordings of the test part .* are pre-training records of code"):
        planned(tmp_path, text, {"hospital": tmp_path})


def test_training_on_crops_changes_the_window_and_is_refused_where_codes_or_records_do_not_allow_it(
    tmp_path: Path,
) -> None:
    def crops(text: str, length_s: float) -> Plan:
        return planned(tmp_path, text.replace("[training]", f"[training]\ncrop_s = {length_s}"))

    with pytest.raises(StudyError, match="beat_transformer-masked_beats predicts codes of whole records"):
        crops(SMOKE, 2.5)
    convolutions = SMOKE.replace("[[arm]]", '[[arm]]\nfamilies = ["resnet1d-supervised"]')
    assert {p.run.samples for p in crops(convolutions, 2.5).runs.values()} == {250}
    assert {p.run.samples for p in crops(convolutions, 10.0).runs.values()} == {1000}
    with pytest.raises(StudyError, match=r"training.crop_s: crops of 20 s do not fit into records of 10 s"):
        crops(convolutions, 20.0)
