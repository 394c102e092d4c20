"""`fit` end to end: planted truths, published refits, statuses, verdicts, files and JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgscale import fitting
from ecgscale.fitting import LawFit, fit, fit_file, read_points
from ecgscale.laws.power import Power
from ecgscale.laws.scaling import Scaling
from ecgscale.laws.transfer import Transfer

TRUTH = {"E": 0.2, "A": 3.0, "B": 5.0, "alpha": 0.3, "beta": 0.35}


def grid(noise: float, seed: int = 0, seeds: int = 1, sizes: int = 5, data: int = 6) -> pd.DataFrame:
    n, d = (a.ravel() for a in np.meshgrid(np.geomspace(2e4, 2e7, sizes), np.geomspace(250, 256000, data)))
    frame = pd.DataFrame({"N": np.tile(n, seeds), "D": np.tile(d, seeds)})
    clean = Scaling().predict({"N": frame["N"].to_numpy(), "D": frame["D"].to_numpy()}, TRUTH)
    return frame.assign(value=clean * np.exp(noise * np.random.default_rng(seed).standard_normal(len(frame))))


@pytest.fixture(scope="module")
def noisy() -> LawFit:
    return fit(Scaling(), grid(0.01, seed=1, seeds=2), bootstraps=400)


def test_exact_points_give_the_exact_parameters() -> None:
    found = fit(Scaling(), grid(0.0), bootstraps=0)
    assert found.params == pytest.approx(TRUTH, rel=1e-6)
    assert found.holdout["N"]["error"] < 1e-6
    assert found.holdout["D"]["error"] < 1e-6


def test_noisy_points_hold_the_truth_in_their_intervals(noisy: LawFit) -> None:
    assert noisy.status == "converged"
    assert noisy.verdict == "scales"
    assert noisy.levels == ("seed",)
    for name, (lo, hi) in noisy.intervals.items():
        assert lo < TRUTH[name] < hi
    assert noisy.intervals["alpha"][1] - noisy.intervals["alpha"][0] < 0.2


def test_the_published_chinchilla_refit_is_reproduced(shared_data: Path) -> None:
    """Besiroglu et al. 2024: without the five runs of highest loss; E and the exponents within a fraction of their
    standard errors."""
    points = read_points(shared_data / "scaling" / "chinchilla_figure4_points.csv")
    found = fit(Scaling(), points.nsmallest(240, "value"), bootstraps=0)
    assert found.n == 240
    assert found.params["E"] == pytest.approx(1.8172, abs=0.002)
    assert found.params["alpha"] == pytest.approx(0.3478, abs=0.002)
    assert found.params["beta"] == pytest.approx(0.3658, abs=0.002)
    assert found.params["A"] == pytest.approx(482.01, rel=0.03)
    assert found.params["B"] == pytest.approx(2085.43, rel=0.04)
    assert found.optimum["direct"] == pytest.approx(found.optimum["value"], rel=1e-4)
    published = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
    residual = np.abs(np.log(Scaling().predict({c: points[c].to_numpy() for c in "ND"}, published) / points["value"]))
    kept = points["value"].rank() <= 240
    theirs = np.where(residual <= 1e-3, residual**2 / 2, 1e-3 * (residual - 5e-4))[kept].sum()
    assert found.optimum["value"] <= theirs


def test_all_chinchilla_points_give_the_other_published_refit(shared_data: Path) -> None:
    found = fit_file(shared_data / "scaling" / "chinchilla_figure4_points.csv", bootstraps=0)
    assert found.n == 245
    assert found.params["E"] == pytest.approx(1.892, abs=0.002)
    assert found.params["alpha"] == pytest.approx(0.353, abs=0.005)
    assert found.params["beta"] == pytest.approx(0.456, abs=0.005)
    assert found.optimum["direct"] == pytest.approx(found.optimum["value"], rel=1e-4)


def test_flat_losses_are_no_law() -> None:
    frame = grid(0.0).assign(value=lambda f: 0.5 * np.exp(0.002 * np.random.default_rng(7).standard_normal(len(f))))
    found = fit(Scaling(), frame, bootstraps=200)
    assert found.verdict == "does not"
    assert found.status != "converged"


def test_noise_without_a_trend_is_never_said_to_scale() -> None:
    for seed in range(5):
        noise = np.random.default_rng(seed).standard_normal(30)
        found = fit(Scaling(), grid(0.0).assign(value=0.5 * np.exp(0.05 * noise)), bootstraps=150)
        assert found.verdict in ("does not", "cannot tell"), found.reason


def test_losses_that_rise_with_data_do_not_scale() -> None:
    frame = grid(0.0).assign(value=lambda f: 0.4 * f["D"] ** 0.05)
    found = fit(Power(input="D"), frame, bootstraps=100)
    assert found.verdict == "does not"
    assert "against the law" in found.reason or "0.0%" in found.reason


@pytest.mark.parametrize(("rows", "reason"), [(slice(0, 7), "7 points"), (None, "2 levels of N")])
def test_too_few_points_or_levels_give_no_interval(rows: slice | None, reason: str) -> None:
    frame = grid(0.01)
    frame = frame.iloc[rows] if rows else frame[frame["N"].isin(sorted(frame["N"].unique())[:2])]
    found = fit(Scaling(), frame)
    assert found.status == "too_few"
    assert found.intervals == {}
    assert found.verdict == "cannot tell"
    assert any(reason in w for w in found.warnings)
    assert np.isnan(found.band(frame)[0]).all()


def test_one_size_only_cannot_say_how_loss_falls_with_size() -> None:
    found = fit(Power(input="N"), grid(0.01).query("N == N.max()"))
    assert found.status == "too_few"


def test_engines_that_disagree_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    real = fitting.fit_direct
    monkeypatch.setattr(fitting, "fit_direct", lambda p: real(p)._replace(value=real(p).value * 0.9))
    found = fit(Scaling(), grid(0.02), bootstraps=0)
    assert found.status == "engines_disagree"
    assert found.verdict == "cannot tell"


def test_transfer_finds_kappa_and_needs_its_floors() -> None:
    rng = np.random.default_rng(0)
    true_id = np.linspace(0.3, 1.2, 40)
    frame = pd.DataFrame({"L_ID": true_id * np.exp(0.01 * rng.standard_normal(40))})
    frame["value"] = (0.3 + 0.5 * (true_id - 0.1) ** 0.45) * np.exp(0.005 * rng.standard_normal(40))
    right = fit(Transfer(E_id=0.1), frame, floor=0.3, bootstraps=300)
    assert right.levels == ("run",)
    assert right.params["E_ood"] == pytest.approx(0.3)
    assert right.intervals["kappa"][0] < 0.45 < right.intervals["kappa"][1]
    wrong = fit(Transfer(E_id=0.1), frame, floor=0.0, bootstraps=0)
    assert wrong.params["kappa"] < 0.7 * right.params["kappa"]


def test_exponents_do_not_depend_on_the_unit_of_the_loss() -> None:
    frame = grid(0.01)
    nats, bits = (fit(Scaling(), frame.assign(value=frame["value"] * k), bootstraps=0) for k in (1.0, 1 / np.log(2)))
    assert bits.params["alpha"] == pytest.approx(nats.params["alpha"], rel=1e-5)
    assert bits.params["E"] == pytest.approx(nats.params["E"] / np.log(2), rel=1e-5)


def test_the_json_round_trip_keeps_predictions_and_band(noisy: LawFit) -> None:
    table = json.loads(json.dumps(noisy.dump(), allow_nan=False))
    promised = {"params", "intervals", "status", "samples", "objective", "n", "holdout", "optimum", "warnings"}
    assert promised <= set(table)
    again = LawFit.load(table)
    x = {"N": [1e5, 1e6], "D": [1e4, 1e5]}
    assert again.predict(x) == pytest.approx(noisy.predict(x))
    for ours, theirs in zip(again.band(x), noisy.band(x), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    assert again.dump() == table
    with pytest.raises(ValueError, match="schema"):
        LawFit.load({**table, "schema": "ecgscale.lawfit/0"})


def test_the_band_holds_the_curve_and_widens_outside(noisy: LawFit) -> None:
    inside, far = {"N": [1e6], "D": [1e4]}, {"N": [1e11], "D": [1e9]}
    lo, hi = noisy.band(inside)
    assert lo[0] < noisy.predict(inside)[0] < hi[0]
    far_lo, far_hi = noisy.band(far)
    assert (far_hi / far_lo)[0] > (hi / lo)[0]


def test_the_band_of_a_new_run_holds_new_runs(noisy: LawFit) -> None:
    assert noisy.noise == pytest.approx(0.01, rel=0.25)
    fresh = grid(0.01, seed=77, seeds=8)
    lo, hi = noisy.band(fresh, new_run=True)
    assert 0.90 < ((lo < fresh["value"]) & (fresh["value"] < hi)).mean() < 0.99
    narrow = noisy.band(fresh)
    assert ((narrow[0] < fresh["value"]) & (fresh["value"] < narrow[1])).mean() < 0.8


def test_the_same_seed_gives_the_same_fit(noisy: LawFit) -> None:
    again = fit(Scaling(), grid(0.01, seed=1, seeds=2), bootstraps=400)
    assert again.dump() == noisy.dump()
    assert replace(again, params={}).dump() != noisy.dump()


def test_files_are_read_by_suffix_and_role(tmp_path: Path) -> None:
    frame = grid(0.0).rename(columns={"N": "size", "D": "records", "value": "loss"})
    frame.to_parquet(tmp_path / "points.parquet")
    frame.to_csv(tmp_path / "points.csv")
    for suffix in ("csv", "parquet"):
        found = fit_file(tmp_path / f"points.{suffix}", columns={"N": "size"}, bootstraps=0)
        assert found.params["beta"] == pytest.approx(0.35, rel=1e-5)
    with pytest.raises(ValueError, match="no column 'sise' for N"):
        fit_file(tmp_path / "points.csv", columns={"N": "sise"})
    with pytest.raises(ValueError, match=r"must end in \.csv or \.parquet"):
        fit_file(tmp_path / "points.xls")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="D"), "no column 'D'"),
        (lambda f: f.assign(D=0.0), "column 'D' must be positive"),
        (lambda f: f.assign(value=-1.0), "column 'value' must be positive"),
        (lambda f: f.assign(value=np.nan), "no row"),
    ],
)
def test_bad_tables_get_one_sentence(change, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        fit(Scaling(), change(grid(0.0)))


def test_failed_runs_are_left_out_and_counted() -> None:
    frame = grid(0.0)
    frame.loc[3, "value"] = np.nan
    found = fit(Scaling(), frame, bootstraps=0)
    assert found.n == len(frame) - 1
    assert found.warnings[0] == "1 row without a finite value left out"


def test_a_floor_above_the_losses_is_refused() -> None:
    with pytest.raises(ValueError, match="below the median loss"):
        fit(Scaling(), grid(0.0), floor=50.0)


def test_fitting_imports_no_torch() -> None:
    code = "import sys, ecgscale.fitting; sys.exit('torch' in sys.modules or 'scipy.optimize' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
