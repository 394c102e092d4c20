"""The laws of a study: which are fitted to which rows of the table, cached by the rows they were fitted to."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from ecgscale.fitting import REVISION, fit
from ecgscale.fitting.uncertainty import MIN_LEVELS
from ecgscale.lab import Lab, read_json, write_json
from ecgscale.laws import Law
from ecgscale.spec import digest, part, part_class
from ecgscale.study import labels
from ecgscale.study.workers import Workers

ID_PROBE = "id-probe"  # the common axis: linear probe on the source labels of the in-distribution corpus
_Job = tuple[Law, pd.DataFrame, int]  # and the resamples
PRETEXT = "pretext"  # the own objective's held-out loss
PASSES = 1.05  # times that records are drawn: beyond it runs differ
# of a curve's columns in a fit, whose own `objective` is what it minimised
NAMES = ("backbone", "pretraining", "pretrain", "eval_corpus", "task", "protocol")


@dataclass(frozen=True)
class Wanted:
    """A fit to make: the law, the rows, and what the result is called."""

    law: Law
    frame: pd.DataFrame  # columns of the law's inputs, `value`, `cell`, `branch`, `seed`
    meta: dict[str, Any]
    several: bool = False  # whether the study's fitted rows hold more than one pre-training corpus

    @property
    def file(self) -> str:
        """`<law>.<backbone>-<objective>.<eval>.<task>.<protocol>.json`; the law's axis is part of its name, and the
        arm is `<backbone>-<objective>-<pretrain>` where the fitted rows hold several pre-training corpora."""
        m = self.meta
        return ".".join([m["law_name"], self._arm, m["eval_corpus"], m["task"], m["protocol"], "json"])

    @property
    def family(self) -> str:
        """`<backbone>-<objective>`."""
        return f"{self.meta['backbone']}-{self.meta['pretraining']}"

    @property
    def _arm(self) -> str:
        return "-".join([self.family, *([self.meta["pretrain"]] if self.several and self.meta["pretrain"] else [])])


def select(table: pd.DataFrame, roles: tuple[str, ...] = ("grid",)) -> pd.DataFrame:
    """Return the rows laws read: test loss, the checkpoint that enters the laws, comparable objectives.

    Args:
        table: The study's table.
        roles: `branch` beside `grid` where the shorter points of a trunk are wanted, too.
    """
    rows = table[
        table["role"].isin(roles) & (table["metric"] == "loss") & (table["part"] == "test") & table["value"].notna()
    ]
    keep = []
    for objective, group in rows.groupby("objective", sort=False):
        cls = part_class("objectives", str(objective))
        pretext = group["task"] == PRETEXT
        chosen = group["checkpoint"] == ("best" if cls.best else "last")  # type: ignore[attr-defined]
        keep.append(group[(pretext & chosen & cls.comparable) | ~pretext])  # type: ignore[attr-defined]
    return pd.concat(keep) if keep else rows.iloc[:0]


def wanted(table: pd.DataFrame, floors: dict[str, dict[str, float]]) -> list[Wanted]:
    """Return every fit of a study.

    Args:
        table: The study's table.
        floors: corpus → task → known irreducible loss (simulated ECG), recorded beside the fitted floor, unused by it.
    """
    rows = select(table)
    fits: list[Wanted] = []
    for meta, group in _curves(rows, floors):
        fits.append(_want(part("laws", "scaling"), group, meta, "scaling"))
        for axis, other in (("N", "D"), ("D", "N")):
            edge = group[group[other] == group[other].max()]
            fits.append(_want(part("laws", {"name": "power", "input": axis}), edge, meta, f"power-{axis}"))
    for _, family in rows.groupby(["backbone", "objective", "pretrain"], sort=True):
        fits += _transfers(family)
    whole = select(table, ("grid", "branch"))
    for meta, group in _curves(common_axis(whole), floors):
        if _repeat(group):
            fits.append(_want(part("laws", "data_constrained"), group, meta, "data_constrained"))
    for meta, group in few_labels(table):
        fits.append(_want(part("laws", "learning_curve"), group, meta, "learning_curve"))
    if (table["role"] == "branch").any():
        for meta, group in _curves(whole, floors):
            edge = group[(group["N"] == group["N"].max())]
            edge = edge[edge["D"] == edge["D"].max()]
            fits.append(_want(part("laws", {"name": "power", "input": "seen"}), edge, meta, "power-seen"))
    if (table["role"] == "labels").any():
        for meta, group in _curves(select(table, ("grid", "labels")), floors):
            for order, along in labels.curves(group):
                named = {**meta, "label_order": order}
                fits.append(_want(part("laws", "label_scaling"), along, named, f"label_scaling-{order}"))
    several = rows["pretrain"].nunique() > 1
    return [replace(want, several=several) for want in fits]


def common_axis(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows on which all families meet in distribution, the source labels, measured with all labels: where
    laws that are asked once a family are asked."""
    return rows[(rows["split"] == "id") & (rows["task"] != PRETEXT) & (rows["unit"] == "nats") & _all_labels(rows)]


def _all_labels(rows: pd.DataFrame) -> pd.Series:
    return rows["label_fraction"] == 1 if "label_fraction" in rows else pd.Series(True, rows.index)


