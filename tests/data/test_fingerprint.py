"""One recording has one code, whatever became of it; two recordings have two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wfdb

from ecgscale.data import fingerprint, wfdb16
from ecgscale.data.corpus import Corpus
from ecgscale.data.fingerprint import fingerprints, later, same
from ecgscale.data.resampling import resample
from ecgscale.data.signal import bandpass, record_lead_z
from ecgscale.data.split import shared_signals
from ecgscale.datasets.simulated import Simulated
from ecgscale.units import LEADS

EIGHT = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
TWINS = {(137, 138), (143, 144), (145, 463), (456, 457), (459, 460)}  # one recording under two numbers of PTB-XL

Pairs = set[tuple[str, str]]


@pytest.fixture(scope="module")
def ecg() -> np.ndarray:
    return np.stack([record.signal for record in Simulated(count=24, rate_hz=500.0).records()])


@pytest.fixture(scope="module")
def ptbxl(shared_data: Path) -> dict[float, np.ndarray]:
    """The records of ptb-xl-500 by rate, mV."""
    root = shared_data / "ptb-xl-500"
    table = pd.read_csv(root / "ptbxl_database.csv")
    return {
        rate_hz: np.stack([wfdb16.read(root, name).physical for name in table[column]])
        for rate_hz, column in ((100.0, "filename_lr"), (500.0, "filename_hr"))
    }


@pytest.fixture(scope="module")
def library(shared_data: Path, ptbxl: dict[float, np.ndarray]) -> tuple[list[str], np.ndarray]:
    """Name and code of every real ECG: ptb-xl-500 (p), ptbxl1819 (f), LUDB (l) and the challenge's samples."""
    with np.load(shared_data / "ptbxl1819" / "ptbxl1819_100hz_int16.npz") as held:
        filtered, numbers = held["x"].transpose(0, 2, 1).astype(np.float32), held["ecg_id"]
    ludb = np.stack([wfdb16.read(shared_data / "ludb", f"data/{i}").counts for i in range(1, 201)])
    files = sorted((shared_data / "cinc2021-samples").glob("*.hea"))
    samples = np.stack([wfdb.rdrecord(str(f.with_suffix(""))).p_signal.T.astype(np.float32) for f in files])
    names = [f"p{i}" for i in range(1, 501)] + [f"f{i}" for i in numbers]
    names += [f"l{i}" for i in range(1, 201)] + [f.stem for f in files]
    sets = ((ptbxl[500.0], 500.0), (filtered, 100.0), (ludb, 500.0), (samples, 500.0))
    return names, np.concatenate([_codes(signal, rate_hz) for signal, rate_hz in sets])


def _codes(signal: np.ndarray, rate_hz: float, leads: tuple[str, ...] = LEADS) -> np.ndarray:
    """The codes as a corpus has them: at 100 Hz."""
    return fingerprints(resample(signal, rate_hz, 100.0), leads, 100.0)


def _named(pairs: np.ndarray, a: list[str], b: list[str]) -> Pairs:
    return {(a[i], b[j]) for i, j in pairs}


