"""A fitted law as a value: parameters in raw units, bootstrap samples, status, and its JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ecgscale.laws import Array, Law
from ecgscale.rng import generator
from ecgscale.spec import part

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "ecgscale.lawfit/1"  # bumped when a key changes its meaning; keys are added, never renamed
Status = Literal["converged", "bound", "ill_conditioned", "engines_disagree", "too_few"]
Verdict = Literal["scales", "does not", "cannot tell"]


@dataclass(frozen=True)
class LawFit:
    """The result of `fit`.

    Attributes:
        law: The law.
        params: {parameter: value} in raw N, D and loss.
        intervals: {parameter: (lo, hi)}, 95 % percentile interval of the samples; empty without samples.
        samples: {parameter: [draw]} from the bootstrap; empty where `status` is "too_few" or none were asked for.
        status: "converged"; "bound" (a coefficient is 0 or an exponent at an end of its range); "ill_conditioned"
            (an exponent is not identified); "engines_disagree"; "too_few" (fewer than 8 points or 3 levels).
        verdict, reason: "scales", "does not" or "cannot tell", and why, in a sentence (rule: `diagnose.judge`).
        verdicts: {input: {"verdict", "reason", "gain", "interval"}}.
        objective: "huber_log", "ls_log" or "ls".
        n: Points fitted.
        floor: The constant term if it was held, else None.
        optimum: value, gradient, spread (start to start), starts, condition, direct (the cross-check's value; NaN
            where `status` is "too_few").
        holdout: {input: {"level", "n", "error", "bias"}}: fitted without the largest level, mean absolute and mean
            relative error there; empty where `status` is "too_few".
        ranges: {input: (smallest, largest)} of the points.
        noise: Standard deviation of a run's log loss around the curve (of its loss for "ls").
        levels: What the bootstrap resampled: "seed", "run", "patient".
        warnings: Sentences.
    """

    law: Law
    params: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    status: Status
    samples: dict[str, Array]
    objective: str
    n: int
    holdout: dict[str, dict[str, float]]
    optimum: dict[str, float]
    warnings: tuple[str, ...]
    verdict: Verdict
    reason: str
    verdicts: dict[str, dict[str, Any]]
    ranges: dict[str, tuple[float, float]]
    floor: float | None = None
    levels: tuple[str, ...] = field(default=())
    noise: float = float("nan")

    def predict(self, x: pd.DataFrame | dict[str, Any]) -> Array:
        """Return the fitted loss [point] at the inputs, columns or arrays by name."""
        return self.law.predict(self._inputs(x), self.params)

    def band(self, x: pd.DataFrame | dict[str, Any], new_run: bool = False) -> tuple[Array, Array]:
        """Return the lower and upper end [point] of the curve's 95 % band, or of the band that holds one new run at
        each point (normal noise around every resampled curve); NaN where there are no samples."""
        inputs = self._inputs(x)
        if not self.samples:
            nothing = np.full(len(next(iter(inputs.values()))), np.nan)
            return nothing, nothing.copy()
        basis = self.law.basis(inputs, **{name: self.samples[name] for name in self.law.nonlinear})
        coefficients = np.stack([self.samples[name] for name in self.law.linear], axis=-1)
        curves = (basis @ coefficients[..., None])[..., 0]
        if new_run:
            scatter = self.noise * generator(0, "new run").standard_normal(curves.shape)
            curves = curves + scatter if self.objective == "ls" else curves * np.exp(scatter)
        lo, hi = np.percentile(curves, [2.5, 97.5], axis=0)
        return lo, hi

    def dump(self) -> dict[str, Any]:
        """Return the fit as JSON data."""
        return {
            "schema": SCHEMA,
            "law": self.law.dump(),
            "formula": self.law.formula,
            "inputs": list(self.law.inputs),
            "output": self.law.output,
            "params": self.params,
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "status": self.status,
            "verdict": self.verdict,
            "reason": self.reason,
            "verdicts": self.verdicts,
            "objective": self.objective,
            "n": self.n,
            "floor": self.floor,
            "holdout": self.holdout,
            "optimum": {name: _finite(value) for name, value in self.optimum.items()},
            "ranges": {name: list(ends) for name, ends in self.ranges.items()},
            "levels": list(self.levels),
            "noise": _finite(self.noise),
            "warnings": list(self.warnings),
            "samples": {name: [float(f"{v:.7g}") for v in values] for name, values in self.samples.items()},
        }

    @classmethod
    def load(cls, table: dict[str, Any]) -> LawFit:
        """Read what `dump` wrote.

        Raises:
            ValueError: the table has another schema.
        """
        if table.get("schema") != SCHEMA:
            raise ValueError(f"a fit must have the schema {SCHEMA}, found {table.get('schema')!r}; fit the table again")
        return cls(
            law=part("laws", table["law"], "law"),
            params=dict(table["params"]),
            intervals={name: (ends[0], ends[1]) for name, ends in table["intervals"].items()},
            samples={name: np.asarray(values, dtype=np.float64) for name, values in table["samples"].items()},
            optimum={name: _missing(name) if value is None else value for name, value in table["optimum"].items()},
            ranges={name: (ends[0], ends[1]) for name, ends in table["ranges"].items()},
            levels=tuple(table["levels"]),
            noise=float("nan") if table.get("noise") is None else table["noise"],
            warnings=tuple(table["warnings"]),
            **{
                name: table[name]
                for name in ("status", "verdict", "reason", "verdicts", "objective", "n", "floor", "holdout")
            },
        )

    def _inputs(self, x: pd.DataFrame | dict[str, Any]) -> dict[str, Array]:
        return {name: np.asarray(x[name], dtype=np.float64).reshape(-1) for name in self.law.inputs}


def _missing(name: str) -> float:
    return float("nan" if name == "direct" else "inf")


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
