"""Collections of WFDB records whose headers carry age, sex and diagnosis in comments, as the PhysioNet/CinC challenges
of 2020 and 2021 published them: `E00001.hea` and `E00001.mat` in g1, g2 … or in one folder.

The challenges name no patients: a record is taken as its own patient, so several records of one person, if there are
any, are not known to be. Sources: https://physionet.org/content/challenge-2021/1.0.3/ and the headers themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ecgscale.data import snomed, synthetic, tables, wfdb16
from ecgscale.data.record import Record, Rejected, patient_id
from ecgscale.units import LEADS, lead_name

_UNKNOWN = ("", "nan", "unknown", "n/a")
_SEX = {"male": "M", "m": "M", "female": "F", "f": "F"}
_FOLDS = {"train": 1, "val": 9, "test": 10}  # PTB-XL's numbers, which a split by folds uses by default

Facts = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Collection:
    """How the records of one source are told from others in the same folder."""

    part: str  # the data set's name in a study
    title: str
    stem: str  # regular expression for a header's name without .hea, with its number as the group
    example: str
    first: int = 0  # numbers that belong to it
    last: int = 99_999

    def has(self, stem: str) -> bool:
        """Return whether a header of this name belongs to the source."""
        match = re.fullmatch(self.stem, stem, re.ASCII)
        return match is not None and self.first <= int(match[1]) <= self.last


@dataclass(frozen=True, slots=True)
class Portion:
    """Records to read, as paths below the root without suffix, and what holds for all of the source."""

    records: tuple[str, ...]
    labels: tuple[str, ...] = ()
    folds: Mapping[str, int] = field(default_factory=dict)  # of these records, by name


def find(root: Path | None, collection: Collection, error_type: type[Exception]) -> list[str]:
    """Return the source's records below `root`, in the order of their names.

    Raises:
        error_type: there is none.
    """
    if root is None:
        part = collection.part
        raise error_type(f"{part} needs the folder of {collection.title}: bind it with --data {part}=PATH")
    headers = (path for path in root.rglob("*.hea") if collection.has(path.stem))
    found = [path.relative_to(root).with_suffix("").as_posix() for path in headers]
    if not found:
        raise error_type(
            f"{root} holds no record of {collection.title}; expected headers such as {collection.example}.hea in it or "
            "in folders below it"
        )
    return sorted(found, key=lambda name: (stem(name), name))


def portions(root: Path | None, collection: Collection, error_type: type[Exception], size: int) -> Iterator[Portion]:
    """Yield the records of a collection by name, with the labels of all: every header is read for its codes first."""
    found = find(root, collection, error_type)
    assert root is not None
    labels = label_names(root, found)
    for start in range(0, len(found), size):
        yield Portion(tuple(found[start : start + size]), labels)


def stem(name: str) -> str:
    """Return the last part of a record's path."""
    return name.rpartition("/")[2]


def facts(comments: Iterable[str]) -> Facts:
    """Return what comments of the form `Key: value` say, keys in lower case; the first of two equal keys counts."""
    result: dict[str, str] = {}
    for comment in comments:
        key, colon, value = comment.partition(":")
        if colon:
            result.setdefault(key.strip().lower(), value.strip())
    return result


def codes(said: Facts) -> tuple[str, ...] | None:
    """Return the SNOMED CT codes after `Dx`, each once, or None where it is missing or unknown.

    Doubled and trailing commas occur in the published headers and mean nothing.

    Raises:
        ValueError: something other than a code stands there.
    """
    text = said.get("dx", "")
    if text.lower() in _UNKNOWN:
        return None
    found = tuple(dict.fromkeys(re.findall(r"[^,\s]+", text)))
    wrong = [code for code in found if not re.fullmatch(r"\d{1,18}", code, re.ASCII)]
    if wrong:
        raise ValueError(f"the diagnosis {wrong[0][:40]!r} is no SNOMED CT code")
    return found


def age(said: Facts) -> float | None:
    """Return the age in years, None where it is missing or unknown.

    Raises:
        ValueError: no number stands there.
    """
    text = said.get("age", "")
    if text.lower() in _UNKNOWN:
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"the age is {text[:40]!r}; expected a number, NaN or Unknown") from None


def sex(said: Facts) -> str | None:
    """Return "F" or "M", None where it is missing or unknown.

    Raises:
        ValueError: something else stands there.
    """
    text = said.get("sex", "").lower()
    if text not in _SEX and text not in _UNKNOWN:
        raise ValueError(f"the sex is {text[:40]!r}; expected Male, Female or Unknown")
    return _SEX.get(text)


def label_names(root: Path, records: Sequence[str]) -> tuple[str, ...]:
    """Return the labels of a source, sorted: one for every code that stands in a header of it."""
    found: set[str] = set()
    for name in records:
        try:
            found.update(codes(facts(wfdb16.comments(root, name))) or ())
        except ValueError:
            continue  # reading the record will say what is wrong with it
    return tuple(sorted(map(snomed.label_name, found)))


