"""Of every law, at any parameters within its limits: it never turns, and its exponents see no units."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgscale.fitting.engine import optimise
from ecgscale.fitting.problem import Problem
from ecgscale.laws.power import Power
from ecgscale.spec import names, part

LAWS = [part("laws", name) for name in names("laws")]


@settings(max_examples=60)
@given(st.sampled_from(LAWS), st.data())
def test_a_law_never_turns(law, data) -> None:  # type: ignore[no-untyped-def]
    params = {n: data.draw(st.floats(*law.bounds[n]), label=n) for n in law.nonlinear}
    params |= {n: data.draw(st.floats(0, 1e3), label=n) for n in law.linear}
    for moved in law.inputs:
        x = {name: np.full(30, data.draw(st.floats(0.1, 1e3), label=name)) for name in law.inputs}
        x[moved] = np.geomspace(1e-2, 1e4, 30)
        change = np.diff(law.predict(x, params)) * (1 if law.measured_inputs else -1)
        assert (change >= -1e-9 * law.predict(x, params).max()).all()


@settings(max_examples=8, deadline=None)
@given(st.floats(1e-6, 1e6), st.floats(1e-3, 1e3), st.integers(0, 5))
def test_exponents_do_not_see_the_units_of_inputs_and_losses(count: float, nats: float, seed: int) -> None:
    x = np.geomspace(1e3, 1e6, 9)
    y = (0.3 + 9 * x**-0.5) * np.exp(0.01 * np.random.default_rng(seed).standard_normal(9))
    raw, other = (Problem(Power(), {"N": x / c}, y * n, "ls_log") for c, n in ((1.0, 1.0), (count, nats)))
    alpha, same = (p.unpack(optimise(p, starts=8).z)["alpha"] for p in (raw, other))
    assert same == pytest.approx(alpha, rel=1e-5)
