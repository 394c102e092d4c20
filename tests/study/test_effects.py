"""What a lab holds of a crossed study becomes effects: which runs enter, what they are called, what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ecgscale.data.split import SplitRule
from ecgscale.evaluation.evaluate import EvalSpec
from ecgscale.lab import Lab, write_json
from ecgscale.runs import Recipe, RunSpec
from ecgscale.spec import part
from ecgscale.study import compared
from ecgscale.study.effects import effects_of
from ecgscale.study.groupings import groupings_of
from ecgscale.study.plan import PlannedEval, PlannedRun
from ecgscale.study.ranking import ranking_of

RECORDS = 120
BACKBONES = {"resnet1d": 0.0, "beat_transformer": 0.2}
OBJECTIVES = {"cmsc": -0.1, "supervised": -0.3}
LABELS = {"supervised": {"labels": ["AF"]}}
Level = tuple[str, dict[str, Any]]


class Indexed:
    """As much of a corpus as an analysis reads."""

    def __init__(self) -> None:
        self.index = pd.DataFrame({"patient": [f"p{i // 2}" for i in range(RECORDS)], "label.lvh": 0.0})


def evaluations(path: Path) -> tuple[PlannedEval, ...]:
    source: Any = SimpleNamespace(label="ludb", path=path)
    out = []
    for labels, split in (("lvh", "ood"), ("rhythm", "ood"), ("axis", "id")):
        spec = EvalSpec(corpus="0", task=part("tasks", {"name": "ludb", "labels": labels}), split=SplitRule())
        out.append(PlannedEval(spec, source, split, "shifted", spec.task.title))
    return tuple(out)


def planned(
    backbone: Level, objective: str | None, seed: int, evaluate: tuple[PlannedEval, ...], target: int = 20_000
) -> PlannedRun:
    name, fields = backbone
    steps = 0 if objective is None else 1
    run = RunSpec(
        role="baseline" if objective is None else "grid",
        backbone=part("backbones", {"name": name, "dial": {20_000: 1.0, 30_000: 2.0}[target], **fields}),
        objective=objective and part("objectives", {"name": objective, **LABELS.get(objective, {})}),
        leads=12, samples=1000, corpus="", split=SplitRule(), D=8 * steps, seed=seed,
        recipe=Recipe(steps=steps, batch=1, lr=1e-3 * steps),
    )  # fmt: skip
    return PlannedRun(run, "main", run.role, target, evaluate[0].source, None, evaluate)


def crossing(
    evaluate: tuple[PlannedEval, ...], levels: Sequence[Level] = tuple((b, {}) for b in BACKBONES), target: int = 20_000
) -> list[PlannedRun]:
    runs = [planned(b, o, s, evaluate, target) for b, o, s in product(levels, OBJECTIVES, (0, 1))]
    return [*runs, *(planned(b, None, 0, evaluate, target) for b in levels)]


def plan_of(runs: Sequence[PlannedRun], skipped: Sequence[dict[str, str]] = ()) -> Any:
    study = SimpleNamespace(name="crossed", resamples=100)
    return SimpleNamespace(runs={p.run.uid: p for p in runs}, study=study, skipped=list(skipped))


def store(lab: Lab, p: PlannedRun, e: PlannedEval) -> None:
    """Losses: as hard as the patient, minus what backbone and objective are worth, plus the seed's luck."""
    run = p.run
    hard = np.random.default_rng(0).normal(1.0, 0.2, RECORDS)
    worth = BACKBONES[run.backbone.part_name()]
    if run.objective is not None:
        worth += OBJECTIVES[run.objective.part_name()] + 0.01 * run.seed
    folder = lab.run(run.uid) / "evaluations"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{e.spec.uid}.npy", (hard + worth)[:, None])
    write_json(folder / f"{e.spec.uid}.json", {"spec": e.spec.dump(), "rows": []})