def labels(said: Facts, names: Sequence[str]) -> dict[str, float]:
    """Return all labels of a source: 1 where its code stands in the header, else 0; NaN for all without any code."""
    has = codes(said)
    if has is None:
        return dict.fromkeys(names, float("nan"))
    present = {snomed.label_name(code) for code in has}
    return {name: float(name in present) for name in names}


def shaoxing_ningbo_patient(name: str) -> str:
    """Return the patient of a record JS00001 … JS45551, the same in every source that holds it.

    Up to JS10646 it comes from Shaoxing (Chapman), then from Ningbo; a header of the latter is named S23074.
    """
    number = int(re.sub(r"\D", "", name))
    return patient_id("chapman" if number <= 10_646 else "ningbo", f"JS{number:05d}")


def read(
    root: Path,
    name: str,
    patient: str,
    labels: Callable[[Facts], dict[str, float]],
    checksums: bool,
    fold: int | None = None,
    drop: tuple[str, ...] = (),
) -> Record | Rejected:
    """Read one record.

    Args:
        root: Of the data set.
        name: Path of the record below it, without suffix; its last part becomes the record's name.
        patient: `population:id`.
        labels: From what the header says to the labels.
        checksums: Whether the header's checksums must hold.
        fold: Of a published split.
        drop: Leads to leave out, in lower case.
    """
    try:
        found = wfdb16.read(root, name, checksums)
        said = facts(found.comments)
        rows = [i for i, lead in enumerate(found.leads) if lead.lower() not in drop]
        return Record(
            signal=found.physical if len(rows) == len(found.leads) else found.physical[rows],
            unit=found.unit,
            rate_hz=found.rate_hz,
            leads=tuple(lead_name(found.leads[i]) for i in rows),
            record=stem(name),
            patient=patient,
            age=age(said),
            sex=sex(said),
            labels=labels(said),
            fold=fold,
        )
    except ValueError as error:
        return Rejected(stem(name), str(error))


def read_all(
    root: Path, portion: Portion, checksums: bool, patient: Callable[[str], str]
) -> Iterator[Record | Rejected]:
    """Yield the records of a portion; `patient` makes a patient of a record's name."""
    for name in portion.records:
        fold = portion.folds.get(stem(name))
        yield read(root, name, patient(stem(name)), lambda said: labels(said, portion.labels), checksums, fold)


def published_folds(root: Path, prefix: str, column: str, error_type: type[Exception]) -> dict[str, int]:
    """Return the part of each record in a split published as three lists: 1 train, 9 validation, 10 test.

    Args:
        root: The folder with `<prefix>_train.csv`, `<prefix>_val.csv` and `<prefix>_test.csv`.
        prefix: Of the files' names.
        column: Holds a record's name or path.
        error_type: Raised where a list is missing or a record stands in two.
    """
    result: dict[str, int] = {}
    for part, fold in _FOLDS.items():
        path = root / f"{prefix}_{part}.csv"
        for value in tables.read(path, [column], error_type)[column]:
            name = Path(str(value)).stem
            if result.setdefault(name, fold) != fold:
                raise error_type(f"the list {path} holds {name}, which stands in another part as well")
    return result


def write_sample(
    root: Path, names: Sequence[str], diagnoses: Mapping[str, str], seconds: Sequence[float], seed: int
) -> None:
    """Write synthetic records at 500 Hz with every form of comment that the published headers have.

    Args:
        root: The folder to fill.
        names: Paths of the records below it, without suffix.
        diagnoses: Text after Dx for each label of `ecgscale.data.synthetic`, and for "" what a record with none has.
        seconds: Lengths, taken in turn.
        seed: Of the content.
    """
    ecg = synthetic.population(patients=len(names), records=len(names), rate_hz=500.0, seed=seed)
    for i, name in enumerate(names):
        said = [diagnoses[label] for label, values in ecg.labels.items() if values[i]] or [diagnoses[""]]
        years = "NaN" if i == 0 else f"{ecg.age[i]:.0f}"
        gender = "Unknown" if i == 1 else "Female" if ecg.female[i] else "Male"
        comments = [f"Age: {years}", f"Sex: {gender}", f"Dx: {','.join(said)}{',' * (i == 2)}", "Rx: Unknown"]
        samples = round(500 * seconds[i % len(seconds)])
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        wfdb16.write(
            path,
            np.tile(ecg.signal[i], -(-samples // ecg.signal.shape[2]))[:, :samples],
            LEADS,
            500.0,
            suffixes=(".mat",) * len(LEADS),
            comments=tuple(f"{' ' * (i % 2)}{comment}" for comment in comments),
        )
