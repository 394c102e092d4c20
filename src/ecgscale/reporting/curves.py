"""What a fitted law draws: its curve and 95 % band over the range that was measured, never beyond it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ecgscale.laws import Law
from ecgscale.spec import SpecError, part

Array = npt.NDArray[np.float64]
Fit = dict[str, Any]

EMPTY = pd.DataFrame(columns=["x", "value", "lo", "hi"], dtype=float)
MIN_SAMPLES = 40  # a 95 % band needs at least one sample in each tail


def told(fit: Fit, axis: str | None = None) -> bool:
    """Say whether the fit supports a statement, whether the loss scales or does not, along one input or at all."""
    return "cannot" not in verdict(fit, axis)


def scales(fit: Fit, axis: str | None = None) -> bool:
    """Say whether the fit found a law along one input, or along any, so that its exponent may be read."""
    return told(fit, axis) and "not" not in verdict(fit, axis)


def verdict(fit: Fit, axis: str | None = None) -> str:
    """Return the verdict along one input (overall, without one): "scales", "does not", "cannot tell"."""
    one = (fit.get("verdicts") or {}).get(axis) or {}
    found = one.get("verdict") or fit.get("verdict")
    return str(found).lower() if found else "scales" if fit.get("status") == "converged" else "cannot tell"


def input_of(fit: Fit, parameter: str) -> str | None:
    """Return the input along which an exponent acts: N for alpha, D for beta of L(N, D); None for a coefficient."""
    law = _law(fit)
    if law is None or parameter not in law.nonlinear:
        return None
    return law.inputs[min(law.nonlinear.index(parameter), len(law.inputs) - 1)]


def law_title(fit: Fit) -> str:
    """Return what a reader calls the law: "Power law in N", "Loss-to-loss transfer from the own pretext loss"."""
    law = _law(fit)
    if law is None:
        return law_name(fit)
    words = law.title.replace("one input", " and ".join(law.inputs))
    return words + " from the own pretext loss" if is_pretext_transfer(fit) else words


def purpose(fit: Fit) -> str:
    """Return the sentence that says what the law is for; "" of one that this installation does not have."""
    law = _law(fit)
    return law.purpose if law else ""


def is_pretext_transfer(fit: Fit) -> bool:
    """Say whether a loss-to-loss law starts from the own pretext loss instead of the common probe."""
    return "pretext" in (str(fit.get("id_axis")), str(fit.get("axis")))


def law_name(fit: Fit) -> str:
    """Return the law's name, whichever way it was dumped."""
    law = fit.get("law")
    return str(law.get("name", "?")) if isinstance(law, dict) else str(law)


def choose(fits: list[Fit], axis: str, **where: str) -> Fit | None:
    """Return the fit to draw against `axis` ("N", "D" or "loss") for the family, corpus, task and protocol in `where`.

    L(N, D) before a law in one variable; a fit that tells before one that does not.
    """
    same = [
        f for f in fits if all(str(f.get(key, value)) == value for key, value in where.items()) and _fits_axis(f, axis)
    ]
    return min(same, key=lambda f: (not told(f, axis), len(_inputs(f)) < 2), default=None)


def _fits_axis(fit: Fit, axis: str) -> bool:
    if axis == "loss":
        return law_name(fit) == "transfer" and not is_pretext_transfer(fit)
    if law_name(fit) not in ("scaling", "power"):  # others read more than N and D
        return False
    return axis in _inputs(fit) or (len(_inputs(fit)) == 1 and fit.get("axis") == axis)


def _inputs(fit: Fit) -> tuple[str, ...]:
    law = _law(fit)
    return law.inputs if law else ()


def _law(fit: Fit) -> Law | None:
    try:
        law: Law = part("laws", fit.get("law"))
    except (SpecError, TypeError, ValueError):  # a law that this installation does not have: points are drawn alone
        return None
    return law


def curve(fit: Fit, axis: str, x: Array, other: dict[str, float]) -> pd.DataFrame:
    """Return the fitted curve along `axis`.

    Args:
        fit: A LawFit dump with `params` and, for the band, `samples`.
        axis: The input that varies.
        x: Its values [point].
        other: Values of the inputs that are held.

    Returns:
        Frame with x, value, lo, hi; lo and hi are NaN with fewer than `MIN_SAMPLES` samples.
    """
    law = _law(fit)
    params = fit.get("params") or {}
    if law is None or any(params.get(name) is None for name in (*law.linear, *law.nonlinear)):
        return EMPTY.copy()
    at = {name: x if name == axis or len(law.inputs) == 1 else np.full_like(x, other[name]) for name in law.inputs}
    try:
        value, band = law.predict(at, params), _band(law, at, _samples(fit, law))
    except ValueError:  # the law is not defined on part of the range, such as a loss below its floor
        return EMPTY.copy()
    return pd.DataFrame({"x": x, "value": value, "lo": band[0], "hi": band[1]})


def _band(law: Law, at: dict[str, Array], samples: list[dict[str, float]]) -> Array:
    points = len(next(iter(at.values())))
    if len(samples) < MIN_SAMPLES:
        return np.full((2, points), np.nan)
    theta = {name: np.array([s[name] for s in samples]) for name in law.nonlinear}
    linear = np.array([[s[name] for name in law.linear] for s in samples])
    values = np.einsum(
        "spt,st->sp", np.broadcast_to(law.basis(at, **theta), (len(samples), points, len(law.linear))), linear
    )
    return np.asarray(np.percentile(values, [2.5, 97.5], axis=0))


def _samples(fit: Fit, law: Law) -> list[dict[str, float]]:
    raw = fit.get("samples")
    order = (*law.linear, *law.nonlinear)
    if raw is None or len(raw) == 0:
        return []
    if isinstance(raw, dict):
        raw = [dict(zip(raw, values, strict=True)) for values in zip(*raw.values(), strict=True)]
    dicts = [s if isinstance(s, dict) else dict(zip(order, s, strict=True)) for s in raw]
    return [s for s in dicts if all(s.get(name) is not None and np.isfinite(s[name]) for name in order)]
