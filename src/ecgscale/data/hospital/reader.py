"""One hospital file to one ECG: what ecgdatakit reads, held to the rule that nothing is repaired in silence.

ecgdatakit tells its doubts as warnings and goes on: half an EDF file, a checksum that is wrong, leads without a unit.
Here a doubt about what is read rejects the file; only remarks about what is not read (median beats, further
recordings) pass.
"""

from __future__ import annotations

import re
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from ecgscale.data.hospital import INSTALL, Ecg, Float, HospitalError
from ecgscale.data.hospital.leads import by_name, complete

FORMATS = {  # ecgdatakit's name: ours
    "GE MUSE XML": "GE MUSE XML",
    "Philips Sierra XML": "Philips XML",
    "HL7 aECG": "HL7 aECG",
    "DICOM Waveform": "DICOM",
    "SCP-ECG": "SCP-ECG",
    "EDF/EDF+": "EDF+",
}

# remarks about what is not read; and on units and rates, of which `_signal` and `_rate_hz` judge for themselves
_HARMLESS = re.compile(
    r"median|representative beat|not loaded|only the first is read|waveform ignored|sequences ignored"
    r"|raw ADC|raw counts|voltage unit|uncalibrated|unscaled|is not an integer",
    re.IGNORECASE,
)


def read(root: Path, name: str) -> Ecg:
    """Read a file.

    Args:
        root: Of the data set; nothing outside it is opened, whatever a table or a link says.
        name: Of the file below `root`.

    Raises:
        HospitalError: the file is none of `FORMATS`, is damaged, or its leads, units or rate are not clear.
    """
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise HospitalError(f"{name} lies outside {root}; nothing outside the data set is read")
    parsed, doubts = _parse(path, name)
    leads = by_name([lead.label for lead in parsed.leads])
    if not leads:
        found = _plain(", ".join(lead.label for lead in parsed.leads[:12])) or "no rhythm recording at all"
        raise HospitalError(f"{name} holds none of the twelve standard leads; it has {found}")
    chosen = {lead: parsed.leads[i] for lead, i in leads.items()}
    rate_hz = _rate_hz(parsed, chosen)
    signal, names = complete(_signal(chosen), tuple(chosen))
    if doubts:
        raise HospitalError(f"{name} is doubtful: {doubts[0]}")
    return Ecg(
        signal=signal,
        leads=names,
        rate_hz=rate_hz,
        # the field of plain EDF is free text with names and birth dates; only EDF+ has a place for an id
        patient="" if parsed.source_format == "edf" else parsed.patient.patient_id.strip(),
        age=None if parsed.patient.age is None else float(parsed.patient.age),
        sex=parsed.patient.sex if parsed.patient.sex in ("F", "M") else None,
        statements=tuple(" ".join(part.strip() for part in pair if part.strip()) for pair in _statements(parsed)),
    )


def _parse(path: Path, name: str) -> tuple[Any, list[str]]:
    """Return ecgdatakit's record and what it doubts."""
    try:
        from ecgdatakit import ECGDataKitError, FileParser

        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            kind = FileParser.detect_format(path)
            if kind is None:
                raise HospitalError(f"{name} is none of {', '.join(FORMATS.values())}")
            if kind["name"] not in FORMATS:
                raise HospitalError(f"{name} is {kind['name']}; expected one of {', '.join(FORMATS.values())}")
            with _tolerant(FORMATS[kind["name"]]):
                parsed = FileParser.parse(path, units="mV")
    except ImportError:
        raise HospitalError(f"{name} cannot be read without the extra: {INSTALL}") from None
    except (ECGDataKitError, OSError) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise HospitalError(f"{name} cannot be read: {_line(text, path, name)}") from None
    doubts = [_line(str(warning.message), path, name) for warning in said]
    return parsed, [text for text in doubts if "(rhythm)" in text or not _HARMLESS.search(text)]


def _tolerant(kind: str) -> AbstractContextManager[Any]:
    """Let DICOM values that break only the form (an id of 17 characters) pass, as every archive does."""
    if kind != "DICOM":
        return nullcontext()
    from pydicom.config import disable_value_validation

    quiet: AbstractContextManager[Any] = disable_value_validation()
    return quiet


def _rate_hz(parsed: Any, leads: dict[str, Any]) -> float:
    """Return the rate of the leads, exact where ecgdatakit keeps it beside the rounded one."""
    meta, found = parsed.raw_metadata, {}
    for name, lead in leads.items():
        exact = meta.get("exact_sampling_rates", {}).get(lead.label)  # EDF
        exact = exact or meta.get("rhythm_time", {}).get("sampling_rate_exact")  # aECG
        for group in meta.get("multiplex_groups", []):  # DICOM
            if round(group["sampling_frequency"]) == lead.sampling_rate and group["samples"] == len(lead.samples):
                exact = exact or group["sampling_frequency"]
        near = exact is None or abs(exact - lead.sampling_rate) < 1e-6 * exact  # 1 / 0.002 need not be 500
        found[name] = float(lead.sampling_rate if near else exact)
    rates = sorted(set(found.values()))
    if len(rates) > 1:
        raise HospitalError(f"its leads have several rates, {' and '.join(f'{r:g}' for r in rates)} Hz; expected one")
    if not rates[0] > 0:
        raise HospitalError(f"the sampling rate is {rates[0]:g} Hz; expected a positive number")
    return rates[0]


def _signal(leads: dict[str, Any]) -> Float:
    """Return [lead, time] in mV."""
    for name, lead in leads.items():
        if lead.is_raw or lead.units != "mV":
            unit = _plain(lead.units or lead.adc_resolution_unit or "not stated")
            raise HospitalError(
                f'lead {name} cannot be put into mV: its unit is "{unit}"; expected uV, mV or V and a scale that is '
                "not zero"
            )
    lengths = sorted({len(lead.samples) for lead in leads.values()})
    starts = {lead.annotations.get("start_sample", "1") for lead in leads.values()}  # SCP-ECG
    if len(lengths) > 1 or len(starts) > 1:
        raise HospitalError(
            f"its leads were not recorded at the same time: {' and '.join(map(str, lengths))} samples, "
            f"beginning at sample {' and '.join(sorted(starts))}; expected twelve simultaneous leads"
        )
    with np.errstate(over="ignore"):
        signal = np.stack([np.asarray(lead.samples, np.float32) for lead in leads.values()])
    if np.isinf(signal).any():
        raise HospitalError("its samples times their scale are infinite; the scale in the file is damaged")
    return signal


def _statements(parsed: Any) -> list[tuple[str, ...]]:
    return [pair for pair in parsed.interpretation.statements if any(part.strip() for part in pair)]


def _line(text: str, path: Path, name: str) -> str:
    """Return a message as one line that names the file as the data set does."""
    return _plain(text.replace(str(path), name), 300)


def _plain(text: str, most: int = 80) -> str:
    """Return words of a file without what a line of text cannot hold, and not too many of them."""
    words = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return words if len(words) <= most else f"{words[:most]}…"
