"""Backbone × objective: planted effects come back, intervals cover them, and absent cells are left out by the rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ecgscale.fitting.effects import MEAN, Effects, Scores, complete, decompose, two_way
from ecgscale.fitting.resample import Measured

BACKBONES, OBJECTIVES = np.array([-0.03, 0.0, 0.03]), np.array([-0.02, 0.005, 0.015])
INTERACTION = 0.01 * np.outer([1, 0, -1], [1, -1, 0])


def planted(
    seed: int,
    seeds: int = 3,
    tasks: int = 2,
    patients: int = 100,
    luck: float = 0.01,
    noise: float = 0.1,
    interaction: np.ndarray = INTERACTION,
    absent: tuple[tuple[int, int], ...] = (),
) -> Scores:
    """Two records a patient; patients differ in how hard they are, for every run, backbone and objective alike."""
    rng = np.random.default_rng(seed)
    runs = [(b, o) for b in range(3) for o in range(3) if (b, o) not in absent for _ in range(seeds)]
    b, o = np.array(runs).T
    score = BACKBONES[b] + OBJECTIVES[o] + interaction[b, o] + rng.normal(0, luck, len(runs))
    who = np.repeat(np.arange(patients), 2)
    measured = []
    for t in range(tasks):
        hard, *by = (rng.normal(0, s, (n, patients)) for s, n in ((0.3, 1), (noise, 3), (noise, 3)))
        values = score[:, None] + (hard + by[0][b] + by[1][o])[:, who] + rng.normal(0, noise, (len(runs), len(who)))
        measured.append(Measured(f"task {t}", f"corpus {t}", values[:, :, None], who))
    return Scores(tuple(f"b{i}" for i in b), tuple(f"o{i}" for i in o), tuple(measured))


TRUTH = {
    **{("backbone", f"b{i}"): v for i, v in enumerate(BACKBONES)},
    **{("objective", f"o{i}"): v for i, v in enumerate(OBJECTIVES)},
    **{("interaction", f"b{i} × o{j}"): INTERACTION[i, j] for i in range(3) for j in range(3)},
}


def numbers(found: Effects, task: str = MEAN) -> dict[tuple[str, str], tuple[float, float, float]]:
    return {(e.factor, e.name): (e.value, e.lo, e.hi) for e in found.estimates if e.task == task}


def test_planted_effects_are_recovered() -> None:
    found = numbers(two_way(planted(1, patients=2000, luck=0.001, noise=0.02)))
    for key, truth in TRUTH.items():
        assert found[key][0] == pytest.approx(truth, abs=0.003), key


@pytest.mark.parametrize(("seeds", "luck", "noise"), [(3, 0.01, 0.1), (2, 0.03, 0.02)])
def test_intervals_cover_the_truth(seeds: int, luck: float, noise: float) -> None:
    """Patients and seeds weigh alike, then seeds alone with as few as there can be."""
    hits: dict[str, list[bool]] = {}
    for k in range(200):
        found = numbers(two_way(planted(k, seeds=seeds, luck=luck, noise=noise, tasks=1), resamples=300))
        for key, truth in TRUTH.items():
            hits.setdefault(key[0], []).append(found[key][1] <= truth <= found[key][2])
    assert all(np.mean(h) >= 0.9 for h in hits.values()), {k: np.mean(h) for k, h in hits.items()}


def test_an_additive_table_shows_no_interaction() -> None:
    clean = two_way(planted(0, luck=0.0, noise=0.0, interaction=np.zeros((3, 3))))
    assert max(abs(e.value) for e in clean.estimates if e.factor == "interaction") < 1e-12
    found = numbers(two_way(planted(3, interaction=np.zeros((3, 3)))))
    inside = [lo <= 0 <= hi for (factor, _), (_, lo, hi) in found.items() if factor == "interaction"]
    assert sum(inside) >= 8
    assert found["share", "interaction"][1] == 0.0


def test_shares_add_to_one_and_follow_what_was_planted() -> None:
    found = numbers(two_way(planted(2, patients=2000, seeds=8, luck=0.02, noise=0.01)))
    variances = [np.var(BACKBONES), np.var(OBJECTIVES), np.var(INTERACTION), 0.02**2]
    names = ("backbone", "objective", "interaction", "between seeds")
    shares = np.array([found["share", name] for name in names])
    assert shares[:, 0].sum() == pytest.approx(1.0)
    assert shares[:, 0] == pytest.approx(np.array(variances) / sum(variances), abs=0.1)
    assert ((shares[:, 1] <= shares[:, 0]) & (shares[:, 0] <= shares[:, 2])).all()


def test_the_largest_complete_table_is_taken_and_the_rest_is_listed() -> None:
    full = planted(0)
    found = two_way(planted(0, absent=((0, 2),)))
    assert (found.backbones, found.objectives) == (("b0", "b1", "b2"), ("o0", "o1"))
    assert found.left_out == (
        ("b0", "o2", "not measured"),
        ("b1", "o2", "measured, but outside the largest complete table"),
        ("b2", "o2", "measured, but outside the largest complete table"),
    )
    keep = [i for i, o in enumerate(full.objectives) if o != "o2"]
    tasks = tuple(replace(t, values=t.values[keep]) for t in full.tasks)
    smaller = Scores(*(tuple(x[i] for i in keep) for x in (full.backbones, full.objectives)), tasks)
    assert two_way(smaller).left_out == ()


def test_the_rule_prefers_cells_then_runs_then_backbones() -> None:
    def cells(text: str) -> list[tuple[str, str]]:
        return [(pair[0], pair[1]) for pair in text.split()]

    assert complete(cells("ax ay az bx by bz cx")) == (("a", "b"), ("x", "y", "z"))
    assert complete(cells("ax ay az bx by bz cx cy")) == (("a", "b", "c"), ("x", "y"))
    assert complete(cells("ax ay az az bx by bz cx cy")) == (("a", "b"), ("x", "y", "z"))
    assert complete(cells("ax ay bx")) == ((), ())
    assert complete([]) == ((), ())


def test_names_and_order_change_nothing() -> None:
    scores = planted(4, tasks=2)
    renamed = {"b0": "z", "b1": "y", "b2": "x"}
    order = np.random.default_rng(0).permutation(len(scores.backbones))
    moved = Scores(
        tuple(renamed[scores.backbones[i]] for i in order),
        tuple(scores.objectives[i] for i in order),
        tuple(replace(t, values=t.values[order]) for t in scores.tasks[::-1]),
    )
    first, second = two_way(scores), two_way(moved)
    for task in (MEAN, "task 0", "task 1"):
        one, two = numbers(first, task), numbers(second, task)
        for (factor, name), found in one.items():
            for old, new in renamed.items():
                name = name.replace(old, new)
            assert two[factor, name] == pytest.approx(found, abs=1e-12), (task, factor, name)


def test_tasks_of_one_source_meet_the_same_patients() -> None:
    """The mean of a task and its mirror image is constant: only a shared draw sees that."""
    scores = planted(0, seeds=1, tasks=1)
    task = scores.tasks[0]
    for source, same in (("corpus 0", True), ("another", False)):
        mirror = replace(task, task="mirror", source=source, values=-task.values)
        found = numbers(two_way(replace(scores, tasks=(task, mirror))))
        width = max(hi - lo for (factor, _), (_, lo, hi) in found.items() if factor != "share")
        assert (width < 1e-9) is same


def test_one_seed_gives_no_share_between_seeds_and_says_so() -> None:
    found = two_way(planted(0, seeds=1))
    assert {e.name for e in found.estimates if e.factor == "share"} == {"backbone", "objective", "interaction"}
    assert found.notes == (
        "every cell has one seed: no share between seeds can be given, and the intervals hold patients only",
    )
    some = planted(0, seeds=2)
    tasks = tuple(replace(t, values=t.values[1:]) for t in some.tasks)
    assert two_way(Scores(some.backbones[1:], some.objectives[1:], tasks)).notes == (
        "1 of 9 cells have one seed: their intervals hold patients only",
    )


def test_one_patient_gives_values_without_intervals() -> None:
    found = two_way(planted(0, patients=1))
    assert all(np.isfinite(e.value) and np.isnan([e.lo, e.hi]).all() for e in found.estimates if e.task != MEAN)


def test_unknown_targets_are_left_out_of_the_mean_over_labels() -> None:
    scores = planted(0, tasks=1, patients=40)
    one = scores.tasks[0].values
    two = np.concatenate([one, one + 1], axis=2)
    two[:, ::2, 1] = np.nan
    both = Scores(scores.backbones, scores.objectives, (replace(scores.tasks[0], values=two),))
    cell = numbers(two_way(both), "task 0")["cell", "b0 × o0"][0]
    by_label = [np.nanmean(two[:3, :, label]) for label in (0, 1)]
    assert cell == pytest.approx(np.mean(by_label))


def test_what_does_not_fit_together_is_refused() -> None:
    scores = planted(0, tasks=1)
    holed = scores.tasks[0].values.copy()
    holed[0, 0] = np.nan
    with pytest.raises(ValueError, match="unknown targets differ between runs"):
        two_way(replace(scores, tasks=(replace(scores.tasks[0], values=holed),)))
    with pytest.raises(ValueError, match=r"expected values \[27 runs, 200 records, label\]"):
        two_way(replace(scores, tasks=(replace(scores.tasks[0], values=holed[1:]),)))
    with pytest.raises(ValueError, match="expected one of each per run, and a task"):
        two_way(replace(scores, tasks=()))


def test_effects_sum_to_zero_and_rebuild_the_table() -> None:
    table = np.random.default_rng(0).normal(size=(5, 3, 4))
    rows, columns, both = decompose(table)
    assert np.abs([rows.sum(), columns.sum(), both.sum(axis=-1).max(), both.sum(axis=-2).max()]).max() < 1e-12
    mean = table.mean(axis=(1, 2))[:, None, None]
    assert mean + rows[:, :, None] + columns[:, None, :] + both == pytest.approx(table)
