"""Who is trained on and who is tested: everything here is decided by patient, and records follow their patient.

The place of a patient is a hash of (seed, patient) alone. It does not depend on who else is there, so the order of a
subset is the subset of the order, and the first 1,000 records are a prefix of the first 10,000.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import model_validator

from ecgscale import rng
from ecgscale.data import fingerprint, mapped
from ecgscale.data.corpus import Corpus, Rows
from ecgscale.data.mixture import Mixture, interleaved
from ecgscale.spec import Explained, Spec, digest

Int = npt.NDArray[np.int64]

REVISION = 1  # of the order of patients and of their parts

PARTS = ("train", "validation", "test")
_AT_ONCE = 128  # records whose later codes are held


class SplitError(Explained, ValueError):
    """A corpus cannot be split as asked."""


class SplitRule(Spec):
    """How a corpus is parted."""

    by: Literal["folds", "patients"] = "folds"
    train: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)  # PTB-XL's recommendation, Wagner et al. 2020
    validation: tuple[int, ...] = (9,)
    test: tuple[int, ...] = (10,)
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)  # of patients, where by = "patients"

    @model_validator(mode="after")
    def _disjoint(self) -> SplitRule:
        folds = (*self.train, *self.validation, *self.test)
        if len(set(folds)) < len(folds):
            raise ValueError("a fold may stand in one of train, validation and test only")
        if min(self.fractions) < 0 or abs(sum(self.fractions) - 1) > 1e-9:
            raise ValueError("the three fractions must be at least 0 and add up to 1")
        return self


def patient_order(index: pd.DataFrame, seed: int) -> Int:
    """Return the rows of `index` in seeded patient order; the records of a patient keep their order.

    Args:
        index: A corpus's index or a part of it; its row labels are what is returned.
        seed: Of the order.
    """
    code, patients = pd.factorize(index["patient"])
    names = np.asarray(patients, dtype=str)
    place = np.empty(len(names), np.int64)
    place[np.lexsort((names, _keys(names, seed, "order")))] = np.arange(len(names))
    order = np.argsort(place[code], kind="stable")
    return index.index.to_numpy(dtype=np.int64)[order]


def parts(index: pd.DataFrame, rule: SplitRule, seed: int) -> dict[str, Int]:
    """Return the rows of each part in patient order; the first D rows of "train" are the nested subset of size D.

    Args:
        index: A corpus's index.
        rule: By the source's official folds (records of other folds are in no part), or by fractions of the patients.
        seed: Of the order, and of the parting by patients.

    Raises:
        SplitError: the corpus has no folds, a patient stands in two parts, or a part that was asked for is empty.
    """
    part = _by_folds(index, rule) if rule.by == "folds" else _by_patients(index, rule, seed)
    inside = part >= 0
    _refuse_shared(index["patient"].to_numpy()[inside], part[inside])
    result = {name: patient_order(index[part == i], seed) for i, name in enumerate(PARTS)}
    for i, name in enumerate(PARTS):
        wanted = bool(getattr(rule, name)) if rule.by == "folds" else rule.fractions[i] > 0
        if wanted and not len(result[name]):
            asked = (
                f"folds {list(getattr(rule, name))}" if rule.by == "folds" else f"{rule.fractions[i]:.0%} of patients"
            )
            raise SplitError(
                f"the {name} part ({asked}) holds no record of {len(index)}; change the split or the corpus"
            )
    return result


def corpus_parts(corpus: Corpus, rule: SplitRule, seed: int) -> dict[str, Int]:
    """Return `parts` of a corpus, computed once and mapped from beside it: a training process reads no index.

    Raises:
        SplitError: as `parts`.
    """
    folder = corpus.path / "splits" / digest([corpus.digest, rule.dump(), seed, REVISION])
    files = {name: folder / f"{name}.npy" for name in PARTS}
    if not folder.is_dir():
        divided = _mixed(corpus, rule, seed) if isinstance(corpus, Mixture) else parts(corpus.index, rule, seed)
        try:
            _keep(divided, folder)
        except OSError:  # the corpus may stand where nothing can be written
            return divided
    return {name: mapped.load(file) for name, file in files.items()}


def _mixed(mixture: Mixture, rule: SplitRule, seed: int) -> dict[str, Int]:
    """Interleave the parts of the sources by weight."""
    divided = [corpus_parts(source, rule, seed) for source in mixture.sources]
    rows = {n: [mixture.rows_of_order(i, d[n]) for i, d in enumerate(divided)] for n in PARTS}
    result = {name: interleaved(orders, mixture.weights, seed) for name, orders in rows.items()}
    every = np.concatenate([result[name] for name in PARTS])
    part = np.repeat(np.arange(len(PARTS)), [len(result[name]) for name in PARTS])
    pairs = np.unique(np.stack([mixture.patients(every), part], axis=1), axis=0)
    if len(np.unique(pairs[:, 0])) < len(pairs):
        names = mixture.index["patient"].to_numpy()[every]
        _refuse_shared(names, part)
    return result


def _keep(divided: dict[str, Int], folder: Path) -> None:
    folder.parent.mkdir(exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=folder.parent))
    for name, rows in divided.items():
        np.save(fresh / f"{name}.npy", rows)
    try:
        fresh.rename(folder)
    except OSError:  # another process was first
        shutil.rmtree(fresh)
        if not folder.is_dir():
            raise


def stratified_folds(
    index: pd.DataFrame, y: npt.ArrayLike, folds: int, repeats: int, seed: int
) -> npt.NDArray[np.int64]:
    """Deal patients into folds so that every label is spread evenly, several times anew.

    Args:
        index: The records.
        y: [record] or [record, label], 1 present, 0 absent, NaN unknown; a patient has a label if any record has it.
        folds: Number of folds.
        repeats: Number of independent dealings.
        seed: Of the dealings; a repeat does not depend on how many there are.

    Returns:
        [repeat, record]: the fold of each record, 0 to folds - 1.

    Raises:
        SplitError: fewer patients than folds.

    Source: iterative stratification, Sechidis, Tsoumakas and Vlahavas 2011.
    """
    code, patients = pd.factorize(index["patient"])
    if len(patients) < folds:
        raise SplitError(f"{len(patients)} patients cannot be dealt into {folds} folds")
    labels = np.nan_to_num(np.asarray(y, dtype=float).reshape(len(index), -1)) > 0
    has = np.zeros((len(patients), labels.shape[1]), bool)
    np.logical_or.at(has, code, labels)
    names = np.asarray(patients, dtype=str)
    return np.stack([_deal(has, _shuffled(names, seed, repeat), folds)[code] for repeat in range(repeats)])


def crossval(
    index: pd.DataFrame, y: npt.ArrayLike, folds: int = 2, repeats: int = 5, seed: int = 0
) -> list[tuple[Int, Int]]:
    """Return (train rows, test rows) of repeated patient-stratified cross-validation, 5 × 2 as Dietterich 1998."""
    rows = index.index.to_numpy(dtype=np.int64)
    dealt = stratified_folds(index, y, folds, repeats, seed)
    return [(rows[fold != i], rows[fold == i]) for fold in dealt for i in range(folds)]


def shared_patients(a: Corpus, b: Corpus, rows_a: Rows | None = None, rows_b: Rows | None = None) -> list[str]:
    """Return the patients (`population:id`) who have records in both corpora, or in both sets of rows."""
    return sorted(set(_rows(a, rows_a)["patient"]) & set(_rows(b, rows_b)["patient"]))


def shared_signals(
    a: Corpus, b: Corpus, rows_a: Rows | None = None, rows_b: Rows | None = None, later_s: float = 0.0
) -> list[tuple[str, str]]:
    """Return pairs of record names whose signals are the same recording, judged by fingerprint and not by name.

    Args:
        a, b: The corpora; they may differ in rate, band, unit, and leads.
        rows_a, rows_b: All by default.
        later_s: Find also what starts up to so many seconds later in one of them. This reads the signals and takes
            about 5 ms per record and second; leave it at 0 where both hold recordings from their start on.
    """
    frame_a, frame_b = _rows(a, rows_a), _rows(b, rows_b)
    codes_a, codes_b = a.fingerprints[frame_a.index], b.fingerprints[frame_b.index]
    found = [fingerprint.same(codes_a, codes_b)]
    if later_s > 0:
        found += [*_later(a, frame_a, codes_b, later_s), *(p[:, ::-1] for p in _later(b, frame_b, codes_a, later_s))]
    pairs = np.unique(np.concatenate(found), axis=0)
    names_a, names_b = frame_a["record"].tolist(), frame_b["record"].tolist()
    return sorted((names_a[i], names_b[j]) for i, j in pairs)


def _later(corpus: Corpus, frame: pd.DataFrame, others: npt.NDArray[np.uint8], later_s: float) -> Iterator[Int]:
    """Yield pairs [pair, 2] of the corpus's records, their first seconds left out, and of the other codes."""
    for start in range(0, len(frame), _AT_ONCE):
        signal = corpus.signals(frame.index[start : start + _AT_ONCE].to_numpy())
        codes = fingerprint.later(signal, corpus.leads, corpus.rate_hz, later_s)
        found = fingerprint.same(codes.reshape(-1, codes.shape[-1]), others)
        yield np.stack([found[:, 0] // codes.shape[1] + start, found[:, 1]], axis=1)


def _rows(corpus: Corpus, rows: Rows | None) -> pd.DataFrame:
    return corpus.index if rows is None else corpus.index.iloc[np.asarray(rows, dtype=np.int64)]


def _keys(patients: npt.NDArray[Any], seed: int, use: str) -> npt.NDArray[np.uint64]:
    return np.array([rng.key(seed, use, str(p)) >> 64 for p in patients], dtype=np.uint64)


def _shuffled(patients: npt.NDArray[Any], seed: int, repeat: int) -> Int:
    return np.lexsort((patients, _keys(patients, seed, f"folds {repeat}"))).astype(np.int64)


def _by_folds(index: pd.DataFrame, rule: SplitRule) -> Int:
    if index["fold"].isna().all():
        raise SplitError('the corpus has no official folds; split it with by = "patients"')
    fold = index["fold"].astype("Int64").fillna(-1).to_numpy(dtype=np.int64)
    part = np.full(len(index), -1, np.int64)
    for i, name in enumerate(PARTS):
        part[np.isin(fold, getattr(rule, name)) & index["fold"].notna().to_numpy()] = i
    return part


def _by_patients(index: pd.DataFrame, rule: SplitRule, seed: int) -> Int:
    code, patients = pd.factorize(index["patient"])
    place = _keys(np.asarray(patients, dtype=str), seed, "part") / 2.0**64
    edges = np.cumsum(rule.fractions)[:2]
    return np.searchsorted(edges, place, side="right").astype(np.int64)[code]


def _refuse_shared(patient: npt.NDArray[Any], part: Int) -> None:
    pairs = pd.DataFrame({"patient": patient, "part": part}).drop_duplicates()
    twice = pairs[pairs.duplicated("patient", keep=False)].sort_values(["patient", "part"])
    if len(twice):
        who = twice["patient"].iloc[0]
        where = " and ".join(PARTS[p] for p in twice["part"][twice["patient"] == who])
        raise SplitError(
            f"patient {who} has records in {where} ({twice['patient'].nunique()} such patients); "
            'the folds do not respect patients: split with by = "patients"'
        )


def _deal(has: npt.NDArray[np.bool_], order: Int, folds: int) -> Int:
    """Give each patient a fold: rarest label first, to the fold that lacks it most, then to the emptiest fold."""
    fold = np.full(len(has), -1, np.int64)
    lacks = np.tile(has.sum(axis=0) / folds, (folds, 1)).astype(float)
    room = np.full(folds, len(has) / folds)
    left = has.copy()
    while (fold < 0).any():
        count = left.sum(axis=0)
        label = int(np.where(count > 0, count, len(has) + 1).argmin()) if count.any() else -1
        chosen = [p for p in order if fold[p] < 0 and (label < 0 or left[p, label])]
        for patient in chosen:
            want = lacks[:, label] if label >= 0 else np.zeros(folds)
            best = int(np.lexsort((-room, -want))[0])
            fold[patient] = best
            lacks[best] -= has[patient]
            room[best] -= 1
            left[patient] = False
    return fold
