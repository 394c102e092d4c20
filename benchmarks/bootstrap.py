"""Macro AUROC of 71 labels × 2,200 records with 1,000 patient bootstraps: weighted ranks against a scikit-learn loop.

Prints one row of a markdown table per way. The loop is timed on a few resamples and scaled to 1,000, which the row
says; both see the same draws, and the largest difference between their macro AUROCs is printed.
`python benchmarks/bootstrap.py [--records 2200 --labels 71 --resamples 1000 --loop 5]`
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from datetime import date

import numpy as np
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from ecgscale.evaluation import bootstrap, metrics


def planted(records: int, labels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return targets, probabilities and patients of a test set as large as PTB-XL's, prevalences from 0.5 to 1 %."""
    rng = np.random.default_rng(0)
    patients = np.sort(rng.integers(int(0.87 * records), size=records))
    latent = rng.normal(size=(records, labels)) - np.linspace(0, 4, labels)
    y = (rng.random(latent.shape) < expit(2 * latent)).astype(float)
    return y, expit(2 * latent + rng.normal(size=latent.shape)), patients


def loop(y: np.ndarray, p: np.ndarray, patients: np.ndarray, draws: np.ndarray) -> list[float]:
    """What a user would write: gather the drawn records, one call of scikit-learn per label with both classes."""
    found = []
    for draw in draws:
        rows = np.repeat(np.arange(len(y)), draw[patients])
        both = metrics.has_both_classes(y[rows])
        found.append(np.mean([roc_auc_score(y[rows, i], p[rows, i]) for i in np.flatnonzero(both)]))
    return found


def main() -> None:
    """Time both and compare their numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in {"records": 2200, "labels": 71, "resamples": 1000, "loop": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    y, p, patients = planted(args.records, args.labels)
    where = f"{date.today()}, {platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    print(f"| way ({where}) | wall, s | CPU, s |")
    print("|---|---|---|")
    binary = ("loss", "auroc", "auprc", "brier", "ece")
    for names in (("auroc",), binary):
        clock = time.perf_counter(), time.process_time()
        bootstrap.intervals(y, p, patients, names, args.resamples)
        wall, cpu = time.perf_counter() - clock[0], time.process_time() - clock[1]
        print(f"| weighted ranks: {', '.join(names)}; {args.resamples} resamples | {wall:.2f} | {cpu:.2f} |")
    codes, count = bootstrap.patient_codes(patients, len(y))
    draws = np.random.default_rng(1).multinomial(count, np.full(count, 1 / count), size=args.loop)
    clock = time.perf_counter(), time.process_time()
    expected = loop(y, p, codes, draws)
    share = args.resamples / args.loop
    wall, cpu = (time.perf_counter() - clock[0]) * share, (time.process_time() - clock[1]) * share
    ours = np.nanmean(bootstrap.weighted("auroc", y, p, codes, draws), axis=1)
    print(f"| scikit-learn, AUROC alone, {args.loop} resamples × {share:g} | {wall:.0f} | {cpu:.0f} |")
    print(f"\nlargest difference between the two macro AUROCs: {np.abs(ours - expected).max():.1e}")


if __name__ == "__main__":
    main()
