"""The simulator plants what it says: definitions, prevalences, flips and floors, each by an independent measurement."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.signal import find_peaks
from scipy.stats import multivariate_normal

from ecgscale.data.simulation import dipole, findings, floors
from ecgscale.data.simulation.findings import FINDINGS
from ecgscale.data.simulation.latents import draw
from ecgscale.data.simulation.worlds import (
    CODE_LABELS,
    FEMALE_SHIFT,
    LABELS,
    LATENTS,
    STRUCTURAL_SHIFT,
    WORLDS,
    WorldName,
    most_enriched,
)
from ecgscale.datasets.simulated import Simulated, latents
from ecgscale.spec import SpecError, part
from ecgscale.units import LEADS


@pytest.fixture(scope="module")
def spec() -> Simulated:
    return Simulated(count=1200, enrich=5.0)


@pytest.fixture(scope="module")
def truth(spec: Simulated) -> pd.DataFrame:
    return latents(spec, np.arange(spec.count))


@pytest.fixture(scope="module")
def signals(spec: Simulated) -> np.ndarray:
    return np.stack([record.signal for record in spec.records(None)])


@pytest.fixture(scope="module")
def large() -> tuple[Simulated, pd.DataFrame]:
    spec = Simulated(count=40_000, enrich=4.0)
    return spec, latents(spec, np.arange(spec.count))


def bundle_free(truth: pd.DataFrame) -> np.ndarray:
    return ~(truth["true.RBBB"] | truth["true.LBBB"]).to_numpy()


def test_records_are_twelve_lead_ecgs_in_mv(spec: Simulated, signals: np.ndarray) -> None:
    records = list(Simulated(count=300, enrich=5.0).records(None))
    assert signals.shape == (1200, 12, 1000) and signals.dtype == np.float32
    assert len({r.record for r in records}) == 300
    assert {r.leads for r in records} == {LEADS} and {r.unit for r in records} == {"mV"}
    assert all(r.patient.startswith("sim-code:") and r.sex in ("F", "M") and 18 <= r.age <= 95 for r in records)
    assert all(set(r.labels) == set(LABELS) and set(r.labels.values()) <= {0.0, 1.0} for r in records)
    per_patient = pd.Series([r.patient for r in records]).value_counts()
    assert set(per_patient) == {1, 2, 3}
    height = np.ptp(signals, axis=2)
    assert 0.5 < np.median(height[:, LEADS.index("II")]) < 2.5
    assert (height < 12).all() and np.isfinite(signals).all()


@pytest.mark.parametrize("world", list(WORLDS))
def test_limb_leads_follow_from_two(world: WorldName) -> None:
    signal = np.stack([r.signal for r in Simulated(world=world, count=40).records(None)])
    lead = {name: signal[:, i] for i, name in enumerate(LEADS)}
    np.testing.assert_allclose(lead["I"] + lead["III"], lead["II"], atol=2e-6)
    np.testing.assert_allclose(lead["aVR"] + lead["aVL"] + lead["aVF"], 0, atol=2e-6)


def test_a_prefix_does_not_depend_on_the_total() -> None:
    few, many = (list(Simulated(count=count).records(None)) for count in (40, 500))
    for short, long in zip(few, many[:40], strict=True):
        assert short.record == long.record and short.labels == long.labels
        np.testing.assert_array_equal(short.signal, long.signal)


def test_seed_and_world_are_other_patients() -> None:
    base, seed, world = (
        next(iter(spec.records(None))) for spec in (Simulated(), Simulated(seed=1), Simulated(world="hospital"))
    )
    assert len({base.patient, seed.patient, world.patient}) == 3
    assert not np.allclose(base.signal, seed.signal) and not np.allclose(base.signal, world.signal)


def test_every_label_obeys_its_definition(large: tuple[Simulated, pd.DataFrame]) -> None:
    _, f = large
    sinus = ~f["true.AF"]
    np.testing.assert_array_equal(f["true.1dAVb"], f["pr_ms"] > 200)
    np.testing.assert_array_equal(f["true.AF"], f["pr_ms"].isna())
    np.testing.assert_array_equal(f["true.RBBB"] | f["true.LBBB"], f["qrs_ms"] >= 120)
    assert not (f["true.RBBB"] & f["true.LBBB"]).any()
    np.testing.assert_array_equal(f["true.SB"], sinus & (f["rate"] < 60))
    np.testing.assert_array_equal(f["true.ST"], sinus & (f["rate"] > 100))
    healthy = f[sinus & ~f["true.1dAVb"]]
    assert healthy["pr_ms"].max() > 190  # close to the limit, so the task is not trivial
    assert f.loc[bundle_free(f), "qrs_ms"].max() > 112


def test_r_peaks_keep_the_rate_and_fibrillation_is_irregular(large: tuple[Simulated, pd.DataFrame]) -> None:
    _, f = large
    measured = np.array([60 * (len(p) - 1) / (p[-1] - p[0]) for p in f["r_peaks_s"]])
    np.testing.assert_allclose(measured, f["rate"], rtol=1e-9)
    spread = np.array([np.std(np.diff(p)) / np.mean(np.diff(p)) for p in f["r_peaks_s"]])
    ill = f["true.AF"].to_numpy()
    assert np.median(spread[ill]) > 0.15 > 0.05 > np.median(spread[~ill])
    assert min(np.diff(p).min() for p in f["r_peaks_s"]) > 0.2


def test_prevalences_and_flips_are_as_stated(large: tuple[Simulated, pd.DataFrame]) -> None:
    spec, f = large
    facts = spec.facts()
    patients = f["patient"].nunique()
    for label in LABELS:
        true, seen = f[f"true.{label}"], f[f"observed.{label}"]
        for kind, column in (("true", true), ("observed", seen)):
            expected = facts["prevalence"][kind][label]
            assert column.mean() == pytest.approx(expected, abs=4.5 * np.sqrt(expected * (1 - expected) / patients))
        rates = facts["flip_rates"][label]
        for name, flipped, of in (
            ("missed", seen[true] == 0, true.sum()),
            ("false_alarm", seen[~true] == 1, (~true).sum()),
        ):
            assert flipped.mean() == pytest.approx(rates[name], abs=4.5 * np.sqrt(max(rates[name], 1e-12) / of))
    assert Simulated().facts()["prevalence"]["true"]["RBBB"] == 0.027


def test_code_floors_are_the_loss_of_an_oracle(large: tuple[Simulated, pd.DataFrame]) -> None:
    spec, f = large
    facts = spec.facts()
    for label in CODE_LABELS:
        rates = facts["flip_rates"][label]
        guess = np.where(f[f"true.{label}"], 1 - rates["missed"], rates["false_alarm"])
        assert_floor(guess, f[f"observed.{label}"].to_numpy(), facts["irreducible_loss"][label])
    mean = np.mean([facts["irreducible_loss"][label] for label in CODE_LABELS])
    assert facts["irreducible_loss_code"] == pytest.approx(mean)


@pytest.fixture(scope="module")
def registry() -> tuple[Simulated, pd.DataFrame]:
    spec = Simulated(world="registry", count=40_000)
    return spec, latents(spec, np.arange(spec.count))


def test_findings_are_as_frequent_as_planted_and_written_as_their_reader_errs(
    registry: tuple[Simulated, pd.DataFrame],
) -> None:
    spec, f = registry
    facts, patients = spec.facts(), f["patient"].nunique()
    assert list(facts["irreducible_loss"]) == [*LABELS, *FINDINGS]
    for kind in ("true", "observed"):
        planted = np.array([facts["prevalence"][kind][name] for name in FINDINGS])
        found = f[[f"{kind}.{name}" for name in FINDINGS]].mean().to_numpy()
        assert (np.abs(found - planted) < 4.5 * np.sqrt(planted * (1 - planted) / patients)).all()
        assert (np.diff(planted) < 0).all() and planted[0] > 50 * planted[-1]


def test_the_floor_of_findings_is_the_loss_of_an_oracle(registry: tuple[Simulated, pd.DataFrame]) -> None:
    spec, f = registry
    facts = spec.facts()
    for names in (FINDINGS[:36], FINDINGS[36:]):
        rates = [facts["flip_rates"][name] for name in names]
        missed, invented = (np.array([r[key] for r in rates]) for key in ("missed", "false_alarm"))
        guess = np.where(f[[f"true.{name}" for name in names]], 1 - missed, invented)
        written = f[[f"observed.{name}" for name in names]].to_numpy() == 1
        loss = -np.where(written, np.log(guess), np.log1p(-guess)).mean(axis=1)
        floor = np.mean([facts["irreducible_loss"][name] for name in names])
        assert loss.mean() == pytest.approx(floor, abs=4 * 1.15 * loss.std() / np.sqrt(len(loss)))


def test_findings_share_causes_that_the_waveform_shows(registry: tuple[Simulated, pd.DataFrame]) -> None:
    _, f = registry
    weights = findings.weights()
    np.testing.assert_allclose((weights**2).sum(axis=1), 1)
    assert ((weights != 0).sum(axis=1) == 2).all() and ((weights[36:] != 0).sum(axis=0) > 0).all()
    share = weights @ weights.T
    alike = [(i, j) for i in range(20) for j in range(i) if abs(share[i, j]) > 0.7]
    assert alike
    for i, j in alike:
        together = np.corrcoef(f[f"true.{FINDINGS[i]}"], f[f"true.{FINDINGS[j]}"])[0, 1]
        assert together * share[i, j] > 0


@pytest.mark.parametrize("label", ["structural", "female"])
@pytest.mark.parametrize("world", ["code", "hospital"])
def test_gaussian_floors_are_the_loss_of_an_oracle(label: str, world: WorldName) -> None:
    spec = Simulated(count=12_000, world=world)
    f, facts = latents(spec, np.arange(spec.count)), spec.facts()
    scores = f[[f"score.{n}" for n in LATENTS]].to_numpy() - f[[f"age_mean.{n}" for n in LATENTS]].to_numpy()
    shift = {"structural": np.array(STRUCTURAL_SHIFT), "female": np.array(FEMALE_SHIFT)}
    other = "female" if label == "structural" else "structural"
    prior = facts["prevalence"]["true"]
    density = [
        sum(
            (prior[other] if b else 1 - prior[other])
            * multivariate_normal.pdf(scores, a * shift[label] + b * shift[other])
            for b in (0, 1)
        )
        for a in (0, 1)
    ]
    posterior = prior[label] * density[1] / (prior[label] * density[1] + (1 - prior[label]) * density[0])
    rates = facts["flip_rates"][label]
    guess = posterior * (1 - rates["missed"]) + (1 - posterior) * rates["false_alarm"]
    assert_floor(guess, f[f"observed.{label}"].to_numpy(), facts["irreducible_loss"][label])


def assert_floor(guess: np.ndarray, written: np.ndarray, floor: float) -> None:
    """The oracle's mean loss over records is the floor within four standard errors, which tell it from 1.4 floors."""
    loss = -np.where(written == 1, np.log(guess), np.log1p(-guess))
    error = 1.15 * loss.std() / np.sqrt(len(loss))  # ECGs of a patient share a truth, not a flip
    assert loss.mean() == pytest.approx(floor, abs=4 * error)
    assert 4 * error < 0.4 * floor


