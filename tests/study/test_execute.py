"""What is done before, around and instead of training, on the smallest study there is."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from ecgscale import api, show, watch
from ecgscale.data.signal import FormError
from ecgscale.evaluation.cka import similarity
from ecgscale.lab import Lab, write_json
from ecgscale.study import execute, layers, session, work, workers
from ecgscale.study.bind import Binder, Source
from ecgscale.study.executors import Lost, Progress, local
from ecgscale.study.expand import expand
from ecgscale.study.jobs import Outcome, Where, Work, do
from ecgscale.study.plan import PlannedRun
from ecgscale.study.similar import similar
from ecgscale.study.status import plot, status_of
from ecgscale.study.study import Study, StudyError

TINY: dict[str, Any] = {
    "data.code.count": 100,
    "data.hospital.count": 60,
    "training.steps": 4,
    "arm.0.sizes": [20_000],
    "arm.0.records": [40],
    "arm.0.families": ["resnet1d-supervised"],
    "resamples": 20,
}


class Refusing(workers.Workers):
    """Workers that must not be asked for anything."""

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a worker was started")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab in which the tiny study was run in one worker."""
    root = tmp_path_factory.mktemp("lab")
    api.run("smoke", root, changes=TINY, workers=1, device="cpu")
    return root


def test_a_finished_study_starts_no_worker(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "Workers", Refusing)
    frame = api.run("smoke", lab, changes=TINY, workers=1, device="cpu")
    assert set(frame["status"]) == {"ok"}


def test_evaluations_that_train_a_network_stand_beside_the_probes(lab: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(lab, tmp_path / "lab"))
    networks = {"evaluate.1.protocol": "finetune", "evaluate.1.settings.epochs": 1, "evaluate.2.protocol": "frozen",
                "evaluate.2.settings.epochs": 2, "evaluate.2.crop_s": 5.0}  # fmt: skip
    frame = api.run("smoke", other, changes=TINY | networks, workers=1, device="cpu")
    tested = frame[(frame["part"] == "test") & (frame["metric"] == "auroc")]
    assert set(tested["protocol"]) == {"linear", "finetune", "frozen-5000ms"}
    assert tested.groupby(["objective", "protocol"]).ngroups == 2 * 3 + 1  # of two runs, and of features by hand
    assert tested["value"].notna().all() and tested["left_out"].notna().all()
    left_out = frame[frame["status"] != "ok"]
    assert set(left_out["objective"]) == {"handcrafted"} and set(left_out["status"]) == {"skipped"}
    assert set(left_out["protocol"]) == {"finetune", "frozen-5000ms"}
    assert left_out["reason"].str.contains("no encoder").all()
    uid = tested.loc[tested["objective"] == "supervised", "run"].iloc[0]
    weights = [root / "runs" / uid / "checkpoints" for root in (lab, other)]
    assert len({tuple(sorted((p.name, p.read_bytes()) for p in folder.iterdir())) for folder in weights}) == 1


