"""The values of the laws against arithmetic done by hand, and their refusals."""

from __future__ import annotations

import numpy as np
import pytest

from ecgscale.laws import Array, Law
from ecgscale.laws.broken import Broken
from ecgscale.laws.data_constrained import DataConstrained
from ecgscale.laws.kaplan import Kaplan
from ecgscale.laws.label_scaling import LabelScaling
from ecgscale.laws.learning_curve import LearningCurve
from ecgscale.laws.power import Power
from ecgscale.laws.saturation import Saturation
from ecgscale.laws.scaling import Scaling
from ecgscale.laws.transfer import Transfer
from ecgscale.spec import SpecError, part


def test_power_reads_the_column_it_names() -> None:
    law = part("laws", {"name": "power", "input": "D"})
    assert law.inputs == ("D",)
    values = law.predict({"D": np.array([1.0, 16.0])}, {"E": 0.5, "A": 2.0, "alpha": 0.25})
    assert values == pytest.approx([2.5, 1.5])
    assert Power().inputs == ("N",)


def test_power_refuses_another_column() -> None:
    with pytest.raises(SpecError, match="input"):
        part("laws", {"name": "power", "input": "C"})


def test_scaling_adds_its_three_terms() -> None:
    law = Scaling()
    x = {"N": np.array([16.0, 81.0]), "D": np.array([9.0, 100.0])}
    params = {"E": 1.0, "A": 4.0, "B": 6.0, "alpha": 0.25, "beta": 0.5}
    assert law.predict(x, params) == pytest.approx([1 + 2 + 2, 1 + 4 / 3 + 0.6])


def test_transfer_is_a_power_of_the_excess() -> None:
    law = Transfer(E_id=0.2)
    values = law.predict({"L_ID": np.array([1.2, 4.2])}, {"E_ood": 0.3, "K": 2.0, "kappa": 0.5})
    assert values == pytest.approx([2.3, 4.3])


def test_transfer_refuses_a_loss_below_its_floor() -> None:
    with pytest.raises(ValueError, match=r"0\.1 is not above the floor E_id = 0\.2"):
        Transfer(E_id=0.2).basis({"L_ID": np.array([0.1, 0.5])}, kappa=0.5)


def at(law: Law, params: dict[str, float], **inputs: float) -> float:
    x: dict[str, Array] = {name: np.array([value]) for name, value in inputs.items()}
    return float(law.predict(x, params)[0])


def test_kaplan_is_the_published_form_with_its_constants() -> None:
    params = {"A": 3.0, "balance": 2.0, "alpha": 0.3, "beta": 0.4}
    n_c, d_c = Kaplan.constants(params)
    published = ((n_c / 1e5) ** (0.3 / 0.4) + d_c / 2e4) ** 0.4
    assert at(Kaplan(), params, N=1e5, D=2e4) == pytest.approx(published)
    assert at(Kaplan(), params, N=1e5, D=1e30) == pytest.approx(3 * 1e5**-0.3)
    assert at(Kaplan(), params, N=1e30, D=2e4) == pytest.approx(3 * 2 * 2e4**-0.4)


def test_records_seen_once_are_new_records_and_repeats_are_worth_less() -> None:
    params = {"E": 0.1, "A": 4.0, "B": 6.0, "alpha": 0.25, "beta": 0.5, "R_star": 15.0}
    scaling = {name: params[name] for name in ("E", "A", "B", "alpha", "beta")}
    for seen in (50.0, 100.0):  # less than a pass, and one
        expected = at(Scaling(), scaling, N=16.0, D=seen)
        assert at(DataConstrained(), params, N=16.0, D=100.0, seen=seen) == pytest.approx(expected)
    effective = DataConstrained.effective({"D": np.array([100.0]), "seen": np.array([400.0, 1e9])}, 15.0)
    assert effective == pytest.approx([100 * (1 + 15 * (1 - np.exp(-3 / 15))), 100 * 16])


def test_saturation_is_flat_at_both_ends_and_half_at_x0() -> None:
    params = {"E": 0.1, "A": 0.6, "alpha": 0.8, "x0": 1e4}
    found = [at(Saturation(), params, N=n) for n in (1e-6, 1e4, 1e30)]
    assert found == pytest.approx([0.7, 0.4, 0.1], abs=1e-6)
    assert at(Saturation(), params, N=1e12) - 0.1 == pytest.approx(0.6 * (1e8) ** -0.8, rel=1e-6)


def test_a_broken_law_has_one_slope_before_and_another_after() -> None:
    law, params = Broken(input="D"), {"E": 0.0, "A": 2.0, "alpha": 0.2, "alpha_after": 0.5, "x_break": 1e4}
    slopes = [np.log(at(law, params, D=10 * d) / at(law, params, D=d)) / np.log(10) for d in (1.0, 1e7)]
    assert slopes == pytest.approx([-0.2, -0.5], abs=1e-6)
    assert at(law, params, D=1.0) == pytest.approx(2.0)


def test_laws_of_labels_read_their_columns() -> None:
    assert at(LabelScaling(), {"E": 0.5, "A": 2.0, "gamma": 0.5}, labels=16.0) == pytest.approx(1.0)
    curve = {"c": 0.1, "A": 1.0, "b": 0.5}
    assert at(LearningCurve(), curve, labelled=100.0) == pytest.approx(0.2)
    assert at(part("laws", {"name": "learning_curve", "input": "label_fraction"}), curve, label_fraction=0.25) == 2.1