def test_floor_of_a_useless_and_of_a_perfect_view() -> None:
    nothing, far = np.zeros(2), np.array([12.0, 0.0])
    prior = 0.2
    blind = floors.gaussian_floor(prior, np.array([1e-9, 0]), 0.5, np.array([0, 1.0]), 0.0, 0.0)
    assert blind == pytest.approx(float(floors.entropy(np.array([prior]))[0]), rel=1e-6)
    seen = floors.gaussian_floor(prior, far, 0.5, np.array([0, 1.0]), 0.05, 0.01)
    assert seen == pytest.approx(floors.reader_floor(prior, 0.05, 0.01), rel=1e-4)
    assert floors.entropy(nothing).tolist() == [0.0, 0.0]


def test_intervals_measured_from_the_waveform_separate_the_labels() -> None:
    """QRS from the dipole's speed and PR from its first rise, on clean beats at 500 Hz."""
    chunk = draw("code", 3, 0, 6.0)
    time = np.arange(-200, 5200, dtype=np.float32) / 500
    clean = dipole.render(chunk, time, np.random.default_rng(0))
    speed = np.sqrt((np.gradient(clean, 1 / 500, axis=2) ** 2).sum(1))
    size = np.sqrt((clean**2).sum(1))
    qrs, pr = np.full(len(speed), np.nan), np.full(len(speed), np.nan)
    for i, beats in enumerate(chunk.beats_s):
        at = np.searchsorted(time, beats[(beats > 2) & (beats < 8)][1])
        fast = at - 40 + np.flatnonzero(speed[i, at - 40 : at + 75] > 0.12 * speed[i, at - 40 : at + 75].max())
        qrs[i] = (fast[-1] - fast[0]) * 2
        if not chunk.truth("AF")[i] and chunk.rate[i] < 90:
            peak = find_peaks(size[i, at - 200 : fast[0] - 4], prominence=0.01)[0]
            pr[i] = (fast[0] - (at - 200 + peak[-1])) * 2 if len(peak) else np.nan
    bundle, block = chunk.truth("RBBB") | chunk.truth("LBBB"), chunk.truth("1dAVb")
    assert auroc(bundle, qrs) > 0.99 and np.corrcoef(qrs, chunk.qrs_s)[0, 1] > 0.9
    known = np.isfinite(pr)
    assert known.sum() > 80
    assert auroc(block[known], pr[known]) > 0.97 and np.corrcoef(pr[known], chunk.pr_s[known])[0, 1] > 0.9


