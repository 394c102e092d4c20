"""Every law, found by walking the folder, recovers its own planted parameters whatever the unit of its inputs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ecgscale.fitting import fit
from ecgscale.fitting.engine import optimise
from ecgscale.fitting.points import problem_of
from ecgscale.fitting.polish import jacobian
from ecgscale.laws import Law
from ecgscale.spec import names, part

LAWS = names("laws")


def planted(law: Law) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return a grid of levels per input (a loss for measured inputs, a count else), the law's values on it and its
    parameters."""
    levels = (
        np.linspace(0.4, 2.0, 12) if law.measured_inputs else np.geomspace(300, 3e6, (12, 6, 4)[len(law.inputs) - 1])
    )
    mesh = np.meshgrid(*[levels * (1 + i) for i in range(len(law.inputs))])
    x = {name: column.ravel() for name, column in zip(law.inputs, mesh, strict=True)}
    params = {name: 0.33 + 0.1 * i for i, name in enumerate(law.nonlinear)}
    units = {name: float(np.exp(np.log(column).mean())) for name, column in x.items()}
    for name in law.scales:
        params[name] = float(np.sqrt(np.prod(law.bounds[name])) * law.unit(name, units, **params))
    basis = law.basis(x, **params)
    for j, name in enumerate(law.linear):
        params[name] = 0.5 / float(np.exp(np.log(basis[:, j]).mean())) * (1 + 0.2 * j)
    return pd.DataFrame({**x, "value": law.predict(x, params)}), params


@pytest.mark.parametrize("name", LAWS)
def test_recovers_its_planted_parameters(name: str) -> None:
    law = part("laws", name)
    frame, params = planted(law)
    found = fit(law, frame, bootstraps=0)
    assert found.params == pytest.approx(params, rel=1e-5)
    assert found.status == "converged"


@pytest.mark.parametrize("name", [n for n in LAWS if not part("laws", n).measured_inputs])
def test_exponents_do_not_change_when_counts_are_in_thousands(name: str) -> None:
    law = part("laws", name)
    frame, _ = planted(law)
    frame["value"] *= np.exp(0.01 * np.random.default_rng(3).standard_normal(len(frame)))
    raw, thousands = (
        {k: float(v) for k, v in p.unpack(optimise(p, starts=16).z).items()}
        for p in (problem_of(law, frame.assign(**{c: frame[c] / k for c in law.inputs}))[0] for k in (1, 1000))
    )
    for name in law.nonlinear:
        if name in law.scales:
            raw[name] *= float(law.unit(name, dict.fromkeys(law.inputs, 1e-3), **raw))
        assert thousands[name] == pytest.approx(raw[name], rel=1e-4 if name in law.scales else 1e-5)


@pytest.mark.parametrize("name", LAWS)
def test_a_law_is_monotone_in_each_input(name: str) -> None:
    """Some part of a law may be flat (repeats beyond use), none may turn."""
    law = part("laws", name)
    frame, params = planted(law)
    way = 1 if law.measured_inputs else -1
    for column in law.inputs:
        rest = [c for c in law.inputs if c != column]
        groups = [g for _, g in frame.groupby(rest)] if rest else [frame]
        changes = [way * np.diff(law.predict({c: g[c].to_numpy() for c in law.inputs}, params)) for g in groups]
        assert all((change >= 0).all() for change in changes)
        assert sum((change > 0).all() for change in changes) >= len(groups) / 3


@pytest.mark.parametrize("name", LAWS)
def test_a_fit_moves_along_the_slopes_of_its_values(name: str) -> None:
    """Whatever the units of the inputs, and in whatever ratio: records drawn may be ten times those available."""
    law = part("laws", name)
    frame, params = planted(law)
    frame = frame.assign(**({} if law.measured_inputs else {c: 10.0**i * frame[c] for i, c in enumerate(law.inputs)}))
    problem = problem_of(law, frame)[0]
    lower, upper = problem.box
    z = np.clip(problem.pack({n: np.array(v) for n, v in params.items()}), lower + 1e-3, upper - 1e-3)[None]
    step = 1e-5
    ends = [problem.fitted(z + s * np.eye(z.shape[1])) for s in (step, -step)]
    assert jacobian(problem, z)[0][0] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", LAWS)
def test_slopes_are_those_of_the_basis(name: str) -> None:
    law = part("laws", name)
    frame, params = planted(law)
    x = {c: frame[c].to_numpy() for c in law.inputs}
    theta = {k: params[k] for k in law.nonlinear}
    assert law.log_slopes(x, **theta) == pytest.approx(Law.log_slopes(law, x, **theta), abs=1e-6)


@pytest.mark.parametrize("name", LAWS)
def test_basis_takes_many_exponents_at_once(name: str) -> None:
    law = part("laws", name)
    frame, params = planted(law)
    x = {c: frame[c].to_numpy() for c in law.inputs}
    many = {k: params[k] * np.array([0.5, 1.0, 2.0]) for k in law.nonlinear}
    together, slopes = law.basis(x, **many), law.log_slopes(x, **many)
    assert together.shape == (3, len(frame), len(law.linear))
    for i in range(3):
        one = {k: float(v[i]) for k, v in many.items()}
        assert together[i] == pytest.approx(law.basis(x, **one))
        assert (slopes if slopes.ndim == 3 else slopes[i]) == pytest.approx(law.log_slopes(x, **one))
