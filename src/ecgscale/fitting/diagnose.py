"""Is it a law? The verdict's rule, stated before any result, and the error at the largest held-out level."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecgscale.fitting.engine import Optimum, optimise
from ecgscale.fitting.problem import Problem
from ecgscale.fitting.result import Status, Verdict
from ecgscale.laws import Array

ALPHA = 0.01  # of the trend test; a study asks it many times
SMALL = 0.02  # a change of the loss by less than 2 % over the measured range is no scaling worth a law
UNIDENTIFIED = 0.025  # share of samples in which a term is absent or an exponent at its limit
ILL = 1e6  # condition number of the scaled Jacobian: double precision keeps half its digits
PERMUTATIONS = 2000


def judge(
    problem: Problem, optimum: Optimum, samples: dict[str, Array], status: Status, rng: np.random.Generator
) -> tuple[Verdict, str, dict[str, dict[str, Any]]]:
    """Return the verdict, its reason, and those of each input.

    The rule, for each input with the others at their geometric means:

    1. fewer than 8 points or 3 levels, or engines that disagree: "cannot tell".
    2. *gain*: the share of the larger fitted loss that separates the two ends of the measured range, with its 95 %
       bootstrap interval; *trend*: a one-sided permutation test, within levels of the other inputs, that the
       measured losses move the way the law says.
    3. "does not": the interval of the gain ends below 2 %, or the trend is significant (1 %) in the wrong direction.
    4. "scales": the trend is significant, the interval of the gain excludes 0 and the exponent is identified (its
       term is there and it lies inside its search range in at least 97.5 % of the samples).
    5. everything else: "cannot tell", with the first condition that failed.

    The fit "scales" if it does along at least one input, "does not" if it does along none and this is known for all,
    else "cannot tell".
    """
    if status in ("too_few", "engines_disagree"):
        why = "too few points or levels" if status == "too_few" else "the two engines found different minima"
        return "cannot tell", f"cannot tell: {why}", {}
    if not samples:
        return "cannot tell", "cannot tell: no bootstrap was asked for, so no interval is known", {}
    verdicts = {name: _judge_input(problem, optimum, samples, name, rng) for name in problem.x}
    found = [v["verdict"] for v in verdicts.values()]
    overall: Verdict = "scales" if "scales" in found else "does not" if set(found) == {"does not"} else "cannot tell"
    return overall, "; ".join(f"{name}: {v['verdict']}, {v['reason']}" for name, v in verdicts.items()), verdicts


def _judge_input(
    problem: Problem, optimum: Optimum, samples: dict[str, Array], name: str, rng: np.random.Generator
) -> dict[str, Any]:
    gain, lo, hi = _gain(problem, optimum, samples, name)
    right, wrong = trend(problem, optimum, name, rng)
    loose = _unidentified(problem, samples, name)
    size = f"the loss changes by {gain:.1%} over the measured range (95 % interval {lo:.1%} to {hi:.1%})"
    verdict: Verdict = "cannot tell"
    if hi < SMALL:
        verdict, reason = "does not", size
    elif wrong < ALPHA:
        verdict, reason = "does not", f"the measured loss moves against the law (permutation test, p = {wrong:.3f})"
    elif right >= ALPHA:
        reason = f"{size}, but the trend is not significant (permutation test, p = {right:.3f})"
    elif lo <= 0:
        reason = f"{size}; the interval includes 0"
    elif loose:
        reason = f"{size}, but {loose}"
    else:
        verdict, reason = "scales", size
    return {"verdict": verdict, "reason": reason, "gain": gain, "interval": [lo, hi], "trend_p": right}


def identified(problem: Problem, samples: dict[str, Array], condition: float) -> str | None:
    """Return why the exponents are not identified, or None."""
    if condition > ILL:
        return f"the parameters are not identified: condition number {condition:.1e}"
    reasons = [_unidentified(problem, samples, name) for name in problem.x] if samples else []
    return next((r for r in reasons if r), None)


def trend(problem: Problem, optimum: Optimum, name: str, rng: np.random.Generator) -> tuple[float, float]:
    """Return the one-sided p-values that the outputs move with `name` as the law says, and against it.

    Statistic: the sum over levels of the other inputs of the covariance of ranks; outputs are permuted within those
    levels. Where the other inputs form no grid (most of their levels hold one point), the fitted change with them is
    taken off the outputs instead, and all are permuted together.
    """
    column = problem.x[name]
    outputs, stratum = problem.y, _strata(problem, name)
    if np.bincount(stratum).mean() < 2:
        outputs, stratum = _without_others(problem, optimum, name), np.zeros(len(column), int)
    observed, drawn = 0.0, np.zeros(PERMUTATIONS)
    for level in np.unique(stratum):
        rows = stratum == level
        place, rank = _ranks(column[rows]), _ranks(outputs[rows])
        observed += float(place @ rank)
        drawn += rng.permuted(np.repeat(rank[None], PERMUTATIONS, axis=0), axis=1) @ place
    way = _direction(problem, name)
    tie = 1e-9
    with_law = (1 + (way * drawn >= way * observed - tie).sum()) / (1 + PERMUTATIONS)
    against = (1 + (way * drawn <= way * observed + tie).sum()) / (1 + PERMUTATIONS)
    return float(with_law), float(against)


def _strata(problem: Problem, name: str) -> np.ndarray:
    others = [v for k, v in problem.x.items() if k != name]
    if not others:
        return np.zeros(len(problem.y), int)
    return np.asarray(np.unique(np.stack(others, axis=1), axis=0, return_inverse=True)[1]).ravel()


def _without_others(problem: Problem, optimum: Optimum, name: str) -> Array:
    params = {k: float(v) for k, v in problem.unpack(optimum.z).items()}
    middle = {k: v if k == name else np.full_like(v, np.exp(np.log(v).mean())) for k, v in problem.x.items()}
    return np.asarray(problem.y - problem.law.predict(problem.x, params) + problem.law.predict(middle, params))


def hold_out_largest(problem: Problem, optimum: Optimum) -> dict[str, dict[str, float]]:
    """Fit without the largest level of each input and predict it.

    Args:
        problem: The law and all points.
        optimum: Its fit, one of the starts of the refits.

    Returns:
        {input: {"level", "n", "error": mean |predicted / measured - 1|, "bias": mean of the signed error}}; an input
        is left out where fewer points than parameters plus one, or fewer than 2 levels, remain.
    """
    errors = {}
    for name, column in problem.x.items():
        largest = column == column.max()
        if (~largest).sum() <= len(problem.names) or len(np.unique(column[~largest])) < 2:
            continue
        errors[name] = {"level": float(column.max()), **predict_ahead(problem, optimum, ~largest, largest)}
    return errors


def predict_ahead(problem: Problem, optimum: Optimum, known: np.ndarray, ahead: np.ndarray) -> dict[str, float]:
    """Fit the points where `known` is true and return how well those where `ahead` is true are predicted: "n",
    "error" (mean |predicted / measured - 1|) and "bias" (mean of the signed error)."""
    rest = problem.without(known)
    refit = optimise(rest, starts=8, extra=rest.pack(problem.unpack(optimum.z))[None])
    params = {k: float(v) for k, v in rest.unpack(refit.z).items()}
    far = problem.without(ahead)
    off = problem.law.predict(far.x, params) / far.y - 1
    return {"n": int(ahead.sum()), "error": float(np.mean(np.abs(off))), "bias": float(np.mean(off))}


def _ends(problem: Problem, name: str) -> dict[str, Array]:
    ends = {k: np.full(2, np.exp(np.log(v).mean())) for k, v in problem.x.items()}
    ends[name] = np.array([problem.x[name].min(), problem.x[name].max()])
    return ends


def _gain(problem: Problem, optimum: Optimum, samples: dict[str, Array], name: str) -> tuple[float, float, float]:
    law, ends = problem.law, _ends(problem, name)
    point = {k: np.atleast_1d(v) for k, v in problem.unpack(optimum.z).items()}

    def share(params: dict[str, Array]) -> Array:
        basis = law.basis(ends, **{n: params[n] for n in law.nonlinear})
        values = (basis @ np.stack([params[n] for n in law.linear], axis=-1)[..., None])[..., 0]
        return np.asarray(np.abs(values[:, 0] - values[:, 1]) / values.max(axis=1))

    lo, hi = np.percentile(share(samples), [2.5, 97.5])
    return float(share(point)[0]), float(lo), float(hi)


def _direction(problem: Problem, name: str) -> float:
    law = problem.law
    basis = law.basis(_ends(problem, name), **_middle(problem))
    return float(np.sign((basis[1] - basis[0]).sum()))


def _unidentified(problem: Problem, samples: dict[str, Array], name: str) -> str | None:
    """Return how the terms that move with `name` fail to be identified, or None."""
    law = problem.law
    middle, ends = _middle(problem), _ends(problem, name)
    basis, slopes = law.basis(ends, **middle), law.log_slopes(ends, **middle)
    m = len(law.linear)
    packed, (low, high) = problem.pack(samples)[:, m:], (end[m:] for end in problem.box)
    for j, coefficient in enumerate(law.linear):
        if basis[0, j] == basis[1, j]:
            continue
        if (share := float(np.mean(samples[coefficient] <= 0))) > UNIDENTIFIED:
            return f"{coefficient} is 0 in {share:.0%} of the resamples"
        for k, exponent in enumerate(law.nonlinear):
            room = 1e-6 * (high[k] - low[k])
            on = (packed[:, k] <= low[k] + room) | (packed[:, k] >= high[k] - room)
            if slopes[:, j, k].any() and (share := float(np.mean(on))) > UNIDENTIFIED:
                limits = "{:g} to {:g}".format(*law.bounds[exponent])
                return (
                    f"{exponent} is not identified: at a limit of its range ({limits}) in {share:.0%} of the resamples"
                )
    return None


def _middle(problem: Problem) -> dict[str, float]:
    return {name: float(value) for name, value in problem.named(problem.middle).items()}


def _ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(mean[inverse] - (len(values) + 1) / 2)