def _apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Share of different bits, row by row."""
    return np.unpackbits(a ^ b, axis=1).mean(axis=1)


Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]
CHANGES: dict[str, Change] = {
    "microvolts": lambda x, _: x * 1000,
    "gain": lambda x, _: x * 0.37,
    "gain of each lead": lambda x, rng: x * rng.uniform(0.2, 5, (12, 1)).astype(np.float32),
    "offset": lambda x, _: x + 3,
    "drift": lambda x, _: x + np.sin(np.arange(5000) / 500 * 0.5).astype(np.float32),
    "z-scores": lambda x, _: record_lead_z(x),
    "0.5-40 Hz": lambda x, _: bandpass(x, 500.0, (0.5, 40.0)),
    "0.67-25 Hz": lambda x, _: bandpass(x, 500.0, (0.67, 25.0)),
    "two samples later": lambda x, _: np.roll(x, -2, axis=-1),
    "5 microvolt steps": lambda x, _: np.round(x / 0.005) * 0.005,
    "20 dB noise": lambda x, rng: x + x.std(-1, keepdims=True) / 10 * rng.standard_normal(x.shape).astype(np.float32),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(ecg: np.ndarray, rng: np.random.Generator, name: str) -> None:
    changed = CHANGES[name](ecg, rng).astype(np.float32)
    assert same(_codes(changed, 500.0), _codes(ecg, 500.0)).tolist() == [[i, i] for i in range(len(ecg))]


@pytest.mark.parametrize("rate_hz", [50.0, 100.0, 128.0, 250.0, 257.0, 360.0, 400.0, 500.0, 1000.0])
def test_the_rate_does_not_matter(ecg: np.ndarray, rate_hz: float) -> None:
    there = fingerprints(resample(ecg, 500.0, rate_hz), LEADS, rate_hz)
    assert _apart(there, _codes(ecg, 500.0)).max() < (0.02 if rate_hz >= 100 else 0.06)
    assert same(there, _codes(ecg, 500.0)).tolist() == [[i, i] for i in range(len(ecg))]


def test_an_inverted_copy_is_not_the_same(ecg: np.ndarray) -> None:
    assert len(same(_codes(-ecg, 500.0), _codes(ecg, 500.0))) == 0
    assert _apart(_codes(-ecg, 500.0), _codes(ecg, 500.0)).min() > 0.99


def test_a_code_is_short_and_does_not_depend_on_neighbours(ecg: np.ndarray) -> None:
    together = fingerprints(ecg, LEADS, 500.0)
    alone = np.concatenate([fingerprints(one[None], LEADS, 500.0) for one in ecg])
    assert together.shape == (24, fingerprint.SIZE) == (24, 128)
    assert together.dtype == np.uint8
    assert np.unpackbits(together ^ alone, axis=1).sum() <= 2  # a product's last bit


def test_the_order_of_leads_does_not_matter(ecg: np.ndarray) -> None:
    assert np.array_equal(fingerprints(ecg[:, ::-1], LEADS[::-1], 500.0), fingerprints(ecg, LEADS, 500.0))


def test_a_missing_lead_or_piece_is_all_zeros(ecg: np.ndarray) -> None:
    ecg = ecg.copy()
    ecg[3, LEADS.index("II")] = 0
    ecg[4, LEADS.index("V5")] = 0.3
    ecg[5, :, 3500:] = 0
    ecg[6] = 0
    words = fingerprints(ecg, LEADS, 500.0).view("<u4").reshape(-1, fingerprint.PIECES, 8)
    empty = words == 0
    assert empty[3].all(axis=0).tolist() == [word == "II" for word in fingerprint.WORDS]
    assert empty[4].all(axis=0).tolist() == [word == "V5" for word in fingerprint.WORDS]
    assert empty[5].all(axis=1).tolist() == [False, False, True, True]
    assert empty[6].all()
    assert not empty[:3].any()
    codes = fingerprints(ecg, LEADS, 500.0)
    assert [i for i, j in same(codes, codes) if i == j] == [i for i in range(24) if i != 6]  # nothing is like nothing


def test_leads_that_are_not_used_and_short_signals_have_no_code(ecg: np.ndarray) -> None:
    assert not fingerprints(ecg[:, 2:3], ("III",), 500.0).any()
    assert not fingerprints(ecg[..., :1000], LEADS, 500.0).any()
    assert same(fingerprints(ecg[:, 2:3], ("III",), 500.0), _codes(ecg, 500.0)).shape == (0, 2)
    assert same(np.empty((0, 128), np.uint8), _codes(ecg, 500.0)).shape == (0, 2)


def test_a_record_may_end_a_little_early(ecg: np.ndarray) -> None:
    assert fingerprints(ecg[..., :4990], LEADS, 500.0).view("<u4").all()
    assert same(fingerprints(ecg[..., :4990], LEADS, 500.0), fingerprints(ecg, LEADS, 500.0)).shape == (24, 2)


def test_what_starts_later_is_found_among_later_codes(ecg: np.ndarray) -> None:
    late, whole = resample(ecg[..., 602:], 500.0, 100.0), resample(ecg, 500.0, 100.0)
    codes = later(whole, LEADS, 100.0, 1.5)
    assert codes.shape == (24, 150, 128)
    assert later(whole, LEADS, 100.0, 0.005).shape == (24, 0, 128)
    for start, k in ((0.01, 0), (1.5, 149)):
        assert np.array_equal(codes[:, k], fingerprints(whole[..., round(start * 100) :], LEADS, 100.0))
    assert len(same(fingerprints(late, LEADS, 100.0), fingerprints(whole, LEADS, 100.0))) == 0
    for row, others in zip(codes, fingerprints(late, LEADS, 100.0), strict=True):
        assert 119 in same(row, others[None])[:, 0]  # 1.2 s


def test_many_are_compared_as_few_are(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    a = rng.integers(0, 256, (3000, 128), dtype=np.uint8)
    b = rng.integers(0, 256, (2000, 128), dtype=np.uint8)
    planted = rng.choice(2000, 300, replace=False)
    noise = np.packbits(rng.random((300, 1024)) < rng.uniform(0, 0.03, (300, 1)), axis=1)
    b[planted] = a[:300] ^ noise
    b[planted[:50], 16:] = 0  # four words are left
    a[200:250, 40:] = 0
    exact = same(a, b)
    assert exact[:, 0].tolist() == list(range(300))
    assert exact[:, 1].tolist() == planted.tolist()
    monkeypatch.setattr(fingerprint, "_EXACT", 0)
    assert np.array_equal(same(a, b), exact)
    assert np.array_equal(same(b, a)[:, ::-1][np.argsort(same(b, a)[:, 1])], exact)


def test_the_distance_allowed_falls_with_what_is_common() -> None:
    limits = fingerprint._limits()
    share = limits[4:] / (32 * np.arange(4, 33))
    assert (limits[:4] == -1).all()
    assert (np.diff(share) > -0.01).all()
    assert share[-1] == pytest.approx(0.165, abs=0.001)


def test_every_shared_recording_is_found_and_no_other(library: tuple[list[str], np.ndarray]) -> None:
    names, codes = library
    found = {tuple(sorted(p)) for p in _named(same(codes, codes), names, names) if p[0] != p[1]}
    both = {n[1:] for n in names if n[0] == "p"} & {n[1:] for n in names if n[0] == "f"}
    assert len(both) == 34
    wanted = {(f"f{n}", f"p{n}") for n in both} | {(f"p{a}", f"p{b}") for a, b in TWINS}
    # the last two: the Georgia samples hold one recording twice, which their documentation does not tell
    assert found == wanted | {("HR06005", "f6005"), ("E07509", "E07510")}


def test_real_ecgs_are_compared_by_halves_of_words_as_one_by_one(
    library: tuple[list[str], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = library[1]
    exact = same(codes, codes)
    monkeypatch.setattr(fingerprint, "_EXACT", 0)
    assert np.array_equal(same(codes, codes), exact)


@pytest.mark.parametrize(
    ("leads", "seconds", "least"),
    [
        (LEADS, 10.0, 500),
        (EIGHT, 10.0, 500),
        (LEADS[:6], 10.0, 500),
        (("II",), 10.0, 500),
        (("I",), 10.0, 500),
        (("V5",), 10.0, 490),
        (LEADS, 7.0, 500),
        (("II",), 7.0, 490),
        (LEADS, 5.0, 500),
        (LEADS, 2.5, 490),
    ],
)
def test_fewer_leads_or_seconds_at_another_rate_find_their_whole(
    ptbxl: dict[float, np.ndarray],
    library: tuple[list[str], np.ndarray],
    leads: tuple[str, ...],
    seconds: float,
    least: int,
) -> None:
    names, codes = library
    part = ptbxl[100.0][:, [LEADS.index(lead) for lead in leads], : round(100 * seconds)]  # 1.25 ms late, by its makers
    found = _named(same(fingerprints(part, leads, 100.0), codes), names[:500], names)
    assert sum(a == b for a, b in found) >= least
    others = {tuple(sorted((int(a[1:]), int(b[1:])))) for a, b in found if a != b and b[0] == "p"}
    assert others == TWINS
    filtered = {(a, b) for a, b in found if b[0] != "p"}
    assert all(a[1:] == b[1:] for a, b in filtered)
    assert 33 <= len(filtered) <= 34


def test_real_ecgs_that_start_later_are_found(
    ptbxl: dict[float, np.ndarray], library: tuple[list[str], np.ndarray]
) -> None:
    late = _codes(ptbxl[500.0][:100, :, 702:], 500.0)  # 1.404 s
    assert len(same(late, library[1])) == 0
    codes = later(resample(ptbxl[500.0][:100], 500.0, 100.0), LEADS, 100.0, 2.0)
    found = same(codes.reshape(-1, 128), late)
    assert {(i // 200, j) for i, j in found.tolist()} == {(i, i) for i in range(100)}


def test_corpora_share_what_starts_later_in_one_of_them(corpus_of: Callable[..., Corpus]) -> None:
    records = list(Simulated(count=12, rate_hz=500.0).records())
    late = [replace(r, record=f"late {r.record}", signal=r.signal[:, 613:]) for r in records[4:]]  # 1.226 s
    whole, part = corpus_of(records[:8], name="whole"), corpus_of(late, name="part")
    wanted = [(r.record, f"late {r.record}") for r in records[4:8]]
    assert shared_signals(whole, part) == []
    assert shared_signals(whole, part, later_s=1.5) == sorted(wanted)
    assert shared_signals(part, whole, later_s=1.5) == sorted((b, a) for a, b in wanted)
    assert shared_signals(whole, part, rows_a=[7, 0], rows_b=[3, 5], later_s=1.5) == wanted[3:]
