"""The studies that ship: each is read, each rate it takes from a rule is known, and they cross what they say."""

from __future__ import annotations

from collections import Counter

import pytest

from ecgscale.answers.published import SAYS
from ecgscale.backbones import architectures
from ecgscale.data.corpus import check_form
from ecgscale.data.signal import unit_in_form
from ecgscale.datasets.arrays import Arrays
from ecgscale.datasets.simulated import Simulated
from ecgscale.reference import published
from ecgscale.spec import names
from ecgscale.study.files import packaged
from ecgscale.study.study import Study, StudyError
from ecgscale.training import recipe

STUDIES = packaged()


@pytest.mark.parametrize("name", STUDIES)
def test_every_part_and_every_rate_of_a_packaged_study_is_known(name: str) -> None:
    study = Study.load(name)
    assert study.name == name and study.title
    for family in study.family:
        if isinstance(family.lr, str):
            assert 1e-5 < recipe.rate(family.lr, family.name, 20_000) < 1
    for data in {*study.pretrain, *(e.data for e in study.evaluate)} - {"pretrain"}:
        study.dataset(data)


@pytest.mark.parametrize("name", STUDIES)
def test_what_a_packaged_study_simulates_or_declares_can_be_brought_to_its_form(name: str) -> None:
    study = Study.load(name)
    used = {*study.pretrain, *(e.data for e in study.evaluate)} - {"pretrain"}
    for data in used:
        dataset = study.dataset(data)
        if isinstance(dataset, Simulated):
            check_form(dataset.model_copy(update={"count": 4}), None, study.form)
        elif isinstance(dataset, Arrays):
            unit_in_form(study.form, dataset.unit, dataset.band_hz, data)


def test_the_rates_study_searches_every_pair_that_fits() -> None:
    families = {family.name for family in Study.load("rates").family}
    assert {f.split("-")[0] for f in families} == set(architectures())
    assert {f.split("-")[1] for f in families} == set(names("objectives")) - {"beat_codes"}
    assert families == set(recipe.PACKAGED)


def test_the_crossed_study_is_complete_but_for_cpc() -> None:
    cells = Counter(tuple(family.name.split("-")) for family in Study.load("crossed").family)
    assert {b for b, _ in cells} == {"resnet1d", "beat_transformer", "s4"}
    complete = {(b, o) for b in ("resnet1d", "beat_transformer", "s4") for o in ("supervised", "cmsc", "mae")}
    assert set(cells) == complete | {("s4", "cpc")} and set(cells.values()) == {1}


def test_the_small_pre_training_study_has_fifteen_families_and_causal_networks_for_cpc_alone() -> None:
    families = Study.load("pretraining-2605.12241-small").family
    assert len({f.name for f in families}) == len(families) == 15
    assert all(f.backbone.is_causal == (f.objective.part_name() == "cpc") for f in families)


def test_the_papers_studies_have_the_tasks_sizes_and_runs_that_the_papers_have() -> None:
    scaling, strategies = Study.load("scaling-2605.17276"), Study.load("pretraining-2605.12241")
    arm = scaling.arm[0]
    assert (arm.sizes[0], arm.sizes[-1]) == (20_000, 200_000_000)
    assert len(scaling.family) * len(arm.sizes) * len(arm.records) >= 120
    tasks = {(e.data, e.task.title) for e in scaling.evaluate if e.split == "ood"}
    assert len(tasks) == 11
    asked = {(e.data, e.task.title, e.protocol) for e in strategies.evaluate}
    assert len(asked) == len(strategies.evaluate) == 26 * 3 and len({protocol for *_, protocol in asked}) == 3
    assert len({f.name for f in strategies.family}) == 15
    assert strategies.arm[0].records == (18_000, 45_000, 106_000, 753_000, 11_000_000)
    for study in (scaling, strategies):
        named = {*study.trained_on(), *(e.data for e in study.evaluate)} - {"pretrain"}
        assert all("records" in study.data[name] for name in named)


def test_a_rate_scales_with_size_from_twenty_thousand_parameters() -> None:
    assert recipe.rate("published", "s4-cpc", 1e6) == pytest.approx(3e-4)
    with pytest.raises(recipe.RateError, match="no published learning rate for patchtst-mae"):
        recipe.rate("published", "patchtst-mae", 1e6)


def test_an_entry_that_names_several_protocols_and_fractions_stands_for_each_of_them() -> None:
    entry = {"data": "pretrain", "task": {"name": "simulated", "labels": "code"}, "shift": "same",
             "protocol": ["linear", "finetune"], "fraction": [1, 0.25], "settings": {"epochs": 3}}  # fmt: skip
    found = Study.load("smoke", {"evaluate": [entry]}).evaluate
    assert [(e.protocol, e.fraction, e.settings and e.settings.epochs) for e in found] == [
        ("linear", 1.0, None), ("linear", 0.25, None), ("finetune", 1.0, 3), ("finetune", 0.25, 3)]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"protocol": []}, "evaluate.0.protocol"),
        ({"protocol": ["linear", "frozn"]}, "frozn"),
        ({"fraction": ["x"]}, "fraction"),
    ],
)
def test_a_wrong_protocol_or_fraction_of_several_is_one_sentence(given: dict[str, list[str]], message: str) -> None:
    entry = {"data": "pretrain", "task": {"name": "simulated", "labels": "code"}, "shift": "same", **given}
    with pytest.raises(StudyError, match=message):
        Study.load("smoke", {"evaluate": [entry]})


def test_published_exponents_meet_the_families_of_the_papers_study() -> None:
    """Else the report sets nothing of them beside its own."""
    table = published("2605.17276")
    named = {part for row in table.loc[table["quantity"].isin(SAYS), "family"] for part in row.split("/")}
    assert named == {family.name for family in Study.load("scaling-2605.17276").family}
