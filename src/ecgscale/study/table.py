"""The one table of a study: every measured number is a row."""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from ecgscale.evaluation.bootstrap import paired_difference
from ecgscale.evaluation.evaluate import EvalSpec
from ecgscale.lab import COLUMNS, Lab
from ecgscale.runs import RunResult
from ecgscale.spec import digest
from ecgscale.study.index import IndexedLab
from ecgscale.study.plan import HANDCRAFTED, Plan, PlannedEval, PlannedRun
from ecgscale.study.stored import load_evaluation, load_losses
from ecgscale.study.work import chosen_steps, opened

_Row = dict[str, Any]  # column: value


def build_table(plan: Plan, lab: Lab, failures: dict[str, str] | None = None) -> pd.DataFrame:
    """Return the table of a study from what the lab holds.

    Args:
        plan: The study's plan.
        lab: Where results stand.
        failures: Run uid → reason, of runs that failed; each has one row with `value` NaN.
    """
    lab = IndexedLab(lab, plan.study.name)
    gathered = _Rows()
    few = any(e.spec.fraction < 1 for p in plan.runs.values() for e in p.evaluations)
    for planned in plan.runs.values():
        if planned.provisional:
            continue
        stored = lab.result(planned.run.uid)
        base = _run_columns(plan, planned)
        if stored is None:
            reason = (failures or {}).get(planned.run.uid)
            status = "failed" if reason else "waiting"
            gathered.add({**base, "status": status, "reason": reason or "not run yet"}, [({}, [{}])])
            continue
        result = RunResult.model_construct(**stored)  # written by `Lab.finish`, of a spec that hashes to its uid
        measured = [_evaluation_rows(lab, planned, result, e, few) for e in planned.evaluations]
        gathered.add(base, [*_result_rows(planned, result), *measured])
    nothing = {"N": 0, "N_total": 0, "seen": 0, "C": 0.0}
    rows = [
        (nothing | _eval_columns(e, few), load_evaluation(lab, HANDCRAFTED, e.spec) or []) for e in plan.handcrafted
    ]
    gathered.add(_handcrafted_columns(plan), rows)
    for e in plan.encoded:
        base = {**_handcrafted_columns(plan), "status": "skipped", "reason": e.not_by_hand}
        gathered.add(base, [(nothing | _eval_columns(e), [{"protocol": e.spec.protocol_name}])])
    for base, common, row in _against_random(plan, lab):
        gathered.add(base, [(common, [row])])
    lab.save()
    frame = gathered.frame().reindex(columns=list(COLUMNS))
    frame["status"] = frame["status"].astype(object).fillna("ok")
    frame["label_fraction"] = frame["label_fraction"].astype("float64").fillna(1.0)
    for column in ("N", "N_total", "D", "seen", "C", "lr", "value", "lo", "hi"):
        frame[column] = frame[column].astype("float64")
    for column in ("seed", "step", "batch", "steps", "labels", "labelled", "n", "n_pos", "left_out"):
        frame[column] = frame[column].astype("Int64")
    return frame


class _Rows:
    """Rows under way to a frame, in two parts each, so that what several have in common is kept once: most of a table.

    The columns of a run, of what was measured on it, and of a row are disjoint.
    """

    def __init__(self) -> None:
        self.parts: tuple[list[_Row], list[_Row], list[_Row]] = ([], [], [])  # of runs, of evaluations, of rows
        self.places: tuple[list[int], list[int]] = ([], [])  # of every row, in the first two

    def add(self, run: _Row, measured: list[tuple[_Row, list[_Row]]]) -> None:
        """Add the rows of a run: what they all have in common, and for every evaluation what its rows have."""
        self.parts[0].append(run)
        for common, rows in measured:
            self.places[0].extend([len(self.parts[0]) - 1] * len(rows))
            self.places[1].extend([len(self.parts[1])] * len(rows))
            self.parts[1].append(common)
            self.parts[2].extend(rows)

    def frame(self) -> pd.DataFrame:
        runs, measured, rows = map(_frame, self.parts)
        common = [
            part.take(places).reset_index(drop=True) for part, places in zip((runs, measured), self.places, strict=True)
        ]
        return pd.concat([*common, rows], axis=1)


def _frame(rows: list[_Row]) -> pd.DataFrame:
    names = dict.fromkeys(chain.from_iterable(rows))
    return pd.DataFrame({name: [row.get(name) for row in rows] for name in names}, index=range(len(rows)))


def _run_columns(plan: Plan, planned: PlannedRun) -> dict[str, Any]:
    run = planned.run
    labels = run.labels
    return {
        "study": plan.study.name,
        "run": run.uid,
        "cell": run.cell,
        "seed": run.seed,
        "role": planned.role,
        "backbone": run.backbone.called,
        "objective": run.origin,
        "paradigm": "none" if run.objective is None else run.objective.paradigm,
        "pretrain": "" if run.objective is None else planned.source.label,
        "D": run.D,
        "lr": run.recipe.lr,
        "batch": run.recipe.batch,
        "steps": run.recipe.steps,
        "schedule": run.recipe.schedule,
        "labels": len(labels),
        "label_set": _label_set(labels),
        "label_order": planned.label_order,
        "branch": run.trunk,
    }


