"""ECG files as hospitals keep them: GE MUSE XML, Philips XML, HL7 aECG, DICOM, SCP-ECG, EDF+.

They are read with ecgdatakit (Apache-2.0, https://github.com/UMMISCO/ECGDataKit), which the extra `hospital` installs
together with pydicom and edfio; `reader` adds what a corpus needs and a viewer does not: nothing repaired in silence,
twelve leads by name, the exact rate, and no more of the patient than is asked for. The other modules write one format
each, for samples and tests, by the vendor's documentation and without ecgdatakit.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]

INSTALL = 'pip install "ecgscale[hospital]"'


class HospitalError(ValueError):
    """A file cannot be read, or holds what may not enter a corpus; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Ecg:
    """One ECG and the little that is taken from its file besides: names, dates, places and comments stay there.

    Attributes:
        signal: [lead, time] float32, mV.
        leads: Standard lead names in the order I … V6.
        rate_hz: Samples per second.
        patient: Id as the file writes it; empty where the file has no field for it.
        age: Years, or None.
        sex: "F", "M" or None.
        statements: Each statement of the interpretation, of the physician where there is one, else of the device.
    """

    signal: Float
    leads: tuple[str, ...]
    rate_hz: float
    patient: str
    age: float | None = None
    sex: str | None = None
    statements: tuple[str, ...] = ()


def require() -> None:
    """Check that the extra is installed.

    Raises:
        HospitalError: it is not.
    """
    missing = [name for name in ("ecgdatakit", "pydicom", "edfio") if importlib.util.find_spec(name) is None]
    if missing:
        raise HospitalError(f"files of hospitals are read with {', '.join(missing)}: {INSTALL}")