def fill(lab: Lab, runs: Sequence[PlannedRun]) -> None:
    for p in runs:
        for e in p.evaluations:
            store(lab, p, e)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    corpus: Any = Indexed()
    monkeypatch.setattr(compared, "opened", lambda path: corpus)
    return Lab(tmp_path / "lab")


def value(found: dict[str, Any], score: str, factor: str, name: str, level: str = "mean") -> float:
    (row,) = [
        r for r in found["rows"]
        if (r["level"], r["score"], r["factor"], r["name"]) == (level, score, factor, name)
    ][:1]  # fmt: skip
    return float(row["value"])


def test_gain_and_loss_differ_in_backbones_only(lab: Lab, tmp_path: Path) -> None:
    runs = crossing(evaluations(tmp_path))
    fill(lab, runs)
    found = effects_of(plan_of(runs), lab)
    assert value(found, "loss_minus_random", "backbone", "resnet1d") == pytest.approx(0.0)
    assert value(found, "loss", "backbone", "resnet1d") == pytest.approx(-0.1)
    for score in ("loss", "loss_minus_random"):
        assert value(found, score, "objective", "supervised") == pytest.approx(-0.1)
    assert value(found, "loss_minus_random", "cell", "resnet1d × cmsc") == pytest.approx(-0.095)
    assert {r["n_patients"] for r in found["rows"]} == {RECORDS // 2}
    assert {r["n_seeds"] for r in found["rows"]} == {2}
    assert found["left_out"] == [] and found["notes"] == []


def test_tasks_in_distribution_are_left_out_unless_there_are_no_others(lab: Lab, tmp_path: Path) -> None:
    every = evaluations(tmp_path)
    runs = crossing(every)
    fill(lab, runs)
    found = effects_of(plan_of(runs), lab)
    assert {r["task"] for r in found["rows"]} == {"mean of 2 tasks", every[0].title, every[1].title}
    assert found["setting"] | {"seeds": 0} == {
        "arm": "main", "pretrain": "ludb", "target": 20_000, "D": 8, "split": "ood", "seeds": 0,
    }  # fmt: skip
    inside = [replace(p, evaluations=every[2:]) for p in runs]
    assert effects_of(plan_of(inside), lab)["setting"]["split"] == "id"


def test_families_are_in_the_order_of_their_loss_with_what_pre_training_added(lab: Lab, tmp_path: Path) -> None:
    runs = crossing(evaluations(tmp_path))
    fill(lab, runs)
    found = ranking_of(plan_of(runs), lab)
    assert [(r["backbone"], r["objective"]) for r in found["rows"]] == [
        ("resnet1d", "supervised"), ("beat_transformer", "supervised"), ("resnet1d", "cmsc"),
        ("beat_transformer", "cmsc"),
    ]  # fmt: skip
    assert [r["gain"] for r in found["rows"]] == pytest.approx([-0.295, -0.295, -0.095, -0.095])
    assert [r["value"] - found["rows"][0]["value"] for r in found["rows"]] == pytest.approx([0, 0.2, 0.2, 0.4])
    assert [(r["best"], r["worst"]) for r in found["rows"]] == [(1, 1), (2, 3), (2, 3), (4, 4)]
    assert all(r["gain_lo"] <= r["gain"] <= r["gain_hi"] and r["n_seeds"] == 2 for r in found["rows"])
    assert found["setting"]["tasks"] == 2 and ranking_of(plan_of(runs[:2]), lab) == {}


def test_a_study_without_two_by_two_gives_nothing(lab: Lab, tmp_path: Path) -> None:
    runs = crossing(evaluations(tmp_path), levels=[("resnet1d", {})])
    assert effects_of(plan_of(runs), lab) == {}
    assert effects_of(plan_of([]), lab) == {}


def test_runs_that_are_not_measured_are_counted(lab: Lab, tmp_path: Path) -> None:
    runs = crossing(evaluations(tmp_path))
    assert effects_of(plan_of(runs), lab) == {}
    fill(lab, runs[1:])
    found = effects_of(plan_of(runs), lab)
    assert found["notes"] == [
        "1 of 4 cells have one seed: their intervals hold patients only",
        "1 of 8 runs are not measured on every task, or have no random weights beside them",
    ]


def test_the_largest_size_is_analysed_and_provisional_runs_and_trials_are_not(lab: Lab, tmp_path: Path) -> None:
    every = evaluations(tmp_path)
    small, large = crossing(every), crossing(every, target=30_000)
    fill(lab, [*small, *large])
    assert effects_of(plan_of([*large, *small]), lab)["setting"]["target"] == 30_000
    for change in ({"provisional": True}, {"role": "tune"}):
        others = [replace(p, **change) if p.run.objective is not None else p for p in large]  # type: ignore[arg-type]
        assert effects_of(plan_of([*others, *small]), lab)["setting"]["target"] == 20_000


def test_a_refused_pair_carries_the_reason_of_the_plan(lab: Lab, tmp_path: Path) -> None:
    every = evaluations(tmp_path)
    runs = [*crossing(every), planned(("beat_transformer", {}), "masked_beats", 0, every)]
    fill(lab, runs[:-1])
    OBJECTIVES["masked_beats"] = -0.2
    fill(lab, runs[-1:])
    del OBJECTIVES["masked_beats"]
    found = effects_of(plan_of(runs, [{"what": "resnet1d-masked_beats", "reason": "needs tokens that hide"}]), lab)
    assert found["left_out"] == [
        {"backbone": "beat_transformer", "objective": "masked_beats",
         "reason": "measured, but outside the largest complete table"},
        {"backbone": "resnet1d", "objective": "masked_beats", "reason": "needs tokens that hide"},
    ]  # fmt: skip


def test_two_forms_of_a_backbone_are_two_levels(lab: Lab, tmp_path: Path) -> None:
    forms = [("beat_transformer", {"pool": "mean"}), ("beat_transformer", {"pool": "ends"})]
    runs = crossing(evaluations(tmp_path), levels=forms)
    fill(lab, runs)
    assert effects_of(plan_of(runs), lab)["backbones"] == [
        "beat_transformer (pool ends)",
        "beat_transformer (pool mean)",
    ]


def test_other_groupings_of_the_tasks_change_the_family_in_front_only_where_it_was_planted(
    lab: Lab, tmp_path: Path
) -> None:
    lvh, rhythm, axis = evaluations(tmp_path)
    sources: dict[str, Any] = {name: SimpleNamespace(label=name, path=tmp_path / name) for name in ("ludb", "clinic")}
    rhythm = replace(rhythm, shift="unseen", source=sources["clinic"])
    runs = crossing((replace(lvh, source=sources["ludb"]), rhythm, axis))
    fill(lab, runs)
    for p in runs:  # on rhythm alone, by more than on the others, the order of the backbones is the other one
        turned = lab.run(p.run.uid) / "evaluations" / f"{rhythm.spec.uid}.npy"
        np.save(turned, np.load(turned) - 5 * BACKBONES[p.run.backbone.part_name()])
    found = groupings_of(plan_of(runs), lab)
    assert found["tasks"] == []  # of evaluations that no plan made nothing is known
    assert {g["name"]: g["order"][0] for g in found["groupings"]} == {
        "as the study groups them": ["beat_transformer", "supervised"],
        "shifted only, as stated": ["resnet1d", "supervised"],
        "unseen only, as stated; without ludb": ["beat_transformer", "supervised"],
        "every task": ["beat_transformer", "supervised"],
        "without clinic": ["resnet1d", "supervised"],
    }
    taus = {g["name"].split(",")[0]: g["tau"] for g in found["groupings"]}
    assert taus["as the study groups them"] == 1 and taus["shifted only"] < 1
    assert groupings_of(plan_of([]), lab) == {"tasks": [], "groupings": [], "left_out": []}