@lru_cache(maxsize=256)
def _label_set(labels: tuple[str, ...]) -> str:
    return digest(list(labels)) if labels else ""


def _at(run: Any, result: RunResult, checkpoint: str, step: int) -> dict[str, Any]:
    seen = step * run.recipe.batch
    return {
        "N": result.N, "N_total": result.N_total, "step": step, "seen": seen, "C": result.flop_per_record * seen,
        "checkpoint": checkpoint,
    }  # fmt: skip


def _result_rows(planned: PlannedRun, result: RunResult) -> list[tuple[_Row, list[_Row]]]:
    """The own objective's held-out loss of the checkpoints that are kept, and the health of the last."""
    if planned.run.objective is None:
        return []
    where = {"eval_corpus": planned.source.label, "split": "id", "shift": "same"}
    health = {**_at(planned.run, result, "last", result.steps), **where, "task": "health"}
    last = {"part": "validation", "protocol": "health", "unit": "1", "n": result.records["validation"]}
    found = [(health, [{"metric": name, "value": value, **last} for name, value in result.health.items()])]
    for name, step in {"best": result.best, "last": result.steps}.items():
        pretext = {**_at(planned.run, result, name, step), **where, "task": "pretext"}
        rows = [
            {
                "part": part,
                "protocol": "pretext",
                "metric": "loss",
                "unit": "nats",
                "value": values[name],
                "n": result.records[part],
            }
            for part, values in (("validation", result.validation), ("test", result.test))
        ]
        found.append((pretext, rows))
    return found


def _eval_columns(planned: PlannedEval, few: bool = False) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "eval_corpus": planned.source.label, "split": planned.split, "shift": planned.shift, "task": planned.title,
    }  # fmt: skip
    return columns | {"labelled": _labelled(planned.spec, planned.source.path)} if few else columns


@lru_cache(maxsize=1024)
def _labelled(spec: EvalSpec, path: Path) -> int:
    return spec.labelled(opened(path))


def _evaluation_rows(
    lab: Lab, planned: PlannedRun, result: RunResult, e: PlannedEval, few: bool
) -> tuple[_Row, list[_Row]]:
    name, step = next(iter(chosen_steps(planned.run, result).items()))
    common = {**_at(planned.run, result, name, step), **_eval_columns(e, few)}
    return common, load_evaluation(lab, planned.run.uid, e.spec) or []


def _handcrafted_columns(plan: Plan) -> dict[str, Any]:
    return {
        "study": plan.study.name, "run": HANDCRAFTED, "cell": HANDCRAFTED, "role": "baseline", "pretrain": "",
        "backbone": "handcrafted", "objective": "handcrafted", "paradigm": "none", "D": 0,
    }  # fmt: skip


def _against_random(plan: Plan, lab: Lab) -> list[tuple[_Row, _Row, _Row]]:
    """Return the columns of each row: of its run, of its evaluation, its own.

    Paired patient bootstrap of probe loss minus that of equally large random weights, at each arm's largest cell.
    """
    rows = []
    random = {(p.arm, p.run.backbone.uid): p for p in plan.runs.values() if p.run.objective is None}
    largest = _largest(plan)
    for planned in plan.runs.values():
        run = planned.run
        if run.objective is None or planned.role in ("tune", "branch", "labels") or id(planned) not in largest:
            continue
        base = random.get((planned.arm, run.backbone.uid))
        stored = lab.result(run.uid)
        if base is None or stored is None:
            continue
        for e in planned.evaluations:
            if load_evaluation(lab, run.uid, e.spec) is None or load_evaluation(lab, base.run.uid, e.spec) is None:
                continue
            corpus = opened(e.source.path)
            patients = corpus.index["patient"].factorize()[0][e.spec.tested(corpus)]
            ours, theirs = load_losses(lab, run.uid, e.spec), load_losses(lab, base.run.uid, e.spec)
            difference, lo, hi = paired_difference(ours, theirs, patients, resamples=plan.study.resamples)
            result = RunResult.parse(stored)
            name, step = next(iter(chosen_steps(run, result).items()))
            unit = "nats" if e.spec.task.output == "binary" else "sd2"
            measured = {"part": "test", "protocol": e.spec.protocol_name, "metric": "loss_minus_random", "unit": unit,
                        "value": difference, "lo": lo, "hi": hi, "n": len(ours),
                        "label_fraction": e.spec.fraction}  # fmt: skip
            at = {**_at(run, result, name, step), **_eval_columns(e)}
            rows.append((_run_columns(plan, planned), at, measured))
    return rows


def _largest(plan: Plan) -> set[int]:
    """Return the identities of the runs of the largest size and D of their family and arm, and of the first seed."""
    best: dict[tuple[str, ...], PlannedRun] = {}
    for p in plan.runs.values():
        if p.run.objective is None:
            continue
        family = p.arm, p.role, p.run.backbone.part_name(), p.run.objective.part_name()
        if family not in best or _rank(p) > _rank(best[family]):
            best[family] = p
    return {id(p) for p in best.values()}


def _rank(planned: PlannedRun) -> tuple[int, int, int]:
    return planned.target, planned.run.D, -planned.run.seed
