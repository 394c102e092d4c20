"""What a plan costs: from a stored probe of this very machine, without the data where sizes are declared, and refused
where it cannot fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ecgscale import show
from ecgscale.evaluation.evaluate import EvalSpec
from ecgscale.lab import Lab
from ecgscale.study import bench as benches
from ecgscale.study.bench import Bench, Machine, kind, set_of
from ecgscale.study.declared import Declared, declare
from ecgscale.study.measure import Rates, measure
from ecgscale.study.networks import measure_network, network, network_s
from ecgscale.study.plan import Plan
from ecgscale.study.price import price
from ecgscale.study.room import CannotFit, Room, refusals
from ecgscale.study.study import Study
from ecgscale.study.work import opened

GB = 1e9
LARGE = {
    "data.code.count": 1_000_000, "data.hospital.count": 50_000, "arm.0.records": [4_000, 600_000],
    "training.rule": "equal_epochs", "training.epochs": 2, "training.batch": 10,
}  # fmt: skip
HERE = Machine(processor="p", cores=2, torch="t", device="cpu", threads=1, workers=2)
RATES = Rates(N=20_000, N_all=30_000, flop=1e6, start_s=1.0, training=100.0, scoring=200.0, encoding=400.0, width=16,
              timed=8, memory=2_000_000_000, per_record=1e8, share=0.1)  # fmt: skip


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Declared:
    return declare(Study.load("smoke", LARGE), tmp_path_factory.mktemp("declared"))


def timed(plan: Plan, machine: Machine = HERE) -> Bench:
    """A probe with made-up rates: runs of 30,000 parameters take twice the memory."""
    rates = {kind(p.run): RATES.model_copy(update={"memory": 4 * 10**9 if p.target == 30_000 else RATES.memory})
             for p in plan.runs.values()}  # fmt: skip
    probes = {set_of(p.evaluations, p.run.backbone): 1e-3 for p in plan.runs.values() if p.evaluations}
    return Bench(machine=machine, made="2026-01-01T00:00:00Z", rates=rates, probes=probes, started_s=3.0)


def test_a_declared_study_has_the_sizes_it_declares_though_no_record_is_there(large: Declared) -> None:
    grid = [p.run for p in large.plan.runs.values() if p.role == "grid"]
    assert large.said["code"] == (1_000_000, "simulated")
    assert {(run.D, run.recipe.steps) for run in grid} == {(4_000, 800), (600_000, 120_000)}
    assert {run.recipe.warmup for run in grid} == {160, 24_000}
    assert len(grid) == 16
    e = next(e for p in large.plan.runs.values() for e in p.evaluations if e.source.label == "hospital")
    assert sum(large.sizes.parts(e).values()) == pytest.approx(50_000, rel=0.01)
    estimate = price(large.plan, Lab(large.plan.sources["code"].path.parents[1]), timed(large.plan), large.sizes)
    long = next(k for k, p in large.plan.runs.items() if p.run.D == 600_000 and p.role == "grid")
    assert estimate.prices[long].training == pytest.approx(1 + 120_000 * 10 / 100, rel=0.01)
    assert estimate.prices[long].flop == pytest.approx(1e6 * 1_200_000)
    assert estimate.corpora == pytest.approx(1_050_000 * 12 * 1000 * 2, rel=0.05)


def test_a_training_part_said_to_be_too_small_leaves_its_d_out(tmp_path: Path) -> None:
    found = declare(Study.load("smoke", LARGE | {"data.code.count": 100_000}), tmp_path)
    assert {p.run.D for p in found.plan.runs.values() if p.role == "grid"} == {4_000}
    (left_out,) = found.plan.skipped
    assert left_out["what"] == "D = 600,000 on code"


@pytest.mark.parametrize(
    ("room", "workers", "sentence"),
    [
        (Room(100 * GB, None, 100 * GB), 2, None),
        (
            Room(6 * GB, None, 100 * GB),
            2,
            r"memory: 2 runs .* need 8 GB, 5.7 GB are free; --workers 1 would fit",
        ),
        (Room(3.8 * GB, None, 100 * GB), 2, r"alone needs 4 GB, .* a batch of 6 or sizes up to 20,000 would fit with"),
        (Room(1 * GB, None, 100 * GB), 2, "nothing of this study would fit"),
        (Room(100 * GB, 6 * GB, 100 * GB), 2, r"memory of the GPU: 2 runs .* need 8 GB"),
        (Room(100 * GB, None, 2 * GB), 2, r"disk: the lab needs 2[0-9.]+ GB, 1.9 GB are free; its corpora alone"),
    ],
)
def test_what_cannot_fit_is_refused_with_what_would(
    large: Declared, room: Room, workers: int, sentence: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(Room, "here", classmethod(lambda cls, lab, device: room))
    monkeypatch.setattr(show, "declare", lambda study, folder: large)
    monkeypatch.setattr(Machine, "here", classmethod(lambda cls, device, threads, workers: HERE))
    lab = Lab(tmp_path / "lab")
    benches.keep(lab, timed(large.plan))
    if sentence is None:
        show.show_plan("smoke", lab.root, {}, LARGE, declared=True)
    else:
        with pytest.raises(CannotFit, match=sentence):
            show.show_plan("smoke", lab.root, {}, LARGE, declared=True)
    said = capsys.readouterr().out
    assert "sizes are declared, not counted; rates are measured on samples" in said
    assert "21 runs, 21 to do" in said
    assert not [p for p in lab.root.rglob("*") if p.is_file() and "benches" not in p.parts]


def test_disk_that_holds_the_smaller_sizes_says_so(large: Declared) -> None:
    estimate = price(large.plan, Lab(large.plan.sources["code"].path.parents[1]), timed(large.plan), large.sizes)
    prices = {key: replace(p, bytes=large.plan.runs[key].target * 1e5) for key, p in estimate.prices.items()}
    found = refusals(large.plan, replace(estimate, prices=prices, corpora=0.0), timed(large.plan),
                     Room(100 * GB, None, 40 * GB))  # fmt: skip
    assert found == [
        "disk: the lab needs 52 GB, 38 GB are free; sizes up to 20,000 would fit, or a lab on another disk (--lab)"
    ]


def test_a_probe_is_stored_added_to_and_not_used_elsewhere(large: Declared, tmp_path: Path) -> None:
    lab, made = Lab(tmp_path), timed(large.plan)
    assert benches.stored(lab, HERE) is None
    benches.keep(lab, made)
    assert benches.stored(lab, HERE) == made
    assert made.covers(benches.wanted(large.plan))
    for change in ({"processor": "q"}, {"workers": 1}, {"threads": 2}, {"torch": "u"}, {"device": "H200"}):
        other = HERE.model_copy(update=change)
        assert benches.stored(lab, other) is None
        lab.bench(other.uid).write_bytes(lab.bench(HERE.uid).read_bytes())  # a file copied under another's name
        assert benches.stored(lab, other) is None
    benches.keep(lab, made.model_copy(update={"rates": {"other": RATES}}))
    assert benches.stored(lab, HERE).rates.keys() == {*made.rates, "other"}


def test_a_run_is_measured_as_it_trains(large: Declared) -> None:
    planned = next(p for p in large.plan.runs.values() if p.run.objective and p.run.backbone.part_name() == "resnet1d")
    found = measure(planned.run, opened(planned.source.path), 0.2, "cpu")
    assert pytest.approx(20_000, rel=0.1) == found.N
    assert found.N_all > found.N
    assert 5 < found.training < 1e5
    assert min(found.encoding, found.scoring) > 5
    assert 0 < found.share < 1
    assert 5e7 < found.memory < 5e9
    assert 2 < found.timed <= planned.run.recipe.batch  # fewer where the machine is busy


def test_a_network_costs_its_records_times_its_epochs(large: Declared) -> None:
    planned = next(p for p in large.plan.runs.values() if p.run.objective and p.run.backbone.part_name() == "resnet1d")
    e = planned.evaluations[0]
    parts, extra = {"train": 600, "validation": 100, "test": 300}, {"protocol": "finetune", "settings": {"epochs": 7}}
    tuned = EvalSpec.model_validate({name: getattr(e.spec, name) for name in EvalSpec.model_fields} | extra)
    cost = measure_network(planned.run, tuned, opened(e.source.path), 400.0, 0.2, "cpu")
    assert 1e-5 < cost.seconds < 1 and cost.tokens == 0 and 5e7 < cost.memory < 5e9
    cost = cost.model_copy(update={"seconds": 0.01})
    assert network_s(tuned, parts, cost, 400.0) == pytest.approx(7 * (600 * 0.01 + 100 / 400) + 400 / 400)
    folds = 10 * (7 * (375 * 0.01 + 125 / 400) + (125 + 500) / 400)
    assert network_s(tuned, {"all": 1000}, cost, 400.0) == pytest.approx(folds)
    with_it = replace(planned, evaluations=(*planned.evaluations, replace(e, spec=tuned)))
    plan = replace(large.plan, runs={"one": with_it})
    made = timed(plan).model_copy(update={"networks": {network(planned.run, tuned): cost}})
    assert made.covers(benches.wanted(plan)) and not timed(plan).covers(benches.wanted(plan))
    lab = Lab(large.plan.sources["code"].path.parents[1])
    dear, cheap = (price(replace(large.plan, runs={"one": p}), lab, made, large.sizes).prices["one"].evaluation
                   for p in (with_it, planned))  # fmt: skip
    assert dear - cheap == pytest.approx(network_s(tuned, large.sizes.parts(e), cost, 400.0), rel=1e-6)


def test_samples_stand_in_for_real_data_sets_with_all_that_a_study_needs_of_them(tmp_path: Path) -> None:
    found = declare(Study.load("ptbxl-ludb", {"data.ludb.records": 200}), tmp_path)
    assert found.said["ludb"] == (200, "declared in the study")
    assert found.said["ptbxl1819"][1] == "taken to hold the largest D"
    assert found.plan.skipped == []
    grid = [p for p in found.plan.runs.values() if p.role == "grid"]
    assert {p.run.D for p in grid} == {150, 450, 1350}
    assert len({(p.run.backbone.part_name(), p.run.objective.part_name()) for p in grid}) == 4


def test_what_is_left_out_is_named_by_reason() -> None:
    skipped = [{"what": f"task {i}", "reason": "no encoder"} for i in range(5)] + [
        {"what": "task 9", "reason": "no data"}
    ]
    assert show.left_out(skipped) == ["left out: task 0; task 1; task 2 and 2 more: no encoder",
                                      "left out: task 9: no data"]  # fmt: skip
    assert show.left_out([]) == []
