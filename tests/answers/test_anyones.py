"""Anybody's table: columns by name, groups apart, JSON in the one schema, and no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecgscale.answers.anyones import TableError, compared, fit_groups, load
from ecgscale.fitting import LawFit
from ecgscale.laws.scaling import Scaling

TRUTH = {"E": 0.2, "A": 3.0, "B": 5.0, "alpha": 0.3, "beta": 0.35}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two families whose alpha differs, under column names of their own."""
    mesh = np.meshgrid(np.geomspace(2e4, 2e6, 4), np.geomspace(500, 32_000, 4))
    n, d = (a.ravel() for a in mesh)
    rng = np.random.default_rng(0)
    tables = [
        pd.DataFrame({"weights": n, "ecgs": d, "family": name, "nll": y * np.exp(0.003 * rng.standard_normal(len(n)))})
        for name, y in {
            "slow": Scaling().predict({"N": n, "D": d}, TRUTH | {"alpha": 0.15, "A": 0.6}),
            "quick": Scaling().predict({"N": n, "D": d}, TRUTH | {"alpha": 0.6, "A": 100.0}),
        }.items()
    ]
    file = tmp_path_factory.mktemp("table") / "runs.csv"
    pd.concat(tables).to_csv(file, index=False)
    return file


def test_the_command_fits_groups_and_writes_json_without_torch(path: Path) -> None:
    out = path.with_suffix(".json")
    options = ["--n", "weights", "--d", "ecgs", "--loss", "nll", "--group", "family", "--bootstraps", "50"]
    arguments = ["fit", str(path), str(out), "--json", "--law", "scaling", *options]
    code = (
        f"import sys; from ecgscale.cli import main; sys.argv[1:] = {arguments!r}\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'pandas', 'scipy.stats', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    dumps = json.loads(out.read_text())
    assert [d["family"] for d in dumps] == ["quick", "slow"]
    fits = {d["family"]: LawFit.load(d) for d in dumps}
    assert fits["quick"].params["alpha"] == pytest.approx(0.6, rel=0.2)
    difference = compared(fits)["alpha"][0]
    assert difference.lo > 1
    assert difference.corrected < 0.05


def test_a_column_that_is_not_there_is_named(path: Path) -> None:
    with pytest.raises(TableError, match="no column 'params' for N; it has weights, ecgs, family, nll"):
        load(path, {"N": "params"})
    with pytest.raises(TableError, match="no column 'N'"):
        fit_groups(load(path, {"value": "nll"}), bootstraps=0)
    with pytest.raises(TableError, match="no column 'task' to group by"):
        fit_groups(load(path, {"N": "weights", "D": "ecgs", "value": "nll"}), group="task", bootstraps=0)


def test_a_law_of_one_input_takes_the_column_that_is_named(path: Path) -> None:
    frame = pd.DataFrame(load(path, {"D": "ecgs", "value": "nll"}))
    fits = fit_groups(frame[frame["weights"] == frame["weights"].max()], "power", "family", bootstraps=0)
    assert all(f.law.inputs == ("D",) for f in fits.values())


def test_the_published_refit_comes_out_of_the_flags() -> None:
    """Besiroglu et al. 2024, arXiv:2404.10102: alpha 0.348, beta 0.366 without the five highest losses."""
    points = Path(__file__).parents[3] / "shared" / "data" / "scaling" / "chinchilla_figure4_points.csv"
    if not points.exists():
        pytest.skip("the Chinchilla points are not beside the checkout")
    frame = pd.DataFrame(load(points, {"N": "Model Size", "C": "Training FLOP", "value": "loss"})).nsmallest(
        240, "value"
    )
    found = fit_groups(frame, bootstraps=0)[""].params
    assert found["alpha"] == pytest.approx(0.348, abs=0.02)
    assert found["beta"] == pytest.approx(0.366, abs=0.02)
