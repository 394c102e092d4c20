"""How a task stands to pre-training follows from populations and labels; what a study says by hand is kept beside."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from ecgscale.data.corpus import Corpus
from ecgscale.lab import Lab
from ecgscale.study.bind import Binder
from ecgscale.study.expand import expand
from ecgscale.study.shift import relation
from ecgscale.study.study import Study


def corpus(name: str, population: str, **positive: int) -> Corpus:
    """Return as much of a corpus as the rule reads."""
    found: Any = Corpus.__new__(Corpus)
    found.name, found.manifest = name, {"populations": {population: 9}, "labels": {}}
    found.manifest["labels"] = {label: {"positive": n, "known": 99} for label, n in positive.items()}
    return found  # type: ignore[no-any-return]


CODE = corpus("code15", "code", AF=30, RBBB=20, LBBB=0)


@pytest.mark.parametrize(
    ("tested", "labels", "shared", "by_rule"),
    [
        (corpus("code", "code"), ["AF"], ("AF",), "same"),  # another data set, one population
        (corpus("ptbxl", "ptbxl"), ["rhythm_AFIB", "rhythm_PACE"], ("rhythm_AFIB",), "shifted"),
        (corpus("csn", "chapman"), ["AF"], (), "unseen"),  # flutter there
        (corpus("georgia", "georgia"), ["LBBB"], (), "unseen"),  # a label that no record has
        (corpus("echonext", "echonext"), ["lvwt_gte_13_flag"], (), "unseen"),
    ],
)
def test_source_first_then_labels(tested: Corpus, labels: list[str], shared: tuple[str, ...], by_rule: str) -> None:
    found = relation(CODE, tested, labels, (), None)
    assert (found.shared, found.by_rule, found.shift, found.supervised) == (shared, by_rule, by_rule, ())


def test_what_the_study_says_stands_and_supervision_is_told_apart() -> None:
    found = relation(CODE, corpus("cpsc2018", "cpsc2018"), ["AF", "RBBB"], ["RBBB"], "unseen")
    assert (found.shift, found.by_rule, found.stated) == ("unseen", "shifted", "unseen")
    assert found.supervised == ("RBBB",) and found.by_supervision == "shifted"
    assert relation(CODE, corpus("cpsc2018", "cpsc2018"), ["AF"], ["RBBB"], None).by_supervision == "unseen"


def test_a_study_that_says_nothing_is_filled_in_and_no_run_changes(tmp_path: Path) -> None:
    text = (files("ecgscale") / "studies" / "smoke.toml").read_text()
    silent = text.replace('split = "id"\n', "")
    for word in ("same", "shifted", "unseen"):
        silent = silent.replace(f'shift = "{word}"\n', "")
    plans = []
    for name, written in (("said", text), ("silent", silent)):
        (path := tmp_path / f"{name}.toml").write_text(written)
        plans.append(expand(study := Study.load(path), Binder(study, Lab(tmp_path / "lab"), {})))
    said, filled = ([(e.split, e.shift) for e in plan.handcrafted] for plan in plans)
    assert said == [("id", "same"), ("ood", "shifted"), ("ood", "unseen")]
    assert filled == [("id", "same"), ("ood", "shifted"), ("ood", "shifted")]  # the corpus carries `structural`
    assert list(plans[0].runs) == list(plans[1].runs)
    assert [e.spec.uid for e in plans[0].handcrafted] == [e.spec.uid for e in plans[1].handcrafted]


def test_the_rule_finds_what_the_scaling_study_states() -> None:
    """Its statement: shifted where a task predicts at least one of CODE's six labels, else unseen."""
    pretrain = corpus("code", "code", **dict.fromkeys(("1dAVb", "RBBB", "LBBB", "SB", "AF", "ST"), 9))
    outside = [e for e in Study.load("scaling-2605.17276").evaluate if e.data != "pretrain"]
    assert len(outside) > 10
    for e in outside:
        found = relation(pretrain, corpus(e.data, e.data), e.task.label_sets[e.task.labels], (), e.shift)
        assert found.by_rule == e.shift, e.task.title
