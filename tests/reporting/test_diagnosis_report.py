"""The page on rival forms, sensitivity and exponents that differ: what can be read is shown, the rest is said."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecgscale.reporting.diagnosis import pairs_of, tables_of


def fit(family: str, alpha: float, verdict: str = "scales", task: str = "t") -> dict[str, Any]:
    samples = {n: np.exp(np.log(v) + 0.02 * np.random.default_rng(0).standard_normal(200)).tolist()
               for n, v in {"alpha": alpha, "beta": 0.4}.items()}  # fmt: skip
    return {"law": {"name": "scaling"}, "family": family, "eval_corpus": "c", "task": task, "protocol": "linear",
            "status": "converged", "params": {"E": 0.1, "A": 1.0, "B": 1.0, "alpha": alpha, "beta": 0.4},
            "samples": samples, "verdicts": {a: {"verdict": verdict} for a in "ND"}, "verdict": verdict}  # fmt: skip


def test_pairs_are_corrected_over_tasks_and_only_those_that_differ_are_shown() -> None:
    fits = [fit(f, a, task=t) for t in ("t", "u") for f, a in (("a-x", 0.3), ("b-x", 0.6), ("c-x", 0.9))]
    pairs = pairs_of(fits)
    alphas = [r for r in pairs if r["exponent"] == "alpha"]
    assert len(pairs) == 12 and len(alphas) == 6
    assert all(r["corrected"] >= min(1.0, 6 * min(q["p"] for q in alphas)) for r in alphas)
    [table] = tables_of({}, fits)
    assert [row[0].text for row in table.rows] == ["alpha"] * 6
    assert "6 of 12 pairs differ" in table.caption


def test_exponents_that_cannot_be_read_are_not_compared() -> None:
    assert pairs_of([fit("a-x", 0.3), fit("b-x", 0.9, "cannot tell")]) == []
    assert tables_of({}, [fit("a-x", 0.3)]) == []


def test_a_shared_value_at_the_end_of_its_range_is_marked() -> None:
    shared = {"exponent": "alpha", "families": ["a-x", "b-x"], "shared": 3.0, "statistic": 0.0, "degrees": 1, "p": 1.0,
              "corrected": 1.0}  # fmt: skip
    [table] = tables_of({"shared": [shared]}, [])
    assert table.rows[0][1].note == "at the end of its range"
    assert table.rows[0][-1].text == "cannot tell"


def test_forms_and_the_change_that_moves_an_exponent_most_have_a_row_a_family() -> None:
    forms = [{"family": "a-x", "along": "N and D", "status": "compared", "form": f, "error": e, "aicc": a}
             for f, e, a in (("kaplan", 0.1, 0.0), ("scaling", 0.02, 3.0))]  # fmt: skip
    forms.append({"family": "a-x", "along": "N", "status": "too_few", "form": "broken", "reason": "few"})
    moves = (("as fitted", 0.0), ("without seed 1", 0.5), ("N counted as N_total", 0.1))
    changes = [{"family": "a-x", "change": c, "alpha": 0.3, "beta": 0.4, "shift": s} for c, s in moves]
    rivals, hangs = tables_of({"forms": forms, "sensitivity": changes}, [])
    assert [cell.text for cell in rivals.rows[0]] == ["a · x", "N and D", "scaling", "kaplan", "kaplan", "–"]
    assert len(rivals.rows) == 1 and len(rivals.records) == 3
    worst, total = hangs.rows[0][2:]
    assert worst.note == "without seed 1: × 1.65" and worst.mark == "cannot"
    assert total.note == "N counted as N_total: × 1.11" and not total.mark
