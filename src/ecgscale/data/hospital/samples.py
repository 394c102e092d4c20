"""Which of the formats, and which of its variants, the next file of a sample folder is written in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ecgscale.data.hospital import Ecg, aecg, dicom, edf, muse, philips, scp

FOLDERS = {"muse": "xml", "philips": "xml", "aecg": "xml", "dicom": "dcm", "scp": "SCP", "edf": "edf"}  # folder: suffix


def write(root: Path, turn: int, ecg: Ecg) -> str:
    """Write an ECG in the format whose turn it is and return its path below `root`.

    Args:
        root: Folder; made if it is not there.
        turn: 0, 1, 2 …; every six turns each format comes once, every twelve turns each variant (eight leads, another
            unit, rate or text encoding).
        ecg: With twelve leads, at an even number of samples per second.
    """
    folder, suffix = list(FOLDERS.items())[turn % len(FOLDERS)]
    variant = turn // len(FOLDERS) % 2 == 1
    path = root / folder / f"{turn + 1:03d}.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if folder == "muse":
        muse.write(path, ecg)
    elif folder == "philips":
        philips.write(path, ecg, "utf-16" if variant else "utf-8")
    elif folder == "aecg":
        aecg.write(path, ecg)
    elif folder == "dicom":
        dicom.write(path, ecg, "mV" if variant else "uV")
    elif folder == "scp":
        scp.write(path, _eight(ecg) if variant else ecg, huffman=turn < len(FOLDERS))
    else:
        edf.write(path, _half(ecg) if variant else ecg, "mV" if variant else "uV")
    return path.relative_to(root).as_posix()


def _eight(ecg: Ecg) -> Ecg:
    rows = [ecg.leads.index(lead) for lead in muse.STORED]
    return replace(ecg, signal=ecg.signal[rows], leads=muse.STORED)


def _half(ecg: Ecg) -> Ecg:
    return replace(ecg, signal=np.ascontiguousarray(ecg.signal[:, ::2]), rate_hz=ecg.rate_hz / 2)
