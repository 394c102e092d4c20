"""What the rules of data/quality.py find and what they take for a fault, and how fast they and the fingerprints are.

    OMP_NUM_THREADS=1 python benchmarks/quality.py ../shared/data

Good records of ptb-xl-500 (100 and 500 Hz) and LUDB are judged as they are, then with a fault put into each of them;
prints one row of a Markdown table per fault: the share of records that got a reason which names it.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd

from ecgscale.data import fingerprint, wfdb16
from ecgscale.data.quality import flaws
from ecgscale.units import LEADS

Fault = Callable[[np.ndarray, float, np.random.Generator], None]  # changes one record [lead, time] in place


def load(shared: Path) -> dict[str, tuple[np.ndarray, float]]:
    """Return the sets: signals [record, lead, time] in mV and samples per second."""
    root = shared / "ptb-xl-500"
    table = pd.read_csv(root / "ptbxl_database.csv")
    sets = {
        f"PTB-XL {rate_hz:g} Hz": (np.stack([wfdb16.read(root, name).physical for name in table[column]]), rate_hz)
        for column, rate_hz in (("filename_hr", 500.0), ("filename_lr", 100.0))
    }
    ludb = [wfdb16.read(shared / "ludb", f"data/{i}").counts for i in range(1, 201)]
    return {**sets, "LUDB 500 Hz": (np.stack(ludb) * np.float32(1e-3), 500.0)}


def clip(level: float) -> Fault:
    def fault(x: np.ndarray, rate_hz: float, rng: np.random.Generator) -> None:
        np.clip(x, -level, level, out=x)

    return fault


def clip_chest(share: float) -> Fault:
    def fault(x: np.ndarray, rate_hz: float, rng: np.random.Generator) -> None:
        lead, sign = rng.integers(6, 12), rng.choice([-1, 1])
        middle, top = np.median(sign * x[lead]), (sign * x[lead]).max()
        x[lead] = sign * np.minimum(sign * x[lead], np.float32(round(middle + share * (top - middle), 3)))

    return fault


def spike(count: int, height_mv: float) -> Fault:
    def fault(x: np.ndarray, rate_hz: float, rng: np.random.Generator) -> None:
        at = 1 + rng.choice(x.shape[1] - 2, count, replace=False)
        x[rng.integers(6, 12), at] += height_mv * rng.choice([-1, 1], count)

    return fault


def gap(seconds: float, zero: bool) -> Fault:
    def fault(x: np.ndarray, rate_hz: float, rng: np.random.Generator) -> None:
        length = round(seconds * rate_hz)
        lead, start = rng.integers(12), rng.integers(x.shape[1] - length)
        x[lead, start : start + length] = 0 if zero else x[lead, start]

    return fault


def arms(x: np.ndarray, rate_hz: float, rng: np.random.Generator) -> None:
    x[0] *= -1
    x[[1, 2, 3, 4]] = x[[2, 1, 4, 3]]


def right_arm_and_leg(x: np.ndarray, rate_hz: float, rng: np.random.Generator) -> None:
    two, left_over = x[1].copy(), 0.05 * x[1]
    one = left_over - x[2]
    x[6:] -= (two - left_over) / 3
    x[:6] = one, left_over, x[2], -(one + left_over) / 2, one - left_over / 2, left_over - one / 2


FAULTS: dict[str, tuple[Fault, str]] = {
    "clipped at 1 mV (those that exceed 1.1 mV for 30 ms)": (clip(1.0), "clipped"),
    "one chest lead clipped at 60 % of its peak": (clip_chest(0.6), "clipped"),
    "… at 80 %": (clip_chest(0.8), "clipped"),
    "… at 90 %": (clip_chest(0.9), "clipped"),
    "10 spikes of ±1 mV in one chest lead": (spike(10, 1), "spikes"),
    "20 spikes of ±1 mV": (spike(20, 1), "spikes"),
    "20 spikes of ±2 mV": (spike(20, 2), "spikes"),
    "one lead zero for 1.2 s": (gap(1.2, True), "gaps"),
    "one lead held for 1.2 s": (gap(1.2, False), "gaps"),
    "arms swapped": (arms, "swapped"),
    "right arm and right leg swapped, 5 % of II left": (right_arm_and_leg, "swapped"),
}


def share_found(signal: np.ndarray, rate_hz: float, fault: Fault, name: str) -> float:
    """Return the share of records that get the named reason once the fault is in them."""
    rng = np.random.default_rng(0)
    if name == "clipped" and fault is FAULTS[next(iter(FAULTS))][0]:
        signal = signal[(np.abs(signal) > 1.1).sum(axis=(1, 2)) >= 0.03 * rate_hz]
    changed = signal.copy()
    for record in changed:
        fault(record, rate_hz, rng)
    reasons, _ = flaws(changed, LEADS, "mV", "missing", rate_hz=rate_hz)
    return float(np.mean([f'keep = ["{name}"]' in (reason or "") for reason in reasons]))


def microseconds(work: Callable[[], object], records: int) -> float:
    """Return processor time per record, the best of ten."""
    times = []
    for _ in range(10):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times) / records * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path, help="the folder that holds ptb-xl-500 and ludb")
    sets = load(parser.parse_args().shared)
    print(f"| found in | {' | '.join(sets)} |")
    print("|---|" + "---|" * len(sets))
    alarms = [sum(r is not None for r in flaws(x, LEADS, "mV", rate_hz=rate_hz)[0]) for x, rate_hz in sets.values()]
    cells = [f"{count} of {len(x)}" for count, (x, _) in zip(alarms, sets.values(), strict=True)]
    print(f"| as they are (false alarms) | {' | '.join(cells)} |")
    for title, (fault, name) in FAULTS.items():
        shares = [share_found(x, rate_hz, fault, name) for x, rate_hz in sets.values()]
        print(f"| {title} | {' | '.join(f'{share:.0%}' for share in shares)} |")
    print()
    for title, (x, rate_hz) in sets.items():
        part = x[:128]
        rules = microseconds(lambda part=part, rate_hz=rate_hz: flaws(part, LEADS, "mV", rate_hz=rate_hz), 128)
        codes = microseconds(lambda part=part, rate_hz=rate_hz: fingerprint.fingerprints(part, LEADS, rate_hz), 128)
        print(f"{title}: rules {rules:.0f} µs, fingerprints {codes:.0f} µs per record of one core")


if __name__ == "__main__":
    main()