def test_status_of_a_finished_study(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watch.show_status("smoke", lab, {}, TINY)
    assert "smoke: 2 done, 0 running, 0 waiting, 0 failed" in capsys.readouterr().out


def test_models_are_compared_by_the_features_their_probes_saw(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, where = api.planned("smoke", Lab(lab), {}, TINY)
    found = similar(plan, where)
    assert [m["objective"] for m in found["models"]] == ["supervised", "random"]
    digest = next(s for s in plan.sources.values() if s.label == found["setting"]["corpus"]).open().digest
    runs = sorted(plan.runs.values(), key=lambda p: p.run.objective is None)
    x, y = (np.load(next((lab / "features").glob(f"{p.run.uid}-*-{digest}-*[!s].npy"))) for p in runs)
    assert found["setting"]["records"] == len(x) <= 256  # one minibatch: no order in it
    np.testing.assert_allclose(found["values"], similarity([x, y]), atol=1e-9)
    assert [m["objective"] for m in found["layers"]] == ["supervised", "random"]
    assert {np.shape(m["values"]) for m in found["layers"]} == {(6, 6)}  # a ResNet's five blocks, and what enters them
    monkeypatch.delattr(layers, "load_backbone")
    assert similar(plan, where)["layers"] == found["layers"]  # kept: no checkpoint is read for it again


def test_status_of_the_plan_that_a_run_kept_asks_neither_torch_nor_the_rules(lab: Path) -> None:
    changes = [word for key, value in TINY.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    command = ["ecgscale", "status", "smoke", "--lab", str(lab), *changes]
    code = (
        f"import sys\nsys.argv = {command!r}\nfrom ecgscale.cli import app\napp(standalone_mode=False)\n"
        "assert not {'torch', 'pandas', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("smoke: 2 done, 0 running, 0 waiting, 0 failed")


def test_status_of_another_question_is_planned_anew(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seeds, expected in (([0, 1], "2 done, 0 running, 1 waiting"), ([0], "2 done, 0 running, 0 waiting")):
        watch.show_status("smoke", lab, {}, TINY | {"arm.0.seeds": seeds})
        assert expected in capsys.readouterr().out


def test_status_says_what_is_not_ingested_and_ingests_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watch.show_status("smoke", tmp_path / "lab", {}, TINY)
    assert capsys.readouterr().out.startswith("smoke: not ingested yet: code, hospital; ")
    assert not list((tmp_path / "lab" / "corpora").iterdir())


def test_plan_is_complete_in_a_pipe(
    lab: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "SHORT_S", 0.5)
    show.show_plan("smoke", lab, {}, TINY, workers=1)
    text = capsys.readouterr().out
    assert "…" not in text
    row = next(line for line in text.splitlines() if "resnet1d supervised" in line)
    assert all(cell in row for cell in ("main", "20,000", " 40 ", "0.004", "e+"))
    head = next(line for line in text.splitlines() if "family" in line)
    assert "worker-s per run" in head


def test_a_form_that_cannot_be_made_is_refused_before_anything_is_ingested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Source) -> None:
        if source.name == "hospital":
            raise FormError("hospital is already filtered to 0.5-40 Hz")

    monkeypatch.setattr(Source, "check", refuse)
    study, where = Study.load("smoke", TINY), Lab(tmp_path / "lab")
    with Refusing(1, 1) as refusing, pytest.raises(FormError, match="already filtered"):
        execute.prepare(study, Binder(study, where, {}), refusing, Console(file=io.StringIO()))


def test_a_source_is_judged_by_its_first_record(tmp_path: Path) -> None:
    folder = tmp_path / "z"
    folder.mkdir()
    np.save(folder / "ecg.npy", np.random.default_rng(0).standard_normal((4, 1000, 12)).astype(np.float32))
    pd.DataFrame({"id": range(4), "patient": range(4), "AF": 0}).to_csv(folder / "t.csv", index=False)
    described = {
        "dataset": "arrays", "signal": "ecg.npy", "axes": "record time lead", "rate_hz": 100.0, "table": "t.csv",
        "unit": "z_record_lead", "id": "id", "patient": "patient", "population": "p", "labels": {"rhythm": ["AF"]},
    }  # fmt: skip
    study = Study.load("smoke", TINY | {"data.code": described})
    binder = Binder(study, Lab(tmp_path / "lab"), {"code": folder})
    with Refusing(1, 1) as refusing, pytest.raises(FormError, match='cannot become normalise = "none"'):
        execute.prepare(study, binder, refusing, Console(file=io.StringIO()))


def test_a_run_under_way_moves_the_display(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step a training reports through its slot becomes its share of the work; all of it only when it has ended."""
    study = Study.load("smoke", TINY)
    plan = expand(study, Binder(study, Lab(lab), {}))
    planned = next(p for p in plan.runs.values() if p.run.objective is not None)
    shares = [execute.trained_weight(planned, step) for step in (0, 2, 4, 9)]
    assert shares[0] == 0
    assert 0 < shares[1] < shares[2] == shares[3] < execute.weight(planned)

    shared = workers.Shared([0, 0, 0], [0.0, 0.0, 0.0], [0])

    def train(lab: Lab, planned: PlannedRun, device: str, progress: Any, halt: Any, *_: Any) -> bool:
        progress(3, 5e6)
        return bool(halt())

    monkeypatch.setattr(workers, "_shared", [shared])
    monkeypatch.setattr(work, "train", train)
    outcome = local.job(tmp_path, Work(planned), Where("cpu"), 1)
    assert outcome.flop == 5e6
    assert shared.steps == [0, 3, 0] and shared.flop == [0.0, 5e6, 0.0]


def test_a_spent_budget_stops_and_the_next_call_goes_on_to_the_same_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = TINY | {"training.steps": 60}
    calm = api.run("smoke", tmp_path / "calm", changes=long, workers=1, device="cpu")
    part = api.run("smoke", tmp_path / "lab", changes=long, workers=1, device="cpu", flop=1.0)
    said = capsys.readouterr().err.replace("\n", " ")
    assert "is spent: runs under way save their state and stop" in said and "the same command goes on" in said
    assert (part["status"] == "waiting").any()
    whole = api.run("smoke", tmp_path / "lab", changes=long, workers=1, device="cpu")
    pd.testing.assert_frame_equal(whole, calm)


def test_several_points_come_from_one_trunk_and_say_so(tmp_path: Path) -> None:
    branched = {"training.schedule": "wsd", "training.steps": 20, "training.branches": [0.5], "training.decay": 0.4}
    frame = api.run("smoke", tmp_path, changes=TINY | branched, workers=1, device="cpu")
    probes = frame[frame["role"].isin(["grid", "branch"]) & (frame["metric"] == "auroc") & (frame["part"] == "test")]
    points = probes.groupby("role").first()
    assert list(points.loc[["branch", "grid"], "seen"]) == [10 * 8, 20 * 8]
    assert points["branch"].nunique() == 1 and points["run"].nunique() == 2 and points["cell"].nunique() == 2
    lab = Lab(tmp_path)
    begun = {role: json.loads((lab.run(run) / "env.json").read_text())["step"] for role, run in points["run"].items()}
    assert begun == {"branch": 0, "grid": 6}
    assert not list((tmp_path / "trunks").iterdir())
    laws = {path.name.split(".")[0]: json.loads(path.read_text()) for path in lab.study("smoke").glob("fits/power-*")}
    assert {name: fit["n"] for name, fit in laws.items()} == {"power-N": 1, "power-D": 1, "power-seen": 2}


def test_branches_without_a_plateau_are_refused() -> None:
    with pytest.raises(StudyError, match='`training`: branches needs schedule = "wsd"'):
        Study.load("smoke", {"training.branches": [0.5]})


class Losing:
    """An executor whose jobs at one run always vanish."""

    about, device, slots, shares_fate, tries = "jobs that vanish", "cpu", 4, False, 3

    def __init__(self, key: str) -> None:
        self.key, self.started, self.given = key, [], []

    def start(self, works: Any) -> None:
        self.started += [w.key for w in works]
        self.given += works

    def ended(self, seconds: float) -> dict[Work, Outcome | Lost]:
        given, self.given = self.given, []
        return {w: Lost("job 7 vanished", 1e6) if w.key == self.key else Outcome(measured=1) for w in given}

    def progress(self, todo: Work) -> Progress:
        return Progress()


def test_work_that_is_lost_again_and_again_fails_with_its_reason(lab: Path, tmp_path: Path) -> None:
    study = Study.load("smoke", TINY)
    plan = expand(study, Binder(study, Lab(lab), {}))
    lost = next(uid for uid, p in plan.runs.items() if p.run.objective is not None)
    executor, spent = Losing(lost), execute.Spent()
    outcome, failures = session.execute(
        plan, Lab(tmp_path), executor, Console(file=io.StringIO()), spent=spent  # type: ignore[arg-type]
    )  # fmt: skip
    assert executor.started.count(lost) == 3 and len(set(executor.started)) == len(executor.started) - 3
    assert failures == {lost: "lost 3 times: job 7 vanished"} and spent.flop == 3e6 and outcome.measured == 3


def test_the_smallest_sizes_of_every_family_come_first(lab: Path, tmp_path: Path) -> None:
    changes = {"arm.0.sizes": [20_000, 30_000, 40_000], "arm.0.families": ["resnet1d-supervised", "resnet1d-cmsc"]}
    study = Study.load("smoke", TINY | changes)
    plan = expand(study, Binder(study, Lab(lab), {}))
    sizes = [p.target for p in execute.pending(plan, Lab(tmp_path)) if p.run.objective]
    assert sizes == [20_000, 20_000, 30_000, 30_000, 40_000, 40_000]
    slow = next(key for key, p in plan.runs.items() if p.run.objective and p.target == 20_000)
    recipe = plan.runs[slow].run.recipe.model_copy(update={"steps": 10_000})
    longer = replace(plan.runs[slow], run=plan.runs[slow].run.model_copy(update={"recipe": recipe}))
    order = [
        p for p in execute.pending(replace(plan, runs=plan.runs | {slow: longer}), Lab(tmp_path)) if p.run.objective
    ]
    assert order[1] is longer  # though it costs more than the largest of the others


def test_a_torn_checkpoint_is_trained_anew(lab: Path, tmp_path: Path) -> None:
    shutil.copytree(lab, tmp_path, dirs_exist_ok=True)
    study, torn = Study.load("smoke", TINY), Lab(tmp_path)
    planned = next(p for p in expand(study, Binder(study, torn, {})).runs.values() if p.run.objective is not None)
    before = torn.result(planned.run.uid)
    assert before is not None
    for path in tmp_path.glob(f"features/{planned.run.uid}-*"):
        path.unlink()
    shutil.rmtree(torn.run(planned.run.uid) / "evaluations")
    for path in torn.run(planned.run.uid).glob("checkpoints/*.safetensors"):
        path.write_bytes(path.read_bytes()[:100])
    outcome = do(torn, Work(planned), Where("cpu"), lambda step, flop: None, lambda: False)
    assert (outcome.trained, outcome.measured) == (1, len(planned.evaluations))
    times = {"seconds": 0, "training_seconds": 0}
    assert before | times == (torn.result(planned.run.uid) or {}) | times


def test_a_budget_says_which_of_the_two_is_spent() -> None:
    budget = execute.Budget(hours=2.0, flop=1e12)
    assert budget.spent(7199.0, 9e11) is None
    assert budget.spent(7200.0, 0.0) == "2 hours" and budget.spent(0.0, 1e12) == "1e+12 FLOP"
    assert execute.Budget().spent(1e9, 1e30) is None


def test_status_shows_a_run_that_a_live_process_holds(lab: Path, tmp_path: Path) -> None:
    study = Study.load("smoke", TINY)
    plan = expand(study, Binder(study, Lab(lab), {}))
    empty = Lab(tmp_path / "other")
    planned = next(p for p in plan.runs.values() if p.run.objective is not None)
    folder = empty.run(planned.run.uid)
    with empty.claim(folder) as mine:
        assert mine and empty.held(folder)
        write_json(folder / "env.json", {"started": "2026-01-01T00:00:00Z", "step": 1})
        lines = [{"step": step, "loss": 1.0 / step} for step in (1, 2, 3)]
        (folder / "curve.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        found = status_of(execute.watch(plan), empty, {})
    (running,) = found.running
    assert (found.done, found.waiting, found.failed) == (0, 1, {})
    assert running.step == 3 and running.losses == [1.0, 0.5, 1 / 3]
    assert running.rate == pytest.approx(2 * planned.run.recipe.batch / running.seconds)
    assert found.seconds_left is not None and found.seconds_left > 0
    later = status_of(execute.watch(plan), empty, {planned.run.uid: "no"})
    assert not empty.held(folder) and later.failed == {planned.run.uid: "no"}


def test_a_curve_is_drawn_as_bars() -> None:
    assert plot([3.0, 2.0, 1.0]) == "█▅▁" and plot([1.0, 1.0]) == "▁▁" and plot([float("nan")]) == ""
    assert len(plot(list(range(1000)))) == 24
