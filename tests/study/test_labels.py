"""Nested subsets of labels: chosen on training records alone, explicit in every run, and a law of their number."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ecgscale.fitting import fit
from ecgscale.lab import Lab
from ecgscale.spec import SpecError
from ecgscale.study.bind import Binder
from ecgscale.study.declared import declare
from ecgscale.study.expand import expand
from ecgscale.study.fits import wanted
from ecgscale.study.labels import LabelRule, rank, subsets
from ecgscale.study.plan import Plan
from ecgscale.study.study import Family, Study, StudyError

RULE = LabelRule(prefix="x_", counts=(2, 4))


def corpus(names: list[str], known: np.ndarray) -> Any:
    """Return labels [record, label] as a corpus gives them."""
    return SimpleNamespace(labels=names, known=lambda rows, wanted: known[rows][:, [names.index(n) for n in wanted]])


def test_labels_are_ranked_by_their_training_positives_and_ties_by_name() -> None:
    names = ["x_d", "x_a", "y", "x_b", "x_c", "x_none"]
    known = np.zeros((10, 6), np.int8)
    for name, positives in {"x_d": 3, "x_a": 1, "y": 9, "x_b": 3, "x_c": 5}.items():
        known[:positives, names.index(name)] = 1
    known[8:, names.index("x_none")] = 1  # in records that are not trained on
    known[5:8, names.index("x_a")] = -1  # unknown is no positive
    ranked = rank(corpus(names, known), np.arange(8), RULE)
    assert ranked.names == ("x_c", "x_b", "x_d", "x_a") and ranked.without == ("x_none",)
    said = ranked.said(RULE.model_copy(update={"total": 7}), "here")
    assert "4, ordered by their positives in all 8 training records" in said and "x_none" in said
    assert said.endswith("the study expects 7")
    test_records = np.where(np.arange(10)[:, None] < 8, known, 1)
    assert rank(corpus(names, test_records.astype(np.int8)), np.arange(8), RULE) == ranked


def test_subsets_are_nested_and_random_ones_differ_between_seeds() -> None:
    names = tuple(f"x_{i:02d}" for i in np.random.default_rng(0).permutation(12))
    ranked = SimpleNamespace(names=names)
    rule = LabelRule(prefix="x_", counts=(3, 6, 9, 12))
    drawn = [subsets(rule, ranked, seed) for seed in (0, 1)]  # type: ignore[arg-type]
    for found in drawn:
        everything, *parts = found
        assert everything.order == "" and everything.names == tuple(sorted(names))
        assert [(p.order, len(p.names)) for p in parts] == [(o, k) for o in rule.orders for k in (3, 6, 9)]
        for order in rule.orders:
            grown = [set(p.names) for p in parts if p.order == order]
            assert all(a < b for a, b in itertools.pairwise(grown))
        assert [set(p.names) for p in parts[:3]] == [set(names[:k]) for k in (3, 6, 9)]
    random = [[p.names for p in found if p.order == "random"] for found in drawn]
    assert random[0] != random[1] and drawn[0][:4] == drawn[1][:4]


def test_a_family_names_its_labels_or_has_a_rule_never_both_and_never_neither() -> None:
    resnet, rule = {"name": "resnet1d"}, {"prefix": "x_"}
    with pytest.raises(SpecError, match=r'the objective supervised has no labels: name them, labels = \["AF", …\], or'):
        Family.parse({"backbone": resnet, "objective": {"name": "supervised"}})
    with pytest.raises(SpecError, match="supervised names its labels itself; leave out one of the two"):
        Family.parse({"backbone": resnet, "objective": {"name": "supervised", "labels": ["AF"]}, "labels": rule})
    with pytest.raises(SpecError, match="cmsc is not trained on labels"):
        Family.parse({"backbone": resnet, "objective": {"name": "cmsc"}, "labels": rule})
    with pytest.raises(SpecError, match=r'unknown key `labels.count`; did you mean "counts"'):
        Family.parse({"backbone": resnet, "objective": {"name": "supervised"}, "labels": {**rule, "count": [9]}})


def small(**changes: Any) -> Study:
    """Return the packaged study with few records and the given keys."""
    few = {"data.registry.count": 260, "arm.0.records": [60], "data.hospital.count": 60, "data.screening.count": 60}
    return Study.load("label-scaling", {**few, "evaluate": [], **changes})


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    study = small()
    return expand(study, Binder(study, Lab(tmp_path_factory.mktemp("lab")), {}))


def test_a_plan_holds_explicit_names_and_marks_what_is_not_the_grid(plan: Plan) -> None:
    runs = [p for p in plan.runs.values() if p.run.objective is not None]
    family = [p for p in runs if p.run.backbone.part_name() == "resnet1d" and p.run.seed == 1]
    every = next(p for p in family if p.role == "grid")
    assert len(family) == 7 and all(p.run.role == "grid" for p in family)  # role of the run: what is trained
    assert [(p.role, p.label_order, len(p.run.labels)) for p in family[1:]] == [
        ("labels", order, count) for order in ("frequency", "random") for count in (9, 18, 36)
    ]
    assert all(set(p.run.labels) < set(every.run.labels) for p in family[1:])
    assert len({p.run.uid for p in runs}) == len(runs)
    assert all(p.run.recipe == every.run.recipe for p in family)
    said = [note for note in plan.notes if note.startswith("labels `finding_…` of registry")]
    assert len(said) == 1 and "left out, without a positive there" in said[0]  # rare findings are in no training record
    shared = {p.run.labels for p in runs if p.role == "labels" and p.label_order == "frequency"}
    assert len(shared) == 3  # the same for every family and seed


def test_more_labels_than_there_are_is_left_out_and_said(tmp_path: Path) -> None:
    study = small(**{"family.0.labels.counts": [9, 100], "family.1.labels.prefix": "nothing_"})
    found = expand(study, Binder(study, Lab(tmp_path), {}))
    reasons = {s["what"]: s["reason"] for s in found.skipped}
    assert "with a positive training record" in reasons["resnet1d-supervised on 100 of its labels"]
    assert reasons["beat_transformer-supervised"] == "registry has no label `nothing_…` with a positive training record"
    assert {len(p.run.labels) for p in found.runs.values() if p.role == "labels"} == {9}


def table(effect: float) -> pd.DataFrame:
    """Return losses that fall with the number of labels as planted, in two orders, two seeds and four counts."""
    random = np.random.default_rng(0)
    rows = []
    for seed in (0, 1):
        for order, count in [("", 72), *((o, k) for o in ("frequency", "random") for k in (9, 18, 36))]:
            value = (0.2 + effect * count**-0.5) * np.exp(0.001 * random.standard_normal())
            rows.append({"run": f"{order}{count}{seed}", "cell": f"{order}{count}", "seed": seed, "labels": count,
                         "role": "labels" if order else "grid", "label_order": order, "value": value})  # fmt: skip
    constant = {"backbone": "s4", "objective": "supervised", "pretrain": "registry", "eval_corpus": "registry",
                "task": "simulated_tail", "protocol": "linear", "metric": "loss", "part": "test", "unit": "nats",
                "split": "id", "checkpoint": "best", "N": 20_000.0, "D": 4000.0, "seen": 19_200.0}  # fmt: skip
    frame = pd.DataFrame(rows).assign(**constant)
    return frame.assign(branch=frame["run"])


def test_the_law_of_labels_is_fitted_in_each_order_and_no_other_law_reads_subsets() -> None:
    made = {want.file: want for want in wanted(table(0.6), {"registry": {"simulated_tail": 0.1}})}
    for order in ("frequency", "random"):
        want = made[f"label_scaling-{order}.s4-supervised.registry.simulated_tail.linear.json"]
        assert sorted(want.frame["labels"]) == [9, 9, 18, 18, 36, 36, 72, 72]
        assert want.meta["label_order"] == order and want.meta["known_floor"] == 0.1
        found = fit(want.law, want.frame, bootstraps=50)
        assert found.verdicts["labels"]["verdict"] == "scales"
        assert found.params["gamma"] == pytest.approx(0.5, abs=0.1) and found.params["E"] == pytest.approx(
            0.2, abs=0.02
        )
    others = [want for file, want in made.items() if not file.startswith("label_scaling")]
    assert others and all(len(want.frame) == 2 for want in others)


def test_labels_that_do_nothing_are_no_law() -> None:
    want = next(w for w in wanted(table(0.0), {}) if w.file.startswith("label_scaling-random"))
    assert fit(want.law, want.frame, bootstraps=50).verdict != "scales"


def test_a_declared_plan_takes_the_total_at_its_word_or_refuses(tmp_path: Path) -> None:
    few = {"evaluate": [], "arm.0.sizes": [20_000], "arm.0.seeds": [0]}
    stands = declare(Study.load("label-scaling-mimic", few), tmp_path / "a")
    runs = [p.run for p in stands.plan.runs.values() if p.run.objective is not None]
    assert {(len(run.labels), run.D) for run in runs} == {(k, 600_000) for k in (9, 30, 93, 300, 927)}
    assert "labels `icd10_…`: taken to be 927, all with a positive training record" in stands.plan.notes
    with pytest.raises(StudyError, match="how many labels `icd10_…` mimic_iv_ecg has is not known without the data"):
        declare(Study.load("label-scaling-mimic", {**few, "family.0.labels.total": None}), tmp_path / "b")


def test_labels_chosen_by_a_rule_count_as_supervised(plan: Plan) -> None:
    family = plan.study.family[0]
    assert family.trained_on(("AF", "finding_01", "finding_72")) == ("finding_01", "finding_72")
    named = family.model_copy(
        update={"labels": None, "objective": family.objective.model_copy(update={"labels": ("AF",)})}
    )
    assert named.trained_on(("AF", "finding_01")) == ("AF",)