def auroc(positive: np.ndarray, score: np.ndarray) -> float:
    pairs = score[positive][:, None] - score[~positive][None]
    return float(((pairs > 0) + 0.5 * (pairs == 0)).mean())


def test_morphology_is_that_of_each_block(truth: pd.DataFrame, signals: np.ndarray) -> None:
    """Averages over true beats: rS in V1, qR in V6; rSr' in V1; broad R in V6; aVR negative; no P in fibrillation."""
    mean = {}
    healthy = ~truth[[f"true.{n}" for n in CODE_LABELS]].any(axis=1).to_numpy()
    for name, rows in (("normal", healthy), *((n, truth[f"true.{n}"].to_numpy()) for n in ("RBBB", "LBBB", "AF"))):
        mean[name] = np.mean([beat(signals[i], truth["r_peaks_s"].iloc[i]) for i in np.flatnonzero(rows)], 0)
    v1, v6, two, avr = (LEADS.index(n) for n in ("V1", "V6", "II", "aVR"))
    after = slice(34, 44)  # 40 to 140 ms after the R peak
    assert mean["normal"][v1].max() > 0.15 and mean["normal"][v1].min() < -0.5
    assert mean["normal"][v6].max() > 0.6 and mean["normal"][avr].min() < -0.5 and abs(mean["normal"][avr].max()) < 0.2
    assert mean["RBBB"][v1, after].max() > 0.5 > 0.1 > mean["normal"][v1, after].max()
    assert mean["RBBB"][v6, after].min() < -0.2
    assert mean["LBBB"][v1].max() < 0.4 and mean["LBBB"][v1].min() < -0.7
    broad = [int((mean[n][v6] > 0.5 * mean[n][v6].max()).sum()) for n in ("normal", "LBBB")]
    assert broad[1] >= 2 * broad[0]
    before = slice(8, 24)  # 220 to 60 ms before the R peak
    assert np.ptp(mean["normal"][two, before]) > 0.08 > 2 * np.ptp(mean["AF"][two, before])