def _repeat(rows: pd.DataFrame) -> bool:
    """Whether cells drew their records differently often, and records drawn have the levels of an axis: else what a
    repeat is worth cannot be told from what a new record is."""
    passes = rows["seen"] / rows["D"]
    return bool(passes.max() > PASSES * passes.min()) and rows["seen"].nunique() >= MIN_LEVELS


def few_labels(table: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield the losses of a task against its number of labels: of every family at its largest N, then D, and of random
    weights of its backbone at their largest N."""
    if "labelled" not in table or table["labelled"].isna().all():
        return
    asked = (table["role"] == "grid") | ((table["role"] == "baseline") & (table["objective"] == "random"))
    losses = (table["metric"] == "loss") & (table["part"] == "test") & table["value"].notna()
    rows = table[asked & losses & table["labelled"].notna()]
    largest = rows.groupby(["backbone", "objective", "pretrain"])["N"].transform("max")
    rows = rows[rows["N"] == largest]
    rows = rows[rows["D"] == rows.groupby(["backbone", "objective", "pretrain"])["D"].transform("max")]
    rows = rows.assign(protocol=rows["protocol"].str.replace(r"-1of\d+$", "", regex=True))
    for meta, group in _curves(rows, {}):
        if group["labelled"].nunique() > 1:
            yield meta, group.astype({"labelled": float})


def _curves(rows: pd.DataFrame, floors: dict[str, dict[str, float]]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield what is one curve to a law, and how it is called."""
    columns = ["backbone", "objective", "pretrain", "eval_corpus", "task", "protocol"]
    for keys, group in rows.groupby(columns, sort=True):
        meta: dict[str, Any] = dict(zip(NAMES, keys, strict=True))
        known = floors.get(meta["eval_corpus"], {}).get(meta["task"])
        yield meta | {"split": str(group["split"].iloc[0]), "known_floor": known}, group


def _want(law: Law, frame: pd.DataFrame, meta: dict[str, Any], name: str) -> Wanted:
    columns = [*law.inputs, "value", "cell", "branch", "seed"]
    return Wanted(law, frame[columns].reset_index(drop=True), {**meta, "law_name": name, "axis": "x".join(law.inputs)})


def _transfers(family: pd.DataFrame) -> list[Wanted]:
    """Out-of-distribution losses against the common probe loss and against the own pretext loss, run by run."""
    pretext = family[(family["task"] == PRETEXT)]
    probe = family[(family["split"] == "id") & (family["protocol"] == "linear") & (family["unit"] == "nats")]
    fits = []
    for axis, source in ((ID_PROBE, probe), (PRETEXT, pretext)):
        if source.empty:
            continue
        x = source.groupby("run")["value"].mean().rename("L_ID")
        for keys, group in family[family["split"] == "ood"].groupby(["eval_corpus", "task", "protocol"], sort=True):
            frame = group.join(x, on="run").dropna(subset=["L_ID"])
            meta = {
                "backbone": group["backbone"].iloc[0], "pretraining": group["objective"].iloc[0],
                "pretrain": group["pretrain"].iloc[0], "split": "ood", "id_axis": axis,
                **dict(zip(("eval_corpus", "task", "protocol"), keys, strict=True)),
            }  # fmt: skip
            fits.append(_want(part("laws", "transfer"), frame, meta, f"transfer-{axis}"))
    return fits


def fit_all(
    table: pd.DataFrame,
    floors: dict[str, dict[str, float]],
    lab: Lab,
    study: str,
    resamples: int,
    executor: Workers | None,
) -> list[dict[str, Any]]:
    """Make every fit of a study that its rows do not already have; returns the dumps, in a fixed order.

    Args:
        table: The study's table.
        floors: Known irreducible losses.
        lab: Where `fits/*.json` go.
        study: The study's name.
        resamples: Of runs.
        executor: Worker processes, or None to fit here.
    """
    folder = lab.study(study) / "fits"
    folder.mkdir(exist_ok=True)
    todo, dumps = [], {}
    for want in wanted(table, floors):
        source = digest(
            [want.law.dump(), want.frame.to_json(orient="split", double_precision=15), want.meta, resamples, REVISION]
        )
        stored = read_json(folder / want.file)
        if stored and stored.get("source") == source:
            dumps[want.file] = stored
        else:
            todo.append((want, source))
            dumps[want.file] = None
    jobs = [(want.law, want.frame, resamples) for want, _ in todo]
    for (want, source), dump in zip(todo, _results(jobs, executor), strict=True):
        dumps[want.file] = {
            **want.meta,
            **dump,
            "family": want.family,
            "source": source,
        }
        write_json(folder / want.file, dumps[want.file])
    for path in folder.glob("*.json"):
        if path.name not in dumps:
            path.unlink()
    return [d for d in dumps.values() if d is not None]


def _results(jobs: list[_Job], executor: Workers | None) -> Iterator[dict[str, Any]]:
    """Yield the fits as they come, in order; what killed processes leave is done here."""
    done = 0
    try:
        for dump in executor.map(_fit, jobs) if executor else ():
            yield dump
            done += 1
    except BrokenProcessPool:
        pass
    yield from map(_fit, jobs[done:])


def _fit(job: _Job) -> dict[str, Any]:
    law, frame, resamples = job
    return fit(law, frame, bootstraps=resamples).dump()
