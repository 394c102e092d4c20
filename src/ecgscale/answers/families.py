"""The families of a study with one task's law each, read from the lab: the table and the fits are enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ecgscale.fitting.result import LawFit
from ecgscale.lab import Lab, read_json
from ecgscale.spec import Explained
from ecgscale.study.cells import cells_of

PRETEXT = "pretext"  # the own objective's loss, which two families never share
COLUMNS = ["run", "role", "backbone", "objective", "paradigm", "pretrain", "checkpoint", "N", "D", "seen", "C"]


class AdviceError(Explained, ValueError):
    """A question that what was measured cannot answer; the message says why and what to do."""


@dataclass(frozen=True)
class Family:
    """One backbone × objective (× pre-training corpus where there are several) and its law on one task.

    Attributes:
        name: `<backbone>-<objective>`, with `-<pretrain>` where a study holds several corpora.
        fit: The law in N and D.
        supervised: Whether pre-training reads labels.
        runs: One row per finished run of the grid: N, D, seen, C, seconds, run; None where nobody measured them.
        flops_per_second: Measured at the largest size; NaN where the runs' times are not known.
        device: What those were measured on.
    """

    name: str
    fit: LawFit
    supervised: bool = False
    runs: pd.DataFrame | None = None
    flops_per_second: float = float("nan")
    device: str = ""


@dataclass(frozen=True)
class Question:
    """Which curve is asked about: the study, the corpus evaluated on, the task and the protocol."""

    study: str
    eval_corpus: str
    task: str
    protocol: str

    @property
    def label(self) -> str:
        """`<corpus>/<task>`, how a task is asked for where several corpora have it."""
        return f"{self.eval_corpus}/{self.task}"


def read(
    lab: Path | str, study: str, task: str | None = None, protocol: str | None = None
) -> tuple[Question, list[Family]]:
    """Return the question that `task` means in a study, and the families that answer it.

    Args:
        lab: Its directory; only read.
        study: The study's name.
        task: `ptbxl_super`, or `ludb/ludb_lvh` where several corpora have the task; None where there is one.
        protocol: None for "linear" or the only one there is.

    Raises:
        AdviceError: the lab holds no fits of the study, or the task is not one of its tasks or means several.
    """
    folder = Path(lab) / "studies" / study
    dumps = [read_json(path) for path in sorted((folder / "fits").glob("scaling.*.json"))]
    dumps = [d for d in dumps if d and d.get("task") != PRETEXT]
    if not dumps:
        raise AdviceError(f"{lab} holds no law of {study} in N and D; run `ecgscale run {study} --lab {lab}` first")
    question = _question(study, dumps, task, protocol)
    wanted = [d for d in dumps if (d["eval_corpus"], d["task"], d["protocol"]) == _key(question)]
    table = pd.read_parquet(folder / "table.parquet", columns=COLUMNS)
    several = len({d["pretrain"] for d in wanted}) > 1
    return question, [_family(Lab(lab), table, dump, several) for dump in wanted]


def _key(question: Question) -> tuple[str, str, str]:
    return question.eval_corpus, question.task, question.protocol


def _question(study: str, dumps: list[dict[str, Any]], task: str | None, protocol: str | None) -> Question:
    found = sorted({(d["eval_corpus"], d["task"], d["protocol"]) for d in dumps})
    fitting = [k for k in found if task in (None, k[1], f"{k[0]}/{k[1]}") and protocol in (None, k[2])]
    linear = [k for k in fitting if k[2] == "linear"]
    fitting = linear if protocol is None and linear else fitting
    if len(fitting) == 1:
        return Question(study, *fitting[0])
    choices = ", ".join(dict.fromkeys(f"{k[0]}/{k[1]}" + (f" ({k[2]})" if protocol else "") for k in fitting or found))
    what = "no task is named" if task is None else f"the task {task!r}"
    why = what if task is None else f"{what} {'means several' if fitting else 'is unknown'}"
    raise AdviceError(f"{study}: {why}; choose with --task and --protocol one of {choices}")


def common(families: Sequence[Family]) -> dict[str, float]:
    """Return the largest N and D that every family was measured at."""
    ranges = [f.fit.ranges for f in families]
    return {axis: min((r[axis][1] for r in ranges), default=float("nan")) for axis in ("N", "D")}


def _family(lab: Lab, table: pd.DataFrame, dump: dict[str, Any], several: bool) -> Family:
    name = table["backbone"] + "-" + table["objective"]  # a stored fit's own `objective` is what was minimised
    own = table[(table["role"] == "grid") & (name == dump["family"]) & (table["pretrain"] == dump["pretrain"])]
    runs = own[own["checkpoint"] == "last"].drop_duplicates("run")[["run", "N", "D", "seen", "C"]]
    runs = runs.assign(seconds=[_seconds(lab, run) for run in runs["run"]]).reset_index(drop=True)
    largest = runs[runs["N"] == runs["N"].max()]
    return Family(
        name="-".join([dump["family"], *([dump["pretrain"]] if several else [])]),
        fit=LawFit.load(dump),
        supervised=bool((own["paradigm"] == "SL").any()),
        runs=runs,
        flops_per_second=float((largest["C"] / largest["seconds"]).median()),
        device=(read_json(lab.run(runs["run"].iloc[0]) / "env.json") or {}).get("device", "") if len(runs) else "",
    )


def _seconds(lab: Lab, run: str) -> float:
    """Return what the training of a run took; NaN where it is not stored."""
    return float((read_json(lab.run(run) / "result.json") or {}).get("seconds") or "nan")


def grid(lab: Path | str, study: str, family: str) -> tuple[list[float], list[float]]:
    """Return the sizes asked for and the records of the cells that enter a family's laws, as the study was last run.

    Raises:
        AdviceError: the lab does not hold the study.
    """
    stored = read_json(Path(lab) / "studies" / study / "study.json")
    if not stored:
        raise AdviceError(f"{lab} does not say which grid {study} has; run `ecgscale run {study} --lab {lab}` again")
    sizes, records = cells_of(stored["arm"], family)
    return sorted(set(sizes)), sorted(set(records))
