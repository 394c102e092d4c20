"""Simulated 12-lead ECGs with a planted truth: six CODE labels, a structural condition and sex, in five worlds.

Three worlds (`hospital`, `screening`, `emergency`) differ from `code` in device, noise, population and prevalence
(`data/simulation/worlds.py`); `registry` adds 72 findings with a long tail (`data/simulation/findings.py`). An ECG is a
function of (seed, world, patient number, ECG number) and of the label settings; `count` only says where to stop. Labels
pass a reader who misses and invents at stated rates; by default `female` is written without error.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, model_validator

from ecgscale import rng
from ecgscale.data.record import Record
from ecgscale.data.simulation import device, dipole, findings, floors
from ecgscale.data.simulation.findings import FINDINGS
from ecgscale.data.simulation.latents import LENGTH_S, Latents, draw, ecgs
from ecgscale.data.simulation.worlds import (
    CODE_LABELS,
    FEMALE_SHIFT,
    LABELS,
    LATENTS,
    STRUCTURAL_SHIFT,
    WORLDS,
    WorldName,
    prevalence,
)
from ecgscale.data.source import Fault
from ecgscale.datasets import DatasetSpec
from ecgscale.spec import Spec
from ecgscale.units import LEADS

_PAD_S = 0.4  # rendered on both sides and cut away: the band is applied on a circle


class Reader(Spec):
    """How often the reader of one label errs."""

    missed: float = Field(ge=0, lt=0.5)  # fraction of true positives written as absent
    false_alarm: float = Field(ge=0, lt=0.5)  # fraction of true negatives written as present


_READERS = {  # this project's choice: rare labels need rare false alarms, or the floor is all there is
    "1dAVb": Reader(missed=0.04, false_alarm=0.003),
    "RBBB": Reader(missed=0.02, false_alarm=0.003),
    "LBBB": Reader(missed=0.02, false_alarm=0.002),
    "SB": Reader(missed=0.02, false_alarm=0.003),
    "AF": Reader(missed=0.03, false_alarm=0.003),
    "ST": Reader(missed=0.02, false_alarm=0.002),
    "structural": Reader(missed=0.02, false_alarm=0.01),
    "female": Reader(missed=0.0, false_alarm=0.0),
}


class Simulated(DatasetSpec):
    """Generated ECGs: 12 leads, 10 s, mV."""

    title: ClassVar[str] = "Simulated 12-lead ECG"
    licence: ClassVar[str] = "generated"
    access: ClassVar[str] = "generated"
    url: ClassVar[str] = "https://doi.org/10.1155/2007/43407"
    citation: ClassVar[str] = (
        "Dipole model: Sameni et al. 2007; leads: Dower et al. 1980; prevalences: Ribeiro et al. 2020"
    )
    version: ClassVar[str] = "1"
    simulated: ClassVar[bool] = True
    needs_root: ClassVar[bool] = False

    keep: tuple[Fault, ...] = ("swapped",)  # no electrode is swapped here: an extreme axis is one
    world: WorldName = "code"
    seed: int = Field(default=0, ge=0)
    count: int = Field(default=1000, ge=1)  # records
    enrich: float = Field(default=1.0, gt=0)  # factor on the prevalence of the six CODE labels
    rate_hz: float = Field(default=100.0, ge=50, le=1000)  # samples per second
    # labels left out keep their default; findings have the readers of data/simulation/findings.py
    readers: dict[str, Reader] = Field(default_factory=lambda: dict(_READERS))

    @model_validator(mode="after")
    def _possible(self) -> Self:
        unknown = sorted(set(self.readers) - set(LABELS))
        if unknown:
            raise ValueError(f"readers: no label {unknown[0]}; known: {', '.join(LABELS)}")
        prevalence(self.world, self.enrich)
        self.readers.update({name: reader for name, reader in _READERS.items() if name not in self.readers})
        return self

    def label_names(self) -> tuple[str, ...]:
        """Return the labels that a record carries."""
        return (*LABELS, *FINDINGS) if WORLDS[self.world].findings else LABELS

    def reader(self, label: str) -> Reader:
        """Return how often the reader of a label errs."""
        prevalence = findings.PREVALENCE.get(label)
        if prevalence is None:
            return self.readers[label]
        return Reader(missed=findings.MISSED, false_alarm=findings.INVENTED * prevalence)

    def portions(self, root: Path | None = None) -> Iterator[tuple[int, int]]:
        """Yield chunk numbers and how many records are wanted of each, in the order of the patients."""
        left, chunk = self.count, 0
        while left > 0:
            size = ecgs(self.world, self.seed, chunk)
            yield chunk, min(left, size)
            left, chunk = left - size, chunk + 1

    def read(self, root: Path | None, portion: tuple[int, int]) -> Iterator[Record]:
        """Yield the records of a chunk; `root` is not used."""
        chunk, wanted = portion
        latents = draw(self.world, self.seed, chunk, self.enrich)
        signal, observed = _signals(self, latents, chunk), _observed(self, latents).tolist()
        for row in range(wanted):
            yield self._record(latents, row, signal[row], observed[row])

    @classmethod
    def sample(cls, root: Path, seed: int = 0) -> Simulated:
        """Return 128 records with enriched labels; nothing is written."""
        return cls(count=128, seed=seed, enrich=6.0)

    def facts(self) -> dict[str, Any]:
        """Return what is planted: prevalences, reader errors and the irreducible loss of every label in nats."""
        true = {**prevalence(self.world, self.enrich), **findings.PREVALENCE}
        true = {name: p for name, p in true.items() if name in self.label_names()}
        floor = {name: self._floor(name, true) for name in self.label_names()}
        flips = {name: self.reader(name).dump() for name in self.label_names()}
        written = {
            name: p * (1 - flips[name]["missed"]) + (1 - p) * flips[name]["false_alarm"] for name, p in true.items()
        }
        return {
            "world": self.world,
            "enrich": self.enrich,
            "prevalence": {"true": true, "observed": written},
            "flip_rates": flips,
            "irreducible_loss": floor,
            "irreducible_loss_code": float(np.mean([floor[name] for name in CODE_LABELS])),
            "irreducible_loss_unit": "nats, mean binary cross-entropy",
            "irreducible_loss_meaning": "an oracle that knows every latent: a lower bound for a model of the waveform",
        }

    def _floor(self, label: str, true: dict[str, float]) -> float:
        reader = self.reader(label)
        if label in CODE_LABELS or label in findings.PREVALENCE:
            return floors.reader_floor(true[label], reader.missed, reader.false_alarm)
        shifts = {"structural": np.array(STRUCTURAL_SHIFT), "female": np.array(FEMALE_SHIFT)}
        other = "female" if label == "structural" else "structural"
        flips = (reader.missed, reader.false_alarm)
        return floors.gaussian_floor(true[label], shifts[label], true[other], shifts[other], *flips)

    def _record(self, latents: Latents, row: int, signal: npt.NDArray[np.float32], observed: list[float]) -> Record:
        patient = int(latents.patient[row])
        return Record(
            signal=signal,
            unit="mV",
            rate_hz=self.rate_hz,
            leads=LEADS,
            record=f"{self._population()}-{patient:07d}-{latents.visit[row]}",
            patient=f"{self._population()}:{patient}",
            age=round(float(latents.age[row]), 1),
            sex="F" if latents.truth("female")[row] else "M",
            labels=dict(zip(self.label_names(), observed, strict=True)),
            band_hz=WORLDS[self.world].band_hz,
        )

    def _population(self) -> str:
        """Another seed is another population: the same number under two seeds is not the same patient."""
        return f"sim-{self.world}" + (f"-s{self.seed}" if self.seed else "")


def latents(spec: Simulated, rows: npt.ArrayLike) -> pd.DataFrame:
    """Return the planted truth of records, which no record carries.

    Args:
        spec: Whose records.
        rows: Places in the order of `spec.records()`.

    Returns:
        One row per record: `record`, `patient`, `age`, `pr_ms` (NaN in fibrillation), `qrs_ms`, `qt_ms`, `rate` (per
        minute), `r_peaks_s` (array, seconds inside the window), and for every label `true.<label>` and
        `observed.<label>`, for every score `score.<latent>` and the part that age explains, `age_mean.<latent>`.

    Raises:
        IndexError: a row is not below `spec.count`.
    """
    wanted = np.asarray(rows, np.int64)
    if wanted.size and not 0 <= wanted.min() <= wanted.max() < spec.count:
        raise IndexError(f"rows {wanted.min()} to {wanted.max()} asked of {spec.count} records; they count from 0")
    frames: list[pd.DataFrame] = []
    while sum(map(len, frames)) <= wanted.max(initial=-1):
        frames.append(_frame(spec, draw(spec.world, spec.seed, len(frames), spec.enrich)))
    return pd.concat(frames, ignore_index=True).iloc[wanted]


def _frame(spec: Simulated, chunk: Latents) -> pd.DataFrame:
    peaks = [beats[(beats >= 0) & (beats < LENGTH_S)] for beats in chunk.beats_s]
    observed = _observed(spec, chunk)
    return pd.DataFrame(
        {
            "record": [f"{spec._population()}-{p:07d}-{v}" for p, v in zip(chunk.patient, chunk.visit, strict=True)],
            "patient": [f"{spec._population()}:{p}" for p in chunk.patient],
            "age": chunk.age,
            "pr_ms": 1e3 * chunk.pr_s,
            "qrs_ms": 1e3 * chunk.qrs_s,
            "qt_ms": 1e3 * chunk.qt_s,
            "rate": chunk.rate,
            "r_peaks_s": peaks,
            **{f"true.{name}": chunk.labels[:, i] for i, name in enumerate(spec.label_names())},
            **{f"observed.{name}": observed[:, i] for i, name in enumerate(spec.label_names())},
            **{f"score.{name}": chunk.scores[:, i] for i, name in enumerate(LATENTS)},
            **{f"age_mean.{name}": chunk.age_mean[:, i] for i, name in enumerate(LATENTS)},
        }
    )


def _observed(spec: Simulated, chunk: Latents) -> npt.NDArray[np.float64]:
    """What the reader wrote [ecg, label]: the truth, flipped where the reader errs."""
    readers = [spec.reader(name) for name in spec.label_names()]
    missed, invented = np.array([r.missed for r in readers]), np.array([r.false_alarm for r in readers])
    return (chunk.labels ^ (chunk.reader < np.where(chunk.labels, missed, invented))).astype(np.float64)


def _signals(spec: Simulated, chunk: Latents, number: int) -> npt.NDArray[np.float32]:
    """Signals of a chunk [ecg, lead, time], mV: always the whole chunk, so that a prefix never depends on `count`."""
    random = rng.generator(spec.seed, "simulated", spec.world, "signals", number)
    pad, samples = round(_PAD_S * spec.rate_hz), round(LENGTH_S * spec.rate_hz)
    time_s = ((np.arange(samples + 2 * pad) - pad) / spec.rate_hz).astype(np.float32)
    world = WORLDS[spec.world]
    recorded = device.record(dipole.render(chunk, time_s, random), time_s, world, random)
    return device.twelve(recorded[:, :, pad : pad + samples], world.resolution_uv)
