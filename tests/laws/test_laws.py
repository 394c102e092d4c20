"""The values of the three laws against arithmetic done by hand, and their refusals."""

from __future__ import annotations

import numpy as np
import pytest

from ecgscale.laws.power import Power
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