def beat(signal: np.ndarray, peaks_s: np.ndarray) -> np.ndarray:
    """The median beat [lead, 80]: 300 ms before to 500 ms after R, level at its median 0."""
    at = [p for p in np.round(100 * peaks_s).astype(int) if 30 <= p <= 950]
    median = np.median([signal[:, p - 30 : p + 50] for p in at], axis=0)
    return np.asarray(median - np.median(median, axis=1, keepdims=True))


def test_sample_has_both_classes_and_enough_patients(tmp_path: object) -> None:
    records = list(Simulated.sample(tmp_path).records(None))  # type: ignore[arg-type]
    assert len({r.patient for r in records}) >= 48
    both = [label for label in LABELS if len({r.labels[label] for r in records}) == 2]
    assert len(both) >= 7


def test_worlds_differ_in_what_they_say() -> None:
    noise = {}
    for world in WORLDS:
        signal = np.stack([r.signal for r in Simulated(world=world, count=100, rate_hz=250).records(None)])
        assert signal.shape[2] == 2500
        step = 1e3 * signal[:, 0] / WORLDS[world].resolution_uv
        np.testing.assert_allclose(step, np.round(step), atol=2e-2)
        noise[world] = np.median(np.std(np.diff(signal, axis=2), axis=2))
    assert noise["emergency"] > noise["hospital"]
    f = {world: latents(Simulated(world=world, count=3000), np.arange(3000)) for world in WORLDS}
    assert f["hospital"]["age"].mean() > f["code"]["age"].mean() + 8 > f["screening"]["age"].mean() + 16
    assert f["emergency"]["true.ST"].mean() > 2 * f["code"]["true.ST"].mean()


def test_wrong_settings_get_a_sentence() -> None:
    with pytest.raises(SpecError, match=r"enrich must leave healthy patients in the world code, so at most \d"):
        part("datasets", {"name": "simulated", "enrich": 60.0})
    with pytest.raises(SpecError, match="no label Af; known: 1dAVb"):
        part("datasets", {"name": "simulated", "readers": {"Af": {"missed": 0.1, "false_alarm": 0.0}}})
    with pytest.raises(SpecError, match=r"data\.pretrain\.world.*'hospital'"):
        part("datasets", {"name": "simulated", "world": "mars"}, "data.pretrain")
    with pytest.raises(IndexError, match="rows 3 to 9 asked of 5 records"):
        latents(Simulated(count=5), [3, 9])


@pytest.mark.parametrize("world", list(WORLDS))
def test_the_largest_enrichment_is_drawn_as_stated(world: WorldName) -> None:
    spec = Simulated(world=world, count=4000, enrich=most_enriched(world))
    f, stated = latents(spec, np.arange(spec.count)), spec.facts()["prevalence"]["true"]
    for label in CODE_LABELS:
        assert f[f"true.{label}"].mean() == pytest.approx(stated[label], abs=0.04)


def test_one_reader_may_be_set_alone() -> None:
    spec = part("datasets", {"name": "simulated", "readers": {"AF": {"missed": 0.1, "false_alarm": 0.0}}})
    assert spec.readers["AF"].missed == 0.1 and set(spec.readers) == set(LABELS)
    assert spec.uid != Simulated().uid and Simulated().readers["AF"].missed != 0.1
